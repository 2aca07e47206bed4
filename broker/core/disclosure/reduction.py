"""What published rows leave unknown, in as small systems as possible, without losing anything.

Three steps, each of which keeps the set of worlds {y : rows · y = totals}:
1. a row with one unknown atom makes it known: it is substituted in all rows; again, until no row is left that
   has just one;
2. from a row the largest of the other rows that lie in it are subtracted, if disjoint (a total less its published
   children): adding a multiple of one equation to another changes no solution; equal and empty rows go;
3. rows that share no atom with each other say nothing about each other: connected components.
The smallest and the largest value of a sum over atoms of several components is the sum of theirs; it is
determined iff its part in each component is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from broker.core.disclosure.component import Component
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.sparse import entries, int_rows
from broker.core.disclosure.table import BoolArray, IntArray

_ROUNDS: Final = 3  # of subtraction: what it leaves may hold other remainders


@dataclass(frozen=True)
class Reduced:
    """known, value: per atom of the table, what follows from single unknowns; rows, totals: the equations that are
    left, over all atoms."""

    known: BoolArray
    value: IntArray
    rows: Rows
    totals: IntArray

    @cached_property
    def components(self) -> list[Component]:
        """Of the unknown atoms, those in no row too."""
        return _components(np.flatnonzero(~self.known), self.rows, self.totals)


def reduced(rows: Rows, totals: IntArray) -> Reduced:
    """The published rows, and what they add up to. Raises ValueError where they contradict each other."""
    known, value = single_unknowns(rows, totals)
    rest = int_rows(rows)
    rest.data = np.where(known[rest.indices], 0, rest.data)
    return Reduced(known, value, *subtracted(*distinct_rows(int_rows(rest), totals - rows @ value)))


def single_unknowns(rows: Rows, totals: IntArray) -> tuple[BoolArray, IntArray]:
    """Which atoms follow from rows with one unknown, and their values (0 for others). ValueError: as `reduced`."""
    known = np.zeros(rows.shape[1], dtype=bool)
    value = np.zeros(rows.shape[1], dtype=np.int64)
    pattern = int_rows(rows)
    pattern.data = np.ones_like(pattern.data)
    while True:
        single = np.flatnonzero(pattern @ (~known).astype(np.int64) == 1)
        if not len(single):
            return known, value
        here = rows[single]
        row = np.repeat(np.arange(len(single)), np.diff(here.indptr))
        free = ~known[here.indices]
        atom, factor = here.indices[free], here.data[free]
        left = (totals[single] - here @ value)[row[free]]
        _require(not (left % factor).any())
        value[atom], known[atom] = left // factor, True


def distinct_rows(rows: Rows, totals: IntArray) -> tuple[Rows, IntArray]:
    """Without empty rows and repetitions, shortest first."""
    size = np.diff(rows.indptr)
    seen: dict[bytes, int] = {}
    for i in np.argsort(size, kind="stable").tolist():
        start, end = rows.indptr[i : i + 2]
        if end > start:
            first = seen.setdefault(rows.indices[start:end].tobytes() + rows.data[start:end].tobytes(), i)
            _require(totals[first] == totals[i])
        else:
            _require(totals[i] == 0)
    kept = np.fromiter(seen.values(), dtype=np.int64, count=len(seen))
    return rows[kept], totals[kept]


def _require(consistent: object) -> None:
    if not consistent:
        raise ValueError("the published figures contradict each other, or imply figures that are not whole")


def subtracted(rows: Rows, totals: IntArray) -> tuple[Rows, IntArray]:
    """The same equations, each less others that lie in it. rows: distinct, shortest first, sorted columns."""
    for _ in range(_ROUNDS):
        inner = _disjoint_parts(rows)
        if not inner.nnz:
            break
        rows, totals = distinct_rows(int_rows(rows - inner @ rows), totals - inner @ totals)
    return rows, totals


def _disjoint_parts(rows: Rows) -> Rows:
    """rows × rows: which others, disjoint and within it, to subtract from each; larger ones are preferred. Only
    between rows of ones."""
    count = rows.shape[0]
    size = np.diff(rows.indptr)
    plain = np.ones(count, dtype=bool)
    np.logical_and.at(plain, np.repeat(np.arange(count), size), rows.data == 1)
    shared = int_rows(rows @ rows.T)
    outer = np.repeat(np.arange(count), np.diff(shared.indptr))
    inner = shared.indices
    lies_in = (shared.data == size[inner]) & (size[inner] < size[outer]) & plain[outer] & plain[inner]
    outer, inner = outer[lies_in], inner[lies_in]
    order = np.lexsort((inner, -size[inner], outer))
    taken = np.zeros(rows.shape[1], dtype=np.int64)  # by which outer row, plus one
    chosen = []
    for out, within in zip(outer[order].tolist(), inner[order].tolist(), strict=True):
        atoms = rows.indices[rows.indptr[within] : rows.indptr[within + 1]]
        if (taken[atoms] != out + 1).all():
            taken[atoms] = out + 1
            chosen.append((out, within))
    where = np.array(chosen, dtype=np.int64).reshape(-1, 2)
    return csr_array((np.ones(len(where), dtype=np.int64), (where[:, 0], where[:, 1])), shape=(count, count))


def _components(atoms: IntArray, rows: Rows, totals: IntArray) -> list[Component]:
    """atoms: the unknown ones."""
    count, width = rows.shape[0], len(atoms)
    place = np.zeros(rows.shape[1], dtype=np.int64)
    place[atoms] = np.arange(width)
    links = csr_array(
        (np.ones(rows.nnz), place[rows.indices] + count, np.append(rows.indptr, [rows.nnz] * width)),
        shape=(count + width, count + width),
    )
    number, label = connected_components(links, directed=False)
    of_row, of_atom = label[:count], label[count:]
    by_row, by_atom = np.argsort(of_row, kind="stable"), np.argsort(of_atom, kind="stable")
    row_start = np.searchsorted(of_row[by_row], np.arange(number + 1))
    atom_start = np.searchsorted(of_atom[by_atom], np.arange(number + 1))
    size = np.diff(rows.indptr)
    found = []
    for i in range(number):
        mine = by_row[row_start[i] : row_start[i + 1]]
        columns = by_atom[atom_start[i] : atom_start[i + 1]]
        place[atoms[columns]] = np.arange(len(columns))
        _, at = entries(rows.indptr, mine)
        starts = np.concatenate(([0], size[mine].cumsum()))
        found.append(Component(atoms[columns], starts, place[rows.indices[at]], rows.data[at], totals[mine]))
    return found
