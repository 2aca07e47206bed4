"""Open windows come out the same from any interleaving of lanes, and after any restart."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl
import pytest
from windows_world import (
    BY_DAY,
    HOUR,
    HOURLY,
    LANES,
    START,
    STREAMS,
    Outcome,
    Record,
    begun,
    chunk,
    given_up,
    interleaved,
    lanes_of,
    mark,
    marks,
    outcome,
    plain,
    plan_of,
    play,
    retraction,
    take,
    totals,
    use,
)

from broker.core.open_windows import Closed, Due, OpenWindows
from broker.core.plan import Plan

ONE = {"hourly": HOURLY}
TWO = {"daily": BY_DAY, "hourly": HOURLY}  # bits 0 and 1


def closed(plan: Plan, *log: Record) -> list[Closed]:
    return list(play(begun(plan), log))


def due(found: list[Closed], product: str) -> list[Due]:
    return [each for one in found for each in one.due if each.product.name == product]


@pytest.mark.parametrize("seed", range(2))
def test_any_interleaving_of_lanes_gives_the_same_windows(seed: int) -> None:
    lanes = lanes_of(seed)
    chance = random.Random(seed)
    plan = plan_of(daily=BY_DAY)
    live = [outcome(each) for each in closed(plan, *(record for lane in lanes for record in lane))]
    assert len(live) == 24
    assert live[-1].due[0][2]  # there is something to compare
    again = [outcome(each) for each in closed(plan, *interleaved(lanes, chance))]
    assert again == live


class Restarted:
    """What a release lane commits at each closing, and a successor that begins from what was committed last."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.snapshot: str | None = None
        self.position = self.offset = 0
        self.kept: list[tuple[str, Any]] = []
        self.found: list[Outcome] = []

    def run(self, log: list[Record], closings: int | None) -> None:
        """Plays the log from what was committed; crashes right after so many closings (None: never)."""
        windows = OpenWindows(LANES)
        if self.snapshot is not None:
            windows.restore(json.loads(self.snapshot))
        windows.set_plan(self.plan)
        for kind, body in self.kept:
            if kind == "retract":
                windows.retract("housing", body)
            else:
                windows.add_rollup("housing", *body)
        fresh: list[tuple[str, Any]] = []
        for seq in range(self.offset, len(log)):
            kind, body = log[seq]
            if seq >= self.position or kind in ("chunk", "retract"):
                take(windows, log[seq], seq)
            if kind == "retract":
                fresh.append((kind, body.with_columns(pl.lit(seq, pl.Int64).alias("seq"))))
            if seq + 1 < self.position:
                continue
            for each in windows.close_next(seq):
                self.snapshot, self.position = json.dumps(windows.snapshot()), seq + 1
                self.offset = windows.oldest_needed(seq + 1)
                self.kept += [*fresh, ("rollup", (each.window.start, each.rollup))]
                fresh = []
                self.found.append(outcome(each))
                if len(self.found) == closings:
                    return


@pytest.mark.parametrize("seed", range(2))
def test_a_lane_that_begins_again_anywhere_closes_the_same_windows(seed: int) -> None:
    chance = random.Random(seed)
    log = interleaved(lanes_of(seed), chance)
    for point in ("a00", "b11"):  # withdrawals anywhere, also between closings
        log.insert(chance.randrange(len(log)), retraction(point))
    plan = plan_of(daily=BY_DAY)
    whole = [outcome(each) for each in closed(plan, *log)]
    lane = Restarted(plan)
    for cut in sorted(chance.sample(range(1, 24), 6)):
        lane.run(log, cut)
    lane.run(log, None)
    assert lane.found == whole


def test_a_successor_folds_from_the_first_record_of_its_oldest_open_window() -> None:
    windows = begun(plan_of(**ONE))
    log = [chunk(use("a1", 0)), chunk(use("a1", 2)), chunk(use("a1", 1)), chunk(use("a2", 2)), *marks(1)]
    list(play(windows, log))
    assert windows.oldest_needed(8) == 1
    list(play(windows, marks(3), 8))
    assert windows.oldest_needed(12) == 12


def test_a_snapshot_is_canonical_and_can_be_json() -> None:
    windows, other = begun(plan_of(**TWO)), begun(plan_of(**TWO))
    log = [*given_up(2), mark("a", 0, 3)]
    list(play(windows, log))
    list(play(other, [log[-1], *reversed(log[:-1])]))
    text = json.dumps(windows.snapshot())
    assert text == json.dumps(other.snapshot())
    again = OpenWindows(LANES)
    again.restore(json.loads(text))
    again.set_plan(plan_of(**TWO))
    assert json.dumps(again.snapshot()) == text
    assert again.watermark(STREAMS["a"]) == windows.watermark(STREAMS["a"])


def test_a_stream_that_was_left_out_stays_left_out_after_a_restart() -> None:
    plan = plan_of(daily=BY_DAY | {"on_stall": "release_without"})
    windows = begun(plan)
    sent = [chunk(use("a1", hour), use("b2", hour)) for hour in range(24)]
    early = list(play(windows, [*sent[:6], *given_up(6)]))
    again = OpenWindows(LANES)
    again.set_plan(plan)
    again.restore(json.loads(json.dumps(windows.snapshot())))
    for each in early:
        again.add_rollup("housing", each.window.start, each.rollup)
    (daily,) = due(list(play(again, [*sent[6:], *marks(24)], 10)), "daily")
    assert [stream.partner for stream in daily.left_out] == ["energy-b"]
    assert totals(daily.rollups.frame()) == {"energy-a": 2400}


def test_a_successor_takes_nothing_that_was_read_before_a_product_was_removed_and_came_back() -> None:
    plan = plan_of(**ONE)
    windows = begun(plan)
    list(
        play(
            windows,
            [chunk(use("a1", 3)), ("plan", plan_of()), ("plan", plan), chunk(use("b2", 3)), *marks(1)],
        )
    )
    again = OpenWindows(LANES)
    again.restore(json.loads(json.dumps(windows.snapshot())))
    again.set_plan(plan, 8)
    assert [again.takes(["hourly@1"], seq) for seq in range(4)] == [False, False, True, True]
    two = pl.DataFrame({"mask": [1, 3]}, schema={"mask": pl.UInt64})
    assert again.numbered("housing", two, "mask", ["hourly@1", "gone@1"], 1)["mask"].to_list() == [0, 0]
    assert again.numbered("housing", two, "mask", ["gone@1", "hourly@1"], 3)["mask"].to_list() == [0, 1]


def test_a_successor_knows_where_a_product_begins() -> None:
    plan = plan_of(hourly=HOURLY)
    windows = begun(plan)
    both = plan_of(**TWO)
    list(play(windows, [*marks(4), ("plan", both), chunk(use("a1", 5, mask=3)), *marks(5)]))
    again = OpenWindows(LANES)
    again.restore(json.loads(json.dumps(windows.snapshot())))
    again.set_plan(both, 9)
    found = list(play(again, marks(49), 9))  # a day and a night more
    assert [each.window.start for each in due(found, "daily")] == [START + 24 * HOUR]


def test_roll_ups_are_kept_as_long_as_a_window_needs_them() -> None:
    windows = begun(plan_of(daily=BY_DAY))
    list(play(windows, [*(chunk(use("a1", hour)) for hour in range(30)), *marks(30)]))
    assert sorted(windows._books["housing"].rollups) == [START + hour * HOUR for hour in range(24, 30)]
    assert (
        windows.oldest_rollup(plan_of(daily=BY_DAY).domains["housing"], START + 29 * HOUR)
        == START + 24 * HOUR
    )


def test_pieces_of_one_roll_up_come_back_as_one() -> None:
    (found,) = list(play(begun(plan_of(daily=BY_DAY)), [chunk(use("a1", 0), use("a2", 0)), *marks(1)]))
    windows = OpenWindows(LANES)
    windows.restore(begun(plan_of(daily=BY_DAY)).snapshot() | {"closed_until": {"housing": START + HOUR}})
    windows.set_plan(plan_of(daily=BY_DAY))
    for row in range(2):
        windows.add_rollup("housing", START, found.rollup[row])
    (daily,) = due(list(play(windows, marks(24))), "daily")
    assert plain(daily.rollups.frame()) == plain(found.rollup)
