"""Consumption of register lines in one base window: the difference of two readings.

Source: design, *Values*. Invariants, per product bit like everything in `fold`:
- A window with a reading of its own, start < t <= end, takes last value at or before its end − last value at or
  before its start, each read at most `max_gap` before that edge. Of readings of one moment the one with the
  highest `order` counts.
- A window without a reading of its own takes nothing: one reading that stands for both edges is no evidence
  that nobody was at home. The window of the next reading takes the whole difference, and covers the windows
  without readings before it too: what was used is known, only not on which of these days. So readings shortly
  before or after midnight make no hole, while a silent meter leaves its home incomplete, not vacant.
- A difference that cannot be taken is not forgotten. Where a window has a reading of its own, but none of the
  same premises near enough to its start, or its last one too far from its end, or the meter was reset, its
  `covered` is LOST: no total that holds such a window is whole, whatever else is covered. So of every complete
  line in a longer window (readings that came in time; roll-overs counted through)

      Σ of its base windows  =  last value at or before the end − last value at or before the start.

  A line that begins inside the longer window is LOST there: nobody knows what the meter showed at its start.
- A value that falls has rolled over if the site's register size explains it by less than half a turn; else
  it is a reset. A net register (feed-in) may fall: its difference counts as it is.
- Area and segment are those of the opening reading, the earlier one.
- Of several partners at one premises those with a consumption go before those whose reading is LOST (a
  successor's first one), and these before silent ones (whose customer may have left: a former supplier's last
  reading takes nothing from its successor). If that leaves consumptions of more than one partner, none counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from broker.core.calendar import FIRST, Window
from broker.core.fold_frames import CLAIM, LINE, LOOK, LOST, TOTALS
from broker.core.plan import Domain

_SILENT: Final = 0
_LOST: Final = 1
_TAKEN: Final = 2


def consumption(rows: pl.DataFrame, domain: Domain, window: Window) -> pl.DataFrame:
    """What each line comes to: frame TOTALS and `standing`, how well that is known. value: null unless taken;
    covered: ms, 0 without a reading of the window's own, or LOST.

    rows: frame ROWS, readings up to the window's end; all rows of a line have one mask.
    """
    own, same = pl.col("start") > window.start, pl.col("premises") == pl.col("premises_from")
    near_end = window.end - pl.col("start") <= _gap(domain)
    taken = own & near_end & same.fill_null(value=False) & pl.col("step").is_not_null()
    standing = pl.when(taken).then(_TAKEN).when(own).then(_LOST).otherwise(_SILENT)
    return (
        _pairs(rows, domain, window)
        .with_columns(_step().alias("step"))
        .with_columns(standing.alias("standing"))
        .with_columns(
            pl.when(standing=_TAKEN).then("holding_from").otherwise("holding").alias("holding"),
            pl.when(standing=_TAKEN).then("area_from").otherwise("area").alias("area"),
            pl.when(standing=_TAKEN).then("segment_from").otherwise("segment").alias("segment"),
            pl.when(standing=_TAKEN).then("step").alias("value"),
            pl.when(standing=_TAKEN)
            .then(window.end - pl.col("boundary"))
            .when(standing=_LOST)
            .then(LOST)
            .otherwise(0)
            .alias("covered"),
            pl.max_horizontal("seq", "seq_from").alias("seq"),
        )
        .select(*TOTALS, "standing")
    )


def one_partner(totals: pl.DataFrame) -> pl.DataFrame:
    """What stands where several partners may claim one premises; all of one class of bits."""
    return _best(totals).filter(~_rivalled())


def rivals(totals: pl.DataFrame) -> pl.DataFrame:
    """The consumptions that more than one partner claims, so that none stands; as for `one_partner`."""
    return _best(totals).filter(_rivalled())


def _best(totals: pl.DataFrame) -> pl.DataFrame:
    best = pl.col("standing").max()
    return totals.filter(best.over([*CLAIM, "partner"]) == best.over(CLAIM))


def _rivalled() -> pl.Expr:
    several = pl.col("partner").min().over(CLAIM) != pl.col("partner").max().over(CLAIM)
    return several & (pl.col("standing").max().over(CLAIM) == _TAKEN)


def _gap(domain: Domain) -> pl.Expr:
    return pl.col("measure").replace_strict(domain.max_gap, default=0, return_dtype=pl.Int64)


def _pairs(rows: pl.DataFrame, domain: Domain, window: Window) -> pl.DataFrame:
    """Of each line its last reading, and (columns `…_from`, null where there is none) the one that opens the
    window, with `boundary`, the first edge of a base window at or after it. Lines that have neither a reading
    inside the window nor one that opens it are left out."""
    ordered = (
        rows.select(*LOOK, "start", "value", "register_size", "order", "seq")
        .filter(pl.col("start") <= window.end)
        .sort("start", "order", "seq")
    )
    before = (pl.col("start") <= window.start) & (window.start - pl.col("start") <= _gap(domain))
    opening = ordered.filter(before).unique(LINE, keep="last")
    earliest = window.start - max(domain.max_gap.values(), default=0)
    edges = domain.calendar.edges(domain.base, max(earliest, FIRST), window.start)
    boundary = edges[np.searchsorted(edges, opening["start"].to_numpy(), side="left")]
    return (
        ordered.unique(LINE, keep="last")
        .join(opening.with_columns(pl.Series("boundary", boundary)), on=LINE, how="left", suffix="_from")
        .filter((pl.col("start") > window.start) | pl.col("start_from").is_not_null())
    )


def _step() -> pl.Expr:
    """The last reading less the opening one, null where it is no consumption."""
    step = pl.col("value") - pl.col("value_from")
    size = pl.when(pl.col("register_size") == pl.col("register_size_from")).then(pl.col("register_size"))
    rolled = step + size
    turned = pl.when((rolled >= 0) & (rolled < size - rolled)).then(rolled)
    return pl.when(pl.col("net") | (step >= 0)).then(step).otherwise(turned)
