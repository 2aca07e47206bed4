"""The frames that a fold takes and gives, and the columns that name its parts.

Instants in ms since the epoch (UTC), values in the stream's smallest unit, pseudonyms of 16 bytes. Bit i of
a mask says that product i of the domain admits the row.
"""

from __future__ import annotations

from typing import Final

import polars as pl

ROWS: Final = pl.Schema(
    {
        "window": pl.Int64,
        "group": pl.UInt32,
        "point": pl.Binary,
        "premises": pl.Binary,
        "area": pl.String,
        "segment": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "value": pl.Int64,
        "order": pl.Int64,
        "mask": pl.UInt64,
        "role": pl.UInt8,
        "register_size": pl.Int64,
        "partner": pl.String,
        "holding": pl.String,
        "measure": pl.String,
        "kind": pl.String,
        "net": pl.Boolean,
        "seq": pl.Int64,
    }
)
"""Contributions with their stream's columns and `seq`, their place in the contributions partition."""

ROLLUP: Final = pl.Schema(
    {
        "window": pl.Int64,
        "end": pl.Int64,
        "point": pl.Binary,
        "premises": pl.Binary,
        "partner": pl.String,
        "holding": pl.String,
        "measure": pl.String,
        "kind": pl.String,
        "net": pl.Boolean,
        "area": pl.String,
        "segment": pl.String,
        "mask": pl.UInt64,
        "value": pl.Int64,
        "covered": pl.Int64,
        "seq": pl.Int64,
    }
)
"""[window, end) is the base window; covered in ms, or LOST; value: null where nothing is known of the window;
seq: the place that a retraction must follow to reach the row. A register's row may cover base windows before
its own, too (see `registers`)."""

LOST: Final = -(2**48)
"""Instead of `covered`: a part of what was used until the window's end is in no window. So far below zero that no
sum that holds it reaches any coverage; 30,000 of them fit int64."""

LINE: Final = ["point", "measure", "kind", "net"]
"""What one stream says of one delivery point."""

CLAIM: Final = ["premises", "measure", "kind"]
"""What two partners may not claim for the same time."""

LOOK: Final = [*LINE, "premises", "partner", "holding", "area", "segment", "mask"]
"""All that rows of one line have in common unless something changed inside the window."""

TOTALS: Final = [*LOOK, "value", "covered", "seq"]
