"""What attackers still ask for one target, on some atoms, and how to ask for it in a linear program.

A program for several attackers has for each atom the closest of their slacks, each relative to the attacker's own
need: one change then serves all of them, in different multiples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.exact import Circuit, combined, lowest_terms
from broker.core.disclosure.linear import Floats
from broker.core.disclosure.local import Bounds
from broker.core.disclosure.sparse import distinct, merged
from broker.core.disclosure.system import Witness
from broker.core.disclosure.table import BoolArray, IntArray

_DOWN: Final = 0
_UP: Final = 1


class Attempt(NamedTuple):
    """needs: attackers × 2, which are asked for together; bounds: of a change that meets them."""

    needs: BoolArray
    bounds: Bounds


class Quest:
    """atoms: ascending, all that the target or its witnesses move among them; row: the target's entries on them;
    open: attackers × 2 (down, up), the needs that no witness meets."""

    def __init__(self, attackers: Attackers, target: int, atoms: IntArray, witnesses: list[Witness]) -> None:
        self.target = target
        self.atoms = merged(atoms, *(each.atoms for each in witnesses)) if witnesses else atoms
        changes = [self.on_atoms(each) for each in witnesses]
        self.demands, self.open = attackers.open_needs(target, self.atoms, changes)
        self.row = attackers.on(target, self.atoms)
        self.asks = bool(self.demands.need.any())
        self._attackers = attackers
        self._ratios: tuple[Floats, Floats] | None = None

    def on_atoms(self, witness: Witness) -> IntArray:
        change = np.zeros(len(self.atoms), dtype=np.int64)
        change[np.searchsorted(self.atoms, witness.atoms)] = witness.change
        return change

    def met_by(self, change: IntArray) -> BoolArray:
        return self.demands.met(change, int(self.row @ change))

    def wants(self, change: IntArray, first: bool) -> BoolArray | None:
        """What it would meet, None if it is of no use. first: there is no witness yet, and nobody asks for
        anything but that the target is not determined."""
        move = int(self.row @ change)
        if not move:
            return None
        met = self.demands.met(change, move)
        return met if (first and not self.asks) or (met & self.open).any() else None

    def attempts(self, *, hard: bool, every: bool) -> Iterator[Attempt]:
        """What to ask of one change, the most first. hard, every: see `Seeker.pursue`."""
        if not self.open.any():  # there is nothing to bound: the target must just not be determined
            free = np.full(len(self.atoms), np.inf)
            yield Attempt(self.open.copy(), Bounds(free, free))
            return
        everything = self.open.copy()
        together = self._bounds(everything)
        lonely = self._lonely()
        tight = bool((lonely & ((together.up > 0) | (together.down > 0))).any())
        if tight:
            bounds = Bounds(np.where(lonely, 0.0, together.up), np.where(lonely, 0.0, together.down))
            yield Attempt(everything, bounds)
        if not (hard and tight):
            yield Attempt(everything, together)
        if not hard:
            for way in (_UP, _DOWN):
                chosen = everything & (np.arange(2) == way)
                yield Attempt(chosen, self._bounds(chosen))
        for at in everything.ravel().nonzero()[0][: None if every else 1].tolist():
            chosen = np.arange(everything.size).reshape(-1, 2) == at
            yield Attempt(chosen, self._bounds(chosen))

    def whole(self, parts: list[Circuit], needs: BoolArray) -> Iterator[IntArray]:
        """Changes in whole numbers made of a solution's circuits: one for all needs, or one for each."""
        if len(parts) == 1:
            yield parts[0].change
            return
        moves = [int(self.row @ part.change) for part in parts]
        left = needs & self.open if parts else np.zeros_like(needs)
        for who, way in np.argwhere(left).tolist():
            if not left[who, way]:
                continue
            rise, fall = (side[who] for side in self._slack(way))
            change = combined(
                parts,
                moves,
                int(self.demands.need[who, way]),
                lambda z, rise=rise, fall=fall: bool((z <= rise).all() and (-z <= fall).all()),  # type: ignore[misc]
            )
            if change is not None:
                change = lowest_terms(change)
                left &= ~self.met_by(change)
                yield change

    def own_moves(self) -> Iterator[IntArray]:
        """For each open need a change of the target's own atoms alone, as far as the attacker's slack goes."""
        for who, way in np.argwhere(self.open).tolist():
            rise, fall = (side[who] for side in self._slack(way))
            left, change = int(self.demands.need[who, way]), np.zeros_like(self.row)
            for at in self.row.nonzero()[0].tolist():
                entry = int(self.row[at])
                step = min(-(-left // abs(entry)), int(rise[at] if entry > 0 else fall[at]))
                change[at] = step if entry > 0 else -step
                left -= step * abs(entry)
                if left <= 0:
                    break
            yield lowest_terms(change)

    def _slack(self, way: int) -> tuple[IntArray, IntArray]:
        """Attackers × atoms: how far an atom may rise, how far fall, while the target goes that way."""
        demands = self.demands
        return (demands.up, demands.down) if way == _UP else (demands.down, demands.up)

    def _bounds(self, chosen: BoolArray) -> Bounds:
        """The closest bounds of the chosen needs, relative to the target's move."""
        if self._ratios is None:
            need = np.maximum(self.demands.need, 1).astype(np.float64)
            down, up = self.demands.down[:, None, :], self.demands.up[:, None, :]
            rises = np.concatenate((down, up), axis=1) / need[:, :, None]
            falls = np.concatenate((up, down), axis=1) / need[:, :, None]
            self._ratios = rises.reshape(-1, len(self.atoms)), falls.reshape(-1, len(self.atoms))
        at = chosen.ravel().nonzero()[0]
        rise, fall = (side[at].min(axis=0, initial=np.inf) for side in self._ratios)
        return Bounds(rise, fall)

    def _lonely(self) -> BoolArray:
        """The atoms in which somebody is alone, from whom there is something left to protect."""
        alone = self._attackers.alone[self.atoms]
        lonely = alone >= 0
        if lonely.any():
            for each in distinct(alone[lonely & (self.row != 0)]).tolist():
                if not self._attackers.need_alone(self.target, each).any():
                    lonely &= alone != each
        return lonely

    def covers(self, change: IntArray) -> bool:
        """Whether all who are alone in an atom that the change moves are among the attackers."""
        alone = self._attackers.alone[self.atoms[change != 0]]
        return {*alone[alone >= 0].tolist()} <= {who.alone for who in self.demands.who}
