"""What a retraction takes away, and what it leaves."""

from __future__ import annotations

from typing import Any

import polars as pl
from fold_worlds import DAY, WINDOW, Row, domain, frame, name, rollup, rollups, row, worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.admission import OPENING
from broker.core.calendar import HOUR
from broker.core.fold import retract, retract_rollups, roll_up

SCHEMA = {"point": pl.Binary, "premises": pl.Binary, "bits": pl.UInt64, "from_ms": pl.Int64, "seq": pl.Int64}
SCHEMA |= {"to_ms": pl.Int64, "granted_ms": pl.Int64}


def voids(*rules: dict[str, Any]) -> pl.DataFrame:
    usual = {
        "point": name("p1"),
        "premises": None,
        "bits": 1,
        "from_ms": None,
        "seq": 10,
        "to_ms": None,
        "granted_ms": None,
    }
    return pl.DataFrame([{**usual, **rule} for rule in rules], schema=SCHEMA)


def masks(rows: list[Row], *rules: dict[str, Any]) -> list[int]:
    return retract(frame(rows), voids(*rules))["mask"].to_list()


def test_a_withdrawal_reaches_what_precedes_it_and_nothing_later() -> None:
    assert masks([row(0, 6, seq=9), row(6, 12, seq=10), row(12, 18, seq=11)], {}) == [0, 1, 1]


def test_it_clears_its_products_of_its_point_only() -> None:
    rows = [row(0, 6, mask=0b111), row(0, 6, mask=0b111, point=name("p2"))]
    assert masks(rows, {"bits": 0b101}) == [0b010, 0b111]


def test_a_replaced_site_voids_from_its_date_as_its_former_premises() -> None:
    rows = [row(0, 6), row(6, 12), row(6, 12, premises=name("h2"))]
    voided = {"from_ms": WINDOW.start + 6 * HOUR, "premises": name("h1")}
    assert masks(rows, voided) == [1, 0, 1]


def test_a_closed_site_leaves_no_opening_value_behind() -> None:
    """It would be a home that used nothing, in every window that begins within max_gap after the site closed."""
    rows = [row(-6), row(-30)]
    closed_before = {"from_ms": WINDOW.start - 5 * HOUR, "premises": name("h1")}
    assert masks(rows, closed_before) == [0, 0]
    assert roll_up(retract(frame(rows), voids(closed_before)), domain(), WINDOW).is_empty()
    closed_within = {"from_ms": WINDOW.start + 6 * HOUR, "premises": name("h1")}
    assert masks([*rows, row(3), row(9)], closed_within) == [1, 1, 1, 0]


def test_a_new_grant_voids_the_windows_before_it_and_what_was_read_before_it() -> None:
    next_day = WINDOW.end
    noon = WINDOW.start + 12 * HOUR
    rows = [
        row(0, 6),
        row(18, 24),
        row(18),  # a register's own value
        row(6, window=next_day, role=2),  # opening values of the next window
        row(18, window=next_day, role=2),
        row(30, window=next_day),
    ]
    assert masks(rows, {"to_ms": next_day, "granted_ms": noon}) == [0, 0, 0, 0, 1, 1]
    days = rollups([rollup(day, "p1", 5) for day in (9, 10, 11)])
    voided = voids({"to_ms": 11 * DAY, "granted_ms": noon})
    assert retract_rollups(days, voided)["mask"].to_list() == [0, 0, 1]


def test_nothing_to_retract_changes_nothing() -> None:
    rows = frame([row(0, 6)])
    assert retract(rows, voids()).equals(rows)
    assert retract(rows, voids({"point": name("p9")})).equals(rows)
    assert retract(frame([]), voids({})).is_empty()


def test_retractions_need_no_columns_for_bounds_that_they_do_not_have() -> None:
    bare = voids({}).drop("premises", "to_ms", "granted_ms")
    assert retract(frame([row(0, 6)]), bare)["mask"].to_list() == [0]


rules = st.fixed_dictionaries(
    {
        "point": st.sampled_from([name(f"p{i}") for i in range(4)]),
        "premises": st.sampled_from([None, None, name("h1"), name("h2")]),
        "bits": st.integers(0, 7),
        "from_ms": st.one_of(st.none(), st.integers(0, 4).map(lambda n: WINDOW.start + 6 * HOUR * n)),
        "seq": st.integers(0, 5),
    }
)


@settings(max_examples=60, deadline=None)
@given(worlds("interval") | worlds("register"), st.lists(rules, max_size=6))
def test_each_row_loses_the_bits_of_every_retraction_that_reaches_it(
    rows: list[Row], retractions: list[dict[str, Any]]
) -> None:
    expected = []
    for each in rows:
        mask = each["mask"]
        for rule in retractions:
            reached = each["point"] == rule["point"] and each["seq"] < rule["seq"]
            reached = reached and rule["premises"] in (None, each["premises"])
            moment = max(each["start"], each["window"]) if each["role"] == OPENING else each["start"]
            if reached and (rule["from_ms"] is None or moment >= rule["from_ms"]):
                mask &= ~rule["bits"]
        expected.append(mask)
    found = retract(frame(rows), voids(*retractions))
    assert found["mask"].to_list() == expected
    assert found.drop("mask").equals(frame(rows).drop("mask"))


def test_a_rollup_that_holds_the_date_is_emptied_as_a_whole() -> None:
    days = rollups([rollup(day, "p1", 5) for day in (3, 4, 5)])
    noon = {"from_ms": 4 * DAY + 12 * HOUR}
    assert retract_rollups(days, voids(noon))["mask"].to_list() == [1, 0, 0]
    midnight = {"from_ms": 4 * DAY}
    assert retract_rollups(days, voids(midnight))["mask"].to_list() == [1, 0, 0]


def test_a_withdrawal_empties_every_open_rollup_of_its_product() -> None:
    days = rollups([rollup(day, "p1", 5, mask=3) for day in (3, 4)] + [rollup(3, "p2", 5, mask=3)])
    assert retract_rollups(days, voids({}))["mask"].to_list() == [2, 2, 3]


def test_a_retraction_that_came_before_the_close_changes_nothing_when_replayed() -> None:
    rows = frame([row(0, 6, 1, seq=1), row(6, 12, 2, seq=3), row(12, 18, 4, seq=20)])
    before = voids({"from_ms": WINDOW.start + 6 * HOUR, "seq": 10})
    closed = roll_up(retract(rows, before), domain(), WINDOW, closed=30)
    assert closed["value"].to_list() == [5]
    assert retract_rollups(closed, before).equals(closed)
    assert retract_rollups(closed, voids({"seq": 31}))["mask"].to_list() == [0]
