"""The one place that builds adapters for a role."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faust
import mode
import structlog

from broker.config import Settings
from broker.core.areas import AreaTree
from broker.core.sealing import INCARNATION_BYTES, Sealer
from broker.edge.clock import SystemClock
from broker.edge.data import data_folder
from broker.edge.kafka.clients import check_login, faust_broker_credentials
from broker.edge.kafka.lane_client import KAFKA_FAILURES, LaneFenced, LaneReader, LaneWriter
from broker.edge.kafka.provision import INGEST, RELEASE
from broker.edge.keys import load_keys
from broker.edge.metrics import REGISTRY, Telemetry
from broker.edge.schemas import SchemaFolder
from broker.edge.territory import load_territory
from broker.stages.digest import Digester
from broker.stages.ingest import IngestLane
from broker.stages.release import ReleaseLane
from broker.stages.tables import LaneTables
from broker.stages.worker import Failures, Lane, make_app

PRINCIPALS = {"ingest": INGEST, "release": RELEASE}
ROLES = tuple(PRINCIPALS)
STOP_SECONDS = 4.5
IDLE_MS = 1000
"""Of a reader of one partition, that asks for nothing else: Kafka answers at once when something comes."""


def worker_apps(settings: Settings, roles: Iterable[str]) -> list[faust.App]:
    """One Faust app per role; the first has the health and metrics page."""
    folder = load_territory(settings.territory)
    apps = []
    for number, role in enumerate(roles):
        login = settings.kafka.login(PRINCIPALS[role], settings.secrets)
        web = (settings.web_host, settings.web_port) if settings.web_port and not number else None
        apps.append(
            make_app(
                role,
                brokers=login.bootstrap_servers,
                credentials=faust_broker_credentials(login),
                lanes=folder.territory.lanes,
                data=_made(settings.data / role),
                web=web,
                registry=REGISTRY,
                make=lane_maker(role, settings),
                failures=Failures(LaneFenced, KAFKA_FAILURES),
            )
        )
    return apps


def lane_maker(role: str, settings: Settings) -> Callable[[int], Lane]:
    """A function that builds the role's lane for a partition; files are read here, once."""
    folder = load_territory(settings.territory)
    territory = folder.territory
    areas = AreaTree.from_rows(territory.areas.hierarchy, folder.areas)
    codec = SchemaFolder.load(data_folder("schemas"))
    keys = load_keys(settings.key_file)
    login = settings.kafka.login(PRINCIPALS[role], settings.secrets)
    telemetry = Telemetry()

    def ingest(partition: int) -> Lane:
        tables = LaneTables(areas, territory.timezone, partition, territory.lanes, codec)
        digester = Digester(partition, territory.lanes, codec, keys, _sealer())
        return IngestLane(
            partition,
            tables,
            digester,
            state=LaneReader(login, "ingest.lanes", on_demand=True),
            reader=LaneReader(login, "ingest.lanes"),
            writer=LaneWriter(login, f"ingest.{partition}", "ingest.lanes"),
            keys=keys,
            clock=SystemClock(),
            telemetry=telemetry,
        )

    def release(partition: int) -> Lane:
        return ReleaseLane(
            partition,
            territory.lanes,
            areas,
            territory.timezone,
            reader=LaneReader(login, "release.lanes", idle_ms=IDLE_MS),
            writer=LaneWriter(login, f"release.{partition}", "release.lanes"),
            codec=codec,
            keys=keys,
            sealer=_sealer(),
            telemetry=telemetry,
        )

    return {"ingest": ingest, "release": release}[role]


def _sealer() -> Sealer:
    """Fresh for each start of a lane: its nonces can never repeat."""
    return Sealer(secrets.token_bytes(INCARNATION_BYTES))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class BoundedWorker(mode.Worker):
    """A worker that has ended `STOP_SECONDS` after it was told to, or after a crash, whatever hangs.

    Ending hard is safe at any moment: what was not committed is not there, and a successor's producers settle what
    was begun.
    """

    async def stop(self) -> None:
        limit = threading.Timer(STOP_SECONDS, self._end_hard)
        limit.daemon = True
        limit.start()
        await super().stop()

    def _end_hard(self) -> None:
        structlog.get_logger("broker").warning("stopped_hard", after_seconds=STOP_SECONDS)
        os._exit(1 if self.crashed else 0)  # whoever supervises it must see a crash


def threads() -> ThreadPoolExecutor:
    """Where lanes compute: as many batches at a time as there are cores, because more would only take memory."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def check_logins(settings: Settings, roles: Iterable[str]) -> None:
    """Raises OperatorError with the true reason where Kafka does not let a role in: Faust would only say that it
    cannot start."""
    # A loop of its own, which does not become the thread's: that one is Faust's.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        for role in roles:
            runner.run(check_login(settings.kafka.login(PRINCIPALS[role], settings.secrets)))


def run_worker(settings: Settings, roles: Sequence[str]) -> int:
    """Runs the roles until SIGTERM or Ctrl-C; the exit status of the process."""
    apps = worker_apps(settings, roles)
    check_logins(settings, roles)
    worker = BoundedWorker(*apps, override_logging=False, redirect_stdouts=False, daemon=True, quiet=True)
    worker.loop.set_default_executor(threads())
    try:
        worker.execute_from_commandline()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
