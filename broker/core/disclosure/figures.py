"""What the primary rules need to know of every cell of one measure: exact totals per premises and per
holding.

Invariants
- Units are summed over the whole figure first, then taken as |x| (disclosure rules, §1: a column can be
  negative, as feed-in is). Where nothing is negative this changes nothing. Only `total` keeps the sign: it
  is what is printed.
- Counting measures: every premises weighs 1, and a holding's part is the number of its customers. A premises
  that two holdings served in the window (supplier switch) is one customer, to whom each contributed its
  part.
- int64 throughout, guarded against overflow before the first sum; no float takes part.
- Columns: the only Python loop is over cells, never over premises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from broker.core.disclosure.table import IntArray, Table
from broker.core.errors import ProgrammerError

_WORD = 62  # holdings per mask word: a mask stays a positive int64


@dataclass(frozen=True, slots=True)
class Crowd:
    """Premises of one cell that are taken together. weight: Σ|x|; top: the largest |x|, descending."""

    n: int
    weight: int
    top: tuple[int, ...]


@dataclass(slots=True)
class Figure:
    """One cell of one measure, in the measure's smallest unit.

    total: Σx with its sign; parts: |Σx| (or the number of customers) per holding;
    crowds: premises by the set of holdings that serve them;
    shared: per holding, the premises that it shares with others, with the others' parts only (sums only).
    """

    counting: bool
    total: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    crowds: list[tuple[frozenset[str], Crowd]] = field(default_factory=list)
    shared: dict[str, Crowd] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of contributing premises."""
        return sum(crowd.n for _, crowd in self.crowds)

    @property
    def weight(self) -> int:
        """Σ|x| over premises."""
        return sum(crowd.weight for _, crowd in self.crowds)


@dataclass(frozen=True)
class _Parts:
    """Rows (premises, holding), sorted; `person` numbers the premises, `first` is each one's first row."""

    atom: IntArray
    holding: IntArray
    value: IntArray
    person: IntArray
    first: IntArray
    names: list[str]


def figures(rows: pl.DataFrame, table: Table, *, counting: bool, depth: int) -> list[Figure]:
    """The figure of every cell of the table.

    rows: DataFrame[premises, holding, area, segment, value: Int64], one or more rows per (premises, holding);
    counting: each premises is 1, `value` is not read; depth: how many of the largest premises are kept.
    Raises ProgrammerError where a premises lies in two atoms or a sum could leave int64.
    """
    result = [Figure(counting) for _ in range(table.cells.height)]
    parts = _parts(table.locate(rows), counting)
    if not len(parts.value):
        return result
    several, sets = _served_by(parts)
    totals = np.ones(len(parts.first), np.int64) if counting else np.add.reduceat(parts.value, parts.first)
    atoms = parts.atom[parts.first]

    for cell, kind, sign, crowd in _crowds(table, atoms, several, totals, n_kinds=len(sets), depth=depth):
        result[cell].crowds.append((sets[kind], crowd))
        result[cell].total += sign
    for cell, holding, sign, crowd in _crowds(
        table, parts.atom, parts.holding, parts.value, n_kinds=len(parts.names), depth=0
    ):
        result[cell].parts[parts.names[holding]] = crowd.n if counting else abs(sign)
    if not counting:
        _add_shared(result, table, parts, totals, depth)
    return result


def _parts(rows: pl.DataFrame, counting: bool) -> _Parts:
    merged = (
        rows.group_by("premises", "holding")
        .agg(pl.col("value").sum(), pl.col("atom").first(), pl.col("atom").n_unique().alias("places"))
        .sort("premises", "holding")
    )
    names: list[str] = sorted(merged["holding"].unique())
    value = np.ones(merged.height, np.int64) if counting else merged["value"].to_numpy()
    # Checked on the rows as they came: the merged sums could have wrapped already.
    if not counting and float(rows["value"].cast(pl.Float64).abs().sum()) >= 2.0**62:
        raise ProgrammerError(
            "overflow", "the values of one release group do not fit into 64 bits; nothing is released"
        )
    atom = merged["atom"].to_numpy()
    begins = (merged["premises"] != merged["premises"].shift(1)).fill_null(True).to_numpy()
    first = np.flatnonzero(begins)
    person = np.cumsum(begins) - 1
    if (merged["places"] > 1).any() or (atom != atom[first][person]).any():
        raise ProgrammerError(
            "premises_in_two_places", "a premises lies in two areas or segments of one window"
        )
    holding = merged["holding"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    return _Parts(atom, holding, value, person, first, names)


def _served_by(parts: _Parts) -> tuple[IntArray, list[frozenset[str]]]:
    """Per premises the number of its set of holdings, and the sets."""
    words = []
    for start in range(0, len(parts.names), _WORD):
        inside = (parts.holding >= start) & (parts.holding < start + _WORD)
        bits = np.where(inside, np.int64(1) << np.where(inside, parts.holding - start, 0), 0)
        words.append(np.bitwise_or.reduceat(bits, parts.first))
    unique, number = np.unique(np.stack(words, axis=1), axis=0, return_inverse=True)
    sets = [
        frozenset(name for i, name in enumerate(parts.names) if int(mask[i // _WORD]) >> (i % _WORD) & 1)
        for mask in unique
    ]
    return number.reshape(-1).astype(np.int64), sets


def _crowds(
    table: Table, atoms: IntArray, kinds: IntArray, values: IntArray, *, n_kinds: int, depth: int
) -> Iterator[tuple[int, int, int, Crowd]]:
    """(cell, kind, Σx, crowd) of every cell and kind that occurs, ascending."""
    if not len(atoms):
        return
    # Largest first, then stably by (cell, kind): each run begins with its largest.
    order = np.argsort(-np.abs(values), kind="stable") if depth else np.arange(len(values))
    row, cell = table.spread(atoms[order])
    if not len(row):
        return
    key = cell * n_kinds + kinds[order][row]
    by_key = np.argsort(key, kind="stable")
    key, value = key[by_key], values[order][row][by_key]
    size = np.abs(value)
    start = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    counts = np.diff(np.append(start, len(key))).tolist()
    weights, signed = np.add.reduceat(size, start).tolist(), np.add.reduceat(value, start).tolist()
    for k, s, n, weight, sign in zip(
        key[start].tolist(), start.tolist(), counts, weights, signed, strict=True
    ):
        yield k // n_kinds, k % n_kinds, sign, Crowd(n, weight, tuple(size[s : s + min(n, depth)].tolist()))


def _add_shared(result: list[Figure], table: Table, parts: _Parts, totals: IntArray, depth: int) -> None:
    served = np.bincount(parts.person)
    shared = np.flatnonzero(served[parts.person] > 1)
    others = totals[parts.person[shared]] - parts.value[shared]
    for cell, holding, _, crowd in _crowds(
        table, parts.atom[shared], parts.holding[shared], others, n_kinds=len(parts.names), depth=depth
    ):
        result[cell].shared[parts.names[holding]] = crowd
