"""Promises of the clean-up: nothing stays suppressed for nothing, and nobody gets closer for it."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from suppression_world import Rules, crossed, flat, nested, people, pose, sparse

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.cleanup import Cleanup
from broker.core.disclosure.linear import Solver
from broker.core.disclosure.problem import Limits, Problem, Role
from broker.core.disclosure.reduction import reduced, single_unknowns
from broker.core.disclosure.seeker import Seeker
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.system import System
from broker.core.disclosure.unknowns import Unknowns


def posed(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    who = people(rng, 48, mean=7, holdings=4)
    return pose(crossed([nested(4, 3), flat(4)], [12, 4]), 48, who, Rules())


def sought(problem: Problem) -> Seeker:
    """All witnesses found, nothing cleaned up."""
    system = System(
        int_rows(problem.figures), problem.role != Role.PRIMARY, problem.role == Role.FIXED, problem.cost
    )
    seeker = Seeker(system, Attackers(problem, problem.targets), Solver(Limits()))
    for target in range(len(problem.targets.level)):
        assert not seeker.satisfy(target)
    return seeker


def test_what_no_target_needs_is_published_again() -> None:
    problem = posed(1)
    seeker = sought(problem)
    needed = np.flatnonzero(~seeker.system.published)
    idle = np.flatnonzero(seeker.system.published)[::3]
    seeker.system.published[idle] = False
    secondary = ~seeker.system.published & (problem.role == Role.CANDIDATE)
    Cleanup(seeker, secondary).run()
    assert set(np.flatnonzero(~seeker.system.published)) <= set(needed) | set(idle)
    assert seeker.system.published.sum() >= len(problem.role) - len(needed)


def test_all_targets_keep_witnesses_that_nothing_published_shows_and_fewer_cells_are_suppressed() -> None:
    less = 0
    for seed in range(8):
        problem = posed(seed)
        seeker = sought(problem)
        before = int(np.count_nonzero(~seeker.system.published))
        Cleanup(seeker, ~seeker.system.published & (problem.role == Role.CANDIDATE)).run()
        after = int(np.count_nonzero(~seeker.system.published))
        assert after <= before
        less += after < before
        for target in range(len(problem.targets.level)):
            assert seeker.reuse(target), f"seed {seed}, target {target}"
            for witness in seeker.witnesses[target]:
                assert not len(seeker.system.seen(witness))
    assert less >= 4


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_what_follows_from_single_unknowns_is_kept_up_as_figures_are_published_and_taken_back(
    seed: int,
) -> None:
    rng = random.Random(seed)
    n = rng.randint(3, 9)
    sets = [sorted(rng.sample(range(n), rng.randint(1, n))) for _ in range(rng.randint(3, 12))]
    published = np.array([rng.random() < 0.4 for _ in sets])
    system = System(sparse(sets, n), published, np.zeros(len(sets), bool), np.ones(len(sets), np.int64))
    targets = sparse([[rng.randrange(n)]], n)
    rows = system.figures[system.published]
    unknowns = Unknowns(system, targets, reduced(rows, np.zeros(rows.shape[0], dtype=np.int64)))
    for figure in range(len(sets)):
        if system.published[figure]:
            continue
        system.published[figure] = True
        follows = known(system)
        is_open = not known_without(system, figure)[targets.indices[0]]
        learnt = unknowns.publish(figure)
        if is_open:
            assert (learnt is None) == bool(follows[targets.indices[0]]), f"seed {seed}"
        if learnt is None or rng.random() < 0.5:
            unknowns.take_back(figure, learnt or [])
            system.published[figure] = False
        assert (unknowns.known == known(system)).all(), f"seed {seed}"


def known(system: System) -> np.ndarray:
    rows = system.figures[system.published]
    return single_unknowns(rows, np.zeros(rows.shape[0], dtype=np.int64))[0]


def known_without(system: System, figure: int) -> np.ndarray:
    system.published[figure] = False
    follows = known(system)
    system.published[figure] = True
    return follows
