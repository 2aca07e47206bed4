"""The figures of a problem as they stand while a pattern is sought: what is published, and what lies near what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.linear import Floats
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.sparse import Numbering, distinct, entries, merged
from broker.core.disclosure.table import BoolArray, IntArray

_WIDE: Final = 400  # of figures with more atoms only the cheapest so many are looked at


@dataclass(frozen=True, eq=False)
class Witness:
    """A change of some atoms (ascending), none of it zero, and the figures that it moves."""

    atoms: IntArray
    change: IntArray
    figures: IntArray


class System:
    """published: per figure, as it stands; fixed: it cannot be suppressed; cost: of suppressing it; of_atom:
    atoms × figures."""

    def __init__(self, figures: Rows, published: BoolArray, fixed: BoolArray, cost: IntArray) -> None:
        self.figures = figures
        self.of_atom = figures.T.tocsr()
        self.of_atom.indices = self.of_atom.indices.astype(np.int64)
        self.of_atom.indptr = self.of_atom.indptr.astype(np.int64)
        self.published = published
        self.fixed = fixed
        self.cost: Floats = cost.astype(np.float64)
        self.size: IntArray = np.diff(figures.indptr)
        self.numbering = Numbering(figures.shape[0])
        own = np.flatnonzero(self.size == 1)
        self._own = np.full(figures.shape[1], -1, dtype=np.int64)
        self._own[figures.indices[figures.indptr[own]]] = own
        self._marks = np.zeros(figures.shape[1], dtype=bool)
        self._lines = np.zeros(figures.shape[0], dtype=bool)
        self._cheapest: dict[int, IntArray] = {}

    def witness(self, atoms: IntArray, change: IntArray) -> Witness:
        """atoms: ascending; change: not zero on any."""
        row, place = entries(self.of_atom.indptr, atoms)
        number, figures = self.numbering.of(self.of_atom.indices[place])
        move = np.zeros(len(figures), dtype=np.int64)
        np.add.at(move, number, self.of_atom.data[place] * change[row])
        return Witness(atoms, change, np.sort(figures[move != 0]))

    def seen(self, witness: Witness) -> IntArray:
        """The published figures that a witness shows in."""
        return witness.figures[self.published[witness.figures]]

    def suppress(self, figures: IntArray) -> None:
        assert not self.fixed[figures].any()
        self.published[figures] = False

    def tied(self, target: IntArray) -> IntArray:
        """The atoms that figures which cannot be suppressed tie to the target's, ascending: no other can help to
        move it unseen."""
        atoms = target
        while True:
            _, place = entries(self.of_atom.indptr, atoms)
            figures = distinct(self.of_atom.indices[place])
            _, place = entries(self.figures.indptr, figures[self.fixed[figures]])
            wider = merged(target, self.figures.indices[place])
            if len(wider) == len(atoms):
                return wider
            atoms = wider

    def near(self, target: IntArray, able: Floats, reach: int) -> IntArray:
        """Atoms among which a cheap witness may lie, ascending: the target's (of many the cheapest), others of
        their figures, and those that close circles between them.

        able: per atom of the table the part of the target's level that it can move by, at most 1; reach: how
        many atoms of each figure are taken.
        """
        seeds = target if len(target) <= reach else np.sort(target[self._ranked(target, able)[:reach]])
        line, atoms = self._atoms(self.lines(seeds)[: max(6, reach // 2)])
        order = self._ranked(atoms, able, line)
        first = np.diff(line[order], prepend=-1).nonzero()[0]
        rank = np.arange(len(order)) - first.repeat(np.diff(first, append=len(order)))
        inner = merged(seeds, atoms[order[rank < reach]])
        touched = self.lines(inner)
        _, more = self._atoms(touched[: 4 * reach])
        more = self._others(more, inner)
        best = self._ranked(more, able, self._open_ends(more, touched))[: reach * reach]
        return merged(inner, more[best])

    def lines(self, atoms: IntArray) -> IntArray:
        """The published figures of several atoms that hold some of these, smallest first."""
        _, place = entries(self.of_atom.indptr, atoms)
        figures = self.of_atom.indices[place]
        _, figures = self.numbering.of(figures[self.published[figures] & (self.size[figures] > 1)])
        return figures[np.lexsort((figures, self.size[figures]))]

    def _others(self, atoms: IntArray, than: IntArray) -> IntArray:
        """Those that are not among others, each once, in no order."""
        marks = self._marks
        marks[atoms] = True
        marks[than] = False
        rest = atoms[marks[atoms]]
        last = np.zeros(0, dtype=np.int64) if not len(rest) else distinct(rest)
        marks[atoms] = False
        return last

    def _open_ends(self, atoms: IntArray, touched: IntArray) -> IntArray:
        """Per atom the published figures that it would be the first of the neighbourhood in."""
        row, place = entries(self.of_atom.indptr, atoms)
        figure = self.of_atom.indices[place]
        self._lines[touched] = True
        first = self.published[figure] & (self.size[figure] > 1) & ~self._lines[figure]
        self._lines[touched] = False
        return np.bincount(row[first], minlength=len(atoms))

    def _ranked(self, atoms: IntArray, able: Floats, group: IntArray | None = None) -> IntArray:
        """The order of the atoms: by group, then those that cost least for what they can move by."""
        own, part = self._own[atoms], able[atoms]
        price = np.where((own >= 0) & self.published[own], self.cost[own], 0.0) / np.maximum(part, 1e-3)
        price[part <= 0] = np.inf
        return np.lexsort((atoms, price) if group is None else (atoms, price, group))

    def _atoms(self, figures: IntArray) -> tuple[IntArray, IntArray]:
        """(place of the figure in `figures`, atom): of wide figures the cheapest only."""
        wide = self.size[figures] > _WIDE
        narrow = (~wide).nonzero()[0]
        row, place = entries(self.figures.indptr, figures[narrow])
        rows, atoms = [narrow[row]], [self.figures.indices[place]]
        for at in wide.nonzero()[0].tolist():
            chosen = self._few(int(figures[at]))
            rows.append(np.full(len(chosen), at, dtype=np.int64))
            atoms.append(chosen)
        return np.concatenate(rows), np.concatenate(atoms)

    def _few(self, figure: int) -> IntArray:
        if figure not in self._cheapest:
            start, end = self.figures.indptr[figure : figure + 2]
            atoms = self.figures.indices[start:end]
            everywhere = np.ones(self.figures.shape[1])
            self._cheapest[figure] = atoms[self._ranked(atoms, everywhere)[:_WIDE]]
        return self._cheapest[figure]


def spread(count: int, salt: int) -> NDArray[np.float64]:
    """Fixed numbers between 0 and 1, without pattern, the same on any machine: to break ties with (splitmix64,
    S. Vigna)."""
    mixed = np.arange(count, dtype=np.uint64) + np.uint64(salt << 40) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31))) / 2.0**64
