"""Promises of the provisional joint rule: enough of each partner's candidates count, and enough do not."""

from __future__ import annotations

import polars as pl
import pytest
from disclosure_world import LEVELS, Part, frame, pseudonym, tree

from broker.core.disclosure import joint
from broker.core.disclosure.table import Table, build

AREAS = tree(1, 2)


def candidates(rows: list[tuple[int, str, str, bool]]) -> pl.DataFrame:
    """(premises, partner, area, counted)."""
    return pl.DataFrame(
        [(pseudonym(p), partner, area, "flat", counted) for p, partner, area, counted in rows],
        schema={
            "premises": pl.Binary,
            "partner": pl.String,
            "area": pl.String,
            "segment": pl.String,
            "counted": pl.Boolean,
        },
        orient="row",
    )


def table_of(rows: pl.DataFrame) -> Table:
    return build(rows, AREAS, LEVELS, ["E0"], segmented=False)


def some(partner: str, area: str, yes: int, no: int, first: int) -> list[tuple[int, str, str, bool]]:
    return [(first + i, partner, area, i < yes) for i in range(yes + no)]


@pytest.mark.parametrize(
    ("yes", "no", "expected"),
    [
        (5, 5, []),
        (4, 9, ["insider_margin:water-n:4<5 counted"]),
        (9, 4, ["insider_margin:water-n:4<5 not counted"]),
        (4, 4, ["insider_margin:water-n:4<5 counted", "insider_margin:water-n:4<5 not counted"]),
        (0, 7, ["insider_margin:water-n:0<5 counted"]),
        (7, 0, ["insider_margin:water-n:0<5 not counted"]),
    ],
)
def test_five_of_a_partners_candidates_count_and_five_do_not(yes: int, no: int, expected: list[str]) -> None:
    rows = candidates(some("water-n", "E0C0I0", yes, no, 0))
    table = table_of(rows)
    found = joint.findings(rows, table, 5)
    assert [found.get(cell, []) for cell in range(3)] == [expected] * 3  # iris, commune, epci


def test_every_partner_with_candidates_is_judged_in_every_cell_margins_included() -> None:
    rows = candidates(
        [
            *some("water-n", "E0C0I0", 6, 6, 0),
            *some("water-n", "E0C0I1", 6, 6, 100),
            *some("energy-a", "E0C0I0", 6, 6, 0),
            *some("energy-b", "E0C0I1", 3, 6, 100),
        ]
    )
    table = table_of(rows)
    found = joint.findings(rows, table, 5)
    by_area = {table.cells["area"][cell]: reasons for cell, reasons in found.items()}
    one = ["insider_margin:energy-b:3<5 counted"]
    assert by_area == {"E0C0I1": one, "E0C0": one, "E0": one}


def test_a_cell_without_candidates_of_a_partner_is_none_of_its_business() -> None:
    eligible = frame([Part(i, "h1", "E0C0I0", "flat", 1) for i in range(20)])
    assert joint.findings(candidates([]), table_of(eligible), 5) == {}


def customers(*groups: tuple[str, str, int, int]) -> tuple[pl.DataFrame, pl.Series]:
    """(holding, partner, low, not low) -> the parts of one input, and the homes that are low."""
    rows = [(holding, partner, i < low) for holding, partner, low, rest in groups for i in range(low + rest)]
    parts = frame([Part(i, holding, "E0C0I0", "flat", 1) for i, (holding, _, _) in enumerate(rows)])
    parts = parts.with_columns(partner=pl.Series([partner for _, partner, _ in rows], dtype=pl.String))
    return parts, parts["home"].filter(pl.Series([low for *_, low in rows], dtype=pl.Boolean))


def single(*groups: tuple[str, str, int, int], margin: int = 5) -> list[str]:
    """The reasons of the one neighbourhood, the same as those of the areas above it."""
    parts, low = customers(*groups)
    table = table_of(parts)
    found = joint.single_condition(parts, low, table, margin)
    assert [found.get(cell, []) for cell in range(3)] == [found.get(0, [])] * 3
    return found.get(0, [])


def test_a_condition_on_one_input_leaves_enough_homes_that_do_not_meet_it() -> None:
    assert single(("h1", "a", 15, 5)) == []
    assert single(("h1", "a", 16, 4)) == ["insider_margin:*:4<5 not counted"]
    assert single(("h1", "a", 20, 0)) == ["insider_margin:*:0<5 not counted"]
    assert single(("h1", "a", 0, 4)) == []  # nobody counts: what a zero says is the rule on zeros


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        # h1 subtracts its own 35 of 59 and 5 of 5: all its rivals' homes are low
        ([("h1", "a", 35, 5), ("h2", "b", 12, 0), ("h3", "c", 12, 0)], ["without h1:0<5 not counted"]),
        ([("h1", "a", 35, 5), ("h2", "b", 12, 5), ("h3", "c", 12, 0)], []),
        ([("h1", "a", 35, 5), ("h2", "b", 12, 4), ("h3", "c", 12, 0)], ["without h1:4<5 not counted"]),
        ([("h1", "a", 35, 5), ("h2", "b", 0, 12)], ["without h1:0<5 counted"]),
        # h2 has one rival home: it is told whether that one is low
        ([("h2", "b", 20, 20), ("h1", "a", 1, 0)], ["without h2:1<5 counted", "without h2:0<5 not counted"]),
        ([("h1", "a", 35, 5)], []),  # nobody remains
    ],
)
def test_a_rival_that_subtracts_its_own_customers_learns_of_none_whether_it_meets_the_condition(
    groups: list[tuple[str, str, int, int]], expected: list[str]
) -> None:
    assert single(*groups) == [f"insider_margin:{reason}" for reason in expected]
    assert single(*groups, margin=0) == []


def test_partners_of_one_holding_are_rivals_of_each_others_customers() -> None:
    of_two = [("h1", "a", 20, 20), ("h1", "b", 3, 0)]
    assert single(*of_two) == [
        "insider_margin:without a:3<5 counted",
        "insider_margin:without a:0<5 not counted",
    ]
    # What the holding knows together is judged as one: without it there is one home left.
    both = [("h1", "a", 20, 20), ("h1", "b", 20, 20), ("h2", "c", 1, 0)]
    assert {reason.split(":")[1] for reason in single(*both)} == {"without h1"}


def test_a_shared_customer_is_no_rivals_and_yet_not_known() -> None:
    parts, low = customers(("h1", "a", 20, 20), ("h2", "b", 1, 0))
    shared = parts.with_columns(home=pl.when(pl.col("holding") == "h2").then(0).otherwise("home"))
    table = table_of(shared)  # h2's only customer is h1's first one, too
    found = joint.single_condition(shared, low.filter(low != 40), table, 5)
    assert found[
        0
    ] == [  # of the home that it shares h1 knows a part only; without its customers nobody is left
        "insider_margin:without h1:1<5 counted",
        "insider_margin:without h1:0<5 not counted",
    ]
