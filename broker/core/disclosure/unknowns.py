"""What is left unknown, as one figure after another is published again."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.sparse import hstack, identity

from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import Reduced
from broker.core.disclosure.sparse import Numbering, distinct, entries, int_rows, merged
from broker.core.disclosure.system import System
from broker.core.disclosure.table import IntArray

_ENOUGH: Final = 200  # unknown atoms around a target


class Unknowns:
    """known: per atom, whether it follows from single unknowns (see `reduction`): no change can move it.

    As rows that may see a change (`local.Shown`): the reduced system of what was published at the beginning, few
    and short rows that imply all others; each figure that has been published since; each atom that is known.
    """

    def __init__(self, system: System, targets: Rows, left: Reduced) -> None:
        """left: what is published, reduced."""
        self.known = left.known.copy()
        self._system = system
        unknown = (~self.known).astype(np.int64)
        self._left = _pattern(system.figures) @ unknown
        self._left_of_target = _pattern(targets) @ unknown
        self._targets = targets.T.tocsr()
        self._reduced = left.rows
        self._members = [component.atoms for component in left.components]
        self._component = np.full(len(self.known), -1, dtype=np.int64)
        for number, atoms in enumerate(self._members):
            self._component[atoms] = number
        self._first = self._reduced.shape[0]  # the first column of `of_atom` that is a figure
        self._last = self._first + len(system.published)  # the first that is an atom
        count = self._last + len(self.known)
        each = identity(len(self.known), dtype=np.int64, format="csr")
        self.of_atom = int_rows(hstack([self._reduced.T, system.of_atom, each]))
        self.published = np.arange(count) < self._first
        self.published[self._last :] = self.known
        self.fixed = np.ones(count, dtype=bool)
        self.cost = np.ones(count)
        self.numbering = Numbering(count)

    def publish(self, figure: int) -> list[int] | None:
        """The atoms that follow when it is published; None, and nothing has changed, if a target would."""
        system, queue = self._system, [figure]
        self.published[self._first + figure] = True
        learnt: list[int] = []
        while queue:
            at = queue.pop()
            if self._left[at] != 1:
                continue
            atoms = system.figures.indices[system.figures.indptr[at] : system.figures.indptr[at + 1]]
            atom = int(atoms[~self.known[atoms]][0])
            learnt.append(atom)
            figures, targets = self._count(atom, -1)
            if not self._left_of_target[targets].all():
                self.take_back(figure, learnt)
                return None
            queue += figures[system.published[figures] & (self._left[figures] == 1)].tolist()
        return learnt

    def take_back(self, figure: int, learnt: list[int]) -> None:
        """Undo the publication, and what it taught."""
        self.published[self._first + figure] = False
        for atom in learnt:
            self._count(atom, 1)

    def near(self, target: IntArray) -> IntArray:
        """Unknown atoms of the target's components, or the nearest of many; and the target's own. Ascending."""
        atoms = target[~self.known[target]]
        numbers = distinct(self._component[atoms])
        nearest = [self._members[number] for number in numbers.tolist()]
        if sum(map(len, nearest)) <= _ENOUGH:
            ahead = np.concatenate([atoms, *nearest])
            return merged(ahead[~self.known[ahead]], target)
        while True:
            _, place = entries(self.of_atom.indptr, atoms)
            row = self.of_atom.indices[place]
            _, row = self.numbering.of(row[row < self._first])
            _, place = entries(self._reduced.indptr, row)
            ahead = self._reduced.indices[place]
            wider = merged(atoms, ahead[~self.known[ahead]])
            if len(wider) == len(atoms) or len(atoms) > _ENOUGH:
                return merged(atoms, target)
            atoms = wider

    def _count(self, atom: int, by: int) -> tuple[IntArray, IntArray]:
        """Make an atom known (-1) or unknown; the figures and the targets that it is in."""
        self.known[atom] = self.published[self._last + atom] = by < 0
        figures, targets = (
            matrix.indices[matrix.indptr[atom] : matrix.indptr[atom + 1]]
            for matrix in (self._system.of_atom, self._targets)
        )
        self._left[figures] += by
        self._left_of_target[targets] += by
        return figures, targets


def _pattern(rows: Rows) -> Rows:
    ones = rows.copy()
    ones.data = np.ones_like(ones.data)
    return ones
