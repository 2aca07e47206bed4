"""Roll-ups as a release lane holds them: a row is a few numbers, and what it is of is kept once.

A *look* is what a row says beside its figures: whose it is, who metered it, where (columns `OF`). From one base
window to the next it stays the same for nearly every line, so that it is kept once and has a number. A month then
takes a quarter of the room, and a product's window adds up arrays instead of grouping millions of names.

Invariants
- Looks are numbered in the order in which they come; the number tells nothing, and nothing follows from it.
- A number keeps its meaning as long as any roll-up that has it is held: looks are added, never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.calendar import Window
from broker.core.coded import BoolArray, Coded, IntArray, of_pseudonyms, of_texts
from broker.core.fold import retract_rollups
from broker.core.fold_frames import ROLLUP

OF: Final = ["point", "premises", "partner", "holding", "measure", "kind", "net", "area", "segment"]
"""Columns of a roll-up that say what its figures are of."""

KIND: Final = ["measure", "kind"]
"""By these the rows of a roll-up are kept apart: an input has one of each."""

FIGURES: Final = ["mask", "value", "covered", "seq"]
_NO_LOOKS: Final = ROLLUP.to_frame().select(OF)
_NO_ROWS: Final = pl.DataFrame(schema={"look": pl.UInt32, **{name: ROLLUP[name] for name in FIGURES}})

T = TypeVar("T")


class Looks:
    """The looks of one domain's roll-ups, by number. table: DataFrame with the columns OF; look i is row i."""

    def __init__(self) -> None:
        self.table = _NO_LOOKS
        self._made: dict[Hashable, Any] = {}

    def numbers(self, rows: pl.DataFrame) -> pl.Series:
        """UInt32: the number of each row's look; those that are new get the next ones. rows: with the columns OF."""
        rows = rows.select(OF)
        if self.table.is_empty():
            self.table = rows.clear()  # whatever type its text has
        known = self.table.with_row_index("look")
        found = rows.join(known, on=OF, how="left", maintain_order="left")["look"]
        if not found.null_count():
            return found
        missing = found.is_null()
        strange = rows.filter(missing)
        new = strange.unique(maintain_order=True)
        self.table, self._made = pl.concat([self.table, new], rechunk=True), {}
        added = new.with_row_index("look", offset=known.height)
        numbers = strange.join(added, on=OF, how="left", maintain_order="left")["look"]
        return found.scatter(missing.arg_true(), numbers)

    def coded(self, column: str) -> Coded:
        """A column of the table as numbers."""
        values = self.table[column]
        return self.once(
            column, lambda: of_pseudonyms(values) if values.dtype == pl.Binary else of_texts(values)
        )

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """What follows from the table, made once and kept until a look is added."""
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made


@dataclass(frozen=True)
class Rollup:
    """One base window's roll-up. rows: by measure and kind DataFrame[look: UInt32, mask, value, covered, seq], as in
    the frame ROLLUP; look: the number of what the row is of."""

    window: Window
    rows: dict[tuple[str, str], pl.DataFrame]

    @classmethod
    def of(cls, rollup: pl.DataFrame, window: Window, looks: Looks) -> Rollup:
        """rollup: frame ROLLUP, all of this window."""
        if rollup.is_empty():
            return cls(window, {})
        rows = rollup.select(looks.numbers(rollup), *FIGURES, *KIND)
        apart = rows.partition_by(KIND, as_dict=True, include_key=False)
        return cls(window, {(measure, kind): part for (measure, kind), part in apart.items()})

    def frame(self, looks: Looks) -> pl.DataFrame:
        """The frame ROLLUP again, in another order."""
        rows = pl.concat([_NO_ROWS, *self.rows.values()])
        window = {"window": self.window.start, "end": self.window.end}
        columns = [pl.lit(value, pl.Int64).alias(name) for name, value in window.items()]
        return looks.table[rows["look"]].hstack(rows.drop("look")).with_columns(columns).select(list(ROLLUP))

    def together(self, other: Rollup) -> Rollup:
        """The rows of both, which are of one window."""
        both = {
            kind: pl.concat(each.rows[kind] for each in (self, other) if kind in each.rows)
            for kind in [*self.rows, *other.rows]
        }
        return Rollup(self.window, both)

    def retracted(self, looks: Looks, retractions: pl.DataFrame) -> Rollup:
        """Without the bits that retractions take away: see `fold.retract_rollups`."""
        points = looks.table["point"].is_in(retractions["point"].implode())
        if not points.any():
            return self

        def cleared(rows: pl.DataFrame) -> pl.DataFrame:
            reached = points.gather(rows["look"])
            wide = Rollup(self.window, {("", ""): rows.filter(reached)}).frame(looks)
            masks = retract_rollups(wide, retractions)["mask"]
            return rows.with_columns(rows["mask"].clone().scatter(reached.arg_true(), masks))

        return self.each(cleared)

    def each(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Rollup:
        """With the rows of each measure and kind changed."""
        return Rollup(self.window, {kind: change(rows) for kind, rows in self.rows.items()})


@dataclass(frozen=True)
class Rows:
    """Rows of several roll-ups as arrays, in order of time. base: index of the roll-up; value: 0 where it is not
    known."""

    base: IntArray
    look: IntArray
    mask: NDArray[np.uint64]
    value: IntArray
    known: BoolArray
    covered: IntArray


@dataclass(frozen=True)
class Rollups:
    """Roll-ups of base windows, in order of time."""

    looks: Looks
    parts: tuple[Rollup, ...]
    _rows: dict[tuple[str, str], Rows] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, rollup: pl.DataFrame) -> Rollups:
        """Of a frame ROLLUP of several base windows."""
        looks, windows = Looks(), rollup.partition_by("window", "end", as_dict=True)
        parts = (Rollup.of(rows, Window(*window), looks) for window, rows in sorted(windows.items()))
        return cls(looks, tuple(parts))

    @cached_property
    def edges(self) -> tuple[IntArray, IntArray]:
        """Start and end (ms) of each."""
        windows = [part.window for part in self.parts]
        start, end = [each.start for each in windows], [each.end for each in windows]
        return np.array(start, dtype=np.int64), np.array(end, dtype=np.int64)

    def frame(self) -> pl.DataFrame:
        """The frame ROLLUP of all of them."""
        return pl.concat(part.frame(self.looks) for part in self.parts) if self.parts else ROLLUP.to_frame()

    def without(self, streams: Iterable[tuple[str, str]]) -> Rollups:
        """Without the rows of these (partner, measure)."""
        partner, measure = self.looks.coded("partner"), self.looks.coded("measure")
        gone = np.zeros(self.looks.table.height, dtype=bool)
        for each in streams:
            gone |= partner.among(each[:1]) & measure.among(each[1:])
        kept = pl.Series(~gone)
        parts = (part.each(lambda rows: rows.filter(kept.gather(rows["look"]))) for part in self.parts)
        return Rollups(self.looks, tuple(parts))

    def rows(self, measure: str, kind: str) -> Rows:
        """The rows of one measure and kind; kept, because several products ask for them."""
        if (measure, kind) not in self._rows:
            parts = [part.rows.get((measure, kind), _NO_ROWS) for part in self.parts]
            rows = pl.concat([_NO_ROWS, *parts], rechunk=True)
            self._rows[measure, kind] = Rows(
                np.repeat(np.arange(len(parts)), [part.height for part in parts]),
                rows["look"].to_numpy().astype(np.int64),
                rows["mask"].to_numpy(),
                rows["value"].fill_null(0).to_numpy(),
                rows["value"].is_not_null().to_numpy(),
                rows["covered"].to_numpy(),
            )
        return self._rows[measure, kind]
