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
from itertools import pairwise
from typing import Final

import numpy as np

from broker.core.disclosure.component import Component
from broker.core.disclosure.exact import circuits, combined, placed
from broker.core.disclosure.linear import Floats, Program, Solver
from broker.core.disclosure.problem import UNBOUNDED
from broker.core.disclosure.table import BoolArray, IntArray

_DENOMINATORS: Final = (1, 2, 3, 4, 6, 12, 2**20)  # of prices; with the last, bounds are a little wide
_SCALE: Final = 1e7  # the largest number in a program: what a float resolves beside HiGHS's tolerances
_TINY: Final = 1e-6
_ROOM: Final = 2.0**62
_COLUMNS: Final = 1000  # of one program
_FEW: Final = 40  # atoms, of which one program for many questions is the faster


@dataclass(frozen=True)
class Extreme:
    """bound: goal · x is no greater, None: no bound; world: an x in whole numbers within rows and bounds, as
    extreme as one was found (None: none was found)."""

    bound: Fraction | None
    world: IntArray | None


@dataclass(frozen=True)
class Questions:
    """goals: of one component, goals × atoms; lower, upper: within which bounds of the atoms, each likewise."""

    goals: IntArray
    lower: IntArray
    upper: IntArray

    def some(self, chosen: slice) -> Questions:
        return Questions(self.goals[chosen], self.lower[chosen], self.upper[chosen])


def largest(solver: Solver, component: Component, asked: Questions) -> list[Extreme] | None:
    """The greatest value of each goal; None if the rows contradict each other within some bounds.

    Many questions about few atoms are one program, in blocks that have nothing to do with each other; about many
    atoms, those within the same bounds are asked one after another, each from the answer to the last."""
    count, width = asked.goals.shape
    found: list[Extreme] = []
    if width > _FEW:
        changes = (np.diff(asked.lower, axis=0) != 0).any(axis=1) | (np.diff(asked.upper, axis=0) != 0).any(
            axis=1
        )
        starts = np.concatenate(([0], changes.nonzero()[0] + 1, [count]))
    else:
        starts = np.append(np.arange(0, count, max(1, _COLUMNS // width)), count)
    for start, end in pairwise(starts.tolist()):
        some = asked.some(slice(start, end))
        part = (_in_turn if width > _FEW else _at_once)(solver, component, some)
        if part is None and end > start + 1:  # one of them has no end, or no solution: which?
            part = []
            for i in range(end - start):
                alone = _at_once(solver, component, some.some(slice(i, i + 1)))
                if alone is None:
                    return None
                part += alone
        if part is None:
            return None
        found += part
    return found


def _at_once(solver: Solver, component: Component, asked: Questions) -> list[Extreme] | None:
    """The answers of one program; None if it has no solution, or if one of several answers has no end."""
    count, width = asked.goals.shape
    unit = _unit(component, asked)
    columns, rows = component.by_column, len(component.totals)
    block = np.arange(count)[:, None]
    starts = (columns.starts[:-1] + block * len(columns.rows)).ravel()
    solution = solver.minimise(
        Program(
            cost=-asked.goals.ravel().astype(np.float64),
            lower=np.where(asked.lower <= -UNBOUNDED, -np.inf, asked.lower / unit).ravel(),
            upper=np.where(asked.upper >= UNBOUNDED, np.inf, asked.upper / unit).ravel(),
            starts=np.append(starts, count * len(columns.rows)),
            rows=(columns.rows + block * rows).ravel(),
            entries=np.tile(columns.entries.astype(np.float64), count),
            right=(component.totals / unit).ravel(),
        )
    )
    if solution is None:
        return [Extreme(None, None)] if count == 1 and solver.unbounded else None
    x, price = solution.x.reshape(count, width) * unit, -solution.dual.reshape(count, rows)
    return _extremes(component, asked, x, price, unit)


def _in_turn(solver: Solver, component: Component, asked: Questions) -> list[Extreme] | None:
    """The answers within the bounds of the first; None if one of them has no end."""
    unit = _unit(component, asked.some(slice(0, 1)))
    columns = component.by_column
    solutions = [
        solver.minimise(
            Program(
                cost=-asked.goals[0].astype(np.float64),
                lower=np.where(asked.lower[0] <= -UNBOUNDED, -np.inf, asked.lower[0] / unit[0]),
                upper=np.where(asked.upper[0] >= UNBOUNDED, np.inf, asked.upper[0] / unit[0]),
                starts=columns.starts,
                rows=columns.rows,
                entries=columns.entries.astype(np.float64),
                right=component.totals / unit[0],
            )
        ),
        *(solver.again(-goal.astype(np.float64)) for goal in asked.goals[1:]),
    ]
    solved = [each for each in solutions if each is not None]
    if len(solved) < len(solutions):
        return [Extreme(None, None)] if len(solutions) == 1 and solver.unbounded else None
    x = np.array([each.x for each in solved]) * unit
    price = -np.array([each.dual for each in solved])
    return _extremes(component, asked, x, price, np.repeat(unit, len(solved), axis=0))


def _unit(component: Component, asked: Questions) -> Floats:
    """Per question the number by which a program's are divided, as a column."""
    lower = np.where(np.abs(asked.lower) < UNBOUNDED, asked.lower, 0)
    upper = np.where(asked.upper < UNBOUNDED, asked.upper, 0)
    far = np.maximum(np.abs(lower).max(axis=1, initial=0), np.abs(upper).max(axis=1, initial=0))
    most = np.maximum(far, np.abs(component.totals).max(initial=0))
    return np.asarray(np.maximum(1.0, most / _SCALE)[:, None])


def _extremes(
    component: Component, asked: Questions, x: Floats, price: Floats, unit: Floats
) -> list[Extreme]:
    worlds, are = _worlds(component, asked, x, unit)
    bounds = _bounds(component, asked, price)
    return [
        Extreme(bound, world if is_one else None)
        for bound, world, is_one in zip(bounds, worlds, are, strict=True)
    ]


def _bounds(component: Component, asked: Questions, price: Floats) -> list[Fraction | None]:
    times = np.full(len(price), _DENOMINATORS[-1])
    for each in reversed(_DENOMINATORS[:-1]):
        near = np.abs(price * each - np.rint(price * each)).max(axis=1, initial=0.0) < _TINY
        times[near] = each
    whole = np.rint(price * times[:, None]).astype(np.int64)
    left = asked.goals * times[:, None] - whole @ component.matrix
    side = np.where(left > 0, asked.upper, asked.lower) * (left != 0)
    most = np.abs(left).astype(np.float64) * np.abs(side)
    paid = np.abs(whole).astype(np.float64) @ np.abs(component.totals.astype(np.float64))
    if float((most.sum(axis=1) + paid).max(initial=0.0)) < _ROOM:
        total = (left * side).sum(axis=1) + whole @ component.totals
    else:
        total = (left.astype(object) * side).sum(axis=1) + whole.astype(object) @ component.totals
    endless = (np.abs(side) >= UNBOUNDED).any(axis=1).tolist()
    return [
        None if without_end else Fraction(value, by)
        for value, by, without_end in zip(total.tolist(), times.tolist(), endless, strict=True)
    ]


def _worlds(component: Component, asked: Questions, x: Floats, unit: Floats) -> tuple[IntArray, BoolArray]:
    """(worlds, which of them are): each optimum itself if it is whole, else a sum of its circuits."""
    worlds = np.rint(x).astype(np.int64)
    inside = (worlds >= asked.lower).all(axis=1) & (worlds <= asked.upper).all(axis=1)
    are = inside & (component.totals == (component.matrix @ worlds.T).T).all(axis=1)
    if not component.totals.any():
        for at in (~are).nonzero()[0].tolist():
            world = _split(component, asked.some(slice(at, at + 1)), x[at], float(unit[at, 0]))
            if world is not None:
                worlds[at], are[at] = world, True
    return worlds, are


def _split(component: Component, asked: Questions, x: Floats, unit: float) -> IntArray | None:
    goal, lower, upper = asked.goals[0], asked.lower[0], asked.upper[0]
    moved, value = (np.abs(x) > _TINY * unit).nonzero()[0], float(goal @ x)
    parts = circuits(x[moved] / value, component.dense(moved)) if value >= 1 else None
    if not parts:
        return None
    moves = [int(goal[moved] @ part.change) for part in parts]
    low, high = lower[moved], upper[moved]
    found = combined(parts, moves, int(value + _TINY), lambda z: bool((z <= high).all() and (z >= low).all()))
    return None if found is None else placed(found, moved, len(x))
