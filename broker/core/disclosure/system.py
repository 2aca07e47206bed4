"""The figures of a problem as they stand while a pattern is sought: what is published, and what lies near what."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.attackers import entries
from broker.core.disclosure.linear import Floats
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.table import BoolArray, IntArray

_WIDE: Final = 400  # of figures with more atoms only the cheapest so many are looked at


class System:
    """published: per figure, as it stands; fixed: it cannot be suppressed; cost: of suppressing it."""

    def __init__(self, figures: Rows, published: BoolArray, fixed: BoolArray, cost: IntArray) -> None:
        self.figures = figures
        self.of_atom = figures.T.tocsr()
        self.of_atom.indices = self.of_atom.indices.astype(np.int64)
        self.of_atom.indptr = self.of_atom.indptr.astype(np.int64)
        self.published = published
        self.fixed = fixed
        self.cost: Floats = cost.astype(np.float64)
        self.size: IntArray = np.diff(figures.indptr)
        own = np.flatnonzero(self.size == 1)
        self._own = np.full(figures.shape[1], -1, dtype=np.int64)
        self._own[figures.indices[figures.indptr[own]]] = own
        self._cheapest: dict[int, IntArray] = {}

    def weight(self, atoms: IntArray) -> Floats:
        """What suppressing the atoms' own figures would cost."""
        own = self._own[atoms]
        return np.where((own >= 0) & self.published[own], self.cost[own], 0.0)

    def moved(self, atoms: IntArray, change: IntArray) -> IntArray:
        """The figures that a change of the atoms moves."""
        row, place = entries(self.of_atom.indptr, atoms)
        figures, at = np.unique(self.of_atom.indices[place], return_inverse=True)
        move = np.zeros(len(figures), dtype=np.int64)
        np.add.at(move, at, self.of_atom.data[place] * change[row])
        moved: IntArray = figures[move != 0]
        return moved

    def seen(self, atoms: IntArray, change: IntArray) -> IntArray:
        """The published figures that a change of the atoms shows in."""
        moved = self.moved(atoms, change)
        return moved[self.published[moved]]

    def suppress(self, figures: IntArray) -> None:
        assert not self.fixed[figures].any()
        self.published[figures] = False

    def tied(self, target: IntArray) -> IntArray:
        """The atoms that figures which cannot be suppressed tie to the target's, ascending: no other can help to
        move it unseen."""
        atoms = target
        while True:
            _, place = entries(self.of_atom.indptr, atoms)
            figures = np.unique(self.of_atom.indices[place])
            _, place = entries(self.figures.indptr, figures[self.fixed[figures]])
            wider = np.union1d(target, self.figures.indices[place])
            if len(wider) == len(atoms):
                return wider
            atoms = wider

    def near(self, target: IntArray, able: Floats, reach: int) -> IntArray:
        """Atoms among which a cheap witness may lie, ascending: the target's, others of their figures, and
        those that close circles between them.

        able: per atom of the table the part of the target's level that it can move by, at most 1; reach: how
        many atoms of each figure are taken.
        """
        seeds = target if len(target) <= reach else np.sort(target[self._ranked(target, able)[:reach]])
        line, atoms = self._atoms(self.lines(seeds)[: max(6, reach // 2)])
        order = self._ranked(atoms, able, line)
        rank = np.arange(len(order)) - np.searchsorted(line[order], line[order])
        inner = np.union1d(seeds, atoms[order[rank < reach]])
        touched = self.lines(inner)
        _, more = self._atoms(touched[: 4 * reach])
        more = np.setdiff1d(more, inner)
        best = self._ranked(more, able, self._open_ends(more, touched))[: reach * reach]
        return np.union1d(inner, more[best])

    def _open_ends(self, atoms: IntArray, touched: IntArray) -> IntArray:
        """Per atom the published figures that it would be the first of the neighbourhood in."""
        row, place = entries(self.of_atom.indptr, atoms)
        figure = self.of_atom.indices[place]
        known = np.zeros(len(self.size), dtype=bool)
        known[touched] = True
        first = self.published[figure] & (self.size[figure] > 1) & ~known[figure]
        return np.bincount(row[first], minlength=len(atoms))

    def _ranked(self, atoms: IntArray, able: Floats, group: IntArray | None = None) -> IntArray:
        """The order of the atoms: by group, then those that cost least for what they can move by."""
        price = self.weight(atoms) / np.maximum(able[atoms], 1e-3)
        price[able[atoms] <= 0] = np.inf
        return np.lexsort((atoms, price) if group is None else (atoms, price, group))

    def lines(self, atoms: IntArray) -> IntArray:
        """The published figures of several atoms that hold some of these, smallest first."""
        _, place = entries(self.of_atom.indptr, atoms)
        figures = np.unique(self.of_atom.indices[place])
        figures = figures[self.published[figures] & (self.size[figures] > 1)]
        by_size: IntArray = figures[np.argsort(self.size[figures], kind="stable")]
        return by_size

    def _atoms(self, figures: IntArray) -> tuple[IntArray, IntArray]:
        """(place of the figure in `figures`, atom): of wide figures the cheapest only."""
        wide = self.size[figures] > _WIDE
        row, place = entries(self.figures.indptr, figures[~wide])
        rows, atoms = [np.flatnonzero(~wide)[row]], [self.figures.indices[place]]
        for at in np.flatnonzero(wide).tolist():
            chosen = self._few(int(figures[at]))
            rows.append(np.full(len(chosen), at, dtype=np.int64))
            atoms.append(chosen)
        return np.concatenate(rows), np.concatenate(atoms)

    def _few(self, figure: int) -> IntArray:
        if figure not in self._cheapest:
            start, end = self.figures.indptr[figure : figure + 2]
            atoms = self.figures.indices[start:end]
            self._cheapest[figure] = atoms[np.lexsort((atoms, self.weight(atoms)))[:_WIDE]]
        return self._cheapest[figure]


def spread(count: int, salt: int) -> NDArray[np.float64]:
    """Fixed numbers between 0 and 1, without pattern, the same on any machine: to break ties with."""
    return scrambled(np.arange(count, dtype=np.uint64) + np.uint64(salt << 40)) / 2.0**64


def scrambled(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (S. Vigna), a fixed bijection."""
    mixed = number + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
