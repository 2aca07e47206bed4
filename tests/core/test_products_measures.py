"""What a product's measures promise: who contributes to them, and what each partner knows of them."""

from __future__ import annotations

import pytest
from fold_worlds import domain, name, rollup
from hypothesis import given, settings
from hypothesis import strategies as st
from product_worlds import ALL, DAYS, H1, H2, energy, of, product, waters, where

from broker.core.condition import Condition
from broker.core.errors import ProgrammerError
from broker.core.fold import roll_up
from broker.core.policy import Count, Mean, Sum
from broker.core.products import units
from broker.core.rollups import Rollups


@pytest.mark.parametrize("stat", ["sum", "mean", "max"])
@pytest.mark.parametrize("op", ["<", "<=", ">", ">="])
@given(totals=st.lists(st.integers(-40, 40), min_size=1, max_size=DAYS), threshold=st.integers(-45, 45))
@settings(max_examples=15, deadline=None)
def test_conditions_mean_what_they_say(stat: str, op: str, totals: list[int], threshold: int) -> None:
    condition = Condition.parse(f"{stat} {op} {threshold}")
    what = product(
        inputs=("energy",),
        coverage="0.1",
        hit=Count(kind="count", where={"energy": condition}, input="energy"),
    )
    hit = (
        of([rollup(day, "e1", value) for day, value in enumerate(totals)], what)
        .contributions_of("hit")
        .height
    )
    assert bool(hit) == condition.holds(sum(totals), max(totals), len(totals))


@pytest.mark.parametrize(("op", "hit"), [("<", True), ("<=", True), (">", False), (">=", False)])
def test_no_threshold_leaves_int64(op: str, hit: bool) -> None:
    what = product(inputs=("energy",), hit=Count(kind="count", where=where(energy=f"mean {op} {10**18 - 1}")))
    assert of(energy(ALL), what).contributions_of("hit").height == hit


def test_a_count_has_one_row_per_part_and_a_sum_each_parts_value() -> None:
    rows = energy(range(2), "e1", 10) + energy(range(2, 5), "e2", 20, partner="b") + waters(ALL)
    what = product(
        homes=Count(kind="count"),
        kwh=Sum(kind="sum", input="energy", unit="kWh"),
        low=Sum(kind="sum", input="energy", unit="kWh", where=where(water="sum > 1000")),
    )
    result = of(rows, what)
    parts = result.contributions_of("homes")
    assert parts.select("premises", "holding", "value").rows() == [
        (H1, f"group of {partner}", 1) for partner in ("a", "b", "w")
    ]
    assert result.contributions_of("kwh").select("partner", "value").rows() == [("a", 20), ("b", 60)]
    assert result.contributions_of("low").is_empty()


def test_means_and_ratios_have_no_contributions_of_their_own() -> None:
    what = product(inputs=("energy",), homes=Count(kind="count"), mean=Mean(kind="mean", of=("kwh", "homes")))
    with pytest.raises(ProgrammerError):
        of(energy(ALL), what).contributions_of("mean")
    with pytest.raises(ProgrammerError):
        of(energy(ALL), what).candidates("homes")


def test_candidates_are_what_each_partner_knows_of_its_own_condition() -> None:
    rows = energy(ALL, value=1) + waters(ALL, value=1)  # both low
    rows += energy(ALL, "e2", 1, premises="h2") + waters(ALL, "w2", 100, premises="h2")  # energy low only
    rows += energy(ALL, "e3", 100, premises="h3") + waters(ALL, "w3", 1, premises="h3")  # water low only
    what = product(vacant=Count(kind="count", where=where(energy="sum < 20", water="sum < 20")))
    candidates = of(rows, what).candidates("vacant").select("premises", "partner", "counted").rows()
    assert candidates == [(H1, "a", True), (H1, "w", True), (H2, "a", False), (name("h3"), "w", False)]


def test_a_partner_of_both_inputs_knows_both_conditions() -> None:
    rows = energy(ALL, value=1) + waters(ALL, value=100, partner="a")  # a sees that water is not low
    rows += energy(ALL, "e2", 1, premises="h2") + waters(ALL, "w2", 1, premises="h2", partner="a")
    what = product(vacant=Count(kind="count", where=where(energy="sum < 20", water="sum < 20")))
    candidates = of(rows, what).candidates("vacant")
    assert candidates.select("premises", "partner", "counted").rows() == [(H2, "a", True)]


def test_what_the_fold_gives_the_products_take() -> None:
    from fold_worlds import WINDOW as TODAY
    from fold_worlds import frame, row

    rows = [row(h, h + 1, 2) for h in range(24)] + [
        row(h, value=h + 5, partner="w", point=name("w1")) for h in (0, 24)
    ]
    rolled = roll_up(frame(rows), domain(), TODAY)
    result = units(Rollups.of(rolled), product(coverage="1"), domain(), TODAY)
    assert {key: part["value"].to_list() for key, part in result.frames.items()} == {
        "energy": [48],
        "water": [24],
    }
