"""However a territory's streams reach the broker, and whatever happens to its workers: the same bytes, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest
from run import Running, dry_run, sent_by, tally, territory

from broker.edge.metrics import REGISTRY
from broker.partner.send import StreamSender, send_step
from broker.sim import TerritorySpec, World, generate

SEED = 11
SPEC = TerritorySpec(
    epcis=2,
    communes=4,
    iris=8,
    premises=700,
    start=date(2026, 2, 1),
    days=28,
    lanes=2,
    half_hourly=(1, 10, 1),
)
DAILY = "energy-water-daily"
ONLY_IN_TROUBLE = {"broker_partner_paused", "broker_stream_stalled"}
RELEASES = {DAILY: 2 * SPEC.days, "underheating-monthly": 2, "vacancy-monthly": 2}

Senders = Mapping[str, StreamSender]


@pytest.fixture(scope="module")
def world() -> World:
    return generate(SPEC, SEED)


@dataclass(frozen=True)
class Result:
    """What a run came to: published records by product, and what became of each partner's readings."""

    out: dict[str, list[tuple[bytes | None, bytes | None]]]
    counts: dict[str, Counter[str]]
    metrics: str = ""


def result(running: Running, world: World) -> Result:
    """Waits for every release; each must be there once."""
    running.wait_for(RELEASES)
    return Result(
        out={product: running.out(product) for product in RELEASES},
        counts={stream.partner: tally(running.receipts(stream.partner)) for stream in world.streams},
    )


def check_same(found: Result, live: Result) -> None:
    for product in RELEASES:
        assert found.out[product] == live.out[product], product
    assert found.counts == live.counts


def stopped_in_order(status: int, seconds: float) -> None:
    assert status == 0
    assert seconds < 5, f"SIGTERM took {seconds:.1f} s"


def send_days(world: World, senders: Senders, days: range) -> None:
    """All partners day by day, as time passes."""
    for day in days:
        for partner, sender in senders.items():
            (steps,) = world.readings[partner].values()
            for step in steps[day : day + 1]:
                send_step(sender, step)
    for sender in senders.values():
        sender.outbox.close()


def send_partner_after_partner(world: World, senders: Senders) -> None:
    """The whole month of one partner, then that of the next, from the last in the alphabet to the first."""
    for partner in sorted(senders, reverse=True):
        (steps,) = world.readings[partner].values()
        for step in steps:
            send_step(senders[partner], step)
        senders[partner].outbox.close()


def samples_of(page: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def metrics_without_lag(running: Running) -> str:
    """The workers' metrics pages, once they say that nothing is left to read; empty before."""
    page = "".join(worker.metrics() for worker in running.workers.values())
    lag = {value for name, value in samples_of(page).items() if name.startswith("broker_lag_records")}
    return page if lag == {0} else ""


@pytest.fixture(scope="module")
def live(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Result]]:
    """The plain case: an ingest worker and a release worker are there, partners send day by day."""
    with territory(tmp_path_factory.mktemp("live"), world, "2026-02-01") as running:
        running.start("ingest", ["ingest"])
        running.start("release", ["release"])
        running.tables(world)
        send_days(world, running.senders(world), range(SPEC.days + 1))
        found = result(running, world)
        found = replace(found, metrics=running.until(lambda: metrics_without_lag(running), "no lag"))
        for name in list(running.workers):
            stopped_in_order(*running.leave(name))
        yield running, found


def test_the_metrics_page_shows_the_run_and_that_nothing_is_left_unread(
    live: tuple[Running, Result],
) -> None:
    samples = samples_of(live[1].metrics)
    read = sum(value for name, value in samples.items() if name.startswith("broker_readings_total"))
    assert read == sum(counts["read"] for counts in live[1].counts.values())
    for metric in REGISTRY.collect():
        if metric.name not in ONLY_IN_TROUBLE:
            assert any(name.startswith(metric.name) for name in samples), metric.name
    lag = [name for name in samples if name.startswith("broker_lag_records")]
    assert len(lag) > SPEC.lanes * len(live[1].counts)


def test_through_kafka_and_from_files_the_same_input_gives_the_same_tables(
    live: tuple[Running, Result], tmp_path: Path
) -> None:
    running, _ = live
    folder = running.demo.folder.folder
    for product in RELEASES:
        policy = folder / "policies" / f"{product}.yaml"
        tables = dry_run(policy, folder / "input", tmp_path / product, running.demo.key_file)
        releases = running.releases_csv(product)
        assert releases == (tables / "releases.csv").read_bytes(), product
        assert running.decisions_csv(product) == (tables / "decisions.csv").read_bytes(), product
        assert b",published\n" in releases, f"{product}: nothing to compare"


def test_every_record_that_was_sent_is_in_the_receipts_once(
    live: tuple[Running, Result], world: World
) -> None:
    running, found = live
    assert {partner: count["read"] for partner, count in found.counts.items()} == sent_by(world)
    for stream in world.streams:
        end = {0: 0, 1: 0}
        for receipt in running.receipts(stream.partner):
            assert receipt["first_offset"] == end[receipt["partition"]]
            end[receipt["partition"]] = receipt["last_offset"] + 1


def test_catching_up_partner_after_partner_gives_the_same_bytes_as_live(
    live: tuple[Running, Result], world: World, tmp_path: Path
) -> None:
    with territory(tmp_path, world, "2026-02-01") as running:
        running.tables(world)
        send_partner_after_partner(world, running.senders(world))
        running.start("all")
        check_same(result(running, world), live[1])


def test_workers_join_leave_and_are_killed_without_a_changed_byte(
    live: tuple[Running, Result], world: World, tmp_path: Path
) -> None:
    with territory(tmp_path, world, "2026-02-01") as running:
        _upheaval(running, world)
        check_same(result(running, world), live[1])


def _upheaval(running: Running, world: World) -> None:
    def released(count: int) -> None:
        running.until(lambda: running.released()[DAILY] >= count, f"{count} releases")

    senders = running.senders(world)
    first = running.start("first")
    running.tables(world)
    send_days(world, senders, range(8))
    released(2)
    second = running.start("second")
    running.until(lambda: len(second.lanes()) == 1 == len(first.lanes()), "the second worker has joined")
    send_days(world, senders, range(8, 16))
    released(18)
    running.kill("first")  # in the middle: most of these days are still to be released
    send_days(world, senders, range(16, 22))
    running.until(lambda: len(second.lanes()) == SPEC.lanes, "the second has taken over the first's lanes")
    released(32)
    stopped_in_order(*running.leave("second"))
    running.start("third")  # after a moment in which no worker ran at all
    send_days(world, senders, range(22, SPEC.days + 1))
