"""Why a target cannot be saved: which figures that are out already give it away."""

from __future__ import annotations

from typing import Final

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.linear import Program, Solver
from broker.core.disclosure.problem import Attacker
from broker.core.disclosure.sparse import entries
from broker.core.disclosure.system import System

_TINY: Final = 1e-7
_FREE: Final = 16.0


def evidence(
    system: System, attackers: Attackers, solver: Solver, target: int, attacker: Attacker
) -> tuple[int, ...]:
    """The fixed figures that bind where the attacker pushes the target as far as it can, up and down.

    They are the ones with a price in the linear program (its dual): together with the attacker's own bounds
    they imply that the target cannot move further. Where the attacker asks for no move, the figures that
    determine the target are named.
    """
    atoms = system.tied(attackers.atoms_of(target))
    row, place = entries(system.of_atom.indptr, atoms)
    kept = np.flatnonzero(system.fixed[system.of_atom.indices[place]])
    figures, at = np.unique(system.of_atom.indices[place[kept]], return_inverse=True)
    unit = max(float(attackers.level[target]), 1.0)
    down, up = (side / unit for side in attackers.slack_of(attacker, atoms))
    if not attackers.need_of(attacker, target).any():
        down, up = np.full(len(atoms), _FREE), np.full(len(atoms), _FREE)
    entry = attackers.on(target, atoms).astype(np.float64)
    found: set[int] = set()
    for sign in (1.0, -1.0):
        solution = solver.minimise(
            Program(
                cost=sign * entry,
                lower=-np.minimum(down, _FREE),
                upper=np.minimum(up, _FREE),
                starts=np.searchsorted(row[kept], np.arange(len(atoms) + 1)),
                rows=at,
                entries=system.of_atom.data[place[kept]].astype(np.float64),
                right=np.zeros(len(figures)),
            )
        )
        if solution is not None:
            found.update(figures[np.abs(solution.dual) > _TINY].tolist())
    return tuple(sorted(found))
