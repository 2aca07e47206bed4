"""Local programs: the cheapest change of few atoms that moves a target, and what it must stay invisible to.

A change that is zero outside a neighbourhood is valid everywhere (witnesses compose), so that a small program
may answer for a large table. Which neighbourhood is taken decides about cost, never about safety.

    minimise   Σ cost of figures that see the change
    where      target · δ = 1, -down <= δ <= up, row · δ = seen⁺ - seen⁻ for figures that may be suppressed,
               row · δ = 0 for those that may not.

Costs are per unit of what a figure can move by, the closest that a linear program comes to paying once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from broker.core.disclosure.attackers import entries
from broker.core.disclosure.exact import Circuit, circuits, placed
from broker.core.disclosure.linear import Floats, Program, Solver
from broker.core.disclosure.system import System, scrambled, spread
from broker.core.disclosure.table import BoolArray, IntArray

_TINY: Final = 1e-7
_CEILING: Final = 16.0  # a witness that moves an atom by more than 16 times the target is not looked for
_DEAREST: Final = 1e5  # in units of the median; greater differences are lost in a float anyway


@dataclass(frozen=True)
class Bounds:
    """By how much each atom may move, up and down, while the target moves by one."""

    up: Floats
    down: Floats


@dataclass(frozen=True)
class Rows:
    """Published figures on some atoms. Those with several: entries (row, atom, coefficient), equal rows taken
    together, with their cost and whether one is fixed. Those with one: its atom, cost and whether fixed."""

    row: IntArray
    atom: IntArray
    coefficient: IntArray
    cost: Floats
    fixed: BoolArray
    lone_atom: IntArray
    lone_cost: Floats
    lone_fixed: BoolArray


def search(
    rows: Rows, solver: Solver, target: IntArray, bounds: Bounds, *, hard: bool = False
) -> list[Circuit]:
    """The circuits of the cheapest change that moves the target by one; none if there is no such change.

    target: its entries on the atoms; hard: nothing published may see the change.
    """
    solution = solver.minimise(_program(rows, target, bounds, hard=hard))
    if solution is None:
        return []
    n = len(target)
    change = solution.x[:n] - solution.x[n : 2 * n]
    seen = np.zeros(len(rows.cost))
    np.add.at(seen, rows.row, rows.coefficient * change[rows.atom])
    moved = np.flatnonzero(np.abs(change) > _TINY)
    place = np.full(n, -1, dtype=np.int64)
    place[moved] = np.arange(len(moved))
    kept = (np.abs(seen[rows.row]) < 10 * _TINY) & (place[rows.atom] >= 0)
    blind, row = np.unique(rows.row[kept], return_inverse=True)
    dense = np.zeros((len(blind), len(moved)), dtype=np.int64)
    dense[row, place[rows.atom[kept]]] = rows.coefficient[kept]
    return [
        Circuit(part.weight, placed(part.change, moved, n)) for part in circuits(change[moved], dense) or []
    ]


def _program(rows: Rows, target: IntArray, bounds: Bounds, *, hard: bool) -> Program:
    n, soft = len(target), np.flatnonzero(~rows.fixed & (not hard))
    own = np.zeros(n)
    np.add.at(own, rows.lone_atom, rows.lone_cost)
    up, down = (np.where(side > _TINY, np.minimum(side, _CEILING), 0.0) for side in (bounds.up, bounds.down))
    stuck = rows.lone_atom[rows.lone_fixed | hard]
    up[stuck], down[stuck] = 0.0, 0.0
    prices = np.concatenate((own[own > 0], rows.cost[soft]))
    unit = float(np.median(prices)) if len(prices) else 1.0
    # Ties are broken by fixed, unequal surcharges: one best solution, which any machine finds.
    reach = np.clip(np.maximum(up, down), 1e-3, 1.0)
    price = np.minimum(own / unit, _DEAREST) / reach + 1e-3
    line = np.minimum(rows.cost[soft] / unit, _DEAREST)
    cost = np.concatenate((price, price, line, line))
    width = len(cost)
    count, at = len(rows.cost), np.flatnonzero(target)
    row = np.concatenate((rows.row, rows.row, soft, soft, np.full(2 * len(at), count)))
    column = np.concatenate((rows.atom, n + rows.atom, 2 * n + np.arange(2 * len(soft)), at, n + at))
    value = np.concatenate(
        (
            rows.coefficient,
            -rows.coefficient,
            np.full(len(soft), -1),
            np.full(len(soft), 1),
            target[at],
            -target[at],
        )
    )
    order = np.lexsort((column, row))
    right = np.zeros(count + 1)
    right[count] = 1.0
    return Program(
        cost=cost * (1 + 1e-3 * spread(width, 1)),
        lower=np.zeros(width),
        upper=np.concatenate((up, down, np.full(2 * len(soft), np.inf))),
        starts=np.searchsorted(row[order], np.arange(count + 2)),
        columns=column[order],
        entries=value[order].astype(np.float64),
        right=right,
    )


def rows_on(system: System, atoms: IntArray) -> Rows:
    """What the published figures are on some atoms."""
    row, place = entries(system.of_atom.indptr, atoms)
    figure, data = system.of_atom.indices[place], system.of_atom.data[place]
    kept = np.flatnonzero(system.published[figure])
    kept = kept[np.argsort(figure[kept], kind="stable")]
    atom, figure, data = row[kept], figure[kept], data[kept]
    first = np.flatnonzero(np.diff(figure, prepend=-1))
    number = np.diff(np.append(first, len(figure)))
    single, several = first[number == 1], figure[first[number > 1]]
    lone_atom, lone = atom[single], figure[single]
    inside = np.repeat(number > 1, number)
    of = np.repeat(np.arange(len(several)), number[number > 1])
    atom, data = atom[inside], data[inside]
    key = np.zeros(len(several), dtype=np.uint64)
    np.add.at(key, of, scrambled(atom.astype(np.uint64)) * data.astype(np.uint64))
    _, lead, group = np.unique(key, return_index=True, return_inverse=True)
    cost, fixed = np.zeros(len(lead)), np.zeros(len(lead), dtype=bool)
    np.add.at(cost, group, system.cost[several])
    np.logical_or.at(fixed, group, system.fixed[several])
    chosen = lead[group[of]] == of
    return Rows(
        row=group[of[chosen]],
        atom=atom[chosen],
        coefficient=data[chosen],
        cost=cost,
        fixed=fixed,
        lone_atom=lone_atom,
        lone_cost=system.cost[lone],
        lone_fixed=system.fixed[lone],
    )
