"""Promises of the primary rules: published examples, an independent recount from the truth, fakes,
waivers."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from disclosure_world import LEVELS, Part, cells_of, frame, random_parts, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.disclosure import primary
from broker.core.disclosure.figures import Figures, figures
from broker.core.disclosure.primary import Rules
from broker.core.disclosure.table import build
from broker.core.errors import ProgrammerError

OFF = Rules(1, 1, Fraction(0), ((1, Fraction(100)),), without_each_holding=False, zero_is_sensitive=False)
SHIPPED = Rules(10, 3, Fraction(15), ((1, Fraction(85)),), without_each_holding=True, zero_is_sensitive=True)
ONE = tree(1, 1)


def rules(**changes: object) -> Rules:
    return Rules(**{**OFF.__dict__, **changes})


def one_cell(parts: list[Part], *, counting: bool = False, depth: int = 3) -> Figures:
    rows = frame(parts)
    table = build(rows, ONE, ["epci"], ["E0"], segmented=False)
    assert table.cells.height == 1
    return figures(rows, table, counting=counting, depth=depth)


@dataclass(frozen=True)
class Verdict:
    """What `primary.judge` says of one cell, safe ones included."""

    reasons: tuple[str, ...]
    level: Fraction

    @property
    def unsafe(self) -> bool:
        return bool(self.reasons)


def judge(
    found: Figures, rule: Rules, *, market: bool, waived: frozenset[str] = frozenset(), cell: int = 0
) -> Verdict:
    excepted = np.array([[name in waived for name in found.holdings]] * len(found.n))
    verdict = primary.judge(found, rule, market=market, waived=excepted).get(cell)
    return Verdict((), Fraction(0)) if verdict is None else Verdict(verdict.reasons, verdict.level)


def homes(spec: dict[str, list[int]]) -> list[Part]:
    """Holding -> values of its homes, all in one area."""
    numbered = enumerate((holding, value) for holding, values in spec.items() for value in values)
    return [Part(i, holding, "E0C0I0", "flat", value) for i, (holding, value) in numbered]


def names(verdict: Verdict) -> set[str]:
    return {reason.split(":")[0] for reason in verdict.reasons}


# --- published examples ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> dict[str, dict[str, object]]:
    known = json.loads((shared_data / "sdc" / "known_answers.json").read_text())
    return {example["name"].split()[0]: example for example in known["primary_rules"]}


def test_handbook_example_1_dominance_misses_what_p_percent_finds(examples: dict[str, dict]) -> None:
    example = examples["hb_ex1"]
    figure = one_cell(homes({f"h{i}": [x] for i, x in enumerate(example["contrib"])}))
    assert figure.total.tolist() == [example["X"]]
    assert judge(figure, rules(dominance=((1, Fraction(90)),)), market=True).unsafe is example["unsafe"]
    assert judge(figure, rules(p=Fraction(10)), market=True).unsafe is example["unsafe2"]


def test_handbook_example_2_two_dominate_though_p_percent_is_content(examples: dict[str, dict]) -> None:
    example = examples["hb_ex2"]
    x1, x2, total = example["x1"], example["x2"], example["X"]
    figure = one_cell(homes({"h1": [x1], "h2": [x2], "h3": [total - x1 - x2]}))
    assert judge(figure, rules(p=Fraction(example["p"])), market=True).unsafe is example["p_unsafe"]
    n, k = example["nk"]
    dominance = ((n, Fraction(str(k))),)
    assert judge(figure, rules(dominance=dominance), market=True).unsafe is example["nk_unsafe"]


def test_handbook_example_4_needs_the_published_upper_bound(examples: dict[str, dict]) -> None:
    example = examples["hb_ex4"]
    figure = one_cell(homes({f"h{i}": [x] for i, x in enumerate(example["contrib"])}))
    verdict = judge(figure, rules(dominance=((1, Fraction(85)),)), market=True)
    assert verdict.unsafe is example["unsafe"]
    # The rule's own level; 10 % of the total is larger here and wins.
    own = Fraction(100, 85) * 300 - 330
    assert round(float(330 + own), 2) == example["required_upper_bound"]
    assert verdict.level == max(own, Fraction(33))


def test_levels_follow_the_published_formulae() -> None:
    p = judge(one_cell(homes({"h1": [900], "h2": [90], "h3": [10]})), rules(p=Fraction(50)), market=True)
    assert p.level == Fraction(50, 100) * 900 - 10
    two = judge(
        one_cell(homes({"h1": [60], "h2": [38], "h3": [2]})),
        rules(dominance=((2, Fraction(80)),)),
        market=True,
    )
    assert two.level == Fraction(100, 80) * 98 - 100
    few = judge(
        one_cell(homes({"h1": [70], "h2": [30]})), rules(min_holdings=3, p=Fraction(20)), market=False
    )
    assert few.level == Fraction(20, 100) * 70
    frequency = judge(one_cell(homes({"h1": [70, 30]})), rules(min_contributors=3), market=True)
    assert frequency.level == Fraction(10)  # its own level is 0, so 10 % of the total
    zero = judge(one_cell(homes({"h1": [0, 0]})), rules(zero_is_sensitive=True), market=True)
    assert zero.unsafe and zero.level == 0


# --- independent recount --------------------------------------------------------------------------------


def fails(totals: list[int], rule: Rules) -> bool:
    """Frequency and dominance of premises totals, from the definitions."""
    n, weight = len(totals), sum(totals)
    if 0 < n < rule.min_contributors:
        return True
    largest = sorted(totals, reverse=True)
    return any(Fraction(sum(largest[:m])) > k / 100 * weight for m, k in rule.dominance)


def recount(parts: list[Part], rule: Rules, *, counting: bool, market: bool) -> set[str]:
    """Which rules a set of contributions breaks, in plain Python over the truth."""
    if counting:
        whole = {p.premises: 1 for p in parts}
    else:
        whole = defaultdict(int)
        for p in parts:
            whole[p.premises] += p.value
    totals = [abs(x) for x in whole.values()]
    found = set()
    if 0 < len(totals) < rule.min_contributors:
        found.add("min_contributors")
    if any(
        Fraction(sum(sorted(totals, reverse=True)[:m])) > k / 100 * sum(totals) for m, k in rule.dominance
    ):
        found.add("dominance")
    by_holding: dict[str, int] = defaultdict(int)
    for holding in {p.holding for p in parts}:
        own = [p for p in parts if p.holding == holding]
        by_holding[holding] = len({p.premises for p in own}) if counting else abs(sum(p.value for p in own))
    if by_holding and len(by_holding) < rule.min_holdings:
        found.add("min_holdings")
    ranked = [*sorted(by_holding.values(), reverse=True), 0, 0]
    everything = len(whole) if counting else sum(by_holding.values())
    if by_holding and market and everything - ranked[0] - ranked[1] < rule.p / 100 * ranked[0]:
        found.add("p_percent")
    for holding in by_holding if rule.without_each_holding else ():
        customers = {p.premises for p in parts if p.holding == holding}
        if fails([abs(x) for home, x in whole.items() if home not in customers], rule):
            found.add("without_each_holding")
        rest: dict[int, int] = defaultdict(int)
        for p in parts:
            if p.holding != holding:
                rest[p.premises] += p.value
        if not counting and fails([abs(x) for x in rest.values()], rule):
            found.add("without_each_holding")
    if sum(totals) == 0 and rule.zero_is_sensitive:
        found.add("zero_is_sensitive")
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 120),
    counting=st.booleans(),
    net=st.booleans(),
    market=st.booleans(),
    k=st.sampled_from([1, 3, 10]),
    dominance=st.sampled_from([((1, Fraction(85)),), ((1, Fraction("66.6")), (3, Fraction(90)))]),
)
def test_every_cell_breaks_exactly_the_rules_that_a_recount_from_the_truth_finds(
    *, seed: int, n: int, counting: bool, net: bool, market: bool, k: int, dominance: tuple
) -> None:
    rng = random.Random(seed)
    areas = tree(2, 2)
    parts = random_parts(rng, areas, n, net=net)
    rule = rules(
        min_contributors=k,
        min_holdings=3,
        p=Fraction("12.5"),
        dominance=dominance,
        without_each_holding=True,
        zero_is_sensitive=True,
    )
    rows = frame(parts)
    table = build(rows, areas, LEVELS, ["E0"], segmented=True)
    found = figures(
        rows.sample(fraction=1, shuffle=True, seed=seed % 1000), table, counting=counting, depth=rule.depth
    )
    truth: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in parts:
        for key in cells_of(part.area, part.segment, areas):
            truth[key].append(part)
    visible = table.cells.filter(~pl.col("hidden")).select("area", "segment").rows()
    assert set(visible) == set(truth)
    for cell, key in enumerate(visible):
        assert found.n[cell] == len({p.premises for p in truth[key]})
        assert found.total[cell] == (found.n[cell] if counting else sum(p.value for p in truth[key]))
        verdict = judge(found, rule, market=market, cell=cell)
        assert names(verdict) == recount(truth[key], rule, counting=counting, market=market), key


def test_premises_of_a_commune_itself_are_judged_although_they_are_no_cell() -> None:
    areas = tree(1, 2)
    parts = [Part(i, "h1", "E0C0I0", "flat", 5) for i in range(20)]
    parts += [Part(100 + i, "h2", "E0C0", "flat", 7) for i in range(2)]
    rows = frame(parts)
    table = build(rows, areas, LEVELS, ["E0"], segmented=True)
    found = figures(rows, table, counting=False, depth=1)
    assert found.n[table.hidden].tolist() == [2, 2]  # flat, and the margin
    assert found.total[table.hidden].tolist() == [14, 14]


def test_premises_outside_the_release_group_are_no_part_of_its_table() -> None:
    rows = frame([Part(1, "h1", "E0C0I0", "flat", 5), Part(2, "h1", "E1C0I0", "flat", 9)])
    table = build(rows, tree(1, 1, epcis=2), LEVELS, ["E0"], segmented=True)
    assert set(table.cells["area"]) == {"E0", "E0C0", "E0C0I0"}
    assert figures(rows, table, counting=False, depth=1).total.tolist() == [5] * 6


# --- what the rules are for -----------------------------------------------------------------------------

SAFE = {"h1": [10] * 12, "h2": [10] * 12, "h3": [10] * 12}


def test_a_figure_of_three_holdings_and_many_homes_is_safe_under_the_shipped_rules() -> None:
    assert not judge(one_cell(homes(SAFE)), SHIPPED, market=True).unsafe


def test_nine_invented_homes_do_not_hide_a_real_one() -> None:
    figure = one_cell(homes({**SAFE, "h1": [10] * 9, "h2": [10], "h3": []}))
    fake = judge(figure, rules(min_contributors=10, without_each_holding=True), market=True)
    assert names(fake) == {"without_each_holding"}
    assert any("h1:min_contributors:1<10" in reason for reason in fake.reasons)
    assert not judge(
        figure, rules(min_contributors=10), market=True
    ).unsafe  # control: the plain rule is fooled


def test_an_invented_giant_does_not_hide_that_one_home_dominates() -> None:
    spec = {"h1": [9000], "h2": [1000] + [1] * 5, "h3": [1] * 5}
    figure = one_cell(homes(spec))
    plain = rules(dominance=((1, Fraction(95)),))
    assert not judge(figure, plain, market=True).unsafe
    assert names(judge(figure, rules(**{**plain.__dict__, "without_each_holding": True}), market=True)) == {
        "without_each_holding"
    }


def test_a_customer_who_switched_is_one_contributor_of_both_holdings() -> None:
    figure = one_cell([Part(1, "h1", "E0", "flat", 30), Part(1, "h2", "E0", "flat", 70)])
    assert (*figure.n, *figure.weight, figure.parts.tolist()) == (1, 100, [[30, 70]])
    counted = one_cell([Part(1, "h1", "E0", "flat", 1), Part(1, "h2", "E0", "flat", 1)], counting=True)
    assert (*counted.n, *counted.total, counted.parts.tolist()) == (1, 1, [[1, 1]])


def test_p_percent_of_0_is_off_also_where_parts_of_a_count_add_up_to_more_than_the_count() -> None:
    parts = homes({"h1": [1] * 12, "h2": [1] * 12, "h3": [1] * 12})
    switched = [Part(i, "h2", "E0C0I0", "flat", 1) for i in range(12)]
    moved = [Part(12 + i, "h1", "E0C0I0", "flat", 1) for i in range(24)]
    figure = one_cell([*parts, *switched, *moved], counting=True)
    assert (*figure.n, figure.parts.tolist()) == (36, [[36, 24, 12]])  # the rest is 36 - 36 - 24
    assert not judge(figure, rules(p=Fraction(0)), market=True).unsafe
    assert names(judge(figure, rules(p=Fraction(1)), market=True)) == {"p_percent"}


def test_what_a_holding_can_subtract_of_shared_customers_is_judged_too() -> None:
    shared = [Part(1, "h1", "E0", "flat", 1), Part(1, "h2", "E0", "flat", 900)]
    others = homes({"h2": [100] * 12, "h3": [100] * 12})
    parts = [Part(p.premises + 10, p.holding, p.area, p.segment, p.value) for p in others] + shared
    verdict = judge(
        one_cell(parts), rules(dominance=((1, Fraction(50)),), without_each_holding=True), market=True
    )
    assert not verdict.unsafe
    tight = rules(dominance=((1, Fraction(25)),), without_each_holding=True)
    # Less all of h1's customers nothing dominates; less only its own part, 900 of 3300 do.
    assert any(
        reason.startswith("without_each_holding:h1:dominance")
        for reason in judge(one_cell(parts), tight, market=True).reasons
    )


def test_shares_of_a_joined_count_are_no_secret_but_those_of_one_market_are() -> None:
    monopoly = one_cell(homes({"h1": [1] * 40}), counting=True)
    assert not judge(monopoly, rules(p=Fraction(15)), market=False).unsafe
    assert names(judge(monopoly, rules(p=Fraction(15)), market=True)) == {"p_percent"}


def test_net_values_count_by_their_size() -> None:
    figure = one_cell(homes({"h1": [500], "h2": [-490], "h3": [3] * 3}))
    assert (*figure.total, *figure.weight) == (19, 999)
    assert not judge(figure, rules(dominance=((1, Fraction(85)),)), market=True).unsafe
    cancelled = one_cell(homes({"h1": [500], "h2": [-500]}))
    assert not judge(cancelled, rules(zero_is_sensitive=True), market=True).unsafe


@pytest.mark.parametrize("scale", [10**15 + 1, 10**16 + 1])
def test_decisions_are_exact_where_floats_cannot_tell(scale: int) -> None:
    # x1 is k % of the total exactly, or 1 more: beyond a double, and times 100 within and beyond 64 bits.
    assert (8500 * scale < 2**63) is (scale < 10**16)
    for more, unsafe in ((0, False), (1, True)):
        figure = one_cell(homes({"h1": [85 * scale + more], "h2": [15 * scale - more]}))
        assert judge(figure, rules(dominance=((1, Fraction(85)),)), market=True).unsafe is unsafe
    for less, unsafe in ((0, False), (1, True)):  # the rest is p % of x1 exactly, or 1 less
        figure = one_cell(homes({"h1": [20 * scale], "h2": [5 * scale], "h3": [3 * scale - less]}))
        assert judge(figure, rules(p=Fraction(15)), market=True).unsafe is unsafe


@pytest.mark.parametrize(
    ("spec", "waived", "broken"),
    [
        ({"w1": [10] * 30}, {"w1"}, set()),  # a local monopoly
        ({"w1": [10] * 30}, {"w2"}, {"min_holdings", "p_percent"}),  # another one's waiver
        ({"w1": [10] * 30, "w2": [10] * 30}, {"w1", "w2"}, set()),
        ({"w1": [10] * 30, "w2": [10] * 30}, {"w1"}, {"min_holdings", "p_percent"}),
        (
            {"w1": [10] * 90, "w2": [10] * 30, "w3": [10] * 5},
            {"w1"},
            set(),
        ),  # r = w1; 50 left of w3 >= 15 % of 300
        ({"w1": [10] * 90, "w2": [10] * 40, "w3": [10] * 5}, {"w1"}, {"p_percent"}),  # 50 < 15 % of 400
        ({"w1": [10] * 90, "w2": [10] * 30, "w3": [10] * 5}, set(), {"p_percent"}),
    ],
)
def test_a_waiver_takes_its_holding_and_nobody_else_out_of_the_protected(
    spec: dict[str, list[int]], waived: set[str], broken: set[str]
) -> None:
    rule = rules(min_holdings=3, p=Fraction(15))
    assert names(judge(one_cell(homes(spec)), rule, market=True, waived=frozenset(waived))) == broken


def test_a_waiver_never_lifts_the_rules_that_protect_homes() -> None:
    verdict = judge(one_cell(homes({"w1": [900, 1, 1]})), SHIPPED, market=True, waived=frozenset({"w1"}))
    assert names(verdict) == {"min_contributors", "dominance"}


def test_values_beyond_64_bits_stop_the_release() -> None:
    with pytest.raises(ProgrammerError) as error:
        one_cell(homes({"h1": [2**61, 2**61]}))
    assert error.value.reason == "overflow"


def test_a_premises_in_two_places_stops_the_release() -> None:
    rows = frame([Part(1, "h1", "E0C0I0", "flat", 1), Part(1, "h2", "E0C0I0", "house", 1)])
    with pytest.raises(ProgrammerError) as error:
        figures(rows, build(rows, ONE, LEVELS, ["E0"], segmented=True), counting=False, depth=1)
    assert error.value.reason == "premises_in_two_places"


def test_more_holdings_than_a_machine_word_has_bits_are_told_apart() -> None:
    figure = one_cell(homes({f"h{i:03}": [1] for i in range(150)}))
    assert figure.holdings == [f"h{i:03}" for i in range(150)]
    assert (figure.parts == 1).all()
    kinds = figure.served[figure.largest.kind]
    assert kinds.sum() == 150 and kinds.any(axis=0).all()
