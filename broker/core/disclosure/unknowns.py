"""Which atoms stay unknown, as one figure after another is published."""

from __future__ import annotations

from typing import Final

import numpy as np

from broker.core.disclosure.attackers import entries
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import single_unknowns
from broker.core.disclosure.system import System
from broker.core.disclosure.table import IntArray

_ENOUGH: Final = 200  # unknown atoms around a target
_STEPS: Final = 4  # from the target, each over a figure
_WIDE: Final = 20_000  # a figure of more atoms is no way from one to another


class Unknowns:
    """known: per atom, whether it follows from single unknowns (see `reduction`): no change can move it."""

    def __init__(self, system: System, targets: Rows) -> None:
        published = system.figures[system.published]
        self.known, _ = single_unknowns(published, np.zeros(published.shape[0], dtype=np.int64))
        self._system = system
        unknown = (~self.known).astype(np.int64)
        self._left = _pattern(system.figures) @ unknown
        self._left_of_target = _pattern(targets) @ unknown
        self._targets = targets.T.tocsr()

    def publish(self, figure: int) -> list[int] | None:
        """The atoms that follow when it is published; None, and nothing has changed, if a target would."""
        system, queue = self._system, [figure]
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
                self.forget(learnt)
                return None
            queue += figures[system.published[figures] & (self._left[figures] == 1)].tolist()
        return learnt

    def forget(self, atoms: list[int]) -> None:
        """Undo what publishing taught."""
        for atom in atoms:
            self._count(atom, 1)

    def near(self, target: IntArray) -> IntArray:
        """Atoms that a change of the target can make use of, if nothing published may see it: unknown ones, on the
        shortest figures first; and the target's own. Ascending."""
        system = self._system
        atoms = target[~self.known[target]]
        for _ in range(_STEPS):
            lines = system.lines(atoms)
            row, place = entries(system.figures.indptr, lines[system.size[lines] < _WIDE])
            ahead = system.figures.indices[place]
            free = ~self.known[ahead]
            row, ahead = row[free], ahead[free]
            last = row[min(_ENOUGH, len(row) - 1)] if len(row) else 0  # whole figures only
            wider = np.union1d(atoms, ahead[row <= last])
            if len(wider) == len(atoms) or len(wider) > _ENOUGH:
                atoms = wider
                break
            atoms = wider
        return np.union1d(atoms, target)

    def _count(self, atom: int, by: int) -> tuple[IntArray, IntArray]:
        """Make an atom known (-1) or unknown; the figures and the targets that it is in."""
        self.known[atom] = by < 0
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
