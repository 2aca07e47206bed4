"""What a base window's fold promises, against loops over dicts."""

from __future__ import annotations

import random

import polars as pl
import pytest
from fold_worlds import (
    AREAS,
    DAY,
    WINDOW,
    Row,
    domain,
    expected_intervals,
    expected_registers,
    frame,
    name,
    row,
    totals_of,
    worlds,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.calendar import HOUR, Calendar, Window
from broker.core.fold import bit_classes, rivals, roll_up
from broker.core.fold_frames import ROLLUP

MAX_GAP = 36 * HOUR


def values(*rows: Row, bit: int = 0) -> dict[bytes, int]:
    """Value per point for one product."""
    rolled = roll_up(frame(rows), domain(), WINDOW)
    return {line[0]: total[2] for (line, _), total in totals_of(rolled, bit).items()}


P1, P2 = name("p1"), name("p2")


@settings(max_examples=150, deadline=None)
@given(worlds("interval"))
def test_intervals_fold_as_defined_for_each_product(rows: list[Row]) -> None:
    rolled = roll_up(frame(rows), domain(), WINDOW)
    for bit in range(3):
        assert totals_of(rolled, bit) == expected_intervals(rows, bit)


@settings(max_examples=150, deadline=None)
@given(worlds("register"))
def test_registers_fold_as_defined_for_each_product(rows: list[Row]) -> None:
    rolled = roll_up(frame(rows), domain(max_gap=MAX_GAP), WINDOW)
    for bit in range(3):
        assert totals_of(rolled, bit) == expected_registers(rows, bit, MAX_GAP)


@settings(max_examples=60, deadline=None)
@given(worlds("interval"), worlds("register"), st.randoms(use_true_random=False), st.integers(1, 5))
def test_neither_order_nor_chunks_of_rows_change_a_byte(
    intervals: list[Row], readings: list[Row], rng: random.Random, chunks: int
) -> None:
    rows = intervals + readings
    straight = roll_up(frame(rows), domain(), WINDOW)
    rng.shuffle(rows)
    cuts = sorted(rng.randrange(len(rows) + 1) for _ in range(chunks))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    shuffled = roll_up(pl.concat([frame(part) for part in parts], rechunk=False), domain(), WINDOW)
    assert shuffled.equals(straight)
    assert shuffled.schema == ROLLUP


@settings(max_examples=60, deadline=None)
@given(worlds("interval"), worlds("register"), st.integers(0, 2))
def test_a_products_figures_do_not_depend_on_other_products(
    intervals: list[Row], readings: list[Row], bit: int
) -> None:
    rows = intervals + readings
    alone = [{**each, "mask": each["mask"] & 1 << bit} for each in rows]
    with_others = totals_of(roll_up(frame(rows), domain(), WINDOW), bit)
    assert totals_of(roll_up(frame(alone), domain(), WINDOW), bit) == with_others


def test_nothing_folds_to_nothing() -> None:
    rolled = roll_up(frame([]), domain(), WINDOW)
    assert rolled.is_empty()
    assert rolled.schema == ROLLUP


def test_rows_of_other_windows_and_without_products_do_not_count() -> None:
    elsewhere = row(0, 6, 5, window=WINDOW.end)
    assert values(elsewhere, row(6, 12, 7, mask=0)) == {}


def test_the_last_write_of_an_interval_wins_wherever_it_stands() -> None:
    first, correction = row(0, 6, 10, order=1), row(0, 6, 12, order=2)
    assert values(correction, first, row(6, 12, 1)) == {P1: 13}


def test_a_correction_counts_only_for_products_that_admit_it() -> None:
    first, correction = row(0, 6, 10, order=1, mask=0b11), row(0, 6, 12, order=2, mask=0b10)
    assert values(first, correction, bit=0) == {P1: 10}
    assert values(first, correction, bit=1) == {P1: 12}


def test_overlapping_intervals_of_one_line_both_go_and_the_rest_stays() -> None:
    assert values(row(0, 6, 10), row(3, 9, 20), row(9, 12, 1)) == {P1: 1}


def test_a_long_interval_clashes_with_all_that_it_holds() -> None:
    assert values(row(0, 20, 10), row(1, 2, 20), row(3, 4, 30), row(20, 24, 1)) == {P1: 1}


def test_two_partners_at_one_premises_and_time_both_go() -> None:
    rival = row(3, 9, 20, point=P2, partner="b")
    assert values(row(0, 6, 10), rival, row(9, 12, 1), row(12, 18, 2, point=P2, partner="b")) == {
        P1: 1,
        P2: 2,
    }


@settings(max_examples=60, deadline=None)
@given(worlds("interval"))
def test_whoever_loses_figures_to_another_partners_claim_is_named(rows: list[Row]) -> None:
    """Alone each partner would have them; nobody else is named as a rival without one at that premises."""
    rows = [{**each, "mask": each["mask"] & 1} for each in rows]
    together = totals_of(roll_up(frame(rows), domain(), WINDOW), 0)
    named = set(rivals(frame(rows), domain(), WINDOW).iter_rows())
    for partner in "abc":
        own = [each for each in rows if each["partner"] == partner]
        alone = totals_of(roll_up(frame(own), domain(), WINDOW), 0)
        lost = {
            (home, line[1], partner)
            for (line, home), total in alone.items()
            if together.get((line, home)) != total
        }
        assert lost <= named
    for home, measure, _ in named:
        assert len({partner for *claim, partner in named if claim == [home, measure]}) > 1


def test_a_rival_claim_voids_nothing_for_products_that_do_not_take_it() -> None:
    rows = row(0, 6, 10, mask=0b11), row(0, 6, 20, point=P2, partner="b", mask=0b10)
    assert values(*rows, bit=0) == {P1: 10}
    assert values(*rows, bit=1) == {}


def test_two_points_of_one_partner_at_one_premises_both_count() -> None:
    assert values(row(0, 6, 10), row(0, 6, 20, point=P2)) == {P1: 10, P2: 20}


def test_rivals_of_another_measure_or_premises_are_none() -> None:
    gas = row(0, 6, 20, point=P2, partner="b", measure="gas")
    next_door = row(0, 6, 30, point=name("p3"), partner="c", premises=name("h2"))
    assert values(row(0, 6, 10), gas, next_door) == {P1: 10, P2: 20, name("p3"): 30}


def test_a_supplier_switch_inside_a_window_leaves_both_parts() -> None:
    assert values(row(0, 12, 10), row(12, 24, 20, point=P2, partner="b")) == {P1: 10, P2: 20}


def test_feed_in_is_summed_with_its_sign() -> None:
    assert values(row(0, 6, -10, net=True), row(6, 12, 4, net=True)) == {P1: -6}


def test_area_and_segment_of_a_line_are_those_of_its_earliest_row() -> None:
    moved = row(0, 6, 1, area=AREAS[1], segment="shop"), row(6, 12, 2), row(12, 18, 3)
    (total,) = totals_of(roll_up(frame(reversed(moved)), domain(), WINDOW), 0).values()
    assert total == (AREAS[1], "shop", 6, 18 * HOUR)


def test_lines_without_exception_take_one_row_whatever_their_products() -> None:
    rows = [row(h, h + 1, 1, mask=0b101) for h in range(24)]
    (found,) = roll_up(frame(rows), domain(), WINDOW).to_dicts()
    assert (found["mask"], found["value"], found["covered"]) == (0b101, 24, DAY)


def test_seq_is_the_highest_place_or_the_closing_records() -> None:
    rows = frame([row(0, 6, seq=3), row(6, 12, seq=5)])
    assert roll_up(rows, domain(), WINDOW)["seq"].to_list() == [5]
    assert roll_up(rows, domain(), WINDOW, closed=9)["seq"].to_list() == [9]


def covered(rows: list[Row], window: Window, by_start: bool = True, base: str = "P1D") -> int:
    rows = [{**each, "window": window.start, "measure": "gas"} for each in rows]
    where = domain(base=base, assign_start=["gas"] if by_start else [])
    return int(roll_up(frame(rows), where, window)["covered"].item())


def test_a_gas_day_covers_its_calendar_day() -> None:
    assert covered([row(6, 30)], WINDOW) == DAY
    assert covered([row(h, h + 1) for h in range(6, 30) if h < 24], WINDOW) == 18 * HOUR
    assert covered([row(6, 30)], WINDOW, by_start=False) == 18 * HOUR


@pytest.mark.parametrize("sunday", ["2026-03-29", "2026-10-25"])
def test_gas_days_cover_their_days_when_clocks_change(sunday: str) -> None:
    calendar = Calendar("Europe/Paris")
    noon = int(pl.Series([sunday]).str.to_datetime("%Y-%m-%d").dt.epoch("ms").item()) + 12 * HOUR
    for shift in (-DAY, 0, DAY):
        window = calendar.window("P1D", noon + shift)
        after = calendar.next("P1D", window)
        gas_day = row(0, 1) | {"start": _six(window), "end": _six(after)}
        assert covered([gas_day], window) == window.end - window.start


def _six(window: Window) -> int:
    """06:00 local time of the day; clocks change before."""
    return window.end - 18 * HOUR


def test_what_reaches_over_the_end_lends_no_more_than_that_to_the_head() -> None:
    assert covered([row(12, 23), row(23, 25)], WINDOW) == 13 * HOUR
    hour = Window(WINDOW.start, WINDOW.start + HOUR)
    late = row(0, 1) | {"start": hour.start + HOUR // 2, "end": hour.end + HOUR // 4}
    assert covered([late], hour, base="PT1H") == 3 * HOUR // 4


def test_bits_that_travel_together_are_one_class() -> None:
    masks = pl.Series([0b0111, 0b0011, 1 << 62 | 0b0111], dtype=pl.UInt64)
    assert bit_classes(masks) == [0b0011, 0b0100, 1 << 62]
    assert bit_classes(masks.clear()) == []
