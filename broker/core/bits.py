"""Product bits under another numbering: bits are indices in a list of products, and lists change."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def rename_bits(rows: pl.DataFrame, column: str, written: Sequence[str], now: Sequence[str]) -> pl.DataFrame:
    """`column` (UInt64, bit i = written[i]) with bit i = now[i]; bits of products not in `now` are cleared."""
    place = {name: bit for bit, name in enumerate(now)}
    moved = pl.lit(0, pl.UInt64)
    for bit, name in enumerate(written):
        if name in place:
            has = (pl.col(column) & (1 << bit)) != 0
            moved = moved | pl.when(has).then(pl.lit(1 << place[name], pl.UInt64)).otherwise(
                pl.lit(0, pl.UInt64)
            )
    return rows.with_columns(moved.alias(column))
