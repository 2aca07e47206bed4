"""Insiders by the thousand are as well held off as a few, although only those who matter are in the program."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from static_world import Row, World, random_world

from broker.core.disclosure.attackers import Attackers
from broker.core.disclosure.certificate import verify
from broker.core.disclosure.problem import Insiders, Problem, Protection
from broker.core.disclosure.secondary import PRIMES
from broker.core.disclosure.suppression import protect
from broker.core.static.beyond import beyond_cells
from broker.core.static.insiders import not_held_off, protect_from_all
from broker.core.static.judge import judge
from broker.core.static.program import state
from broker.core.static.spec import Protect, Rules


def crowded(seed: int, *, prior: int | None = 50) -> Problem:
    """Two dozen contributors, each a holding of its own, some of them in several cells."""
    rng = random.Random(seed)
    world = random_world(rng, n=0)
    people = rng.randint(12, 24)
    for i in range(people + rng.randint(0, 20)):
        codes = {"region": rng.choice(["N1", "N2", "S1"]), "sector": rng.choice("aabc"), "zone": "u"}
        who = i if i < people else rng.randrange(people)
        world.rows.append(Row(codes, who, who, rng.randint(1, 9) * 10 ** rng.randint(0, 2)))
    rules = Rules(min_contributors=rng.choice([1, 3]), p_percent=rng.choice(["10", "40"]))
    return problem_of(world, rules, Protect(prior=prior or False))


def problem_of(world: World, rules: Rules, protection: Protect) -> Problem:
    tables, contributions = world.built()
    beyond = beyond_cells(tables, contributions, rules, most_pairs=10**6)
    judged = judge(tables.sets, contributions, rules)
    return state(tables, contributions, judged, beyond, protection, rules).problem


def unmet(problem: Problem, protection: Protection) -> set[frozenset[int]]:
    """Coalitions that no witness of some target holds off: all of them, one target after another."""
    attackers = Attackers(problem, protection.targets)
    found = set()
    everywhere = np.arange(len(problem.values))
    for target in range(len(protection.targets.level)):
        witnesses = protection.witnesses[np.flatnonzero(protection.witness_of == target)].toarray()
        demands, still = attackers.open_needs(target, everywhere, list(witnesses))
        found |= {frozenset(demands.who[i].holdings) for i in np.flatnonzero(still.any(axis=1)).tolist()}
    return {each for each in found if each}


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), prior=st.sampled_from([None, 50]))
def test_who_is_not_held_off_is_found_among_all_holdings_and_pairs(seed: int, prior: int | None) -> None:
    problem = crowded(seed, prior=prior)
    protection = protect(replace(problem, insiders=None))
    if protection.exposed:
        return
    found, expected = set(not_held_off(problem, protection).tolist()), unmet(problem, protection)
    assert bool(found) == bool(expected)
    assert {next(iter(each)) for each in expected if len(each) == 1} <= found


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), prior=st.sampled_from([None, 50]))
def test_what_results_is_proven_against_every_holding_and_pair(seed: int, prior: int | None) -> None:
    problem = crowded(seed, prior=prior)
    smaller, protection = protect_from_all(problem, protect, few=2)
    if protection.exposed:
        return
    assert unmet(problem, protection) == set()
    verify(problem, protection, PRIMES)
    assert smaller.insiders is not None and problem.insiders is not None
    assert smaller.insiders.parts.shape[0] <= problem.insiders.parts.shape[0]


def test_most_of_these_worlds_need_insiders_in_the_program_and_few_need_all() -> None:
    """Control: the outsider's witnesses alone would not do, and the choice does choose."""
    needed, left_out = 0, 0
    for seed in range(8):
        problem = crowded(seed)
        smaller, _ = protect_from_all(problem, protect, few=2)
        assert smaller.insiders is not None and problem.insiders is not None
        needed += smaller.insiders.parts.shape[0] > 0
        left_out += problem.insiders.parts.shape[0] - smaller.insiders.parts.shape[0]
    assert needed >= 5
    assert left_out >= 20


@pytest.mark.parametrize("pairs", [True, False])
def test_where_pairs_are_no_attackers_none_is_looked_for(pairs: bool) -> None:
    problem = crowded(3)
    assert problem.insiders is not None
    alone: Insiders = replace(problem.insiders, pairs=pairs)
    _, protection = protect_from_all(replace(problem, insiders=alone), protect, few=2)
    left = unmet(problem, protection)
    assert all(len(each) == 2 for each in left)
    assert not (pairs and left)
