"""A worker ends within five seconds of SIGTERM, whatever it is doing, and loses nothing by it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import date

import pytest
from run import Running, sent_by, tally, territory

from broker.partner.send import send_step
from broker.sim import TerritorySpec, World, generate

SECONDS = 5.0
SPEC = TerritorySpec(
    epcis=2, communes=4, iris=8, premises=700, start=date(2026, 2, 1), days=14, lanes=4, half_hourly=None
)
RELEASES = {"energy-water-daily": 2 * SPEC.days}


@pytest.fixture(scope="module")
def world() -> World:
    return generate(SPEC, 7)


@pytest.fixture(scope="module")
def backlog(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two weeks were sent, and no worker was there."""
    with territory(tmp_path_factory.mktemp("stop"), world, "2026-02-01") as running:
        running.tables(world)
        for partner, sender in running.senders(world).items():
            (steps,) = world.readings[partner].values()
            for step in steps:
                send_step(sender, step)
            sender.outbox.close()
        yield running


def in_time(status: int, seconds: float) -> None:
    assert status == 0
    assert seconds < SECONDS, f"SIGTERM took {seconds:.1f} s"


def test_in_the_middle_of_a_backlog_it_ends_in_time_and_the_next_one_finishes_the_work(
    backlog: Running, world: World
) -> None:
    reading = backlog.start("reading")
    backlog.until(reading.readings, "readings")
    in_time(*backlog.leave("reading"))
    backlog.start("releasing")
    backlog.until(lambda: backlog.released().total(), "a release")
    in_time(*backlog.leave("releasing"))
    backlog.start("last")
    backlog.wait_for(RELEASES)
    for partner, sent in sent_by(world).items():
        assert tally(backlog.receipts(partner))["read"] == sent


def test_when_kafka_does_not_answer_it_ends_in_time(backlog: Running) -> None:
    worker = backlog.start("cut-off")
    backlog.until(worker.lanes, "lanes")
    os.kill(backlog.demo.kafka.pid, signal.SIGSTOP)
    try:
        status, seconds = backlog.leave("cut-off")
    finally:
        os.kill(backlog.demo.kafka.pid, signal.SIGCONT)
    in_time(status, seconds)
