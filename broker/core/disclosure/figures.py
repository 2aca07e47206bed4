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
- Columns: no Python loop over premises or cells. Premises are summed into atoms, then atoms into cells; of
  the largest premises only as many of each atom go on as any rule looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.coded import of_texts
from broker.core.disclosure.table import BoolArray, IntArray, Table
from broker.core.errors import ProgrammerError

_WORD = 62  # holdings per mask word: a mask stays a positive int64
_LIMIT = 2.0**62


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest |x| of every cell and kind of premises: as many of each as the rules look at, or all.

    One entry per premises: its cell, its kind, its |x|; sorted by cell, largest first.
    """

    cell: IntArray
    kind: IntArray
    size: IntArray

    def sums(self, count: int, cells: int) -> IntArray:
        """Per cell the sum of the `count` largest, whatever their kind."""
        leading = place_in_run(self.cell) < count
        result = np.zeros(cells, dtype=np.int64)
        np.add.at(result, self.cell[leading], self.size[leading])
        return result

    def where(self, kept: BoolArray) -> Largest:
        """Those entries only."""
        return Largest(self.cell[kept], self.kind[kept], self.size[kept])

    def together(self, other: Largest) -> Largest:
        """The entries of both."""
        both = (np.concatenate(pair) for pair in zip(self.columns(), other.columns(), strict=True))
        return _largest(*both)

    def columns(self) -> tuple[IntArray, IntArray, IntArray]:
        return self.cell, self.kind, self.size


@dataclass(frozen=True, slots=True)
class Shared:
    """Per cell and holding, the premises that it shares with others, with the others' parts only.

    n, weight: cells × holdings; largest: kind = the holding.
    """

    n: IntArray
    weight: IntArray
    largest: Largest


@dataclass(frozen=True, slots=True)
class Figures:
    """All cells of one measure, in the measure's smallest unit.

    holdings: names, sorted; elsewhere a holding is its index here. Per cell: total: Σx with its sign; n:
    contributing premises; weight: Σ|x| over premises. Cells × holdings: parts: |Σx| of the holding's parts
    (or the number of its customers); customers: the premises that it serves, alone or with others;
    entrusted: their Σ|x|. largest: kind = a row of `served` (kinds × holdings): who serves the premises.
    shared: only for sums, and only where a premises has several holdings.
    """

    counting: bool
    holdings: list[str]
    total: IntArray
    n: IntArray
    weight: IntArray
    parts: IntArray
    customers: IntArray
    entrusted: IntArray
    largest: Largest
    served: BoolArray
    shared: Shared | None


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parts: one per (home, holding), sorted by them; `person` numbers the homes, `first` is each one's first
    part."""

    atom: IntArray
    holding: IntArray
    value: IntArray
    person: IntArray
    first: IntArray
    names: list[str]


def figures(rows: pl.DataFrame, table: Table, *, counting: bool, depth: int) -> Figures:
    """The figures of the table's cells.

    rows: DataFrame[home: Int64, holding, area, segment, value: Int64], one or more rows per (home, holding);
    counting: each home is 1, `value` is not read; depth: how many of the largest premises are kept.
    Raises ProgrammerError where a home lies in two atoms or a sum could leave int64.
    """
    parts = _parts(rows, table, counting)
    atoms, width = parts.atom[parts.first], len(parts.names)
    totals = np.ones_like(atoms) if counting else _run_sums(parts.value, parts.first)
    size = np.abs(totals)
    kind, served = _served_by(parts)
    return Figures(
        counting=counting,
        holdings=parts.names,
        total=table.add(_sums(table.atoms, atoms, totals)),
        n=table.add(np.bincount(atoms, minlength=table.atoms)),
        weight=table.add(_sums(table.atoms, atoms, size)),
        parts=np.abs(_by_holding(table, parts.atom, parts.holding, parts.value, width)),
        customers=_by_holding(table, parts.atom, parts.holding, np.ones_like(parts.atom), width),
        entrusted=_by_holding(table, parts.atom, parts.holding, size[parts.person], width),
        largest=_largest_of_cells(table, atoms, kind, size, depth),
        served=served,
        shared=None if counting else _shared(parts, table, totals, depth),
    )


def _parts(rows: pl.DataFrame, table: Table, counting: bool) -> _Rows:
    atom = table.locate(rows)
    inside = np.flatnonzero(atom >= 0)
    every = of_texts(rows["holding"])
    there, codes = np.unique(every.codes, return_inverse=True)
    names: list[str] = every.names[there].to_list()
    atom, holding, home = atom[inside], codes[inside], rows["home"].to_numpy()[inside]
    value = np.ones_like(home) if counting else rows["value"].to_numpy()[inside]
    # Before the first sum, which could wrap; floats are close enough for that.
    weights = np.bincount(atom, weights=np.abs(value.astype(np.float64)), minlength=table.atoms)
    if (table.add(weights) >= _LIMIT).any():
        raise ProgrammerError(
            "overflow", "the values of one release group do not fit into 64 bits; nothing is released"
        )
    order = np.lexsort((holding, home))
    atom, holding, home, value = atom[order], holding[order], home[order], value[order]
    begins = _begins(home)
    person = np.cumsum(begins) - 1
    if (atom != atom[begins][person]).any():
        raise ProgrammerError(
            "premises_in_two_places", "a premises lies in two areas or segments of one window"
        )
    start = np.flatnonzero(begins | _begins(holding))
    merged = value[start] if counting else _run_sums(value, start)
    return _Rows(atom[start], holding[start], merged, person[start], np.flatnonzero(begins[start]), names)


def _served_by(parts: _Rows) -> tuple[IntArray, BoolArray]:
    """Per home its kind, the number of its set of holdings, and the sets: kinds × holdings."""
    kind = np.zeros(len(parts.first), dtype=np.int64)
    for start in range(0, len(parts.names), _WORD):
        inside = (parts.holding >= start) & (parts.holding < start + _WORD)
        bits = np.where(inside, np.int64(1) << np.where(inside, parts.holding - start, 0), 0)
        masks = np.bitwise_or.reduceat(bits, parts.first) if len(bits) else bits
        _, word = np.unique(masks, return_inverse=True)
        _, kind = np.unique(kind * (1 + word.max(initial=0)) + word, return_inverse=True)
    served = np.zeros((1 + kind.max(initial=-1), len(parts.names)), dtype=bool)
    served[kind[parts.person], parts.holding] = True
    return kind, served


def _shared(parts: _Rows, table: Table, totals: IntArray, depth: int) -> Shared | None:
    several = np.flatnonzero(np.bincount(parts.person)[parts.person] > 1)
    if not len(several):
        return None
    atom, holding = parts.atom[several], parts.holding[several]
    others = np.abs(totals[parts.person[several]] - parts.value[several])
    return Shared(
        _by_holding(table, atom, holding, np.ones_like(atom), len(parts.names)),
        _by_holding(table, atom, holding, others, len(parts.names)),
        _largest_of_cells(table, atom, holding, others, depth),
    )


def _run_sums(values: IntArray, starts: IntArray) -> IntArray:
    return np.add.reduceat(values, starts) if len(starts) else values


def _sums(n: int, index: IntArray, values: IntArray) -> IntArray:
    """Σ of the values of each index below n, exactly (bincount's weights are floats)."""
    result = np.zeros(n, dtype=np.int64)
    np.add.at(result, index, values)
    return result


def _by_holding(table: Table, atom: IntArray, holding: IntArray, values: IntArray, width: int) -> IntArray:
    """Σ of the values per cell and holding."""
    sums = _sums(table.atoms * width, atom * width + holding, values)
    return table.add(sums.reshape(table.atoms, width))


def _largest_of_cells(table: Table, atom: IntArray, kind: IntArray, size: IntArray, depth: int) -> Largest:
    """Of each atom and kind the largest, spread over the atom's cells: at least the `depth` largest of each
    cell and kind are among them."""
    group = atom * (1 + kind.max(initial=0)) + kind
    order = np.lexsort((-size, group))
    kept = order[place_in_run(group[order]) < depth]
    row, cell = table.spread(atom[kept])
    return _largest(cell, kind[kept][row], size[kept][row])


def _largest(cell: IntArray, kind: IntArray, size: IntArray) -> Largest:
    order = np.lexsort((kind, -size, cell))
    return Largest(cell[order], kind[order], size[order])


def _begins(values: NDArray[Any]) -> BoolArray:
    """Where a run of equal values begins."""
    begins = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def place_in_run(keys: IntArray) -> IntArray:
    """Of each row, how many rows with the same key come before it; equal keys stand together."""
    begins = _begins(keys)
    start = np.flatnonzero(begins)
    here = np.arange(len(begins), dtype=np.int64)
    return here - np.repeat(start, np.diff(np.append(start, len(begins))))
