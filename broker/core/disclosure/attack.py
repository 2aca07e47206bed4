"""The attacker's program: how closely everybody can bound every target, given all that is published.

Run on exactly what will be published, as the gate of each release, and on tables of anyone. Outsider, insiders,
pairs, and whoever is alone somewhere: each has its own slack (see `attackers`), the rows are the same. They are
reduced once (see `reduction`); a target's interval is the sum of those of its parts in the components.
Attackers who know the same about a component share its programs. Who is alone in some atoms and must hold a world
possible that was found for another attacker, and wide enough, gets no interval of its own.

A target passes (is not `short`) if worlds in whole numbers prove its interval wide enough; nothing passes because
a float says so. Where nobody asks for width, it must not be determined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.component import Component, touched
from broker.core.disclosure.extremes import Extreme, Questions, largest
from broker.core.disclosure.linear import Solver
from broker.core.disclosure.problem import Attacker, Interval, Limits, Problem, Rows, Targets
from broker.core.disclosure.reduction import reduced
from broker.core.disclosure.secondary import PRIMES
from broker.core.disclosure.span import determined
from broker.core.disclosure.sparse import distinct, int_rows
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
    campaign = _Campaign(problem, targets, Solver(limits))
    for number, (component, here, goals) in enumerate(touched(left.components, targets.rows)):
        campaign.attack(number, component, here, goals)
    still = campaign.unmoved()
    known = np.zeros(len(targets.level), dtype=bool)
    for prime in PRIMES if len(still) else ():
        known[still] |= determined(left, targets.rows[still], prime)
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
    solver = Solver(limits)
    ends: list[list[Fraction | None]] = [[Fraction(int(value))] * 2 for value in targets @ left.value]
    for component, here, goals in touched(left.components, targets):
        inside = (np.tile(side[component.atoms], (len(goals), 1)) for side in (lower, upper))
        asked = Questions(goals, *inside)
        for side, sign in enumerate((-1, 1)):
            found = largest(solver, component, replace(asked, goals=sign * goals))
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
        asked = [
            (i, coalitions)
            for coalitions in alike.values()
            for i, asks in enumerate(asking)
            if asks.intersection(coalitions)
        ]
        goal, who = (
            np.array(each) for each in zip(*((i, coalitions[0]) for i, coalitions in asked), strict=True)
        )
        worlds_of: dict[int, list[_Worlds]] = defaultdict(list)
        found = self._worlds(component, goals[goal], down[who], up[who])
        for (i, coalitions), worlds in zip(asked, found, strict=True):
            part = self._part(goals[i], worlds)
            for coalition in asking[i].intersection(coalitions):
                self._parts[int(here[i])][coalition][number] = part
            worlds_of[i].append(worlds)
        self._attack_alone(number, component, here, goals, worlds_of)

    def _attack_alone(
        self,
        number: int,
        component: Component,
        here: IntArray,
        goals: IntArray,
        found: dict[int, list[_Worlds]],
    ) -> None:
        """Of those who are alone somewhere, as far as no world found so far satisfies them."""
        alone = self._attackers.alone[component.atoms]
        places = {who: alone == who for who in distinct(alone[alone >= 0]).tolist()}
        curious: dict[int, list[int]] = defaultdict(list)
        for i, target in enumerate(here.tolist()):
            sides = [_reaches(goals[i], [worlds[way] for worlds in found[i]]) for way in (0, 1)]
            for who, its in places.items():
                need = self._attackers.need_alone(target, who)
                if any(reach(its) < wanted for reach, wanted in zip(sides, need.tolist(), strict=True)):
                    curious[who].append(i)
        asked = [(i, who) for who, chosen in curious.items() for i in chosen]
        if not asked:
            return
        goal, who = (np.array(each) for each in zip(*asked, strict=True))
        its = alone == who[:, None]
        down, up = (
            np.where(its, 0, np.minimum(side[component.atoms], self._far))
            for side in (self._attackers.down, self._attackers.up)
        )
        for (i, contributor), worlds in zip(
            asked, self._worlds(component, goals[goal], down, up), strict=True
        ):
            self._alone[int(here[i])][contributor][number] = self._part(goals[i], worlds)

    def unmoved(self) -> IntArray:
        """The targets that no world found moves: they may be determined."""
        moved = {
            target
            for target, by_coalition in self._parts.items()
            if any(part.fall or part.rise for parts in by_coalition.values() for part in parts.values())
        }
        return np.array([t for t in range(len(self._attackers.level)) if t not in moved], dtype=np.int64)

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

    def _worlds(self, component: Component, goals: IntArray, down: IntArray, up: IntArray) -> list[_Worlds]:
        """down, up: goals × atoms."""
        mirrored = (down == up).all()
        asked = Questions(goals, -down, up)
        rises = largest(self._solver, component, asked)
        falls = rises if mirrored else largest(self._solver, component, replace(asked, goals=-goals))
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


def _reaches(goal: IntArray, extremes: list[Extreme]) -> Callable[[BoolArray], int]:
    """How far the worlds move the goal, either way, that leave some atoms as they are."""
    worlds = [each.world for each in extremes if each.world is not None]
    if not worlds:
        return lambda _: 0
    moves = np.abs(np.array(worlds) @ goal)
    touched = np.array(worlds) != 0
    return lambda atoms: int(moves[~touched[:, atoms].any(axis=1)].max(initial=0))


def _interval(target: int, who: Attacker, parts: Iterable[_Part], need: IntArray, known: bool) -> Interval:
    shares = list(parts)
    down, up = _total(each.down for each in shares), _total(each.up for each in shares)
    short = (
        known or sum(each.fall for each in shares) < need[0] or sum(each.rise for each in shares) < need[1]
    )
    return Interval(target, who, down, up, (int(need[0]), int(need[1])), bool(short), known)


def _total(bounds: Iterable[Fraction | None]) -> Fraction | None:
    known = list(bounds)
    if len(known) == 1:
        return known[0]
    return None if None in known else sum((each for each in known if each is not None), Fraction(0))
