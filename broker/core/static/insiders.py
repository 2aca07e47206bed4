"""Insiders by the thousand: only those who know enough to matter are put into the program.

In a stream a handful of holdings compete; in a static table every contributor may be one, and every two of them a pair.
Nearly all know too little of the cells concerned to get closer to anything than an outsider does. So the table is
protected against a few, then every witness of the certificate is tested against *all* holdings and pairs; who is not
held off by any is added to the few (single holdings first, then of each target the worst pair), until nobody is left.
What results is proven against everybody, as the full program would be.

How a target is tested
- A coalition without a part in any atom that its witnesses move is an outsider to it (of the target itself it has
  nothing either, or the witnesses, which move the target, would show it).
- Let a holding be *light* if it would be held off with twice its own part, at the outsider's need, which is the
  highest. Two light ones together know at every atom at most twice what the larger of them does: they are held off.
- All other pairs are tested one by one, block after block of holdings, the heavy ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.problem import Insiders, Problem, Protection, Rows, Targets
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.errors import ProgrammerError

FEW: Final = 20
_BLOCK: Final = 30


def protect_from_all(
    problem: Problem,
    protect: Callable[[Problem], Protection],
    *,
    few: int = FEW,
    until_exposed: bool = True,
) -> tuple[Problem, Protection]:
    """The problem with those insiders who matter, and its protection, which is proven against all of them.

    protect: for a problem; few: so many holdings are put into it at once. Where something is exposed, the answer comes
    at once and nothing else is proven; or else (not `until_exposed`) all that somebody exposes is found."""
    if problem.insiders is None or problem.insiders.parts.shape[0] <= few:
        return problem, protect(problem)
    chosen = np.zeros(0, dtype=np.int64)
    while True:
        smaller = replace(problem, insiders=_only(problem.insiders, chosen))
        protection = _named(protect(smaller), chosen)
        if protection.exposed and until_exposed:
            return smaller, protection
        more = not_held_off(problem, protection)
        if not len(more):
            return smaller, protection
        if np.isin(more, chosen).all():
            raise ProgrammerError(
                "unproven", "an insider that is in the program is not held off; nothing is published"
            )
        chosen = np.union1d(chosen, more)


def not_held_off(problem: Problem, protection: Protection) -> IntArray:
    """The holdings of whom some, alone or in a pair, are not held off by the witnesses of some target, although the
    protection does not say so (`exposed`); ascending."""
    assert problem.insiders is not None
    parts, sizes = problem.insiders.parts, problem.insiders.sizes
    columns = parts.tocsc(), parts.tocsc() if sizes is None else sizes.tocsc()
    starts = np.searchsorted(protection.witness_of, np.arange(len(protection.targets.level) + 1))
    said = {(each.target, each.attacker.holdings) for each in protection.exposed}
    found: set[int] = set()
    for target in range(len(protection.targets.level)):
        witnesses = protection.witnesses[int(starts[target]) : int(starts[target + 1])]
        if witnesses.shape[0] and (target, ()) not in said:  # what an outsider knows everybody knows
            one = Targets(protection.targets.rows[[target]], protection.targets.level[[target]])
            known = [set(holdings) for each, holdings in said if each == target]
            found |= _Local(problem, columns, one, witnesses).curious(known)
    return np.array(sorted(found), dtype=np.int64)


def _named(protection: Protection, holdings: IntArray) -> Protection:
    """With the exposures' holdings as the whole problem numbers them."""
    exposed = [
        replace(
            each,
            attacker=replace(each.attacker, holdings=tuple(holdings[list(each.attacker.holdings)].tolist())),
        )
        for each in protection.exposed
    ]
    return replace(protection, exposed=tuple(exposed))


def _only(insiders: Insiders, holdings: IntArray) -> Insiders:
    sizes = None if insiders.sizes is None else insiders.sizes[holdings]
    return replace(insiders, parts=insiders.parts[holdings], sizes=sizes)


class _Local:
    """One target and its witnesses, on the atoms of either: all that slack and need of a coalition depend on there."""

    def __init__(
        self, problem: Problem, columns: tuple[Rows, Rows], target: Targets, witnesses: Rows
    ) -> None:
        atoms = np.union1d(target.rows.indices, witnesses.indices)
        parts, sizes = (each[:, atoms].tocsr() for each in columns)
        self._holdings = np.flatnonzero(np.diff(sizes.indptr))
        self._parts, self._sizes = parts[self._holdings], sizes[self._holdings]
        self._target = Targets(target.rows[:, atoms], target.level)
        self._row = self._target.rows.toarray()[0]
        self._contributing = np.flatnonzero(self._sizes @ np.abs(self._row))
        self._changes = list(witnesses[:, atoms].toarray())
        self._pairs = problem.insiders is not None and problem.insiders.pairs
        self._problem = replace(
            problem,
            figures=problem.figures[:0][:, atoms],
            role=problem.role[:0],
            cost=problem.cost[:0],
            values=problem.values[atoms],
            lower=problem.lower[atoms],
            upper=problem.upper[atoms],
            targets=self._target,
            size=None if problem.size is None else problem.size[atoms],
            alone=None if problem.alone is None else np.full(len(atoms), -1, dtype=np.int64),
            insiders=None,
        )

    def curious(self, said: list[set[int]]) -> set[int]:
        """The holdings that no witness holds off. If there is none, those of the pair that is furthest from it, and
        four that contribute: with fewer of them in the program pairs would not count there. Coalitions that hold one
        of those in `said` are left out."""
        light = self._light()
        order = np.argsort(light, kind="stable")
        blocks = self._blocks(order, int(np.count_nonzero(~light)))
        found = [
            each for block in blocks for each in self._unmet(block) if not any(map(each[1].issuperset, said))
        ]
        alone = {holding for _, holdings in found if len(holdings) == 1 for holding in holdings}
        if alone or not found:
            return alone
        _, worst = min(found, key=lambda each: (each[0], sorted(each[1])))
        return {*worst, *self._holdings[self._contributing[:4]].tolist()}

    def _light(self) -> BoolArray:
        """Of each holding whether one and the same witness for each way would hold off twice of it."""
        result = np.zeros(len(self._holdings), dtype=bool)
        twice = Insiders(self._parts * 2, self._sizes * 2, pairs=False)
        demands = Attackers(replace(self._problem, insiders=twice), self._target).demands(0, self._everywhere)
        names = np.array([each.holdings[0] for each in demands.who[1:]], dtype=np.int64)
        most = replace(demands, need=np.broadcast_to(demands.need[0], demands.need.shape))
        met = np.stack([most.met(change, int(self._row @ change)) for change in self._changes])[:, 1:]
        best = met.sum(axis=1).argmax(axis=0)
        result[names] = met[best[0], :, 0] & met[best[1], :, 1]
        return result

    def _blocks(self, order: IntArray, heavy: int) -> Iterator[IntArray]:
        """Sets of holdings such that every heavy one, and every pair with a heavy one (they come first in `order`), is
        in one. Four that contribute to the target are in all: fewer, and pairs would not count."""
        blocks = [order[i : i + _BLOCK] for i in range(0, len(order), _BLOCK)]
        for i, block in enumerate(blocks):
            if i * _BLOCK >= heavy:
                return
            others = blocks[i + 1 :] if self._pairs else []
            for other in others or [block]:
                yield np.unique(np.concatenate((block, other, self._contributing[:4])))

    def _unmet(self, chosen: IntArray) -> Iterator[tuple[Fraction, frozenset[int]]]:
        """Of the coalitions of some holdings those that no witness holds off, and how much of their need one does."""
        insiders = Insiders(self._parts[chosen], self._sizes[chosen], pairs=self._pairs)
        attackers = Attackers(replace(self._problem, insiders=insiders), self._target)
        demands, unmet = attackers.open_needs(0, self._everywhere, self._changes)
        for coalition in np.flatnonzero(unmet.any(axis=1)).tolist():
            slack = np.stack((demands.down[coalition], demands.up[coalition])).min(axis=0)
            most = max(self._moved(change, slack) for change in self._changes)
            holdings = frozenset(self._holdings[chosen[list(demands.who[coalition].holdings)]].tolist())
            yield Fraction(most, int(demands.need[coalition].max())), holdings

    def _moved(self, change: IntArray, slack: IntArray) -> int:
        """How far a witness moves the target within some slack."""
        moves = change != 0
        return abs(int(self._row @ change)) * int((slack[moves] // np.abs(change[moves])).min())

    @property
    def _everywhere(self) -> IntArray:
        return np.arange(len(self._row))
