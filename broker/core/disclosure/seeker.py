"""Witnesses for one target after another: among those found before, or by local programs.

What a target's attackers still ask for is looked for in this order:
1. witnesses of other targets that move this one as well;
2. in a neighbourhood, and where that fails in a wider one: one change for all attackers that moves no atom in
   which somebody is alone; one that may; one for all upwards, or downwards; one for a single attacker;
3. the target's own atoms alone, as far as the attacker's slack goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

from broker.core.disclosure.attackers import OUTSIDER, Attackers
from broker.core.disclosure.linear import Floats, Solver
from broker.core.disclosure.local import Local, Shown, local, search
from broker.core.disclosure.problem import Attacker
from broker.core.disclosure.quest import Attempt, Quest
from broker.core.disclosure.sparse import merged
from broker.core.disclosure.system import System, Witness
from broker.core.disclosure.table import IntArray

_REACHES: Final = (8, 60)  # atoms taken of each figure around a target
_OTHERS: Final = 12  # witnesses of other targets that are looked at


class Seeker:
    """Finds witnesses, keeps them by target, and suppresses in the system what shows them."""

    def __init__(self, system: System, attackers: Attackers, solver: Solver) -> None:
        self.system = system
        self.attackers = attackers
        self.witnesses: dict[int, list[Witness]] = defaultdict(list)
        self._solver = solver
        self._of_atom: dict[int, list[Witness]] = defaultdict(list)

    def satisfy(self, target: int) -> list[Attacker]:
        """Find all witnesses that the target needs. Returned are the attackers of whom it stays unsafe."""
        if self.reuse(target):
            return []
        own = self.attackers.atoms_of(target)
        for reach in _REACHES:
            if self.pursue(target, self.system.near(own, self._able(target), reach)):
                return []
        if self.pursue(target, self.system.tied(own), every=True):
            return []
        quest = self._quest(target, own)
        for change in quest.own_moves():
            self._adopt(quest, change, hard=False)
        quest = self._quest(target, own)
        found = [who for who, needs in zip(quest.demands.who, quest.open, strict=True) if needs.any()]
        return found or ([] if self.witnesses[target] else [OUTSIDER])

    def reuse(self, target: int) -> bool:
        """Take witnesses of other targets, as far as they are of use; whether the target has all it needs."""
        own, witnesses = self.attackers.atoms_of(target), self.witnesses[target]
        if witnesses and not self._quest(target, own).open.any():
            return True
        for witness in self._others(target):
            quest = self._quest(target, merged(own, witness.atoms))
            if quest.wants(quest.on_atoms(witness), not witnesses) is not None:
                witnesses.append(witness)
                if not self._quest(target, own).open.any():
                    return True
        return False

    def pursue(
        self, target: int, atoms: IntArray, *, among: Shown | None = None, every: bool = False
    ) -> bool:
        """Search among some atoms until the target has all it needs; whether it has.

        among: rows that imply all that is published on the atoms: nothing is to be suppressed; every: go on with
        the other needs when one cannot be met."""
        hard = among is not None
        quest, here = self._quest(target, atoms), None
        while quest.open.any() or not self.witnesses[target]:
            if here is None or not hard:
                here = local(among or self.system, quest.atoms)
            for attempt in quest.attempts(hard=hard, every=every):
                kept = self._found(quest, here, attempt, hard)
                if kept:
                    break
            else:
                return False
            if not all(quest.covers(change) for change in kept):
                quest = self._quest(target, quest.atoms)
        return True

    def keep(self, target: int, witness: Witness) -> None:
        self.witnesses[target].append(witness)
        for atom in witness.atoms.tolist():
            self._of_atom[atom].append(witness)

    def _quest(self, target: int, atoms: IntArray) -> Quest:
        return Quest(self.attackers, target, atoms, self.witnesses[target])

    def _others(self, target: int) -> Iterator[Witness]:
        """Witnesses of other targets that may serve this one, as far as an outsider is concerned: latest first."""
        seen = set(self.witnesses[target])
        tried = 0
        for atom in self.attackers.atoms_of(target).tolist():
            for witness in reversed(self._of_atom[atom]):
                if witness in seen:
                    continue
                seen.add(witness)
                if self._may_serve(witness, target):
                    tried += 1
                    yield witness
                if tried == _OTHERS or len(seen) > 10 * _OTHERS:
                    return

    def _may_serve(self, witness: Witness, target: int) -> bool:
        attackers = self.attackers
        own = attackers.atoms_of(target)
        place = np.searchsorted(witness.atoms, own)
        place[place == len(witness.atoms)] = 0
        shared = witness.atoms[place] == own
        move = abs(int(attackers.on(target, own)[shared] @ witness.change[place[shared]]))
        if not move or self.system.published[witness.figures].any():
            return False
        times = -(-int(attackers.level[target]) // move)
        least = np.minimum(attackers.down[witness.atoms], attackers.up[witness.atoms])
        return bool((least // np.abs(witness.change) >= times).all())

    def _able(self, target: int) -> Floats:
        """Per atom of the table the part of the target's level that it can move by, at most all of it."""
        level = max(int(self.attackers.level[target]), 1)
        return np.asarray(np.minimum(1.0, np.minimum(self.attackers.down, self.attackers.up) / level))

    def _found(self, quest: Quest, here: Local, attempt: Attempt, hard: bool) -> list[IntArray]:
        """Search one change, and keep what of it is of use."""
        parts = search(here, self._solver, quest.row, attempt.bounds, hard=hard)
        return [change for change in quest.whole(parts, attempt.needs) if self._adopt(quest, change, hard)]

    def _adopt(self, quest: Quest, change: IntArray, hard: bool) -> bool:
        """Keep a change if it is of use, and suppress what it shows in, if that may be; whether it was kept."""
        met = quest.wants(change, not self.witnesses[quest.target])
        if met is None:
            return False
        moved = change.nonzero()[0]
        witness = self.system.witness(quest.atoms[moved], change[moved])
        shown = self.system.seen(witness)
        if len(shown) and (hard or self.system.fixed[shown].any()):
            return False
        self.system.suppress(shown)
        self.keep(quest.target, witness)
        quest.open &= ~met
        return True
