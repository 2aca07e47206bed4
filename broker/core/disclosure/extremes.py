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

from broker.core.disclosure.exact import circuits, combined, placed
from broker.core.disclosure.linear import Floats, Program, Solver
from broker.core.disclosure.problem import UNBOUNDED
from broker.core.disclosure.reduction import Component
from broker.core.disclosure.table import IntArray

_DENOMINATORS: Final = (1, 2, 3, 4, 6, 12, 2**20)  # of prices; with the last, bounds are a little wide
_SCALE: Final = 1e7  # the largest number in a program: what a float resolves beside HiGHS's tolerances
_TINY: Final = 1e-6


@dataclass(frozen=True)
class Extreme:
    """bound: goal · x is no greater, None: no bound; world: an x in whole numbers within rows and bounds, as
    extreme as one was found (None: none was found)."""

    bound: Fraction | None
    world: IntArray | None


class Extremes:
    """The programs of one component for one attacker: x = 0 must be within the bounds if `right` is 0."""

    def __init__(self, solver: Solver, component: Component, lower: IntArray, upper: IntArray) -> None:
        self._rows, self._right = component.rows, component.totals
        self._solver, self._lower, self._upper = solver, lower, upper
        finite = [each[np.abs(each) < UNBOUNDED] for each in (lower, upper, self._right)]
        self._unit = max(1.0, float(max(np.abs(each).max(initial=0) for each in finite)) / _SCALE)
        solver.load(
            Program(
                cost=np.zeros(len(lower)),
                lower=np.where(lower <= -UNBOUNDED, -np.inf, lower / self._unit),
                upper=np.where(upper >= UNBOUNDED, np.inf, upper / self._unit),
                starts=self._rows.indptr,
                columns=self._rows.indices,
                entries=self._rows.data.astype(np.float64),
                right=self._right / self._unit,
            )
        )

    def largest(self, goal: IntArray) -> Extreme | None:
        """Of goal · x; None if the rows contradict each other within the bounds."""
        self._solver.change_cost(-goal.astype(np.float64))
        solution = self._solver.run()
        if solution is None:
            return Extreme(None, None) if self._solver.unbounded else None
        return Extreme(self._bound(goal, -solution.dual), self._world(goal, solution.x * self._unit))

    def _bound(self, goal: IntArray, price: Floats) -> Fraction | None:
        times = next(
            (d for d in _DENOMINATORS if np.abs(price * d - np.rint(price * d)).max(initial=0.0) < 1e-6),
            _DENOMINATORS[-1],
        )
        whole = np.rint(price * times).astype(np.int64)
        left = goal * times - self._rows.T @ whole
        side = np.where(left > 0, self._upper, self._lower)[left != 0]
        if (np.abs(side) >= UNBOUNDED).any():
            return None
        terms = zip(left[left != 0].tolist(), side.tolist(), strict=True)
        paid = sum(a * b for a, b in zip(whole.tolist(), self._right.tolist(), strict=True))
        return Fraction(paid + sum(a * b for a, b in terms), times)

    def _world(self, goal: IntArray, x: Floats) -> IntArray | None:
        """The optimum itself if it is whole, else a sum of its circuits."""
        whole = np.rint(x).astype(np.int64)
        if self._allows(whole):
            return whole
        moved, value = np.flatnonzero(np.abs(x) > _TINY * self._unit), float(goal @ x)
        if self._right.any() or value < 1:
            return None
        parts = circuits(x[moved] / value, self._rows[:, moved].toarray())
        if not parts:
            return None
        lower, upper = self._lower[moved], self._upper[moved]
        moves = [int(goal[moved] @ part.change) for part in parts]
        found = combined(
            parts, moves, int(value + _TINY), lambda z: bool((z <= upper).all() and (z >= lower).all())
        )
        return None if found is None else placed(found, moved, len(x))

    def _allows(self, x: IntArray) -> bool:
        inside = (x >= self._lower).all() and (x <= self._upper).all()
        return bool(inside and (self._rows @ x == self._right).all())
