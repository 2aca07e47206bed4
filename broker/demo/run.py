"""The demo's story, top to bottom: world → Kafka → streams → releases → what a reader and an auditor see."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.core.calendar import Calendar
from broker.core.errors import InputError, OperatorError
from broker.core.published import as_report, decision_reports
from broker.core.report import Report, decisions_csv, releases_csv
from broker.demo.health import check_alive, web_ports
from broker.demo.show import Show
from broker.demo.stream import send_readings, send_tables
from broker.demo.territory import DemoTerritory, bring_up, start_worker, write_files
from broker.demo.watch import wait_for_releases
from broker.edge.kafka.collect import decisions, receipts, releases
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.home import Home
from broker.edge.keys import load_keys
from broker.sim import World, generate
from broker.sim.spec import TerritorySpec

MARKER = ".broker-demo"
WORKERS = ("ingest", "release")


@dataclass(frozen=True)
class Outcome:
    """What the demo came to. seconds: from the first step; streaming: from the first reading to the last release."""

    counts: dict[str, Any]
    public: list[Report]
    decided: list[Report]
    seconds: float
    streaming: float

    def summary(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        cells = [status for report in self.public for status in report.cells["status"].to_list()]
        readings = int(self.counts["read"])
        return {
            "readings": readings,
            "admitted": int(self.counts["admitted"]),
            "quarantined": sum(self.counts["quarantined"].values()),
            "refused": sum(self.counts["refused"].values()),
            "releases": len(self.public),
            "cells_published": cells.count("published"),
            "cells_suppressed": cells.count("suppressed"),
            "seconds": round(self.seconds, 1),
            "readings_per_second": round(readings / self.streaming),
        }


@contextmanager
def demo(
    home: Path, spec: TerritorySpec, seed: int, web_port: int, show: Show
) -> Iterator[tuple[Outcome, DemoTerritory, World]]:
    """Runs the whole demo; Kafka and the workers stay up inside the `with`."""
    begun = time.monotonic()
    ports = web_ports(web_port, WORKERS)
    clear(home)
    with EmbeddedKafka(home / "kafka") as kafka:
        show.step("Kafka is up, with TLS, logins and access rules")
        world = generate(spec, seed)
        folder = write_files(world, home)
        show.step(
            f"a territory of {spec.premises} homes, {len(world.streams)} utilities, every policy signed by all"
        )
        running = bring_up(home, folder, kafka, spec.start.isoformat())
        show.step("topics, principals and policies are in force")
        workers = {role: start_worker(running, [role], ports[role], role) for role in WORKERS}

        def alive() -> None:
            check_alive(workers.items(), home)

        try:
            with show.tables(len(world.streams)) as progress:
                send_tables(running, world, progress)
            streaming = time.monotonic()
            with show.readings(world.sent()) as progress:
                send_readings(running, world, progress, alive)
            expected = releases_expected(running, world)
            with show.releases(expected) as progress:
                wait_for_releases(running, expected, progress, alive)
            ended = time.monotonic()
            outcome = asyncio.run(collect(running, world, ended - begun, ended - streaming))
            yield outcome, running, world
        finally:
            stop(list(workers.values()))


async def collect(running: DemoTerritory, world: World, seconds: float, streaming: float) -> Outcome:
    """What recipients, partners and auditors find on their topics, each with its own login."""
    kafka, codec = running.kafka, running.codec
    counts: dict[str, Any] = {"read": 0, "admitted": 0, "late": 0, "quarantined": {}, "refused": {}}
    for stream in world.streams:
        found = await receipts(kafka.settings(stream.partner), stream.partner, codec)
        for name in ("read", "admitted", "late"):
            counts[name] += found[name]
        for name in ("quarantined", "refused"):
            for reason, count in found[name].items():
                counts[name][reason] = counts[name].get(reason, 0) + count
    city = kafka.settings("city")
    published = [one for policy in running.policies for one in await releases(city, policy.product, codec)]
    decided = await decisions(kafka.admin, codec, load_keys(running.key_file))
    return Outcome(
        counts,
        [as_report(one) for one in published],
        decision_reports(published, decided),
        seconds,
        streaming,
    )


def releases_expected(running: DemoTerritory, world: World) -> int:
    """Complete windows of every product, times the release groups."""
    calendar = Calendar(world.spec.timezone)
    first, end = int(world.edges[0]), int(world.edges[-1])
    complete = sum(
        first <= window.start and window.end <= end
        for policy in running.policies
        for window in calendar.windows(policy.window.length, first, end - 1)
    )
    return complete * world.spec.epcis


def keep(outcome: Outcome, running: DemoTerritory, target: Path) -> None:
    """Writes releases.csv, decisions.csv and input/: the files with which a dry run gives the same releases."""
    (target / "releases.csv").write_bytes(releases_csv(outcome.public))
    (target / "decisions.csv").write_bytes(decisions_csv(outcome.decided))
    source = running.folder.folder
    shutil.copytree(source / "input", target / "input", dirs_exist_ok=True)
    for name in ("policies", "references"):
        shutil.copytree(source / name, target / "input" / name, dirs_exist_ok=True)


def clear(home: Path) -> None:
    """An empty folder for this run; only what an earlier demo left is ever deleted, never one that runs."""
    if Home((home / "kafka").absolute()).status().condition != "stopped":
        raise OperatorError(
            "demo_running",
            "a demo runs in this folder: end it with Ctrl-C, or give this one a folder of its own with --home",
            where=str(home),
        )
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            raise InputError(
                "not_a_demo",
                "the folder holds something else than an earlier demo: choose another",
                where=str(home),
            )
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / MARKER).touch()


def stop(workers: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to all, then wait; one that does not end within 15 s is killed."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
