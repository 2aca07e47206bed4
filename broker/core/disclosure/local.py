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
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.exact import Circuit, circuits, placed
from broker.core.disclosure.linear import Floats, Program, Solver
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.sparse import Numbering, entries
from broker.core.disclosure.system import spread
from broker.core.disclosure.table import BoolArray, IntArray

_TINY: Final = 1e-7
_CEILING: Final = 16.0  # a witness that moves an atom by more than 16 times the target is not looked for
_DEAREST: Final = 1e5  # in units of the median; greater differences are lost in a float anyway
_SURCHARGE: Final = 1 + 1e-3 * spread(2**16, 1)  # ties are broken: one best solution, which any machine finds
_NAMES: Final = spread(2**16, 2)


class Shown(Protocol):
    """Rows that may see a change: of_atom: atoms × rows; published, fixed, cost: per row."""

    of_atom: Rows
    published: BoolArray
    fixed: BoolArray
    cost: Floats
    numbering: Numbering


@dataclass(frozen=True)
class Bounds:
    """By how much each atom may move, up and down, while the target moves by one."""

    up: Floats
    down: Floats


class _Frame(NamedTuple):
    starts: IntArray
    rows: IntArray
    entries: Floats


@dataclass
class Local:
    """What is published on some atoms, for the programs of one target.

    Rows with several of the atoms: entries (row, atom, coefficient) by atom, equal rows taken together, with
    their cost and whether one is fixed. Rows with one: its atom, cost and whether fixed.
    """

    atoms: int
    row: IntArray
    atom: IntArray
    coefficient: IntArray
    cost: Floats
    fixed: BoolArray
    lone_atom: IntArray
    lone_cost: Floats
    lone_fixed: BoolArray
    _frame: _Frame | None = None

    @cached_property
    def own(self) -> Floats:
        """Per atom the cost of its own rows."""
        return _sums(self.lone_atom, self.lone_cost, self.atoms)

    def frame(self, target: IntArray) -> _Frame:
        """The columns δ⁺ and δ⁻ of the programs for one target; its row is the last."""
        if self._frame is None:
            at = target.nonzero()[0]
            row = np.concatenate((self.row, np.full(len(at), len(self.cost))))
            atom = np.concatenate((self.atom, at))
            value = np.concatenate((self.coefficient, target[at])).astype(np.float64)
            by_atom = np.argsort(atom, kind="stable")
            row, value = row[by_atom], value[by_atom]
            starts = np.searchsorted(atom[by_atom], np.arange(self.atoms + 1))
            self._frame = _Frame(
                np.concatenate((starts[:-1], starts + len(row))),
                np.concatenate((row, row)),
                np.concatenate((value, -value)),
            )
        return self._frame


def local(shown: Shown, atoms: IntArray) -> Local:
    """What the published rows are on some atoms (ascending)."""
    atom, place = entries(shown.of_atom.indptr, atoms)
    figure = shown.of_atom.indices[place]
    kept = shown.published[figure].nonzero()[0]
    atom, figure, data = atom[kept], figure[kept], shown.of_atom.data[place[kept]]
    number, figures = shown.numbering.of(figure)
    size = np.bincount(number, minlength=len(figures))
    is_lone = size[number] == 1
    lone = figure[is_lone]
    # Rows are equal if their entries are: their sums, added up in the order of the atoms, are then the same floats.
    names = _NAMES if len(atoms) <= len(_NAMES) else spread(len(atoms), 2)
    name = _sums(number, names[atom] * data, len(figures))
    several = (size > 1).nonzero()[0]
    _, lead, group = np.unique(name[several], return_index=True, return_inverse=True)
    cost, fixed = shown.cost[figures[several]], shown.fixed[figures[several]]
    position = np.full(len(figures), -1, dtype=np.int64)
    position[several[lead]] = np.arange(len(lead))
    inside = (position[number] >= 0).nonzero()[0]
    return Local(
        atoms=len(atoms),
        row=position[number[inside]],
        atom=atom[inside],
        coefficient=data[inside],
        cost=_sums(group, cost, len(lead)),
        fixed=_sums(group, fixed, len(lead)) > 0,
        lone_atom=atom[is_lone],
        lone_cost=shown.cost[lone],
        lone_fixed=shown.fixed[lone],
    )


def search(
    here: Local, solver: Solver, target: IntArray, bounds: Bounds, *, hard: bool = False
) -> list[Circuit]:
    """The circuits of the cheapest change that moves the target by one; none if there is no such change.

    target: its entries on the atoms; hard: nothing published may see the change.
    """
    solution = solver.minimise(_program(here, target, bounds, hard=hard))
    if solution is None:
        return []
    n = here.atoms
    change = solution.x[:n] - solution.x[n : 2 * n]
    seen = _sums(here.row, here.coefficient * change[here.atom], len(here.cost))
    moved = (np.abs(change) > _TINY).nonzero()[0]
    place = np.full(n, -1, dtype=np.int64)
    place[moved] = np.arange(len(moved))
    kept = (place[here.atom] >= 0).nonzero()[0]
    dense = np.zeros((len(here.cost), len(moved)), dtype=np.int64)
    dense[here.row[kept], place[here.atom[kept]]] = here.coefficient[kept]
    dense = dense[(np.abs(seen) < 10 * _TINY) & dense.any(axis=1)]
    return [
        Circuit(part.weight, placed(part.change, moved, n)) for part in circuits(change[moved], dense) or []
    ]


def _program(here: Local, target: IntArray, bounds: Bounds, *, hard: bool) -> Program:
    soft = np.zeros(0, dtype=np.int64) if hard else (~here.fixed).nonzero()[0]
    up, down = (np.where(side > _TINY, np.minimum(side, _CEILING), 0.0) for side in (bounds.up, bounds.down))
    stuck = here.lone_atom if hard else here.lone_atom[here.lone_fixed]
    up[stuck] = down[stuck] = 0.0
    if hard:
        price, line = np.full(here.atoms, 1.0), np.zeros(0)
    else:
        own, cost = here.own, here.cost[soft]
        prices = np.concatenate((own[own > 0], cost))
        unit = float(np.median(prices)) if len(prices) else 1.0
        reach = np.clip(np.maximum(up, down), 1e-3, 1.0)
        price = np.minimum(own / unit, _DEAREST) / reach + 1e-3
        line = np.minimum(cost / unit, _DEAREST)
    frame = here.frame(target)
    total = np.concatenate((price, price, line, line))
    right = np.zeros(len(here.cost) + 1)
    right[-1] = 1.0
    one, last = np.ones(len(soft)), int(frame.starts[-1])
    return Program(
        cost=total * _SURCHARGE[np.arange(len(total)) % len(_SURCHARGE)],
        lower=np.zeros(len(total)),
        upper=np.concatenate((up, down, np.full(2 * len(soft), np.inf))),
        starts=np.concatenate((frame.starts, last + 1 + np.arange(2 * len(soft)))),
        rows=np.concatenate((frame.rows, soft, soft)),
        entries=np.concatenate((frame.entries, -one, one)),
        right=right,
    )


def _sums(index: IntArray, weights: NDArray[Any], size: int) -> Floats:
    return np.bincount(index, weights=weights, minlength=size).astype(np.float64, copy=False)
