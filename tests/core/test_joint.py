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


def test_a_condition_on_one_input_leaves_enough_homes_that_do_not_meet_it() -> None:
    everyone = frame([Part(i, "h1", "E0C0I0", "flat", 1) for i in range(20)])
    table = table_of(everyone)
    for counted, unsafe in ((15, False), (16, True), (20, True)):
        reasons = joint.single_condition(table.count(everyone.head(counted)), table.count(everyone), 5)
        assert bool(reasons) is unsafe
