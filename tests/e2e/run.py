"""A territory on a real Kafka for tests: bring it up, run workers as processes, read what came out, wait with patience.

Deadlines are generous, because they only bound a failure: every wait returns as soon as what it waits for is there,
and at once where a worker ended that nobody stopped.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from broker.cli import run as broker
from broker.core.published import Decided, Published, as_report, decision_reports
from broker.core.report import decisions_csv, releases_csv
from broker.demo.stream import send_tables
from broker.demo.territory import DemoTerritory, bring_up, start_worker, write_files
from broker.edge.kafka.admin import librdkafka
from broker.edge.kafka.clients import bulk_producer
from broker.edge.kafka.collect import Read, decisions, read_topic, releases
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.keys import load_keys
from broker.edge.territory import TerritoryFolder
from broker.partner.send import StreamSender
from broker.sim import World

PATIENCE = 120.0  # seconds
ALL_ROLES = ("ingest", "release")
LOG = "log.policy"


# -- workers ------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A `broker run` process."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def lanes(self) -> list[int]:
        """The lanes that it runs for its first role, by its own health page; none while it starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as page:
                return list(json.load(page)["lanes"])
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return []

    def readings(self) -> int:
        """Readings that it has dealt with, by its own metrics page."""
        lines = self.metrics().splitlines()
        return round(sum(float(x.split()[-1]) for x in lines if x.startswith("broker_readings_total")))

    def metrics(self) -> str:
        """Its metrics page; empty while it starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as page:
                return str(page.read().decode())
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return ""

    def stop(self) -> tuple[int, float]:
        """SIGTERM: its exit status, and after how many seconds."""
        begin = time.monotonic()
        self.process.terminate()
        return self.process.wait(PATIENCE), time.monotonic() - begin

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)


@dataclass
class Running:
    """A territory in force, and its workers."""

    demo: DemoTerritory
    workers: dict[str, Worker] = field(default_factory=dict)
    _released: Counter[str] = field(default_factory=Counter)

    def start(self, name: str, roles: Sequence[str] = ALL_ROLES) -> Worker:
        port = free_port()
        process = start_worker(self.demo, roles, port, name)
        self.workers[name] = Worker(name, port, process, self.demo.home / f"worker-{name}.log")
        return self.workers[name]

    def leave(self, name: str) -> tuple[int, float]:
        """Stops one worker in order: its exit status and the seconds that it took."""
        return self.workers.pop(name).stop()

    def kill(self, name: str) -> None:
        """kill -9."""
        self.workers.pop(name).kill()

    def close(self) -> None:
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            try:
                worker.process.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
        self.workers.clear()

    def until(self, reached: Callable[[], Any], what: str) -> Any:
        """The first true outcome of `reached`; fails after `PATIENCE`, or when a worker ends by itself."""
        deadline = time.monotonic() + PATIENCE
        while not (found := reached()):
            for worker in self.workers.values():
                status = worker.process.poll()
                assert status is None, f"worker {worker.name} ended with {status}:\n{_tail(worker.log, 30)}"
            logs = "\n".join(_tail(worker.log, 5) for worker in self.workers.values())
            assert time.monotonic() < deadline, f"not in {PATIENCE:.0f} s: {what}\n{logs}"
            time.sleep(0.1)
        return found

    # -- what partners send and read ------------------------------------------------------------------

    def senders(self, world: World) -> dict[str, StreamSender]:
        """One sender per partner, logged in as that partner."""
        login = self.demo.kafka.settings
        return {
            s.partner: StreamSender(bulk_producer(login(s.partner)), s, self.demo.codec)
            for s in world.streams
        }

    def tables(self, world: World) -> None:
        """Sites and consent of all partners."""
        send_tables(self.demo, world, lambda _: None)

    def read(self, topic: str, principal: str) -> list[Read]:
        return asyncio.run(read_topic(self.demo.kafka.settings(principal), topic))

    def receipts(self, partner: str) -> list[dict[str, Any]]:
        """The receipts of a partner, as that partner reads them."""
        return [self._decoded(record) for record in self.read(f"receipts.{partner}", partner)]

    def dead_letters(self, partner: str) -> list[dict[str, Any]]:
        return [self._decoded(record) for record in self.read(f"dlq.{partner}", partner)]

    def _decoded(self, record: Read) -> dict[str, Any]:
        return self.demo.codec.decode(record.value)[1]

    # -- releases -------------------------------------------------------------------------------------

    def released(self) -> Counter[str]:
        """How many releases of each product the policy log has by now."""
        while (message := self._log.poll(0.1)) is not None:
            assert message.error() is None, message.error()
            leaf = self.demo.codec.decode(message.value())[1]
            if leaf["kind"] == "release":
                self._released[leaf["product"]] += 1
        return self._released

    @cached_property
    def _log(self) -> Consumer:
        consumer = Consumer(
            librdkafka(self.demo.kafka.admin)
            | {"group.id": "tests", "enable.auto.commit": False, "isolation.level": "read_committed"}
            | {"log_level": 0}
        )
        consumer.assign([TopicPartition(LOG, 0, 0)])
        return consumer

    def wait_for(self, releases: Mapping[str, int]) -> None:
        """Waits for so many releases of each product; each (window, group) must be there once."""
        self.until(lambda: all(self.released()[p] >= n for p, n in releases.items()), f"{releases}")
        for product, count in releases.items():
            found = Counter(self._manifests(product))
            assert set(found.values()) == {1}, product
            assert found.total() == count, product

    def _manifests(self, product: str) -> Iterator[tuple[str, str]]:
        for record in self.read(f"out.{product}", "admin"):
            name, value = self.demo.codec.decode(record.value)
            if name == "release-manifest":
                yield value["window_start"], value["group"]

    def out(self, product: str) -> list[tuple[bytes | None, bytes | None]]:
        """(key, value) of every record of a product's topic, sorted: the published bytes."""
        return sorted((r.key or b"", r.value or b"") for r in self.read(f"out.{product}", "admin"))

    def published(self, product: str, recipient: str = "city") -> list[Published]:
        """What a recipient reads."""
        return asyncio.run(releases(self.demo.kafka.settings(recipient), product, self.demo.codec))

    def releases_csv(self, product: str) -> bytes:
        return releases_csv(as_report(one) for one in self.published(product))

    def decisions_csv(self, product: str) -> bytes:
        """What an auditor with the audit key reads of the same releases; once all are there."""
        return decisions_csv(decision_reports(self.published(product), self._decided))

    @cached_property
    def _decided(self) -> list[Decided]:
        keys = load_keys(self.demo.key_file)
        return asyncio.run(decisions(self.demo.kafka.admin, self.demo.codec, keys))


@contextmanager
def territory(home: Path, world: World, first_day: str) -> Iterator[Running]:
    """A simulated territory in force on a Kafka of its own, no worker yet. Same world, same keys: same bytes."""
    with running(home, write_files(world, home), first_day) as found:
        yield found


@contextmanager
def running(home: Path, folder: TerritoryFolder, first_day: str) -> Iterator[Running]:
    """The territory of `folder` in force; `home/keys` holds the broker's key. Workers end with it."""
    with EmbeddedKafka(home / "kafka") as kafka:
        found = Running(bring_up(home, folder, kafka, first_day))
        try:
            yield found
        finally:
            found.close()


# -- comparing ----------------------------------------------------------------------------------------


def dry_run(
    policy: Path,
    input_folder: Path,
    out: Path,
    key_file: Path | None,
    inputs: Iterable[str] = ("energy", "water"),
) -> Path:
    """`broker dry-run` as a person types it; the folder with its results."""
    readings = [
        flag for name in inputs for flag in ("--readings", f"{name}={input_folder}/readings-{name}.csv")
    ]
    tables = [
        flag for name in ("sites", "areas", "consent") for flag in (f"--{name}", f"{input_folder}/{name}.csv")
    ]
    keys = ["--key-file", str(key_file)] if key_file else []
    status = broker(["dry-run", str(policy), *readings, *tables, *keys, "--out", str(out)])
    assert status == 0
    return out


def sent_by(world: World) -> dict[str, int]:
    """Records of each partner that are not marks."""
    return {
        partner: sum(len(step.frame) + len(step.raw) for steps in streams.values() for step in steps)
        for partner, streams in world.readings.items()
    }


def tally(receipts: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Receipts together: read, admitted, late, and quarantined and refused by reason. Each must add up."""
    found: Counter[str] = Counter()
    for receipt in receipts:
        reasons = Counter(receipt["quarantined"]) + Counter(receipt["refused"])
        assert receipt["read"] == receipt["admitted"] + reasons.total()
        found.update({name: receipt[name] for name in ("read", "admitted", "late")})
        found.update(reasons)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
