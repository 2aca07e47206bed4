"""Witnesses for one target after another: among those found before, or by local programs.

What a target's attackers still ask for is looked for in this order:
1. witnesses of other targets that move this one as well;
2. in a neighbourhood, and where that fails in a wider one: one change for all attackers that moves no atom in
   which somebody is alone; one that may; one for all upwards, or downwards; one for a single attacker;
3. the target's own atoms alone, as far as the attacker's slack goes.
The program for several attackers has for each atom the closest of their slacks, each relative to the attacker's
own level: one change then serves all of them, in different multiples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from broker.core.disclosure.attackers import OUTSIDER, Attackers, Demands
from broker.core.disclosure.exact import Circuit, combined, lowest_terms
from broker.core.disclosure.linear import Floats, Solver
from broker.core.disclosure.local import Bounds, Local, Shown, local, search
from broker.core.disclosure.problem import Attacker
from broker.core.disclosure.sparse import merged
from broker.core.disclosure.system import System, Witness
from broker.core.disclosure.table import BoolArray, IntArray

_REACHES: Final = (12, 60)  # atoms taken of each figure around a target
_OTHERS: Final = 12  # witnesses of other targets that are looked at
_DOWN, _UP = 0, 1


@dataclass(frozen=True)
class _Quest:
    """What is still asked for one target on some atoms. row: the target's; open: attackers × 2."""

    target: int
    atoms: IntArray
    row: IntArray
    demands: Demands
    open: BoolArray

    def slack(self, way: int) -> tuple[IntArray, IntArray]:
        """Attackers × atoms: how far an atom may rise, how far fall, while the target goes that way."""
        demands = self.demands
        return (demands.up, demands.down) if way == _UP else (demands.down, demands.up)


def _single(quest: _Quest, place: int) -> BoolArray:
    """One of the open needs."""
    at = np.flatnonzero(quest.open)[place]
    return np.asarray(np.arange(quest.open.size).reshape(-1, 2) == at)


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
        self._move_alone(target)
        quest = self._quest(target, own)
        found = [who for who, needs in zip(quest.demands.who, quest.open, strict=True) if needs.any()]
        return found or ([] if self.witnesses[target] else [OUTSIDER])

    def reuse(self, target: int) -> bool:
        """Take witnesses of other targets, as far as they are of use; whether the target has all it needs."""
        own = self.attackers.atoms_of(target)
        if self._is_met(self._quest(target, own)):
            return True
        for witness in self._others(target):
            quest = self._quest(target, merged(own, witness.atoms))
            if self._is_met(quest):
                return True
            if self._takes(quest, self._spread(witness, quest.atoms)):
                self.witnesses[target].append(witness)
        return self._is_met(self._quest(target, own))

    def pursue(
        self, target: int, atoms: IntArray, *, among: Shown | None = None, every: bool = False
    ) -> bool:
        """Search among some atoms until the target has all it needs; whether it has.

        among: rows that imply all that is published on the atoms: nothing is to be suppressed; every: go on with
        the other needs when one cannot be met."""
        hard = among is not None
        while True:
            quest = self._quest(target, atoms)
            if self._is_met(quest):
                return True
            here = local(among or self.system, quest.atoms)
            if not any(
                self._found(quest, here, bounds, hard) for bounds in self._attempts(quest, hard, every)
            ):
                return False

    def keep(self, target: int, witness: Witness) -> None:
        self.witnesses[target].append(witness)
        for atom in witness.atoms.tolist():
            self._of_atom[atom].append(witness)

    def _quest(self, target: int, atoms: IntArray) -> _Quest:
        witnesses = self.witnesses[target]
        if witnesses:
            atoms = merged(atoms, *(each.atoms for each in witnesses))
        changes = [self._spread(each, atoms) for each in witnesses]
        demands, unmet = self.attackers.open_needs(target, atoms, changes)
        return _Quest(target, atoms, self.attackers.on(target, atoms), demands, unmet)

    def _is_met(self, quest: _Quest) -> bool:
        return not quest.open.any() and bool(self.witnesses[quest.target])

    def _spread(self, witness: Witness, atoms: IntArray) -> IntArray:
        change = np.zeros(len(atoms), dtype=np.int64)
        change[np.searchsorted(atoms, witness.atoms)] = witness.change
        return change

    def _meets(self, quest: _Quest, change: IntArray) -> BoolArray:
        return quest.demands.met(change, int(quest.row @ change))

    def _takes(self, quest: _Quest, change: IntArray) -> bool:
        """Whether a change is of use: it meets an open need, or is the first."""
        if not quest.row @ change:
            return False
        return bool((self._meets(quest, change) & quest.open).any()) or not (
            self.witnesses[quest.target] or quest.open.any()
        )

    def _others(self, target: int) -> Iterator[Witness]:
        """Witnesses of other targets that may serve this one, as far as an outsider is concerned: latest first."""
        seen = set(self.witnesses[target])
        own = self.attackers.atoms_of(target)
        tried = 0
        for atom in own.tolist():
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
        if not move:
            return False
        times = -(-int(attackers.level[target]) // move)
        size = np.abs(witness.change)
        least = np.minimum(attackers.down[witness.atoms], attackers.up[witness.atoms])
        return bool((least // size >= times).all()) and not len(self.system.seen(witness))

    def _able(self, target: int) -> Floats:
        """Per atom of the table the part of the target's level that it can move by, at most all of it."""
        level = max(int(self.attackers.level[target]), 1)
        return np.asarray(np.minimum(1.0, np.minimum(self.attackers.down, self.attackers.up) / level))

    def _attempts(self, quest: _Quest, hard: bool, every: bool) -> Iterator[Bounds]:
        """What to ask of one change, the most first."""
        if not quest.open.any():  # there is nothing to bound: the target must just not be determined
            free = np.full(len(quest.atoms), np.inf)
            yield Bounds(free, free)
            return
        together = self._bounds(quest, quest.open)
        lonely = self._lonely(quest)
        tight = bool((lonely & ((together.up > 0) | (together.down > 0))).any())
        if tight:
            yield Bounds(np.where(lonely, 0.0, together.up), np.where(lonely, 0.0, together.down))
        if not (hard and tight):
            yield together
        if hard:  # most fail: if the first need alone cannot be met, nothing else matters
            yield self._bounds(quest, _single(quest, 0))
            return
        for way in (_UP, _DOWN):
            yield self._bounds(quest, quest.open & (np.arange(2) == way))
        for place in range(int(quest.open.sum()) if every else 1):
            yield self._bounds(quest, _single(quest, place))

    def _bounds(self, quest: _Quest, chosen: BoolArray) -> Bounds:
        """The closest bounds of the chosen needs, relative to the target's move."""
        up, down = (np.full(len(quest.atoms), np.inf) for _ in range(2))
        for way in (_DOWN, _UP):
            who = np.flatnonzero(chosen[:, way])
            need = quest.demands.need[who, way, None]
            rise, fall = quest.slack(way)
            up = np.minimum(up, (rise[who] / need).min(axis=0, initial=np.inf))
            down = np.minimum(down, (fall[who] / need).min(axis=0, initial=np.inf))
        return Bounds(up, down)

    def _lonely(self, quest: _Quest) -> BoolArray:
        """The atoms in which somebody is alone, from whom there is something left to protect."""
        alone = self.attackers.alone[quest.atoms]
        exempt = np.unique(alone[(quest.row != 0) & (alone >= 0)]).tolist()
        if exempt:
            demands = self.attackers.demands(quest.target, quest.atoms, exempt)
            exempt = [
                each
                for each, need in zip(exempt, demands.need[-len(exempt) :], strict=True)
                if not need.any()
            ]
        return (alone >= 0) & ~np.isin(alone, exempt)

    def _found(self, quest: _Quest, here: Local, bounds: Bounds, hard: bool) -> bool:
        """Search one change, keep it if it helps."""
        parts = search(here, self._solver, quest.row, bounds, hard=hard)
        kept = [self._adopt(quest, change, hard) for change in self._whole(quest, parts)]
        return any(kept)

    def _whole(self, quest: _Quest, parts: list[Circuit]) -> Iterator[IntArray]:
        """Witnesses in whole numbers made of a solution's circuits: one for all, or one for each open need."""
        if len(parts) == 1:
            yield parts[0].change
            return
        moves = [int(quest.row @ part.change) for part in parts]
        open_needs = quest.open.copy()
        for who, way in np.argwhere(open_needs).tolist():
            if not open_needs[who, way]:
                continue
            rise, fall = (side[who] for side in quest.slack(way))
            change = combined(
                parts,
                moves,
                int(quest.demands.need[who, way]),
                lambda z, rise=rise, fall=fall: bool((z <= rise).all() and (-z <= fall).all()),  # type: ignore[misc]
            )
            if change is not None:
                change = lowest_terms(change)
                open_needs &= ~self._meets(quest, change)
                yield change

    def _adopt(self, quest: _Quest, change: IntArray, hard: bool) -> bool:
        """Keep a change if it is of use, and suppress what it shows in, if that may be; whether it was kept."""
        if not self._takes(quest, change):
            return False
        moved = change.nonzero()[0]
        witness = self.system.witness(quest.atoms[moved], change[moved])
        shown = self.system.seen(witness)
        if self.system.fixed[shown].any() or (hard and len(shown)):
            return False
        self.system.suppress(shown)
        self.keep(quest.target, witness)
        return True

    def _move_alone(self, target: int) -> None:
        """Meet what needs can be met by suppressing all that holds some of the target's own atoms."""
        quest = self._quest(target, self.attackers.atoms_of(target))
        for who, way in np.argwhere(quest.open).tolist():
            rise, fall = (side[who] for side in quest.slack(way))
            left, change = int(quest.demands.need[who, way]), np.zeros_like(quest.row)
            for at in np.flatnonzero(quest.row).tolist():
                entry = int(quest.row[at])
                step = min(-(-left // abs(entry)), int(rise[at] if entry > 0 else fall[at]))
                change[at] = step if entry > 0 else -step
                left -= step * abs(entry)
                if left <= 0:
                    break
            self._adopt(quest, lowest_terms(change), hard=False)
