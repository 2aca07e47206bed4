"""Attackers of static tables that know nothing of how the tables are protected: linear programs by HiGHS,
truth by loops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import highspy
import numpy as np
from static_world import Row, World, recount

from broker.core.static.spec import Rules

Set = frozenset[int]
"""Numbers of rows."""


@dataclass(frozen=True)
class Attack:
    """Of a world what was published: the cells, each a set of rows. prior: what is known of each atom, ± that share."""

    world: World
    published: frozenset[Set]
    prior: float | None

    def knowing(self, own: Iterable[int] = ()) -> Callable[[Set], tuple[float, float]]:
        """For someone who knows its own rows: between what any union of atoms must lie."""
        mine = set(own)
        atoms = list(self.world.atoms().values())
        rest = np.array([self.total(atom - mine) for atom in atoms], dtype=float)
        below = np.zeros(len(rest)) if self.prior is None else (1 - self.prior) * rest
        beyond = np.full(len(rest), np.inf) if self.prior is None else (1 + self.prior) * rest
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)  # HiGHS has one number of threads in a process
        solver.addVars(len(atoms), below, beyond)
        for cell in self.published:
            inside = np.array([i for i, atom in enumerate(atoms) if atom <= cell], dtype=np.int32)
            total = rest[inside].sum()
            solver.addRow(total, total, len(inside), inside, np.ones(len(inside)))

        def bounds(target: Set) -> tuple[float, float]:
            known = self.total(target & mine)
            ends = []
            for sign in (1.0, -1.0):
                cost = np.array([sign * (atom <= target) for atom in atoms])
                solver.changeColsCost(len(atoms), np.arange(len(atoms), dtype=np.int32), cost)
                solver.run()
                optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
                ends.append(known + sign * (solver.getObjectiveValue() if optimal else -np.inf))
            return ends[0], ends[1]

        return bounds

    def total(self, rows: Iterable[int]) -> int:
        return sum(self.world.rows[i].value * self.world.rows[i].weight for i in rows)


def targets(world: World, published: frozenset[Set], rules: Rules) -> dict[Set, Fraction]:
    """Everything that must stay unknown, and its level: cells, atoms, what cells of two tables have in common or one of
    them more, remainders of the published lines."""
    cells = {name: world.cells(name) for name in world.tables}
    found = {rows for each in cells.values() for rows in each.values()} | set(world.atoms().values())
    for one, other in combinations(cells, 2):
        for left in cells[one].values():
            for right in cells[other].values():
                if left & right:
                    found |= {left & right, left - right, right - left}
    found |= set(remainders(world, published))
    judged = {rows: recount([world.rows[i] for i in rows], rules) for rows in found if rows}
    return {rows: level for rows, (why, level) in judged.items() if why}


def remainders(world: World, published: Collection[Set]) -> Iterator[Set]:
    """Of every cell and dimension what its published children leave of it, where there are any."""
    for name, dimensions in world.tables.items():
        mine = world.cells(name)
        for key, rows in mine.items():
            for i, tree in enumerate(dimensions.values()):
                inner = [code for code, above in world.parents[tree].items() if above == key[i]]
                children = [mine.get((*key[:i], code, *key[i + 1 :]), frozenset()) for code in inner]
                shown = [child for child in children if child in published]
                if shown:
                    yield rows - frozenset[int]().union(*shown)


def holdings(rows: Iterable[Row]) -> set[int]:
    return {row.holding for row in rows if row.weight}
