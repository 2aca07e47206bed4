"""What a reading must keep to before anybody's rights are looked at."""

from __future__ import annotations

import polars as pl
import pytest
from admission_world import DAY, ELECTRICITY, GAS, HOUR, WATER, batch, ms
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import InputError
from broker.core.plan import Stream
from broker.core.readings import LIMITS, SCHEMA, check
from broker.core.reasons import outcome

NOON = ms("2026-02-03 12:00")
NOW = NOON + HOUR
NET = Stream("energy-a", "holding-a", "feed-in", "electricity", "interval", "Wh", net=True)
HOURLY = LIMITS["electricity"].per_hour


def reason_of(stream: Stream, *row: object, now: int = NOW) -> str | None:
    good, quarantined = check(batch(("p", *row)), stream, now)
    assert good.height + quarantined.height == 1
    return None if good.height else str(quarantined["reason"][0])


@pytest.mark.parametrize(
    ("stream", "row", "reason"),
    [
        (ELECTRICITY, (NOON, NOON + HOUR, 0), None),
        (ELECTRICITY, (NOON, NOON + HOUR, -1), "negative"),
        (NET, (NOON, NOON + HOUR, -1), None),
        (NET, (NOON, NOON + HOUR, -HOURLY - 1), "out_of_bounds"),
        (ELECTRICITY, (NOON, NOON + HOUR, HOURLY), None),
        (ELECTRICITY, (NOON, NOON + HOUR, HOURLY + 1), "out_of_bounds"),
        (ELECTRICITY, (NOON, NOON + HOUR // 2, HOURLY // 2 + 1), "out_of_bounds"),
        (ELECTRICITY, (NOON, NOON + HOUR, 2**63 - 1), "out_of_bounds"),
        (NET, (NOON, NOON + HOUR, -(2**63)), "out_of_bounds"),
        (ELECTRICITY, (NOON, NOON, 5), "bad_interval"),
        (ELECTRICITY, (NOON, NOON - 1, 5), "bad_interval"),
        (ELECTRICITY, (NOON - DAY, NOON + HOUR, 5), None),
        (ELECTRICITY, (NOON - DAY, NOON + HOUR + 1, 5), "bad_interval"),
        (ELECTRICITY, (2**63 - 1, -(2**63), 5), "bad_interval"),
        (ELECTRICITY, (NOW + DAY - HOUR, NOW + DAY, 5), None),
        (ELECTRICITY, (NOW + DAY - HOUR, NOW + DAY + 1, 5), "far_future"),
        (ELECTRICITY, (946_684_800_000 - 1, 946_684_800_000, 5), "bad_timestamp"),
        (ELECTRICITY, (None, NOON, 5), "bad_timestamp"),
        (ELECTRICITY, (NOON, None, 5), "bad_timestamp"),
        (ELECTRICITY, (NOON, NOON + HOUR, None), "bad_value"),
        (WATER, (NOON, NOON, 123_456), None),
        (WATER, (NOON, NOON + 1, 123_456), "bad_interval"),
        (WATER, (NOON, NOON, -1), "negative"),
        (WATER, (NOON, NOON, 10**13), None),
        (WATER, (NOON, NOON, 10**13 + 1), "out_of_bounds"),
        (WATER, (NOW + DAY + 1, NOW + DAY + 1, 5), "far_future"),
        (GAS, (NOON, NOON + HOUR, 100_000_001), "out_of_bounds"),
    ],
)
def test_each_bound_holds_and_what_lies_on_it_is_good(
    stream: Stream, row: tuple[int, int, int], reason: str | None
) -> None:
    assert reason_of(stream, *row) == reason


def test_time_is_judged_by_each_records_own_arrival() -> None:
    later = pl.Series([NOW, NOW - 2 * DAY])
    rows = batch(("p", NOON, NOON + HOUR, 1), ("p", NOON, NOON + HOUR, 1))
    good, quarantined = check(rows, ELECTRICITY, later)
    assert good["offset"].to_list() == [0]
    assert quarantined.rows() == [(1, "far_future")]


def test_a_measure_without_limits_is_not_let_through() -> None:
    with pytest.raises(InputError, match="correct the partner's file"):
        check(batch(), Stream("p", "h", "s", "steam", "interval", "Wh"), NOW)


EDGES = [None, -(2**63), -1, 0, 1, 946_684_800_000, NOON, NOW + DAY, NOW + DAY + 1, 2**63 - 1]


@given(st.lists(st.tuples(*(st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1) for _ in range(3)))))
def test_every_reading_comes_out_once_with_a_known_reason(rows: list[tuple[int, int, int]]) -> None:
    given_rows = batch(*(("p", *row) for row in rows))
    for stream in (ELECTRICITY, NET, WATER):
        good, quarantined = check(given_rows, stream, NOW)
        assert good.schema == SCHEMA
        both = good["offset"].to_list() + quarantined["offset"].to_list()
        assert sorted(both) == given_rows["offset"].to_list()
        assert {outcome(code) for code in quarantined["reason"]} <= {"quarantined"}
        assert good["value"].null_count() == 0
        assert (good["end"] - good["start"]).is_between(0, 25 * HOUR).all()
