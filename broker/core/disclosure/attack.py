"""The attacker's program: how closely everybody can bound every target, given all that is published.

Run on exactly what will be published, as the gate of each release, and on tables of anyone. Outsider, insiders,
pairs, and whoever is alone somewhere: each has its own slack (see `attackers`), the rows are the same. They are
reduced once (see `reduction`); a target's interval is the sum of those of its parts in the components.
Attackers who know the same about a component share its programs. Someone alone in atoms that an outsider's
extreme worlds leave as they are reaches the same worlds, and gets no interval of its own.

A target passes (is not `short`) if worlds in whole numbers prove its interval wide enough; nothing passes because
a float says so. Where nobody asks for width, it must not be determined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.component import Component, touched
from broker.core.disclosure.extremes import Extreme, Extremes
from broker.core.disclosure.linear import PRIMAL, Solver
from broker.core.disclosure.problem import Attacker, Interval, Limits, Problem, Rows, Targets
from broker.core.disclosure.reduction import reduced
from broker.core.disclosure.secondary import PRIMES
from broker.core.disclosure.span import determined
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.errors import InputError, ProgrammerError

_LIMITS: Final = Limits()
_FAR: Final = 16  # no bound: further than so many times the largest atom or level


_Worlds = tuple[Extreme, Extreme]  # of the target's negative, of the target


class _Part(NamedTuple):
    """What one component adds to an interval: bounds down and up (None: none), and how far worlds do reach."""

    down: Fraction | None
    up: Fraction | None
    fall: int
    rise: int


def attack(
    problem: Problem, published: BoolArray, targets: Targets, limits: Limits = _LIMITS
) -> list[Interval]:
    """By target, then attacker: of everybody who must be kept from knowing more. Raises LimitReached, and
    ProgrammerError where a program has no solution although the truth is one."""
    rows = int_rows(problem.figures)[published]
    left = reduced(rows, np.zeros(rows.shape[0], dtype=np.int64))
    campaign = _Campaign(problem, targets, Solver(limits, PRIMAL))
    for number, (component, here, goals) in enumerate(touched(left.components, targets.rows)):
        campaign.attack(number, component, here, goals)
    known = np.logical_or.reduce([determined(left, targets.rows, prime) for prime in PRIMES])
    return [
        each
        for target, is_known in enumerate(known.tolist())
        for each in campaign.intervals(target, is_known)
    ]


def bounds(
    rows: Rows, totals: IntArray, lower: IntArray, upper: IntArray, targets: Rows, limits: Limits = _LIMITS
) -> list[tuple[Fraction | None, Fraction | None]]:
    """What an outsider knows of each target of a table whose truth is not at hand: lowest and highest value.

    rows: the published figures over atoms; totals: their values; lower, upper: of each atom (+-UNBOUNDED: none);
    None: no bound. Raises InputError where the figures contradict each other or the bounds."""
    try:
        left = reduced(rows, totals)
    except ValueError as error:
        raise InputError("contradiction", str(error)) from error
    _require((left.value >= lower)[left.known].all() and (left.value <= upper)[left.known].all())
    solver = Solver(limits, PRIMAL)
    ends: list[list[Fraction | None]] = [[Fraction(int(value))] * 2 for value in targets @ left.value]
    for component, here, goals in touched(left.components, targets):
        extremes = Extremes(solver, component, lower[component.atoms], upper[component.atoms])
        for side, sign in enumerate((-1, 1)):
            found = extremes.largest(sign * goals)
            _require(found is not None)
            for target, extreme in zip(here.tolist(), found or [], strict=True):
                sofar, end = ends[target][side], extreme.bound
                ends[target][side] = None if sofar is None or end is None else sofar + sign * end
    return [(low, high) for low, high in ends]


def _require(consistent: object) -> None:
    if not consistent:
        raise InputError(
            "contradiction", "the published figures contradict each other or the bounds of their parts"
        )


class _Campaign:
    """All attackers' programs, component after component."""

    def __init__(self, problem: Problem, targets: Targets, solver: Solver) -> None:
        self._attackers = Attackers(problem, targets)
        self._solver = solver
        size = np.abs(problem.values) if problem.size is None else problem.size
        self._far = _FAR * max(int(size.max(initial=1)), int(targets.level.max(initial=1)))
        # By target: by coalition, or who is alone: by component.
        self._parts: dict[int, dict[int, dict[int, _Part]]] = defaultdict(lambda: defaultdict(dict))
        self._alone: dict[int, dict[int, dict[int, _Part]]] = defaultdict(lambda: defaultdict(dict))

    def attack(self, number: int, component: Component, here: IntArray, goals: IntArray) -> None:
        """here: the targets that have a part in the component; goals: those parts."""
        down, up = (np.minimum(side, self._far) for side in self._attackers.slack(component.atoms))
        alike: dict[bytes, list[int]] = defaultdict(list)
        for coalition in range(len(down)):
            alike[down[coalition].tobytes() + up[coalition].tobytes()].append(coalition)
        asking = [set(self._attackers.needs_of(target)[0].tolist()) for target in here.tolist()]
        for coalitions in alike.values():
            chosen = [i for i, asks in enumerate(asking) if asks.intersection(coalitions)]
            found = self._worlds(component, down[coalitions[0]], up[coalitions[0]], goals[chosen])
            for i, worlds in zip(chosen, found, strict=True):
                part = self._part(goals[i], worlds)
                for coalition in asking[i].intersection(coalitions):
                    self._parts[int(here[i])][coalition][number] = part
            if 0 in coalitions:  # the outsider asks for something of every target
                self._attack_alone(number, component, here, goals, found)

    def _attack_alone(
        self, number: int, component: Component, here: IntArray, goals: IntArray, outside: list[_Worlds]
    ) -> None:
        """Of those who are alone in atoms that the outsider's extreme worlds move."""
        attackers, alone = self._attackers, self._attackers.alone[component.atoms]
        curious: dict[int, list[int]] = defaultdict(list)
        for i, (target, worlds) in enumerate(zip(here.tolist(), outside, strict=True)):
            moved = np.zeros(len(alone), dtype=bool)
            for extreme in worlds:
                moved |= True if extreme.world is None else extreme.world != 0
            for who in np.unique(alone[moved & (alone >= 0)]).tolist():
                if attackers.need_alone(target, who).any():
                    curious[who].append(i)
        down, up = (np.minimum(side[component.atoms], self._far) for side in (attackers.down, attackers.up))
        for who, chosen in curious.items():
            its = alone == who
            found = self._worlds(component, np.where(its, 0, down), np.where(its, 0, up), goals[chosen])
            for i, worlds in zip(chosen, found, strict=True):
                self._alone[int(here[i])][who][number] = self._part(goals[i], worlds)

    def intervals(self, target: int, known: bool) -> Iterator[Interval]:
        """Of everybody who asks for something. known: the target is determined."""
        attackers, outside = self._attackers, self._parts[target][0]
        for coalition, need in zip(*attackers.needs_of(target), strict=True):
            parts = self._parts[target][int(coalition)].values()
            yield _interval(target, attackers.coalitions[int(coalition)], parts, need, known)
        for who in sorted(self._alone[target]):
            both = outside | self._alone[target][who]
            yield _interval(
                target, Attacker(alone=who), both.values(), attackers.need_alone(target, who), known
            )

    def _worlds(self, component: Component, down: IntArray, up: IntArray, goals: IntArray) -> list[_Worlds]:
        if not len(goals):
            return []
        extremes = Extremes(self._solver, component, -down, up)
        rises = extremes.largest(goals)
        mirrored = (down == up).all()
        falls = rises if mirrored else extremes.largest(-goals)
        if rises is None or falls is None:
            raise ProgrammerError("no_solution", "a program that the truth solves has no solution")
        if mirrored:
            falls = [Extreme(each.bound, None if each.world is None else -each.world) for each in rises]
        return list(zip(falls, rises, strict=True))

    def _part(self, goal: IntArray, worlds: _Worlds) -> _Part:
        fall, rise = worlds
        low, high = (
            None if each.bound is None or each.bound > self._far // 2 else each.bound for each in worlds
        )
        return _Part(
            None if low is None else -low,
            high,
            0 if fall.world is None else -int(goal @ fall.world),
            0 if rise.world is None else int(goal @ rise.world),
        )


def _interval(target: int, who: Attacker, parts: Iterable[_Part], need: IntArray, known: bool) -> Interval:
    shares = list(parts)
    down, up = _total(each.down for each in shares), _total(each.up for each in shares)
    short = (
        known or sum(each.fall for each in shares) < need[0] or sum(each.rise for each in shares) < need[1]
    )
    return Interval(target, who, down, up, (int(need[0]), int(need[1])), bool(short), known)


def _total(bounds: Iterable[Fraction | None]) -> Fraction | None:
    total = Fraction(0)
    for bound in bounds:
        if bound is None:
            return None
        total += bound
    return total
