"""When windows close, what is in them then, and what a lane that begins again makes of the same records."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from admission_world import AREAS, BY_MONTH, energy, ms, product
from windows_world import (
    BY_DAY,
    HOUR,
    HOURLY,
    LANES,
    START,
    STREAMS,
    Record,
    begun,
    chunk,
    given_up,
    mark,
    marks,
    outcome,
    plan_of,
    play,
    retraction,
    rows,
    stalled,
    totals,
    use,
)

from broker.core.open_windows import Closed, Due, OpenWindows
from broker.core.plan import Activation, Plan, Stream, build_plan
from broker.core.policy import load
from broker.core.readings import LONGEST_INTERVAL

ONE = {"hourly": HOURLY}
TWO = {"daily": BY_DAY, "hourly": HOURLY}  # bits 0 and 1


def closed(plan: Plan, *log: Record) -> list[Closed]:
    return list(play(begun(plan), log))


def due(found: list[Closed], product: str) -> list[Due]:
    return [each for one in found for each in one.due if each.product.name == product]


# -- when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", range(len(marks(1))))
def test_a_window_closes_only_when_every_lane_of_every_stream_has_passed_it(last: int) -> None:
    *others, missing = marks(1)[last:] + marks(1)[:last]
    assert closed(plan_of(**ONE), *others) == []
    assert len(closed(plan_of(**ONE), *others, missing)) == 1


@pytest.mark.parametrize("lateness", ["PT0S", "PT2H"])
def test_a_window_closes_at_its_end_and_lateness_to_the_millisecond(lateness: str) -> None:
    plan = plan_of(hourly=HOURLY | {"lateness": lateness})
    end = 1 + plan.domains["housing"].lateness / HOUR
    *others, last = marks(end)
    _, (topic, lane, until) = last
    assert closed(plan, *others, ("mark", (topic, lane, until - 1))) == []
    (found,) = closed(plan, *others, last)
    assert (found.window.start, found.window.end) == (START, START + HOUR)


def test_a_window_waits_for_intervals_that_reach_over_its_end() -> None:
    """As long as admission takes them: no reading is admitted for a window that has closed."""
    by_start = energy(assign="start")
    policy = load(product("hourly", window=HOURLY, inputs={"energy": by_start}), "hourly")
    plan = build_plan([Activation(policy, START)], STREAMS.values(), AREAS, "Europe/Paris")
    domain = plan.domains["housing"]
    shut = domain.shut(START + HOUR, STREAMS["a"])
    assert shut == START + HOUR + LONGEST_INTERVAL
    *others, (kind, (topic, lane, until)) = marks((shut - START) / HOUR)
    assert closed(plan, *others, (kind, (topic, lane, until - 1))) == []
    assert len(closed(plan, *others, (kind, (topic, lane, until)))) == 1


def test_a_mark_that_goes_back_changes_nothing() -> None:
    windows = begun(plan_of(**ONE))
    assert len(list(play(windows, [*marks(2), *marks(1), *marks(2)]))) == 2
    assert windows.watermark(STREAMS["a"]) == START + 2 * HOUR


def test_a_product_activated_ahead_of_time_holds_no_window_of_the_others() -> None:
    """Its stream has not begun; once it runs, its own windows wait for it."""
    gas = Stream("energy-a", "holding-a", "gas", "gas", "interval", "Wh")
    inputs = {"gas": energy(measure="gas", partners=["energy-a"])}
    measures = {"used": {"kind": "sum", "input": "gas", "unit": "kWh"}}
    of_gas = product("gas-daily", controllers=["energy-a"], inputs=inputs, measures=measures, window=BY_DAY)
    today = product("power-daily", window=BY_DAY)
    plan = build_plan(
        [Activation(load(of_gas, "gas"), START + 24 * HOUR), Activation(load(today, "power"), START)],
        [*STREAMS.values(), gas],
        AREAS,
        "Europe/Paris",
    )
    windows = begun(plan)
    found = list(play(windows, [chunk(use("a1", 1, mask=2)), *marks(48)]))
    assert [each.product.name for one in found for each in one.due] == ["power-daily"]
    assert windows.next_start("housing") == START + 24 * HOUR
    found = list(play(windows, [("mark", (gas.topic, lane, START + 48 * HOUR)) for lane in range(LANES)], 99))
    assert [each.product.name for each in found[-1].due] == ["gas-daily", "power-daily"]


def test_a_new_version_takes_no_window_that_began_before_it() -> None:
    """The month in which it comes is the former version's, whole; the day in which it does too."""
    first = load(product("vacancy", window=BY_MONTH), "1")
    second = load(product("vacancy", version=2, window=BY_DAY | {"base": "P1D"}), "2")
    begin, change = START - 9 * 24 * HOUR, START + 5 * 24 * HOUR
    plan = build_plan(
        [Activation(first, begin, active_until=change), Activation(second, change)],
        STREAMS.values(),
        AREAS,
        "Europe/Paris",
    )
    found = list(play(begun(plan), marks(22 * 24)))
    assert [(each.product.key, each.window.start) for one in found for each in one.due] == [
        *(("vacancy@2", change + day * 24 * HOUR) for day in range(14)),
        *(("vacancy@2", ms(f"2026-03-{day}")) for day in (29, 30)),
        ("vacancy@1", begin),
        ("vacancy@2", ms("2026-03-31")),
    ]


def test_windows_close_each_once_in_the_order_of_time() -> None:
    found = closed(plan_of(**ONE), *marks(3), *marks(5))
    assert [each.window.start for each in found] == [START + hour * HOUR for hour in range(5)]


def test_what_a_closing_completes_is_decided_longest_first_then_by_name() -> None:
    plan = plan_of(zeta=HOURLY, alpha=HOURLY, middle=BY_DAY)
    found = closed(plan, *marks(24))
    assert [each.product.name for each in found[0].due] == ["alpha", "zeta"]
    assert [each.product.name for each in found[-1].due] == ["middle", "alpha", "zeta"]


def test_a_product_takes_no_window_that_began_before_it_was_active() -> None:
    late = plan_of(START + HOUR, **TWO)
    windows = OpenWindows(LANES)
    windows.restore(OpenWindows(LANES).snapshot() | {"closed_until": {"housing": START}})
    windows.set_plan(late)
    found = list(play(windows, marks(48)))
    hourly, daily = due(found, "hourly"), due(found, "daily")
    assert [each.window.start for each in hourly] == [START + hour * HOUR for hour in range(1, 48)]
    assert [each.window.start for each in daily] == [START + 24 * HOUR]


def test_nothing_closes_without_a_plan() -> None:
    assert list(play(OpenWindows(LANES), marks(5))) == []


# -- what ---------------------------------------------------------------------------------------------


def test_a_longer_window_holds_every_base_window_whole() -> None:
    sent = [chunk(use("a1", hour, hour, mask=3), use("b2", hour, 1, mask=3)) for hour in range(23, -1, -1)]
    found = closed(plan_of(**TWO), *sent, *marks(24))
    (daily,) = due(found, "daily")
    assert sorted(daily.rollups.frame()["window"].unique()) == [START + hour * HOUR for hour in range(24)]
    assert totals(daily.rollups.frame(), 0) == {"energy-a": sum(range(24)), "energy-b": 24}
    for hour, each in enumerate(due(found, "hourly")):
        assert totals(each.rollups.frame(), 1) == {"energy-a": hour, "energy-b": 1}


def test_the_day_when_clocks_go_forward_is_complete_after_23_hours() -> None:
    day = 19 * 24  # 2026-03-29
    found = list(play(begun(plan_of(START + day * HOUR, **TWO)), marks(day + 23)))
    (daily,) = due(found, "daily")
    assert daily.window.end - daily.window.start == 23 * HOUR
    assert len(found) == 23


def test_rows_for_a_closed_window_change_nothing_and_are_counted_as_late() -> None:
    windows = begun(plan_of(**ONE))
    list(play(windows, [chunk(use("a1", 0)), *marks(1)]))
    late = rows(use("a1", 0, 7), use("a2", 0, 7))
    assert not windows.fold("housing", START, late, 9)
    assert windows.fold("housing", START + HOUR, rows(use("a1", 1, 5)), 10)
    assert windows.late("housing") == 2
    (found,) = play(windows, marks(2), 11)
    assert totals(found.rollup) == {"energy-a": 5}


def test_open_windows_are_those_with_contributions() -> None:
    windows = begun(plan_of(**ONE))
    assert windows.open_count("housing") == windows.open_count("another") == windows.late("another") == 0
    list(play(windows, [chunk(use("a1", 0)), chunk(use("a1", 2)), chunk(use("a2", 2))]))
    assert windows.open_count("housing") == 2
    list(play(windows, marks(1), 3))
    assert windows.open_count("housing") == 1
    assert windows.next_start("housing") == START + HOUR


# -- stalled ------------------------------------------------------------------------------------------


def test_a_window_that_is_held_for_a_stalled_stream_is_abandoned() -> None:
    (found,) = closed(plan_of(**ONE), chunk(use("a1", 0), use("b2", 0)), *given_up(1))
    (only,) = found.due
    assert only.abandoned
    assert [stream.topic for stream in only.left_out] == ["in.energy-b.electricity"]


def test_release_without_says_who_is_left_out_and_none_of_its_rows_count() -> None:
    plan = plan_of(hourly=HOURLY | {"on_stall": "release_without"})
    (found,) = closed(plan, chunk(use("a1", 0), use("b2", 0)), *given_up(1))
    (only,) = found.due
    assert not only.abandoned
    assert [stream.topic for stream in only.left_out] == ["in.energy-b.electricity"]
    assert totals(only.rollups.frame()) == {"energy-a": 100}


def test_one_stalled_hour_leaves_the_stream_out_of_the_whole_day_and_of_no_other() -> None:
    windows = {"on_stall": "release_without"}
    plan = plan_of(daily=BY_DAY | windows, hourly=HOURLY | windows)
    sent = [chunk(use("a1", hour, mask=3), use("b2", hour, mask=3)) for hour in range(48)]
    found = closed(plan, *sent, *marks(5), *given_up(6), *marks(48))
    first, second = due(found, "daily")
    assert totals(first.rollups.frame(), 0) == {"energy-a": 2400}
    assert [stream.partner for stream in first.left_out] == ["energy-b"]
    assert totals(second.rollups.frame(), 0) == {"energy-a": 2400, "energy-b": 2400}
    assert second.left_out == ()
    out = [each.window.start for each in due(found, "hourly") if each.left_out]
    assert out == [START + 5 * HOUR]


def test_each_product_answers_a_stall_in_its_own_way() -> None:
    plan = plan_of(holds=HOURLY, goes=HOURLY | {"on_stall": "release_without"})
    (found,) = closed(plan, *given_up(1))
    assert {each.product.name: each.abandoned for each in found.due} == {"holds": True, "goes": False}


def test_a_lane_that_is_not_given_up_still_holds_the_window() -> None:
    *some, last = given_up(2)
    assert closed(plan_of(**ONE), *some[:2], last) == []  # lane 0 of b has said nothing
    assert len(closed(plan_of(**ONE), *some, stalled("b", 1, 1))) == 1  # given up for one hour only


def test_a_stream_that_comes_back_in_time_is_not_left_out() -> None:
    (found,) = closed(plan_of(**ONE), stalled("b", 1, 1), mark("b", 1, 1), *marks(1)[:3])
    (only,) = found.due
    assert not only.left_out
    assert not only.abandoned


# -- retractions --------------------------------------------------------------------------------------


def test_a_home_that_withdraws_late_in_the_day_is_gone_from_the_whole_day() -> None:
    sent = [chunk(use("a1", hour, mask=3), use("a2", hour, mask=3)) for hour in range(24)]
    log = [*sent, *marks(20), retraction("a1", 3), *marks(24)]
    found = closed(plan_of(**TWO), *log)
    (daily,) = due(found, "daily")
    assert totals(daily.rollups.frame(), 0) == {"energy-a": 2400}
    assert [totals(each.rollups.frame(), 1)["energy-a"] for each in due(found, "hourly")] == [200] * 20 + [
        100
    ] * 4


def test_a_retraction_reaches_only_its_products() -> None:
    log = [*(chunk(use("a1", hour, mask=3)) for hour in range(24)), retraction("a1", 1), *marks(24)]
    found = closed(plan_of(**TWO), *log)
    assert totals(due(found, "daily")[0].rollups.frame(), 0) == {}
    assert totals(due(found, "hourly")[0].rollups.frame(), 1) == {"energy-a": 100}


def test_a_retraction_reaches_only_what_precedes_it() -> None:
    log = [chunk(use("a1", 0)), retraction("a1"), chunk(use("a1", 1)), *marks(2)]
    first, second = closed(plan_of(**ONE), *log)
    assert (totals(first.rollup), totals(second.rollup)) == ({}, {"energy-a": 100})


def test_what_follows_a_retraction_counts_although_its_window_had_closed_roll_ups() -> None:
    """Consent given again: only what was there at the withdrawal is gone."""
    sent = [chunk(use("a1", hour)) for hour in range(24)]
    log = [*sent[:4], *marks(4), retraction("a1"), *sent[4:], *marks(24)]
    (daily,) = due(closed(plan_of(daily=BY_DAY), *log), "daily")
    assert totals(daily.rollups.frame()) == {"energy-a": 2000}


def test_a_retraction_from_a_moment_leaves_what_lies_before() -> None:
    log = [*(chunk(use("a1", hour)) for hour in range(24)), *marks(20)]
    (daily,) = due(
        closed(plan_of(daily=BY_DAY), *log, retraction("a1", 1, START + 6 * HOUR), *marks(24)), "daily"
    )
    assert totals(daily.rollups.frame()) == {"energy-a": 600}


def test_retractions_are_kept_only_while_a_row_before_them_is_open() -> None:
    """However many come in a month: what they say of roll-ups is done at once."""
    windows = begun(plan_of(daily=BY_DAY))
    kept = []
    for hour in range(12):
        log = [
            retraction("a9"),
            chunk(use("a1", hour), use("a2", hour)),
            chunk(use("a1", hour + 1)),
            retraction("a2"),
        ]
        list(play(windows, [*log, *marks(hour + 1)], 10 * hour))
        kept.append(len(windows._books["housing"].retractions))
    assert kept == [1] * 12  # the last one follows the rows of the next hour
    (daily,) = due(list(play(windows, marks(24), 200)), "daily")
    assert totals(daily.rollups.frame()) == {"energy-a": 1300}


def test_a_retraction_after_the_closing_mark_changes_no_release() -> None:
    log = [chunk(use("a1", 0)), *marks(1), retraction("a1"), *marks(2)]
    first, _ = closed(plan_of(**ONE), *log)
    assert totals(first.due[0].rollups.frame()) == {"energy-a": 100}


# -- another plan -------------------------------------------------------------------------------------


def changed_midway(before: Plan, after: Plan, extra: list[Record] = []) -> list[Closed]:  # noqa: B006 - not changed
    """Six hours under one plan, two of them open when another comes, then the rest of the day (mask 1 = the first
    product of whichever plan is in force)."""
    sent = [chunk(use("a1", hour), use("b2", hour, 1)) for hour in range(6)]
    return closed(before, *sent, *marks(4), *extra, ("plan", after), *marks(24))


@pytest.mark.parametrize("ahead", [0, 7], ids=["closed", "marked, not closed"])
def test_a_product_that_comes_when_its_windows_have_begun_begins_with_the_next(ahead: int) -> None:
    """Its start lies before what was closed, or read up to; a window of which a part was read for others only is
    never its own."""
    before, after = plan_of(middle=BY_DAY), plan_of(alpha=BY_DAY, middle=BY_DAY, zeta=HOURLY)
    sent = [chunk(use("a1", hour), use("b2", hour, 1)) for hour in range(6)]
    log = [*sent, *marks(4), mark("b", 1, max(4, ahead)), ("plan", after)]
    first, rest = [*marks(24)], [chunk(use("a1", hour, mask=7)) for hour in range(24, 48)]
    found = closed(before, *log, *first, *rest, *marks(48))
    (alpha,), (today, tomorrow) = due(found, "alpha"), due(found, "middle")
    assert (alpha.window.start, totals(alpha.rollups.frame(), alpha.product.bit)) == (
        START + 24 * HOUR,
        {"energy-a": 2400},
    )
    assert totals(today.rollups.frame(), today.product.bit) == {"energy-a": 600, "energy-b": 6}
    assert totals(tomorrow.rollups.frame(), tomorrow.product.bit) == {"energy-a": 2400}
    hours = [(each.window.start - START) // HOUR for each in due(found, "zeta")]
    assert hours == list(range(max(4, ahead), 48))


def test_a_product_that_goes_takes_its_bits_along() -> None:
    before, after = plan_of(alpha=BY_DAY, middle=BY_DAY), plan_of(middle=BY_DAY)
    (middle,) = due(changed_midway(before, after), "middle")
    assert totals(middle.rollups.frame(), middle.product.bit) == {}


def test_a_domain_that_goes_and_comes_back_with_others_gives_them_nothing() -> None:
    found = changed_midway(plan_of(middle=BY_DAY), plan_of(alpha=BY_DAY), [("plan", plan_of())])
    assert due(found, "alpha") == []  # the day had begun
    assert [each.rollup.filter(pl.col("mask") != 0).height for each in found[4:]] == [0] * 20


def test_a_product_that_comes_back_after_its_removal_gets_nothing_that_was_read_before() -> None:
    """Nobody told it of a withdrawal meanwhile."""
    plan = plan_of(hourly=HOURLY)
    log = [chunk(use("a1", 9)), ("plan", plan_of()), ("plan", plan), chunk(use("b2", 9)), *marks(10)]
    assert totals(closed(plan, *log)[-1].due[0].rollups.frame()) == {"energy-b": 100}


def test_what_was_read_under_another_policy_of_the_name_counts_for_nothing() -> None:
    log = [
        chunk(use("a1", 9)),
        ("plan", plan_of(hourly=HOURLY | {"max_hold": "P9D"})),
        chunk(use("b2", 9)),
        *marks(10),
    ]
    assert totals(closed(plan_of(hourly=HOURLY), *log)[-1].due[0].rollups.frame()) == {"energy-b": 100}


def test_a_product_that_waits_finds_what_was_read_for_it_when_it_runs_again() -> None:
    """Whether its domain goes on with others meanwhile or not; and what is taken back meanwhile is."""
    sent = [chunk(use("a1", hour, mask=1), use("a2", hour, mask=1)) for hour in range(6)]
    for others in ({"zeta": HOURLY}, {}):
        plan = plan_of(alpha=BY_DAY, **others)
        waits = replace(plan_of(**others), waiting=tuple(plan_of(alpha=BY_DAY).domains.values()))
        log = [*sent, *marks(4), ("plan", waits), retraction("a2", 2 if others else 1), *marks(5)]
        (alpha,) = due(closed(plan, *log, ("plan", plan), *marks(24)), "alpha")
        assert totals(alpha.rollups.frame(), alpha.product.bit) == {"energy-a": 600}


def test_a_retraction_made_under_another_plan_reaches_the_same_products() -> None:
    before, after = plan_of(middle=BY_DAY), plan_of(alpha=BY_DAY, middle=BY_DAY)
    (middle,) = due(changed_midway(before, after, [retraction("a1")]), "middle")
    assert totals(middle.rollups.frame(), middle.product.bit) == {"energy-b": 6}


def test_the_same_plan_again_changes_nothing() -> None:
    sent = [chunk(use("a1", hour, mask=3)) for hour in range(24)]
    once = closed(plan_of(**TWO), *sent, *marks(24))
    again = closed(plan_of(**TWO), *sent, *marks(12), ("plan", plan_of(**TWO)), *marks(24))
    assert [outcome(each) for each in again] == [outcome(each) for each in once]
