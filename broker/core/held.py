"""Contributions of base windows that are open: as they came, until their window closes.

A piece (see `chunks`) takes a quarter of the room of its rows, and a lane holds millions of them. So it is opened
once, when its rows are folded, and until then only what tells how to read it may change: which products its bits
stand for.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from broker.core.bits import rename_bits
from broker.core.chunks import frame

TEXT: Final = pl.col(pl.String).cast(pl.Categorical)
"""Text of few different values, for millions of rows: a fourth of the room, and equal however it was read."""

Packed = pl.DataFrame | bytes
"""Rows as a frame, or the piece that they came in."""


@dataclass(frozen=True)
class Held:
    """Contributions of one record. names: the key of each mask bit's product, "" for bits that count for nothing; seq:
    the record's place."""

    rows: Packed
    names: list[str]
    seq: int

    def without(self, gone: Container[str]) -> Held:
        """The same without the bits of these products."""
        return replace(self, names=["" if name in gone else name for name in self.names])

    def opened(self, names: list[str]) -> pl.DataFrame:
        """The rows, with bits numbered as in `names`."""
        rows = frame(self.rows, categories=True) if isinstance(self.rows, bytes) else self.rows
        alike = self.names == names[: len(self.names)]
        return rows if alike else rename_bits(rows, "mask", self.names, names)


def together(held: Sequence[Held], names: list[str]) -> pl.DataFrame:
    """The rows of at least one record, with their place `seq` and bits numbered as in `names`; text as Categorical."""
    opened = [each.opened(names) for each in held]
    if any(each.schema != opened[0].schema for each in opened):
        # a piece in which a text column has many different values has it as text
        opened = [each.with_columns(TEXT) for each in opened]
    seq = np.repeat([each.seq for each in held], [rows.height for rows in opened])
    return pl.concat(opened).with_columns(TEXT, pl.Series("seq", seq, pl.Int64))
