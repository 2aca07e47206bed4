"""Windows follow the local clock, also on the days when it changes, and every length nests."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.core.calendar import DAY, HOUR, LENGTHS, Calendar, Window, duration_ms
from broker.core.errors import InputError, ProgrammerError

ZONES = (
    "Europe/Paris",
    "America/St_Johns",  # half an hour off; changed at 00:01 until 2011
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # changes by half an hour
    "America/Sao_Paulo",  # skipped midnights until 2018
    "America/Havana",  # has midnights twice
    "Pacific/Apia",  # skipped a whole day in 2011
    "Africa/Casablanca",
    "UTC",
)
YEAR_1995 = 788_918_400_000
YEAR_2045 = 2_366_841_600_000
instants = st.integers(YEAR_1995, YEAR_2045)
zones = st.sampled_from(ZONES)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("noon", "start", "end", "hours"),
    [
        ("2026-03-29T12:00+02:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", 23),
        ("2026-10-25T12:00+01:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", 25),
        ("2026-07-01T12:00+02:00", "2026-07-01T00:00:00+02:00", "2026-07-02T00:00:00+02:00", 24),
    ],
)
def test_paris_days_have_23_24_or_25_hours(noon: str, start: str, end: str, hours: int) -> None:
    paris = Calendar("Europe/Paris")
    day = paris.window("P1D", at(noon))
    assert (paris.iso(day.start), paris.iso(day.end)) == (start, end)
    assert day.end - day.start == hours * HOUR
    windows = paris.bases(day, "PT1H")
    assert len(windows) == hours
    assert {w.end - w.start for w in windows} == {HOUR}


def test_the_hour_that_happens_twice_is_two_windows() -> None:
    paris = Calendar("Europe/Paris")
    first, second = at("2026-10-25T02:30+02:00"), at("2026-10-25T02:30+01:00")
    assert paris.window("PT1H", first) == Window(at("2026-10-25T02:00+02:00"), at("2026-10-25T02:00+01:00"))
    assert paris.window("PT1H", second) == paris.next("PT1H", paris.window("PT1H", first))


@pytest.mark.parametrize(
    ("zone", "instant", "length", "start", "end"),
    [
        (
            "Europe/Paris",
            "2026-03-15T00:00Z",
            "P1M",
            "2026-03-01T00:00:00+01:00",
            "2026-04-01T00:00:00+02:00",
        ),
        (
            "Europe/Paris",
            "2026-12-31T23:30Z",
            "P1M",
            "2027-01-01T00:00:00+01:00",
            "2027-02-01T00:00:00+01:00",
        ),
        (
            "Asia/Kolkata",
            "2026-05-01T12:00Z",
            "PT1H",
            "2026-05-01T17:00:00+05:30",
            "2026-05-01T18:00:00+05:30",
        ),
        (
            "America/St_Johns",
            "2026-03-08T12:00Z",
            "P1D",
            "2026-03-08T00:00:00-03:30",
            "2026-03-09T00:00:00-02:30",
        ),
        # Midnight is skipped: the day begins at one o'clock.
        (
            "America/Sao_Paulo",
            "2018-11-04T12:00Z",
            "P1D",
            "2018-11-04T01:00:00-02:00",
            "2018-11-05T00:00:00-02:00",
        ),
        # Midnight comes twice: the day begins with the first.
        (
            "America/Havana",
            "2020-11-01T12:00Z",
            "P1D",
            "2020-11-01T00:00:00-04:00",
            "2020-11-02T00:00:00-05:00",
        ),
        # 30 December 2011 does not exist there.
        (
            "Pacific/Apia",
            "2011-12-30T09:00Z",
            "P1D",
            "2011-12-29T00:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
        ),
        # The clock goes back from 2:00 to 1:30: a short window at the change.
        (
            "Australia/Lord_Howe",
            "2026-04-04T15:10Z",
            "PT1H",
            "2026-04-05T01:30:00+10:30",
            "2026-04-05T02:00:00+10:30",
        ),
    ],
)
def test_windows_of_odd_clocks(zone: str, instant: str, length: str, start: str, end: str) -> None:
    calendar = Calendar(zone)
    window = calendar.window(length, at(instant))
    assert (calendar.iso(window.start), calendar.iso(window.end)) == (start, end)


@settings(max_examples=200, deadline=None)
@given(zones, st.sampled_from(LENGTHS), instants)
@example("America/St_Johns", "P1D", at("2010-11-07T02:31+00:00"))
@example("America/St_Johns", "PT1H", at("2010-11-07T02:31+00:00"))
def test_every_instant_lies_in_exactly_one_window(zone: str, length: str, instant: int) -> None:
    calendar = Calendar(zone)
    window = calendar.window(length, instant)
    assert window.start <= instant < window.end
    assert calendar.window(length, window.start) == window
    assert calendar.window(length, window.end - 1) == window
    assert calendar.next(length, window).start == window.end


@settings(max_examples=100, deadline=None)
@given(zones, instants)
def test_every_length_nests_in_the_longer_one(zone: str, instant: int) -> None:
    calendar = Calendar(zone)
    for shorter, longer in (("PT1H", "P1D"), ("P1D", "P1M"), ("PT1H", "P1M")):
        window = calendar.window(longer, instant)
        bases = calendar.bases(window, shorter)
        assert (bases[0].start, bases[-1].end) == (window.start, window.end)
        assert all(a.end == b.start and a.start < a.end for a, b in pairwise(bases))


@settings(max_examples=100, deadline=None)
@given(zones, st.sampled_from(LENGTHS), instants, st.lists(st.integers(0, 70 * DAY), min_size=1, max_size=20))
def test_floor_agrees_with_the_edges_and_with_each_window(
    zone: str, length: str, first: int, steps: list[int]
) -> None:
    calendar = Calendar(zone)
    ms = np.array([first + step for step in steps], dtype=np.int64)
    edges = calendar.edges(length, int(ms.min()), int(ms.max()))
    assert edges.dtype == np.int64
    assert edges[0] <= ms.min() < edges[1]
    assert edges[-2] <= ms.max() < edges[-1]
    expected = [calendar.window(length, int(value)).start for value in ms]
    assert calendar.floor(length, ms).tolist() == expected
    assert set(expected) <= set(edges.tolist())
    series = calendar.floor(length, pl.Series("start", [None, *ms.tolist()], dtype=pl.Int64))
    assert (series.name, series.dtype, series.to_list()) == ("start", pl.Int64, [None, *expected])


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["Europe/Paris", "Asia/Kolkata", "America/St_Johns"]),
    st.integers(at("2012-01-01T00:00Z"), YEAR_2045),
)
def test_a_window_starts_when_the_local_clock_says_so(zone: str, instant: int) -> None:
    calendar = Calendar(zone)
    assert calendar.iso(calendar.window("PT1H", instant).start)[14:19] == "00:00"
    assert calendar.iso(calendar.window("P1D", instant).start)[11:19] == "00:00:00"
    assert calendar.iso(calendar.window("P1M", instant).start)[8:19] == "01T00:00:00"
    assert calendar.date(calendar.window("P1D", instant).start) == calendar.date(instant)
    assert calendar.epoch(calendar.window("P1M", instant).start) == calendar.epoch(instant)


def test_a_leap_year_of_hours_is_complete() -> None:
    paris = Calendar("Europe/Paris")
    edges = paris.edges("PT1H", at("2028-01-01T00:00+01:00"), at("2028-12-31T23:59+01:00"))
    assert len(edges) == 366 * 24 + 1
    assert set(np.diff(edges).tolist()) == {HOUR}


def test_dates_and_epochs_are_local() -> None:
    paris = Calendar("Europe/Paris")
    assert paris.date(at("2026-06-30T22:30Z")) == "2026-07-01"
    assert paris.epoch(at("2026-12-31T23:30Z")) == "2027"
    assert paris.epochs(at("2026-12-31T22:30Z"), at("2028-02-01T00:00Z")) == ["2026", "2027", "2028"]
    assert paris.epochs(at("2026-12-31T23:30Z"), at("2026-12-31T23:30Z")) == ["2027"]
    assert paris.iso(at("2026-01-01T00:00+01:00")) == "2026-01-01T00:00:00+01:00"


def test_empty_and_null_columns_floor_to_themselves() -> None:
    paris = Calendar("Europe/Paris")
    assert paris.floor("P1D", pl.Series("x", [], dtype=pl.Int64)).to_list() == []
    assert paris.floor("P1D", pl.Series("x", [None], dtype=pl.Int64)).to_list() == [None]
    assert paris.floor("P1D", np.empty(0, dtype=np.int64)).tolist() == []


def test_instants_beyond_all_bounds_and_unknown_lengths_are_programming_errors() -> None:
    paris = Calendar("Europe/Paris")
    for call in (
        lambda: paris.window("P1D", -1),
        lambda: paris.window("P1D", 1 << 62),
        lambda: paris.window("P1Y", YEAR_1995),
        lambda: paris.edges("P1D", YEAR_2045, YEAR_1995),
    ):
        with pytest.raises(ProgrammerError):
            call()


@pytest.mark.parametrize(
    "zone", ["Europe/Rennes", "", "../zone1970.tab", "/etc/localtime", "Europe", "zone.tab"]
)
def test_an_unknown_time_zone_is_named(zone: str) -> None:
    with pytest.raises(InputError, match="bad_timezone"):
        Calendar(zone)


def test_the_zones_are_those_of_the_pinned_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.TZPATH", ("/nowhere",))
    assert Calendar("Europe/Vienna").iso(at("2026-07-01T00:00Z")) == "2026-07-01T02:00:00+02:00"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("PT0S", 0),
        ("PT6H", 6 * HOUR),
        ("P2D", 2 * DAY),
        ("P1W", 7 * DAY),
        ("P1DT12H30M5S", DAY + 12 * HOUR + 1_805_000),
        ("PT90M", 5_400_000),
    ],
)
def test_fixed_spans_are_exact(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "P1M", "P1Y", "1D", "-P1D", "P1.5D", "PT1H ", "P1D\n", "P٣D"]
)
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(InputError, match="bad_duration"):
        duration_ms(text)


def test_calendars_of_one_zone_are_equal() -> None:
    assert Calendar("Europe/Paris") == Calendar("Europe/Paris") != Calendar("Europe/Brussels")
    assert len({Calendar("Europe/Paris"), Calendar("Europe/Paris")}) == 1
    assert datetime.fromtimestamp(YEAR_1995 / 1000, UTC).year == 1995
