"""How small and how large a sum of unknown atoms can be: linear programs whose answer is an exact bound.

A solver's optimum is a float. Its prices y (the dual solution), rounded to rationals in any way, prove a bound
that is none: where rows · x = right and lower <= x <= upper,

    goal · x = y · right + (goal - y · rows) · x <= y · right + Σ max((goal - y · rows)_a · {lower, upper}_a),

which is computed in whole numbers, and equals the optimum where y is right: everybody can know as much as the
intervals given here say. That nobody can know more is shown by worlds in whole numbers that reach them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from broker.core.disclosure.component import Component
from broker.core.disclosure.exact import circuits, combined, placed
from broker.core.disclosure.linear import Floats, Program, Solution, Solver
from broker.core.disclosure.problem import UNBOUNDED
from broker.core.disclosure.table import BoolArray, IntArray

_DENOMINATORS: Final = (1, 2, 3, 4, 6, 12, 2**20)  # of prices; with the last, bounds are a little wide
_SCALE: Final = 1e7  # the largest number in a program: what a float resolves beside HiGHS's tolerances
_TINY: Final = 1e-6
_ROOM: Final = 2.0**62


@dataclass(frozen=True)
class Extreme:
    """bound: goal · x is no greater, None: no bound; world: an x in whole numbers within rows and bounds, as
    extreme as one was found (None: none was found)."""

    bound: Fraction | None
    world: IntArray | None


class Extremes:
    """The programs of one component for one attacker, whose bounds of the atoms are `lower` and `upper`."""

    def __init__(self, solver: Solver, component: Component, lower: IntArray, upper: IntArray) -> None:
        self._component, self._right = component, component.totals
        self._solver, self._lower, self._upper = solver, lower, upper
        finite = [each[np.abs(each) < UNBOUNDED] for each in (lower, upper, self._right)]
        self._unit = max(1.0, float(max(np.abs(each).max(initial=0) for each in finite)) / _SCALE)
        columns = component.by_column
        solver.load(
            Program(
                cost=np.zeros(len(lower)),
                lower=np.where(lower <= -UNBOUNDED, -np.inf, lower / self._unit),
                upper=np.where(upper >= UNBOUNDED, np.inf, upper / self._unit),
                starts=columns.starts,
                rows=columns.rows,
                entries=columns.entries.astype(np.float64),
                right=self._right / self._unit,
            )
        )

    def largest(self, goals: IntArray) -> list[Extreme] | None:
        """Of goal · x, for each goal; None if the rows contradict each other within the bounds."""
        found: list[Solution | None] = []
        for goal in goals:
            self._solver.change_cost(-goal.astype(np.float64))
            found.append(self._solver.run())
            if found[-1] is None and not self._solver.unbounded:
                return None
        solved = [i for i, each in enumerate(found) if each is not None]
        extremes = [Extreme(None, None)] * len(found)
        if solved:
            x = np.array([each.x for each in found if each is not None]) * self._unit
            price = -np.array([each.dual for each in found if each is not None])
            worlds, whole = self._worlds(goals[solved], x)
            for at, bound, world, is_one in zip(
                solved, self._bounds(goals[solved], price), worlds, whole, strict=True
            ):
                extremes[at] = Extreme(bound, world if is_one else None)
        return extremes

    def _bounds(self, goals: IntArray, price: Floats) -> list[Fraction | None]:
        times = np.full(len(price), _DENOMINATORS[-1])
        for each in reversed(_DENOMINATORS[:-1]):
            near = np.abs(price * each - np.rint(price * each)).max(axis=1, initial=0.0) < _TINY
            times[near] = each
        whole = np.rint(price * times[:, None]).astype(np.int64)
        left = goals * times[:, None] - whole @ self._component.matrix
        side = np.where(left > 0, self._upper, self._lower) * (left != 0)
        most = np.abs(left).astype(np.float64) * np.abs(side) + 1
        if float(most.sum() + (np.abs(whole) @ np.abs(self._right.astype(np.float64))).sum()) < _ROOM:
            paid = (left * side).sum(axis=1) + whole @ self._right
        else:
            paid = (left.astype(object) * side).sum(axis=1) + whole.astype(object) @ self._right
        endless = (np.abs(side) >= UNBOUNDED).any(axis=1).tolist()
        return [
            None if without_end else Fraction(total, by)
            for total, by, without_end in zip(paid.tolist(), times.tolist(), endless, strict=True)
        ]

    def _worlds(self, goals: IntArray, x: Floats) -> tuple[IntArray, BoolArray]:
        """(worlds, which of them are): each optimum itself if it is whole, else a sum of its circuits."""
        worlds = np.rint(x).astype(np.int64)
        inside = (worlds >= self._lower).all(axis=1) & (worlds <= self._upper).all(axis=1)
        are = inside & (self._right == (self._component.matrix @ worlds.T).T).all(axis=1)
        for at in (~are).nonzero()[0].tolist():
            world = None if self._right.any() else self._split(goals[at], x[at])
            if world is not None:
                worlds[at], are[at] = world, True
        return worlds, are

    def _split(self, goal: IntArray, x: Floats) -> IntArray | None:
        moved, value = (np.abs(x) > _TINY * self._unit).nonzero()[0], float(goal @ x)
        parts = circuits(x[moved] / value, self._component.dense(moved)) if value >= 1 else None
        if not parts:
            return None
        lower, upper = self._lower[moved], self._upper[moved]
        moves = [int(goal[moved] @ part.change) for part in parts]
        found = combined(
            parts, moves, int(value + _TINY), lambda z: bool((z <= upper).all() and (z >= lower).all())
        )
        return None if found is None else placed(found, moved, len(x))
