"""Why a target cannot be saved: which figures that are out already give it away."""

from __future__ import annotations

from typing import Final

import numpy as np

from broker.core.disclosure.attackers import Attackers, entries
from broker.core.disclosure.linear import Program, Solver
from broker.core.disclosure.problem import Attacker
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
    figure, data = system.of_atom.indices[place], system.of_atom.data[place]
    kept = np.flatnonzero(system.fixed[figure])
    kept = kept[np.argsort(figure[kept], kind="stable")]
    figures, starts = np.unique(figure[kept], return_index=True)
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
                starts=np.append(starts, len(kept)),
                columns=row[kept],
                entries=data[kept].astype(np.float64),
                right=np.zeros(len(figures)),
            )
        )
        if solution is not None:
            found.update(figures[np.abs(solution.dual) > _TINY].tolist())
    return tuple(sorted(found))
