"""Which home a point serves at a moment, and that doubt counts for nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
from admission_world import AREAS, frame, keys, ms, site_table
from hypothesis import given
from hypothesis import strategies as st

from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms
from broker.core.sites import OUTCOMES, SCHEMA, SiteTable

MOVE = ms("2026-02-10 00:00")
END = ms("2026-03-01 00:00")


def where(table: SiteTable, point: str, at: int) -> str:
    """The premises token, or the reason why there is none."""
    found = table.locate(pl.Series([point]), np.array([at]))
    if found.site[0] < 0:
        return OUTCOMES[found.outcome[0]]
    assert found.outcome[0] == 0
    return str(table.rows["premises"][int(found.site[0])])


def problems(*rows: tuple[object, ...]) -> list[tuple[str | None, str]]:
    return SiteTable.build(frame(SCHEMA, rows), "energy-a", AREAS, "epci")[1].rows()


def test_a_site_holds_from_its_first_moment_to_just_before_its_last() -> None:
    table = site_table(("p", MOVE, END, "home", "C1", "flat", None))
    assert where(table, "p", MOVE) == "home"
    assert where(table, "p", END - 1) == "home"
    assert where(table, "p", MOVE - 1) == "no_site_then"
    assert where(table, "p", END) == "no_site_then"
    assert where(table, "q", MOVE) == "unknown_delivery_point"


def test_a_point_is_found_in_each_part_of_its_history() -> None:
    table = site_table(
        ("p", END, None, "third", "C2", "flat", None),
        ("p", None, MOVE, "first", "C1", "flat", None),
        ("other", None, None, "elsewhere", "C3", "flat", None),
        ("p", MOVE, MOVE + 5, "second", "C1", "flat", None),
    )
    assert where(table, "p", -(2**62)) == "first"
    assert where(table, "p", MOVE - 1) == "first"
    assert where(table, "p", MOVE) == "second"
    assert where(table, "p", MOVE + 5) == "no_site_then"
    assert where(table, "p", END) == "third"
    assert where(table, "other", END) == "elsewhere"


def test_two_sites_at_one_time_leave_the_point_contested_at_all_times() -> None:
    rows = [("p", None, MOVE + 1, "a", "C1", "flat", None), ("p", MOVE, None, "b", "C1", "flat", None)]
    assert problems(*rows) == [("p", "overlapping_sites")]
    table = site_table(*rows, ("q", None, None, "c", "C1", "flat", None))
    assert where(table, "p", MOVE - 100) == "contested_site"
    assert where(table, "q", MOVE - 100) == "c"


def test_a_long_period_that_spans_several_overlaps_each() -> None:
    rows = [
        ("p", 0, 1000, "a", "C1", "", None),
        ("p", 10, 20, "b", "C1", "", None),
        ("p", 30, 40, "c", "C1", "", None),
    ]
    assert problems(*rows) == [("p", "overlapping_sites")]
    assert where(site_table(*rows), "p", 35) == "contested_site"


def test_an_area_outside_the_hierarchy_contests_the_point() -> None:
    rows = [("p", None, None, "a", "C9", "flat", None), ("q", None, None, "b", "C3", "flat", None)]
    assert problems(*rows) == [("p", "area_not_in_hierarchy")]
    assert where(site_table(*rows), "p", MOVE) == "contested_site"


def test_a_malformed_row_contests_its_point() -> None:
    for row in [
        ("p", None, None, None, "C1", "flat", None),
        ("p", None, None, "", "C1", "flat", None),
        ("p", END, MOVE, "a", "C1", "flat", None),
        ("p", None, None, "a", "C1", "*", None),
        ("p", None, None, "a", "C1", "flat", 0),
        ("p", None, None, "a", "C1", "flat", -1),
        ("p", None, None, "a", "C1", "flat", 10**14 + 1),
        ("p", None, None, "a", "C1", "flat", 2**63 - 1),
    ]:
        assert problems(row) == [("p", "bad_site")]
        assert where(site_table(row), "p", MOVE) == "contested_site"


def test_a_register_may_be_as_large_as_any_meters() -> None:
    assert problems(("p", None, None, "a", "C1", "flat", 10**14)) == []


def test_a_row_that_names_no_point_is_a_problem_and_touches_no_other() -> None:
    rows = [(None, None, None, "a", "C1", "", None), ("p", None, None, "b", "C1", "", None)]
    assert problems(*rows) == [(None, "bad_site")]
    assert where(site_table(*rows), "p", MOVE) == "b"


def test_the_group_is_the_index_of_the_release_group() -> None:
    table = site_table(("p", None, None, "a", "C3", "", None), ("q", None, None, "b", "C2", "", None))
    assert dict(table.rows.select("delivery_point", "group").iter_rows()) == {"p": 1, "q": 0}


def test_an_empty_table_knows_no_point() -> None:
    assert where(site_table(), "p", MOVE) == "unknown_delivery_point"


def test_pseudonyms_stand_beside_their_sites() -> None:
    table = site_table(
        ("q", None, None, "x", "C1", "", None),
        ("p", None, MOVE, "x", "C1", "", None),
        ("p", MOVE, None, "y", "C1", "", None),
    )
    key = keys("housing", "2026")
    premises, point = table.pseudonyms("housing", key)
    assert premises.to_list() == premises_pseudonyms(key, "housing", table.rows["premises"])
    assert point.to_list() == point_pseudonyms(key, "energy-a", table.rows["delivery_point"])
    later, _ = table.pseudonyms("housing", keys("housing", "2027"))
    assert set(later).isdisjoint(premises)


PERIODS = st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True).map(sorted)


@given(
    st.dictionaries(st.sampled_from("pqr"), PERIODS), st.lists(st.integers(-2, 42), max_size=30), st.data()
)
def test_the_fast_join_finds_what_a_plain_search_finds(
    histories: dict[str, list[int]], moments: list[int], data: st.DataObject
) -> None:
    rows = [
        (point, start, end, f"{point}{start}", "C1", "", None)
        for point, bounds in histories.items()
        for start, end in zip(bounds[::2], bounds[1::2], strict=False)
    ]
    table = site_table(*data.draw(st.permutations(rows)))
    for moment in moments:
        for point in "pqrs":
            expected = [row[3] for row in rows if row[0] == point and row[1] <= moment < row[2]]
            missing = "no_site_then" if point in histories else "unknown_delivery_point"
            assert where(table, point, moment) == (expected[0] if expected else missing)
