"""Promises of the attacker's program: it knows as much as anyone can, and says so in exact numbers."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import brute_attacker as brute
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suppression_world import Rules, crossed, flat, people, pose, sparse
from test_suppression import name_of, published_rows, random_problem

from broker.core.disclosure.attack import attack, bounds
from broker.core.disclosure.problem import UNBOUNDED, LimitReached, Limits, Problem, Role, Targets
from broker.core.disclosure.suppression import protect
from broker.core.errors import InputError


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_every_attacker_gets_the_interval_that_exact_arithmetic_finds(seed: int) -> None:
    rng = random.Random(seed)
    problem = random_problem(rng)
    published = np.array([rng.random() < 0.6 for _ in problem.role])
    rows = published_rows(problem, published)
    targets = problem.targets.rows.toarray().tolist()
    found = {
        (each.target, name_of(each.attacker)): each for each in attack(problem, published, problem.targets)
    }
    for t, (target, level) in enumerate(zip(targets, problem.targets.level.tolist(), strict=True)):
        known = brute.spanned(rows, target)
        outsider = found[t, "outsider"]
        assert outsider.determined == known
        for who in brute.knowers(problem, target, level):
            needs = [min(who.wanted, who.reach(target, up=up)) for up in (False, True)]
            if not any(needs):
                continue
            interval = found.get((t, who.name))
            if (
                interval is None
            ):  # a world that others hold possible is enough, or it knows what everybody knows
                assert who.name.startswith("alone")
                interval = replace(outsider, down=None, up=None, need=tuple(needs))
            for need, end, sign in ((needs[0], interval.down, -1), (needs[1], interval.up, 1)):
                got = brute.largest(rows, [-d for d in who.down], who.up, [sign * x for x in target])
                if end is not None and got < brute.BIG // 4:
                    assert end == sign * got, f"seed {seed}, target {t}, {who.name}"
                assert interval.short or (got >= need and not known)
                assert interval.short or interval.need >= tuple(needs)


def test_a_protected_pattern_passes_and_one_with_primary_suppression_alone_does_not() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        who = people(rng, 40, mean=6, holdings=5)
        problem = pose(crossed([flat(8), flat(5)], [8, 5]), 40, who, Rules())
        protection = protect(problem)
        assert not [i for i in attack(problem, protection.published, protection.targets) if i.short]
        bare = attack(problem, problem.role != Role.PRIMARY, problem.targets)
        assert [i for i in bare if i.short], "the control must succeed"


# --- known answers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(shared_data: Path) -> dict[str, dict]:
    return json.loads((shared_data / "sdc" / "known_answers.json").read_text())


def outsider(
    cells: dict[str, list[int]], published: dict[str, int], asked: list[str]
) -> dict[str, list[Fraction | None]]:
    """Intervals of some cells of a table without negative entries."""
    width = 1 + max(atom for atoms in cells.values() for atom in atoms)
    rows = sparse([cells[name] for name in published], width)
    found = bounds(
        rows,
        np.array([*published.values()]),
        np.zeros(width, np.int64),
        np.full(width, UNBOUNDED),
        sparse([cells[name] for name in asked], width),
    )
    return {name: list(each) for name, each in zip(asked, found, strict=True)}


def test_the_handbooks_intervals_are_found(answers: dict[str, dict]) -> None:
    example = answers["hb_ex3"]
    cells = {f"x{i + 1}{j + 1}": [2 * i + j] for i in range(3) for j in range(2)}
    cells |= {f"r{i + 1}": [2 * i, 2 * i + 1] for i in range(3)}
    cells |= {f"c{j + 1}": [j, 2 + j, 4 + j] for j in range(2)} | {"T": list(range(6))}
    assert outsider(cells, example["published"], [*example["intervals"]]) == example["intervals"]
    # Whoever is alone in x12 publishes it to itself: x11 is exact.
    known = example["published"] | {"x12": 3}
    low, high = outsider(cells, known, ["x11"])["x11"]
    assert low == high == 4


def test_two_suppressions_in_every_line_still_give_a_cell_away(answers: dict[str, dict]) -> None:
    example = answers["sdctable_problemdata"]
    lines, columns = "wxyz", "abcd"
    cells = {
        f"{i},{j}": [
            4 * a + b
            for a, line in enumerate(lines)
            for b, column in enumerate(columns)
            if i in (line, "tot") and j in (column, "tot")
        ]
        for i in [*lines, "tot"]
        for j in [*columns, "tot"]
    }
    assert outsider(cells, example["published"], [*example["intervals"]]) == example["intervals"]

    # One of its worlds, protected: what is exact there is not here.
    inside = {
        "w,a": 64,
        "w,b": 47,
        "w,c": 30,
        "x,a": 65,
        "x,c": 30,
        "y,b": 100,
        "y,d": 85,
        "z,b": 991,
        "z,d": 685,
    }
    figures = {name: inside.get(name, example["published"].get(name)) for name in cells}
    values = np.array([figures[f"{line},{column}"] for line in lines for column in columns])
    unsafe = [name for name in cells if name in inside]
    level = np.array([-(-figures[name] // 10) for name in unsafe])
    problem = Problem(
        figures=sparse([*cells.values()], 16),
        role=np.array([Role.PRIMARY if name in inside else Role.CANDIDATE for name in cells], dtype=np.int8),
        cost=np.array([1 + figures[name] for name in cells]),
        values=values,
        lower=np.zeros(16, np.int64),
        upper=np.full(16, UNBOUNDED),
        targets=Targets(sparse([cells[name] for name in unsafe], 16), level),
    )
    assert (problem.figures @ values == np.array([*figures.values()])).all()
    bare = attack(problem, problem.role != Role.PRIMARY, problem.targets)
    assert [unsafe[each.target] for each in bare if each.determined] == ["w,b"]
    protection = protect(problem)
    assert not [each for each in attack(problem, protection.published, problem.targets) if each.short]
    left = {name: figures[name] for name, is_out in zip(cells, protection.published, strict=True) if is_out}
    assert all(high is None or low < high for low, high in outsider(cells, left, unsafe).values())


# --- bad input -----------------------------------------------------------------------------------------------


def test_a_table_that_does_not_add_up_is_named_as_such() -> None:
    rows = sparse([[0], [1], [0, 1], [0, 1, 2], [2, 3]], 4)
    free = np.zeros(4, np.int64), np.full(4, UNBOUNDED)
    for totals in ([1, 2, 4, 5, 9], [1, 2, 3, 2, 9]):
        with pytest.raises(InputError) as error:
            bounds(rows, np.array(totals), *free, sparse([[3]], 4))
        assert error.value.reason == "contradiction"
    overlapping = sparse([[0, 1], [1, 2], [0, 1, 2, 3]], 4)
    with pytest.raises(InputError):
        bounds(overlapping, np.array([3, 3, 1]), *free, sparse([[3]], 4))


def test_what_is_in_no_figure_has_no_upper_bound() -> None:
    found = bounds(
        sparse([[0, 1]], 3),
        np.array([7]),
        np.zeros(3, np.int64),
        np.full(3, UNBOUNDED),
        sparse([[0], [2], [0, 2]], 3),
    )
    assert found == [(0, 7), (0, None), (0, None)]


def test_the_attackers_budget_is_limited_too() -> None:
    who = people(np.random.default_rng(1), 40, mean=6, holdings=5)
    problem = pose(crossed([flat(8), flat(5)], [8, 5]), 40, who, Rules())
    published = protect(problem).published
    with pytest.raises(LimitReached):
        attack(problem, published, problem.targets, Limits(iterations=10))
