"""What consumption from registers promises."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from fold_worlds import DAY, WINDOW, Row, domain, frame, name, row, totals_of
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.calendar import HOUR, Window
from broker.core.fold import roll_up
from broker.core.fold_frames import LOST

P2 = name("p2")


def known(*rows: Row, max_gap: int = DAY, bit: int = 0) -> dict[bytes, tuple[int | None, int]]:
    """(value, covered) per point; `row` gives readings at hours of the window."""
    rolled = roll_up(frame(rows), domain(max_gap=max_gap), WINDOW)
    return {line[0]: total[2:] for (line, _), total in totals_of(rolled, bit).items()}


def steps(*rows: Row, max_gap: int = DAY, bit: int = 0) -> dict[bytes, int]:
    """Consumption per point that has one."""
    found = known(*rows, max_gap=max_gap, bit=bit)
    assert all((value is None) == (covered <= 0) for value, covered in found.values())
    return {point: value for point, (value, _) in found.items() if value is not None}


P1 = name("p1")


def test_consumption_is_last_before_end_less_last_before_start() -> None:
    assert steps(row(-3, value=10), row(-1, value=15), row(4, value=20), row(20, value=40)) == {P1: 25}


def test_readings_on_the_edges_belong_to_both_windows() -> None:
    assert steps(row(0, value=10), row(24, value=17)) == {P1: 7}


@pytest.mark.parametrize(
    ("opening", "closing", "found"),
    [(-24, 24, {P1: 5}), (-25, 24, {}), (0, 1, {P1: 5}), (-24, 1, {P1: 5})],
)
def test_an_edge_without_a_reading_within_the_gap_gives_none(
    opening: int, closing: int, found: dict[bytes, int]
) -> None:
    assert steps(row(opening, value=10), row(closing, value=15)) == found


@pytest.mark.parametrize(("beyond", "found"), [(0, {P1: 5}), (1, {})])
def test_the_gap_is_exact_to_the_millisecond(beyond: int, found: dict[bytes, int]) -> None:
    late, early = row(-6, value=10), row(18, value=15)
    early |= {"start": early["start"] - beyond}
    assert steps(late, early, max_gap=6 * HOUR) == found
    late |= {"start": late["start"] - beyond}
    assert steps(late, row(18, value=15), max_gap=6 * HOUR) == found


def test_a_meter_without_opening_gives_none() -> None:
    assert steps(row(1, value=10), row(24, value=15)) == {}


SILENT, UNTAKEN = (None, 0), (None, LOST)


@pytest.mark.parametrize("last", [0, -1, -24])
def test_a_meter_without_a_reading_in_the_window_gives_none_and_never_a_zero(last: int) -> None:
    assert known(row(last - 5, value=3), row(last, value=10), max_gap=DAY) == {P1: SILENT}
    assert known(row(-25, value=10), max_gap=DAY) == {}


def test_a_reading_at_the_windows_end_is_its_own_and_shows_that_nothing_was_used() -> None:
    assert known(row(0, value=10), row(24, value=10)) == {P1: (0, DAY)}
    assert known(row(0, value=10), row(1, value=10)) == {P1: (0, DAY)}


@pytest.mark.parametrize(
    ("opening", "days"), [(0, 1), (-1, 1), (-23, 1), (-24, 2), (-25, 2), (-47, 2), (-48, 3), (-49, 0)]
)
def test_the_first_reading_after_a_hole_takes_the_whole_difference_and_covers_the_hole(
    opening: int, days: int
) -> None:
    found = known(row(opening, value=10), row(22, value=70), max_gap=2 * DAY)
    assert found == {P1: (60, days * DAY) if days else UNTAKEN}


def test_a_hole_covers_the_days_that_clocks_make_longer_or_shorter() -> None:
    paris = domain(timezone="Europe/Paris", max_gap=2 * DAY)
    for month, change in ((3, 23), (10, 25)):
        start, middle, end = (
            int(datetime(2026, month, day, tzinfo=ZoneInfo("Europe/Paris")).timestamp() * 1000)
            for day in ((29, 30, 31) if month == 3 else (25, 26, 27))
        )
        assert middle - start == change * HOUR
        window = Window(middle, end)
        rows = [
            row(0, value=value) | {"window": middle, "start": at, "end": at}
            for at, value in ((start, 10), (end, 15))
        ]
        (total,) = totals_of(roll_up(frame(rows), paris, window), 0).values()
        assert total[2:] == (5, (change + 24) * HOUR)


@pytest.mark.parametrize(
    "rows",
    [
        [row(1, value=10), row(24, value=15)],  # nothing at the start
        [row(-25, value=10), row(24, value=15)],  # too long before it
        [row(0, value=90), row(24, value=5)],  # a reset
        [row(0, value=10), row(24, value=15, premises=name("h2"))],  # somebody else's
    ],
)
def test_a_difference_that_cannot_be_taken_is_lost_and_not_forgotten(rows: list[Row]) -> None:
    assert known(*rows) == {P1: UNTAKEN}


def test_a_last_reading_too_far_from_the_end_is_lost() -> None:
    assert known(row(0, value=10), row(17, value=15), max_gap=6 * HOUR) == {P1: UNTAKEN}
    assert known(row(0, value=10), row(18, value=15), max_gap=6 * HOUR) == {P1: (5, DAY)}


def test_a_measure_without_a_gap_takes_readings_on_the_edges_only() -> None:
    heat = {"measure": "heat"}
    assert steps(row(0, value=1, **heat), row(24, value=5, **heat)) == {P1: 4}
    assert steps(row(0, value=1, **heat), row(23, value=5, **heat)) == {}


def test_the_last_write_of_a_moment_wins() -> None:
    rows = (
        row(0, value=10),
        row(24, value=30, order=9),
        row(24, value=20, order=8),
        row(0, value=11, order=101),
    )
    assert steps(*rows) == {P1: 19}


def test_a_later_write_of_an_earlier_moment_is_not_the_last_reading() -> None:
    assert steps(row(0, value=10), row(24, value=30, order=1), row(23, value=99, order=500)) == {P1: 20}


def test_each_product_takes_the_last_reading_that_it_admits() -> None:
    rows = row(0, value=10, mask=3), row(23, value=20, mask=3), row(24, value=50, mask=1)
    assert steps(*rows, bit=0) == {P1: 40}
    assert steps(*rows, bit=1) == {P1: 10}


@pytest.mark.parametrize(
    ("size", "closing", "found"),
    [(100, 5, {P1: 15}), (100, 39, {P1: 49}), (100, 40, {}), (None, 5, {}), (50, 5, {})],
)
def test_a_fall_is_a_roll_over_below_half_a_turn_else_a_reset(
    size: int | None, closing: int, found: dict[bytes, int]
) -> None:
    assert steps(row(0, value=90, register_size=size), row(24, value=closing, register_size=size)) == found


def test_a_fall_of_a_register_of_any_size_is_judged_without_overflow() -> None:
    """Twice what was left of a turn was more than an int64 holds: a reset passed for a roll-over."""
    for size in (2**62, 2**63 - 1):
        assert steps(row(0, value=90, register_size=size), row(24, value=5, register_size=size)) == {}


def test_a_meter_of_another_size_is_another_meter_when_values_fall() -> None:
    assert steps(row(0, value=90, register_size=100), row(24, value=5, register_size=1000)) == {}


def test_a_net_register_may_fall() -> None:
    assert steps(row(0, value=90, net=True), row(24, value=5, net=True)) == {P1: -85}


def test_readings_of_two_premises_make_no_consumption() -> None:
    assert steps(row(0, value=10), row(24, value=15, premises=name("h2"))) == {}


def test_area_is_that_of_the_opening_reading() -> None:
    rows = frame([row(0, value=10, area="iris-2"), row(24, value=15)])
    (total,) = totals_of(roll_up(rows, domain(), WINDOW), 0).values()
    assert total == ("iris-2", "home", 5, DAY)


def test_two_partners_reading_one_premises_both_go() -> None:
    rival = [row(h, value=v, point=P2, partner="b") for h, v in ((0, 5), (24, 9))]
    assert steps(row(0, value=10), row(24, value=15), *rival) == {}


def test_a_former_suppliers_last_reading_takes_nothing_from_its_successor() -> None:
    successor = [row(h, value=v, point=P2, partner="b") for h, v in ((0, 5), (24, 9))]
    assert steps(row(0, value=10), *successor) == {P2: 4}


def test_two_former_suppliers_do_not_make_a_frugal_home() -> None:
    assert steps(row(0, value=10), row(0, value=5, point=P2, partner="b")) == {}


def test_a_successors_first_reading_takes_nothing_from_its_predecessor_and_is_lost_without_one() -> None:
    first = row(12, value=5, point=P2, partner="b")
    assert known(row(0, value=10), row(12, value=15), first) == {P1: (5, DAY)}
    assert known(row(0, value=10), first) == {P2: UNTAKEN}


def test_a_second_register_that_is_lost_is_not_hidden_by_the_first() -> None:
    assert known(row(0, value=10), row(24, value=15), row(12, value=5, point=P2)) == {
        P1: (5, DAY),
        P2: UNTAKEN,
    }


def test_two_registers_of_one_partner_both_count() -> None:
    second = [row(h, value=v, point=P2) for h, v in ((0, 5), (24, 9))]
    assert steps(row(0, value=10), row(24, value=15), *second) == {P1: 5, P2: 4}


def test_a_silent_second_register_stays_when_a_former_supplier_goes() -> None:
    rows = row(0, value=10), row(24, value=15), row(0, value=7, point=P2)
    former = row(0, value=3, point=name("p3"), partner="b")
    assert known(*rows) == known(*rows, former) == {P1: (5, DAY), P2: SILENT}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 24 * 12), st.integers(0, 50)), min_size=2, max_size=30))
def test_windows_telescope_to_the_difference_of_the_readings(readings: list[tuple[int, int]]) -> None:
    """With gaps within max_gap the windows' consumptions add up to what the meter showed."""
    gap = 2 * DAY
    hours = sorted({hour for hour, _ in readings} | {24 * day for day in range(1, 12, 2)} | {0})
    shown, total = {}, 0
    for hour, (_, step) in zip(hours, readings * len(hours), strict=False):
        total += step
        shown[hour] = total
    found = 0
    for day in range(12):
        window = Window(day * DAY, (day + 1) * DAY)
        rows = [
            row(0, value=value) | {"window": window.start, "start": hour * HOUR, "end": hour * HOUR}
            for hour, value in shown.items()
            if hour * HOUR <= window.end and window.start - hour * HOUR <= gap
        ]
        found += int(roll_up(frame(rows), domain(max_gap=gap), window)["value"].sum())
    last = max(hour for hour in shown if hour <= 12 * 24)
    assert found == shown[last] - shown[0]
