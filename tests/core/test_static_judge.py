"""Rules of a static table: recounted by hand, the same as a stream's, at the published levels."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from disclosure_world import Part, frame
from disclosure_world import tree as areas
from hypothesis import given, settings
from hypothesis import strategies as st
from static_world import Row, World, random_world, recount

from broker.core.disclosure import primary
from broker.core.disclosure.figures import figures
from broker.core.disclosure.primary import Verdict
from broker.core.disclosure.table import build as build_stream_table
from broker.core.static.judge import judge
from broker.core.static.spec import Rules


def random_rules(rng: random.Random) -> Rules:
    return Rules(
        min_contributors=rng.choice([1, 3, 5]),
        min_holdings=rng.choice([1, 2, 3]),
        p_percent=rng.choice([0, 10, "12.5"]),
        dominance=rng.choice([(), ((1, 85),), ((1, 70), (2, "90.5"), (3, 95))]),
        zero_is_sensitive=rng.random() < 0.5,
        without_each_holding=rng.random() < 0.5,
    )


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32), net=st.booleans())
def test_every_set_is_judged_as_a_recount_by_hand_judges_it(seed: int, net: bool) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, linked=True, net=net), random_rules(rng)
    tables, contributions = world.built()
    judged = judge(tables.sets, contributions, rules)
    for number in range(len(tables.sets)):
        members = tables.sets.members[tables.sets.starts[number] : tables.sets.starts[number + 1]]
        rows = [world.rows[i] for i in world.rows_of(tables, members)]
        verdict = judged.verdicts.get(number, Verdict((), Fraction(0)))
        assert ({reason.split(":")[0] for reason in verdict.reasons}, verdict.level) == recount(rows, rules)
        assert judged.total[number] == sum(row.value * row.weight for row in rows)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), net=st.booleans())
def test_a_table_and_a_stream_of_the_same_premises_are_judged_alike(seed: int, net: bool) -> None:
    """Reasons and levels, to the letter: one row per premises and weight 1, so that both can say it."""
    rng = random.Random(seed)
    rules = random_rules(rng)
    n = rng.randint(1, 30)
    values = [
        rng.randint(0, 9) * 10 ** rng.randint(0, 3) * (rng.choice([1, -1]) if net else 1) for _ in range(n)
    ]
    holding = [rng.randrange(5) for _ in range(n)]
    place = [rng.choice(["E0C0I0", "E0C0I1", "E0C1I0"]) for _ in range(n)]
    rows = [Row({"area": place[i]}, i, holding[i], values[i]) for i in range(n)]
    parents = {"area": {code: areas(2, 2).parent(code) or "Total" for code in areas(2, 2).codes}}
    tables, contributions = World(rows, parents, {"": {"area": "area"}}).built()
    static = judge(tables.sets, contributions, rules).verdicts
    by_code = dict(zip(tables.names("")["area"], tables.cells[""]["set"], strict=True))

    parts = frame(Part(i, f"h{holding[i]}", place[i], "flat", values[i]) for i in range(n))
    table = build_stream_table(parts, areas(2, 2), ["iris", "commune", "epci"], ["E0"], segmented=False)
    found = figures(parts, table, counting=False, depth=3)
    same = primary.Rules(
        rules.min_contributors, rules.min_holdings, rules.p_percent, rules.dominance,
        rules.without_each_holding, rules.zero_is_sensitive,
    )  # fmt: skip
    stream = primary.judge(found, same, market=True)
    for cell, area in enumerate(table.cells["area"]):
        assert static.get(by_code[area]) == stream.get(cell), area


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_rows_decides_no_reason(seed: int) -> None:
    rng = random.Random(seed)
    world, rules = random_world(rng, n=25), random_rules(rng)
    tables, contributions = world.built()
    expected = judge(tables.sets, contributions, rules)
    rng.shuffle(world.rows)
    tables, contributions = world.built()
    assert judge(tables.sets, contributions, rules).verdicts == expected.verdicts


# --- published examples ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> dict[str, dict[str, object]]:
    known = json.loads((shared_data / "sdc" / "known_answers.json").read_text())
    return {example["name"].split()[0] + str(i): example for i, example in enumerate(known["primary_rules"])}


def verdict(values: list[int], **rules: object) -> Verdict | None:
    rows = [Row({"d": "x"}, i, i, value) for i, value in enumerate(values)]
    tables, contributions = World(rows, {"d": {"x": "Total"}}, {"": {"d": "d"}}).built()
    assert len(tables.sets) == 1  # x and Total are one figure
    return judge(tables.sets, contributions, Rules.model_validate(rules)).verdicts.get(0)


def test_p_percent_finds_what_dominance_misses(examples: dict[str, dict]) -> None:
    values = examples["hb_ex10"]["contrib"]
    assert verdict(values, dominance=[[1, 90]]) is None
    assert verdict(values, p_percent=10) is not None


def test_dominance_of_two_finds_what_p_percent_allows(examples: dict[str, dict]) -> None:
    example = examples["hb_ex21"]
    rest = example["X"] - example["x1"] - example["x2"]
    values = [example["x1"], example["x2"], *[rest // 4] * 4]
    assert verdict(values, p_percent=10) is None
    assert verdict(values, dominance=[[2, "90.909"]]) is not None


def test_the_level_of_dominance_is_the_handbooks(examples: dict[str, dict]) -> None:
    example = examples["hb_ex42"]
    found = verdict(example["contrib"], dominance=[[1, 85]])
    assert found is not None
    assert found.reasons == ("dominance:1 largest 300>85% of 330",)
    assert found.level == max(Fraction(100, 85) * 300 - 330, Fraction(330, 10))  # 10 % of X is the wider one
    assert float(330 + Fraction(100, 85) * 300 - 330) == pytest.approx(
        example["required_upper_bound"], abs=0.01
    )


# --- what differs from a stream --------------------------------------------------------------------------


def cell(rows: list[Row], **rules: object) -> Verdict | None:
    tables, contributions = World(rows, {"d": {"x": "Total", "y": "Total"}}, {"": {"d": "d"}}).built()
    return judge(tables.sets, contributions, Rules.model_validate(rules)).verdicts.get(0)


def test_a_contributor_of_several_rows_is_one_and_its_rows_are_added() -> None:
    rows = [Row({"d": "xy"[i % 2]}, i // 2, i // 2, 10) for i in range(6)]
    total = cell(rows, min_contributors=4)
    assert total is not None and total.reasons == ("min_contributors:3<4",)
    assert cell(rows, min_contributors=3) is None
    giant = [
        Row({"d": "x"}, 0, 0, 60),
        Row({"d": "y"}, 0, 0, 60),
        Row({"d": "x"}, 1, 1, 10),
        Row({"d": "x"}, 2, 2, 9),
    ]
    assert cell(giant, dominance=[[1, 85]]) is not None  # 120 of 139; no single row has more than 60
    assert cell(giant, dominance=[[1, 87]]) is None


def test_frequency_counts_weight_and_a_contributors_weight_once() -> None:
    assert cell([Row({"d": "x"}, 0, 0, 1, weight=5)], min_contributors=5) is None
    assert cell([Row({"d": "x"}, 0, 0, 1, weight=5)], min_contributors=6) is not None
    assert cell([Row({"d": "x"}, 0, 0, 1, weight=5)] * 2, min_contributors=6) is not None


def test_rows_of_weight_nothing_contribute_nothing() -> None:
    rows = [Row({"d": "x"}, 0, 0, 7, weight=0)]
    assert cell(rows, min_contributors=3, min_holdings=2, p_percent=10, dominance=[[1, 50]]) is None
    zero = cell(rows, zero_is_sensitive=True)
    assert zero is not None and zero.level == 0


def test_a_rule_that_is_absent_is_not_applied() -> None:
    alone = [Row({"d": "x"}, 0, 0, 7)]
    for name, value in {
        "min_contributors": 2,
        "min_holdings": 2,
        "p_percent": 10,
        "dominance": [[1, 99]],
    }.items():
        found = cell(alone, **{name: value})
        assert found is not None and {reason.split(":")[0] for reason in found.reasons} == {name}


def test_large_numbers_are_compared_exactly() -> None:
    """One part in 2^61 decides, which no float can tell."""
    big = 2**60
    assert cell([Row({"d": "x"}, 0, 0, big), Row({"d": "x"}, 1, 1, big)], dominance=[[1, 50]]) is None
    assert cell([Row({"d": "x"}, 0, 0, big + 1), Row({"d": "x"}, 1, 1, big)], dominance=[[1, 50]]) is not None
    assert np.float64(big + 1) == np.float64(big)


def test_of_many_holdings_five_are_named_and_the_others_counted_with_the_highest_level() -> None:
    """One giant of 10,000 dominates whatever is left of the other twenty; without the largest of them most."""
    rows = [Row({"d": "x"}, 0, 0, 10_000)] + [Row({"d": "x"}, i, i, i) for i in range(1, 21)]
    found = cell(rows, dominance=[[1, 80]], without_each_holding=True)
    assert found is not None
    own, *others = found.reasons
    assert own == "dominance:1 largest 10000>80% of 10210"
    assert [reason.split(":")[:2] for reason in others[:-1]] == [
        ["without_each_holding", f"h{i}"] for i in range(1, 6)
    ]
    assert others[-1] == "without_each_holding:15 more:dominance"
    assert found.level == recount(rows, Rules(dominance=((1, 80),), without_each_holding=True))[1]
    assert found.level == Fraction(100, 80) * 10_000 - (10_210 - 20)
