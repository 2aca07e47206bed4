"""One independent part of a system of equations over atoms.

Most are small, and there are thousands: their rows are plain arrays, and a matrix is made when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from broker.core.disclosure.problem import Rows
from broker.core.disclosure.sparse import Numbering, entries, int_rows
from broker.core.disclosure.table import IntArray

_DENSE: Final = 200_000  # entries of a matrix that is kept whole


class Columns(NamedTuple):
    """A matrix column after column."""

    starts: IntArray
    rows: IntArray
    entries: IntArray


@dataclass(frozen=True)
class Component:
    """atoms: ascending; the equations as compressed rows over their places: starts, columns, entries; totals: the
    right sides."""

    atoms: IntArray
    starts: IntArray
    columns: IntArray
    entries: IntArray
    totals: IntArray

    @cached_property
    def matrix(self) -> IntArray | Rows:
        """The rows: an array, or a sparse one if it is large."""
        shape = len(self.totals), len(self.atoms)
        if shape[0] * shape[1] > _DENSE:
            return csr_array((self.entries, self.columns, self.starts), shape=shape)
        matrix = np.zeros(shape, dtype=np.int64)
        matrix[np.arange(shape[0]).repeat(np.diff(self.starts)), self.columns] = self.entries
        return matrix

    @cached_property
    def by_column(self) -> Columns:
        order = np.argsort(self.columns, kind="stable")
        row = np.arange(len(self.totals)).repeat(np.diff(self.starts))
        starts = np.searchsorted(self.columns[order], np.arange(len(self.atoms) + 1))
        return Columns(starts, row[order], self.entries[order])

    def dense(self, columns: IntArray | slice = slice(None)) -> IntArray:
        """Some columns of the rows, as an array."""
        chosen = self.matrix[:, columns]
        return np.asarray(chosen if isinstance(chosen, np.ndarray) else chosen.toarray())


class Touched(NamedTuple):
    """targets: those that have a part in the component; goals: those parts, targets × its atoms."""

    component: Component
    targets: IntArray
    goals: IntArray


def touched(components: Iterable[Component], targets: Rows) -> Iterator[Touched]:
    """All components that targets have a part in."""
    columns = int_rows(int_rows(targets).T)
    numbering = Numbering(targets.shape[0])
    for component in components:
        atom, place = entries(columns.indptr, component.atoms)
        if len(atom):
            number, here = numbering.of(columns.indices[place])
            goals = np.zeros((len(here), len(component.atoms)), dtype=np.int64)
            goals[number, atom] = columns.data[place]
            order = np.argsort(here)
            yield Touched(component, here[order], goals[order])
