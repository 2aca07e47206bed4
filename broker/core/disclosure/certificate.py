"""The audit of a pattern: everything that it promises is proven again, from the problem alone.

1. Only candidates were suppressed; what was out stays out; the problem's targets are all there.
2. No published row sees a witness: figures · witnessesᵀ = 0, in whole numbers.
3. Every attacker of every target gets, up and down, what it must be left with, from a witness in a multiple
   that its own slack allows (see `attackers`); each target has a witness at least, and so is not determined.
4. Once more and by another way: modulo two primes, no target is in the span of the published rows. The primes
   should be drawn at random, after the pattern, so that nobody can have aimed at them.
Steps 1 to 3 are exact and complete. Step 4 could only err, with negligible probability, in calling a target
determined that is not, or the other way round; it guards against an error in the program, not in the argument.
"""

from __future__ import annotations

import numpy as np

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.problem import Problem, Protection, Role, Rows
from broker.core.disclosure.reduction import reduced
from broker.core.disclosure.span import determined
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.table import IntArray
from broker.core.errors import ProgrammerError


def verify(problem: Problem, protection: Protection, primes: tuple[int, int]) -> None:
    """Raises ProgrammerError (`unproven`) unless the protection holds. primes: below 2^31."""
    _same_problem(problem, protection)
    rows = int_rows(problem.figures)[protection.published]
    witnesses = int_rows(protection.witnesses)
    _require(_sees(rows, witnesses) == 0, "a published figure shows a witness")
    attackers = Attackers(problem, protection.targets)
    starts = np.searchsorted(protection.witness_of, np.arange(len(protection.targets.level) + 1))
    for target in range(len(protection.targets.level)):
        few = range(int(starts[target]), int(starts[target + 1]))
        _require(_is_proven(attackers, target, witnesses, few), f"target {target} lacks a witness")
    left = reduced(rows, np.zeros(rows.shape[0], dtype=np.int64))
    for prime in primes:
        known = determined(left, attackers.rows, prime)
        _require(
            not known.any(), f"targets {np.flatnonzero(known)[:5].tolist()} are determined modulo {prime}"
        )


def _same_problem(problem: Problem, protection: Protection) -> None:
    role, published, targets = problem.role, protection.published, protection.targets
    _require(not protection.exposed, "older figures give a target away")
    _require(not published[role == Role.PRIMARY].any(), "an unsafe figure is published")
    _require(published[role == Role.FIXED].all(), "a figure that is out is taken for suppressed")
    _require(
        (protection.secondary == (~published & (role == Role.CANDIDATE))).all(),
        "the list of secondaries is wrong",
    )
    count = len(problem.targets.level)
    _require(
        len(targets.level) >= count
        and (targets.level[:count] == problem.targets.level).all()
        and (int_rows(targets.rows)[:count] != int_rows(problem.targets.rows)).nnz == 0,
        "the targets are not the problem's",
    )


def _sees(rows: Rows, witnesses: Rows) -> int:
    """Number of entries of rows · witnessesᵀ that are not zero, exactly."""
    most = float(np.abs(rows.data).max(initial=0)) * float(
        (abs(witnesses).astype(np.float64) @ np.ones(witnesses.shape[1])).max(initial=0.0)
    )
    _require(most < 2.0**62, "a witness is too large to be checked in 64 bits")
    return int(np.count_nonzero((rows @ witnesses.T).data))


def _is_proven(attackers: Attackers, target: int, witnesses: Rows, few: range) -> bool:
    own = attackers.atoms_of(target)
    slices = [slice(int(witnesses.indptr[i]), int(witnesses.indptr[i + 1])) for i in few]
    atoms: IntArray = np.unique(np.concatenate([own, *(witnesses.indices[each] for each in slices)]))
    changes = []
    for each in slices:
        change = np.zeros(len(atoms), dtype=np.int64)
        change[np.searchsorted(atoms, witnesses.indices[each])] = witnesses.data[each]
        changes.append(change)
    row = attackers.on(target, atoms)
    _, unmet = attackers.open_needs(target, atoms, changes)
    return not unmet.any() and any(row @ change != 0 for change in changes)


def _require(proven: object, otherwise: str) -> None:
    if not proven:
        raise ProgrammerError(
            "unproven", f"the pattern is not proven safe: {otherwise}; nothing is published"
        )
