"""Promises of registers over a month, from readings as they come in to what homes used: nothing is lost, and a
silent meter is no vacant home."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from admission_world import (
    BY_MONTH,
    DAY,
    HOUR,
    WATER,
    admitted,
    batch,
    domain_of,
    ms,
    site_table,
    water,
    water_product,
)

from broker.core.admission import NO_MARK
from broker.core.calendar import Window
from broker.core.fold import roll_up
from broker.core.products import Units, units
from broker.core.rollups import Rollups

MARCH = Window(ms("2026-03-01 00:00"), ms("2026-04-01 00:00"))  # of 31 days, one of 23 hours
Meter = dict[int, int]  # moment -> what the meter showed


def month(
    meters: dict[str, Meter], *, batches: int = 1, late: dict[str, Meter] | None = None, **changes: Any
) -> Units:
    """What the homes of these meters used in March, where the readings come in so many batches; late: readings that
    come when the mark has passed the end of their days."""
    domain = domain_of(water_product(window=BY_MONTH, **changes))
    sites = site_table(*((p, None, None, f"home of {p}", "C1", "flat", None) for p in meters))

    def sent(rows: list[tuple[int, str, int]], mark: int) -> pl.DataFrame:
        readings = batch(*((point, at, at, value, "measured") for at, point, value in rows))
        return admitted(readings, domain, sites, stream=WATER, mark=mark).contributions

    rows = in_order(meters)
    size = -(-len(rows) // batches) or 1
    found = [sent(rows[i : i + size], NO_MARK) for i in range(0, len(rows), size)]
    found += [sent([row], domain.calendar.window("P1D", row[0] - 1).end) for row in in_order(late or {})]
    contributions = pl.concat(found).with_columns(
        partner=pl.lit(WATER.partner),
        holding=pl.lit(WATER.holding),
        measure=pl.lit(WATER.measure),
        kind=pl.lit(WATER.kind),
        net=pl.lit(value=False),
        seq=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    bases = domain.calendar.bases(MARCH, "P1D")
    rolled = [roll_up(contributions.filter(pl.col("window") == b.start), domain, b) for b in bases]
    return units(Rollups.of(pl.concat(rolled)), domain.products[0], domain, MARCH)


def in_order(meters: dict[str, Meter]) -> list[tuple[int, str, int]]:
    """(moment, point, value) as time passes."""
    return sorted((at, point, value) for point, meter in meters.items() for at, value in meter.items())


def used(meters: dict[str, Meter], **options: Any) -> list[int]:
    """The totals of the complete homes, ascending."""
    return totals(month(meters, **options))


def totals(found: Units) -> list[int]:
    return sorted(found.frames["water"]["total"])


def at(day: float, hour: float = 0) -> int:
    """A moment of March, before clocks change on the 29th; day 0 is the last of February."""
    return MARCH.start + int((day - 1) * DAY + hour * HOUR)


def daily(hour: float, *missing: int, litres: int = 100) -> Meter:
    """A reading a day from the last of February on; 31 days use 31 times so many litres."""
    return {at(day, hour): litres * day for day in range(32) if day not in missing}


# --- by hand ---------------------------------------------------------------------------------------------


def test_readings_shortly_before_midnight_make_a_whole_month() -> None:
    meter = daily(22.75)  # 22:45
    found = month({"p": meter}, coverage=1)
    assert totals(found) == [3100]
    assert found.frames["water"]["n"].to_list() == [31]


@pytest.mark.parametrize(
    ("missing", "hour", "complete"),
    [
        ((), 0, True),
        ((12,), 0, True),
        ((12, 13), 0, True),  # the day of the next reading begins two days after the last one
        ((12, 13, 14), 0, False),
        ((12,), 22.75, True),
        ((12, 13), 22.75, False),  # 22:45 is 49 h 15 min before that day
        ((12, 20), 22.75, True),
        ((1,), 22.75, True),
        ((1, 2), 22.75, False),
    ],
)
def test_a_hole_up_to_the_gap_is_filled_by_the_next_reading_and_a_longer_one_leaves_the_home_out(
    missing: tuple[int, ...], hour: float, complete: bool
) -> None:
    meter = daily(hour, *missing)  # at midnight the last reading of the month is that which begins the 31st
    found = month({"p": meter}, coverage="0.9")
    assert totals(found) == ([3100 if hour else 3000] if complete else [])
    assert found.incomplete == (0 if complete else 1)


def test_all_that_a_home_used_in_a_hole_is_in_its_month() -> None:
    """A litre a day counts as well as all of them between two readings, and no filled hole is a vacant home."""
    still = {at(day): 0 if day < 13 else 1000 for day in range(1, 33) if day not in (12, 13)}
    still[at(12)] = 0
    assert used({"p": still}) == [1000]


def test_what_a_late_reading_would_have_told_is_in_the_next_readings_day() -> None:
    """Were it to open that day, the figure would lack what was used before it, and nobody would know."""
    meter, late = daily(20, 10), {at(10, 20): 1000}
    assert meter | late == daily(20)
    assert used({"p": meter}, late={"p": late}) == used({"p": daily(20)}) == [3100]


def test_jitter_around_midnight_is_no_hole() -> None:
    meter = {at(day, 0.2 if day % 3 else -0.2): 10 * day for day in range(33)}
    assert used({"p": meter}, coverage=1) == [10 * 32 - 10]


@pytest.mark.parametrize(("last", "complete"), [(31, True), (29, True), (28, True), (27, False), (14, False)])
def test_a_meter_that_falls_silent_is_incomplete_and_not_vacant(last: int, complete: bool) -> None:
    meter = {moment: value for moment, value in daily(22).items() if moment <= at(last, 22)}
    found = month({"p": meter})
    assert totals(found) == ([100 * last] if complete else [])
    assert found.incomplete == (0 if complete else 1)


def test_a_meter_that_begins_inside_the_month_counts_from_the_next() -> None:
    meter = {moment: value for moment, value in daily(22).items() if moment > MARCH.start}
    assert month({"p": meter}).incomplete == 1
    meter[at(0, 22)] = 0
    assert month({"p": meter}).incomplete == 0


def test_a_mean_is_of_the_days_that_a_difference_covers() -> None:
    meter = daily(22, *range(1, 31, 2))  # read every other day
    (row,) = month({"p": meter}).frames["water"].select("total", "n").rows()
    assert row == (3100, 31)
    both = month({"p": meter, "q": meter}, coverage="0.9")
    assert both.frames["water"]["n"].to_list() == [31, 31]


# --- in general ------------------------------------------------------------------------------------------

GAPS = {"PT6H": 6 * HOUR, "P1D": DAY, "P2D": 2 * DAY}


def drawn(rng: random.Random) -> Meter:
    """A meter that is read at about one hour of the day, more often or less, with holes and an end; what it shows
    only rises."""
    hour, jitter = rng.choice([0, 0, 12, 20, 22.75, 23.9]), rng.choice([0, 0.2, 3])
    missed, end = rng.choice([0, 0.03, 0.1, 0.3]), rng.choice([33, 33, 33, rng.uniform(1, 33)])
    moments = {
        at(day, hour + rng.uniform(-jitter, jitter)) for day in range(-3, 33) if rng.random() >= missed
    }
    moments |= {at(rng.randrange(-3, 33), rng.randrange(24)) for _ in range(rng.choice([0, 0, 20]))}
    shown, meter = 0, {}
    for moment in sorted(moments):
        if moment < at(end):
            shown += rng.choice([0, rng.randrange(500)])
            meter[moment] = shown
    return meter


def last(meter: Meter, until: int) -> int | None:
    return max((moment for moment in meter if moment <= until), default=None)


def complete(meter: Meter, gap: int, share: float) -> bool:
    """Whether each first reading of a day is taken, and the days up to the last reading are enough."""
    days = [ms(f"2026-03-{day:02} 00:00") for day in range(1, 32)] + [MARCH.end]
    read = []
    for start, end in pairwise(days):
        own = [moment for moment in meter if start < moment <= end]
        opening = last(meter, start)
        if own and (opening is None or start - opening > gap or end - max(own) > gap):
            return False
        read += [end] if own else []
    return bool(read) and max(read) - MARCH.start >= share * (MARCH.end - MARCH.start)


@pytest.mark.parametrize(
    ("seed", "gap", "share"), [(1, "PT6H", "0.1"), (2, "P1D", "0.9"), (3, "P2D", "0.1"), (4, "P2D", "0.9")]
)
def test_the_total_of_every_complete_home_is_its_last_reading_less_the_last_before_the_month(
    seed: int, gap: str, share: str
) -> None:
    """And who is not complete misses a difference, or days. However the readings are cut into batches."""
    rng = random.Random(seed)
    meters = {f"p{number}": drawn(rng) for number in range(150)}
    expected = sorted(
        meter[last(meter, MARCH.end)] - meter[last(meter, MARCH.start)]
        for meter in meters.values()
        if complete(meter, GAPS[gap], float(share))
    )
    assert 10 < len(expected) < 140
    options: dict[str, Any] = {"coverage": share, "inputs": {"water": water(max_gap=gap)}}
    assert used(meters, **options) == expected
    assert used(meters, batches=40, **options) == expected
