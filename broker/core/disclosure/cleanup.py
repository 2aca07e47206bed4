"""Publish again what turned out to be suppressed for nothing: dearest first.

A secondary is published if all targets that used it (one of their witnesses shows in it) find others among what
is suppressed, by programs in which nothing published may see a change. Atoms that follow from single unknowns
cannot be moved any more and are left out from the start: little is left to search among. A figure whose
publication would make a target's last atom follow is kept back without a program.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from broker.core.disclosure.reduction import reduced
from broker.core.disclosure.seeker import Seeker
from broker.core.disclosure.system import Witness
from broker.core.disclosure.table import BoolArray
from broker.core.disclosure.unknowns import Unknowns


class Cleanup:
    """One pass over all secondaries."""

    def __init__(self, seeker: Seeker, secondary: BoolArray) -> None:
        self._seeker = seeker
        self._system = seeker.system
        self._secondary = secondary
        published = seeker.system.figures[seeker.system.published]
        left = reduced(published, np.zeros(published.shape[0], dtype=np.int64))
        self._unknowns = Unknowns(seeker.system, seeker.attackers.rows, left)
        self._users: dict[int, list[tuple[int, Witness]]] = defaultdict(list)
        for target, witnesses in seeker.witnesses.items():
            for witness in witnesses:
                self._register(target, witness)

    def run(self) -> None:
        figures = np.flatnonzero(self._secondary)
        for figure in figures[np.lexsort((figures, -self._system.cost[figures]))].tolist():
            self._try(figure)

    def _try(self, figure: int) -> None:
        published = self._system.published
        published[figure] = True
        learnt = self._unknowns.publish(figure)
        if learnt is None:
            published[figure] = False
            return
        witnesses = self._seeker.witnesses
        spoilt: dict[int, set[Witness]] = defaultdict(set)
        for target, witness in self._users[figure]:
            if witness in witnesses[target]:
                spoilt[target].add(witness)
        before = {target: witnesses[target] for target in spoilt}
        for target, shown in spoilt.items():
            witnesses[target] = [each for each in before[target] if each not in shown]
            if not self._finds_others(target):
                witnesses.update(before)
                published[figure] = False
                self._unknowns.take_back(figure, learnt)
                return
        for target, old in before.items():
            for witness in witnesses[target]:
                if witness not in old:
                    self._register(target, witness)

    def _finds_others(self, target: int) -> bool:
        atoms = self._unknowns.near(self._seeker.attackers.atoms_of(target))
        return self._seeker.pursue(target, atoms, among=self._unknowns)

    def _register(self, target: int, witness: Witness) -> None:
        for figure in witness.figures[self._secondary[witness.figures]].tolist():
            self._users[figure].append((target, witness))
