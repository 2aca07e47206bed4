"""A worker runs exactly the lanes that are assigned to it, and always lets go of them in time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from faust.exceptions import ConsumerNotStarted

from broker import wiring
from broker.stages import worker
from broker.stages.worker import LANES, Failures, Lanes


class Fenced(Exception):
    pass


class KafkaGone(Exception):
    pass


FAILURES = Failures(Fenced, (KafkaGone,))
Step = Callable[["Lane"], Awaitable[None]]


async def quick(_: Lane) -> None:
    await asyncio.sleep(0.01)


@dataclass
class Lane:
    """A lane whose steps a test decides."""

    partition: int
    act: Step = quick
    started: int = 0
    steps: int = 0
    stopped: int = 0

    async def start(self) -> None:
        self.started += 1

    async def step(self) -> None:
        self.steps += 1
        await self.act(self)

    async def stop(self) -> None:
        self.stopped += 1


@dataclass
class App:
    """What of a Faust app the lanes look at; without partitions its consumer has not started."""

    partitions: set[int] | None
    on_rebalance_complete: Any = field(default_factory=lambda: SimpleNamespace(connect=lambda *_, **__: None))

    @property
    def consumer(self) -> Any:
        return SimpleNamespace(assignment=self._assignment)

    def _assignment(self) -> list[Any]:
        if self.partitions is None:
            raise ConsumerNotStarted
        return [SimpleNamespace(topic=LANES, partition=p) for p in self.partitions]


@asynccontextmanager
async def running(
    app: App, acts: dict[int, list[Step]] | None = None
) -> AsyncIterator[tuple[Lanes, list[Lane]]]:
    """The lanes of an app; acts: per partition, what its first, second, … lane does."""
    made: list[Lane] = []

    def make(partition: int) -> Lane:
        given = (acts or {}).get(partition, [])
        number = sum(lane.partition == partition for lane in made)
        made.append(Lane(partition, given[number] if number < len(given) else quick))
        return made[-1]

    lanes = Lanes(app, make, FAILURES)  # type: ignore[arg-type]  # stands in for a Faust app
    await lanes.start()
    try:
        yield lanes, made
    finally:
        await lanes.stop()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110 - what is waited for is a plain counter
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.05)


async def test_each_assigned_lane_runs_and_is_stopped_with_the_worker() -> None:
    async with running(App({0, 3})) as (lanes, made):
        await until(lambda: all(lane.steps > 2 for lane in made) and len(made) == 2)
        assert lanes.partitions == [0, 3]
    assert [(lane.partition, lane.started, lane.stopped) for lane in made] == [(0, 1, 1), (3, 1, 1)]


async def test_a_worker_that_is_stopped_before_it_is_a_member_has_no_lanes_and_no_crash() -> None:
    async with running(App(None)) as (lanes, made):
        assert (lanes.partitions, made, lanes.crashed) == ([], [], False)


@pytest.mark.parametrize("failure", [Fenced, KafkaGone])
async def test_a_lane_that_failed_but_is_still_assigned_here_begins_anew(failure: type[Exception]) -> None:
    async def fail(_: Lane) -> None:
        raise failure

    async with running(App({0, 1}), {1: [fail]}) as (lanes, made):
        await until(lambda: len(made) == 3 and made[2].steps > 2)
        assert made[2].partition == 1
        assert made[1].stopped == 1
        assert lanes.partitions == [0, 1]


async def test_a_bug_in_a_lane_stops_the_worker() -> None:
    async def bug(_: Lane) -> None:
        raise ZeroDivisionError

    async with running(App({0}), {0: [bug]}) as (lanes, _):
        await until(lambda: lanes.crashed)
        assert isinstance(lanes.crash_reason, ZeroDivisionError)


async def test_a_stop_waits_for_the_running_step() -> None:
    finished: list[int] = []

    async def long(lane: Lane) -> None:
        await asyncio.sleep(0.5)
        finished.append(lane.steps)

    async with running(App({0}), {0: [long]}) as (_, made):
        await until(lambda: made[0].steps == 1)
    assert finished == [1]


async def test_a_step_that_never_ends_does_not_hold_the_worker_beyond_its_time() -> None:
    cut: list[str] = []

    async def endless(_: Lane) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cut.append("cut")

    async with running(App({0, 1, 2}), {1: [endless], 2: [endless]}) as (_, made):
        await until(lambda: len(made) == 3 and made[1].steps == 1 and made[2].steps == 1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 2 * (worker.STEP_SECONDS + worker.CLIENTS_SECONDS)
    assert cut == ["cut", "cut"]
    assert [lane.stopped for lane in made] == [1, 1, 1]


def test_the_time_for_a_stop_leaves_room_within_five_seconds() -> None:
    assert worker.STEP_SECONDS + 2 * worker.CLIENTS_SECONDS + 1 <= 5  # 1: the framework's own wait


@pytest.mark.parametrize("crash", [False, True])
async def test_a_worker_that_is_ended_hard_tells_a_crash_from_a_stop(
    crash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    ended = threading.Event()

    def ends(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(wiring.os, "_exit", ends)
    monkeypatch.setattr(wiring, "STOP_SECONDS", 0.05)
    process = wiring.BoundedWorker(loop=asyncio.get_running_loop())
    if crash:
        await process.crash(ZeroDivisionError())
    await process.stop()
    assert await asyncio.to_thread(ended.wait, 10)
    assert statuses == [int(crash)]
