"""Choosing what to suppress besides the unsafe figures, so that every target has its witnesses.

Target after target, widest level first, witnesses are sought (see `seeker`), and what the cheapest of them show
in is suppressed. Nothing here has to be believed: the result is checked from scratch (see `certificate`).

Deterministic: targets and figures come in a total order, ties in a linear program are broken by fixed
surcharges, and no float decides anything but which change is tried.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from scipy.sparse import csr_array, vstack

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.cleanup import Cleanup
from broker.core.disclosure.exposure import evidence
from broker.core.disclosure.linear import Solver
from broker.core.disclosure.problem import Exposure, Judge, Limits, Problem, Protection, Role, Targets, check
from broker.core.disclosure.remainders import given_away
from broker.core.disclosure.seeker import Seeker
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.system import System
from broker.core.disclosure.table import IntArray

_LIMITS: Final = Limits()


class _Choice:
    """The pattern as it grows: targets that come up (remainders) are added to those that were asked for."""

    def __init__(self, problem: Problem, limits: Limits) -> None:
        role = problem.role
        self._problem = problem
        self._solver = Solver(limits)
        self.system = System(
            int_rows(problem.figures), role != Role.PRIMARY, role == Role.FIXED, problem.cost
        )
        self.targets = problem.targets
        self.seeker = Seeker(self.system, Attackers(problem, self.targets), self._solver)
        self.exposed: list[Exposure] = []

    def save(self, targets: IntArray) -> None:
        """Find the witnesses of some targets, widest level first."""
        for target in targets[np.lexsort((targets, -self.targets.level[targets]))].tolist():
            for attacker in self.seeker.satisfy(target):
                figures = evidence(self.system, self.seeker.attackers, self._solver, target, attacker)
                self.exposed.append(Exposure(target, attacker, figures))

    def publish_again(self) -> None:
        """What was suppressed for nothing, dearest first."""
        Cleanup(self.seeker, ~self.system.published & (self._problem.role == Role.CANDIDATE)).run()

    def save_remainders(self, judge: Judge) -> None:
        """Judge what the pattern gives away, make targets of what is unsafe, until nothing unsafe is left."""
        judged: set[bytes] = set()
        while True:
            sets = given_away(self.system.figures[self.system.published])
            keys = [sets.indices[a:b].tobytes() for a, b in pairwise(sets.indptr)]
            fresh = np.array([i for i, key in enumerate(keys) if key not in judged], dtype=np.int64)
            judged.update(keys)
            level = judge(sets[fresh]) if len(fresh) else np.zeros(0, dtype=np.int64)
            unsafe = np.flatnonzero(level >= 0)
            if not len(unsafe):
                return
            before = len(self.targets.level)
            self.targets = Targets(
                vstack([self.targets.rows, sets[fresh[unsafe]]], format="csr"),
                np.concatenate((self.targets.level, level[unsafe])),
            )
            self.seeker.attackers = Attackers(self._problem, self.targets)
            self.save(np.arange(before, len(self.targets.level)))


def protect(problem: Problem, limits: Limits = _LIMITS, judge: Judge | None = None) -> Protection:
    """The pattern. judge: None: remainders are not looked at. Raises LimitReached, and ProgrammerError where the
    problem contradicts itself."""
    check(problem, limits)
    choice = _Choice(problem, limits)
    choice.save(np.arange(len(problem.targets.level)))
    choice.publish_again()
    if judge is not None:
        choice.save_remainders(judge)
    return _protection(problem, choice)


def _protection(problem: Problem, choice: _Choice) -> Protection:
    witnesses, published = choice.seeker.witnesses, choice.system.published
    found = [(target, each) for target in sorted(witnesses) for each in witnesses[target]]
    starts = np.cumsum([0, *(len(each.atoms) for _, each in found)])
    empty = [np.zeros(0, dtype=np.int64)]
    columns = np.concatenate([each.atoms for _, each in found] or empty)
    changes = np.concatenate([each.change for _, each in found] or empty)
    return Protection(
        published=published,
        secondary=~published & (problem.role == Role.CANDIDATE),
        targets=choice.targets,
        witnesses=csr_array((changes, columns, starts), shape=(len(found), len(problem.values))),
        witness_of=np.array([target for target, _ in found], dtype=np.int64),
        exposed=tuple(sorted(choice.exposed, key=lambda each: (each.target, each.attacker))),
    )
