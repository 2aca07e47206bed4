"""Whoever has a protected table, and all that is its own, cannot bound an unsafe figure closer than its level."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from static_attackers import Attack, Set, holdings, targets
from static_world import World, random_world
from test_static_judge import random_rules

from broker.core.disclosure.problem import Limits
from broker.core.static.spec import Linked, Protect, Rules, Spec
from broker.stages.static_table import Protected, protect_tables

TOLERANCE = 1e-6


def spec(world: World, rules: Rules, protect: Protect) -> Spec:
    return Spec(
        dimensions={column: {} for column in world.tables[""]},
        rules=rules,
        protect=protect,
        linked=tuple(
            Linked(name=name, dimensions={column: {} for column in dimensions})
            for name, dimensions in world.tables.items()
            if name
        ),
    )


def published(world: World, found: Protected) -> frozenset[Set]:
    """The rows of every published cell."""
    tables = found.stated.tables
    shown = set()
    for name in world.tables:
        cells = world.cells(name)
        for codes, number in zip(tables.names(name).rows(), tables.cells[name]["set"], strict=True):
            if found.published[number]:
                shown.add(cells[codes])
    return frozenset(shown)


def exposed(attack: Attack, rules: Rules, *, insiders: bool, singletons: bool) -> Iterator[str]:
    """Which targets somebody bounds too closely. Levels beyond what the prior allows are as wide as it allows."""
    demanded = targets(attack.world, attack.published, rules)
    for who, own in attackers(attack.world, insiders=insiders, singletons=singletons):
        bounds = attack.knowing(own)
        for target, level in demanded.items():
            if who and not counts(attack.world, who, own, target):
                continue
            x, mine = attack.total(target), attack.total(target & own)
            needs = level if not mine else min(level, max(rules.p_percent, Fraction(10)) / 100 * (x - mine))
            down = min(float(needs), float(x - mine) * (attack.prior or 1))
            up = down if attack.prior else float(needs)
            low, high = bounds(target)
            if low > x - down + TOLERANCE or high < x + up - TOLERANCE or (needs and high - low < TOLERANCE):
                yield f"{sorted(target)} = {x} is in [{low}, {high}] for {who}, needs {needs}"


def attackers(world: World, *, insiders: bool, singletons: bool) -> Iterator[tuple[tuple[object, ...], Set]]:
    """Who attacks, and which rows it knows."""
    yield (), frozenset()
    everyone = sorted(holdings(world.rows)) if insiders else []
    for who in [*((holding,) for holding in everyone), *combinations(everyone, 2)]:
        yield who, frozenset(i for i, row in enumerate(world.rows) if row.holding in who)
    if singletons:
        alone: dict[int, set[int]] = {}
        for atom in world.atoms().values():
            there = {world.rows[i].contributor for i in atom if world.rows[i].weight}
            if len(there) == 1:
                alone.setdefault(there.pop(), set()).update(atom)
        for contributor, rows in alone.items():
            yield ("alone", contributor, "there"), frozenset(rows)


def counts(world: World, who: tuple[object, ...], own: Set, target: Set) -> bool:
    """Whether someone is an attacker of a target: not of what is all its own, a pair only where four contribute: more
    than nothing, for who adds 0 hides nobody."""
    contributing = holdings(world.rows[i] for i in target if world.rows[i].value)
    return bool(target - own) and (len(who) != 2 or len(contributing) >= 4)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    linked=st.booleans(),
    insiders=st.booleans(),
    singletons=st.booleans(),
    prior=st.sampled_from([None, 50, 80]),
)
def test_no_attacker_bounds_any_target_closer_than_its_level(
    seed: int, linked: bool, insiders: bool, singletons: bool, prior: int | None
) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, linked=linked, n=rng.randint(10, 40)), random_rules(rng)
    protect = Protect(insiders=insiders, singletons=singletons, prior=prior or False)
    found = protect_tables(world.microdata(), world.hierarchies(), spec(world, rules, protect), Limits())
    attack = Attack(world, published(world, found), prior / 100 if prior else None)
    assert list(exposed(attack, rules, insiders=insiders, singletons=singletons)) == []


def test_the_same_attackers_succeed_where_only_unsafe_cells_are_suppressed() -> None:
    """Control. The seeds are fixed: most of these worlds need secondary suppression."""
    broken = 0
    for seed in range(20):
        rng = random.Random(seed)
        world, rules = random_world(rng, linked=True, n=30), Rules(min_contributors=4, p_percent="10")
        unsafe = targets(world, frozenset(), rules)
        cells = {rows for name in world.tables for rows in world.cells(name).values()}
        attack = Attack(world, frozenset(cells - set(unsafe)), None)
        broken += any(exposed(attack, rules, insiders=True, singletons=False))
    assert broken >= 15


def test_who_is_alone_breaks_what_only_outsiders_are_kept_from() -> None:
    """Control, likewise: these worlds are safe from an outsider and not from contributors who know they are alone."""
    broken = 0
    for seed in range(12):
        world, rules = random_world(random.Random(seed), n=30), Rules(min_contributors=4)
        off = Protect(insiders=False, singletons=False, prior=False)
        found = protect_tables(world.microdata(), world.hierarchies(), spec(world, rules, off), Limits())
        attack = Attack(world, published(world, found), None)
        assert not any(exposed(attack, rules, insiders=False, singletons=False))
        broken += any(exposed(attack, rules, insiders=False, singletons=True))
    assert broken >= 4


@pytest.mark.parametrize("seed", range(4))
def test_an_exact_bound_is_all_that_is_prevented_where_intervals_are_off(seed: int) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, n=30), Rules(min_contributors=4)
    narrow = spec(world, rules, Protect(intervals=False, insiders=False, singletons=False, prior=False))
    wide = spec(world, rules, Protect())
    loose, tight = (
        protect_tables(world.microdata(), world.hierarchies(), each, Limits()) for each in (narrow, wide)
    )
    assert loose.published.sum() >= tight.published.sum()
    attack = Attack(world, published(world, loose), None)
    bounds = attack.knowing()
    for target in targets(world, attack.published, rules):
        low, high = bounds(target)
        assert high - low > TOLERANCE
