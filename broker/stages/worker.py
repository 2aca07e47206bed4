"""A worker: Faust owns the process, the group membership and the metrics page; lanes do the work.

For each partition of the `lanes` topic that Faust assigns to this worker one lane runs, as a mode service. Faust's
group is the only membership; a lane that another worker has taken over is fenced by its transactional id and goes.
A lane that Kafka fails, or that is fenced while Faust still assigns it here, is built anew after a pause, from what
was committed. Any other failure of a lane is a bug or the operator's to mend: it stops the worker, which a supervisor
starts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faust
import mode
from faust.exceptions import ConsumerNotStarted
from faust.types.auth import CredentialsT
from prometheus_client import CollectorRegistry, generate_latest

LANES = "lanes"
PAUSE_SECONDS = 2.0
STEP_SECONDS = 2.0
"""How long a stop waits for a lane's running step."""
CLIENTS_SECONDS = 1.0
"""How long a stop waits for a lane's Kafka clients."""


class Lane(Protocol):
    """What a worker runs for a partition."""

    async def start(self) -> None: ...
    async def step(self) -> None: ...
    async def stop(self) -> None: ...


LaneMaker = Callable[[int], Lane]


@dataclass(frozen=True)
class Failures:
    """Exceptions of a lane that are no bug. fenced: another worker owns it; kafka: the cluster failed it."""

    fenced: type[Exception]
    kafka: tuple[type[Exception], ...]


class LaneService(mode.Service):
    """One lane, stepped until it is stopped; the running step is finished first.

    A step that does not end in time (Kafka is gone, a large decision) is cut off: what it has not committed, its
    successor does, whose producer settles an open transaction.
    """

    def __init__(self, lane: Lane, failures: Failures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lane = lane
        self._failures = failures
        self._work: asyncio.Task[None] | None = None
        self.fenced = False
        self.failed = False

    async def on_stop(self) -> None:
        if self._work is not None:
            _, unfinished = await asyncio.wait({self._work}, timeout=STEP_SECONDS)
            if unfinished:
                self.log.warning("a lane's step took too long to end, and is left to its successor")
                self._work.cancel()
                await asyncio.wait({self._work}, timeout=CLIENTS_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lane.stop(), CLIENTS_SECONDS)

    @mode.Service.task
    async def _run(self) -> None:
        self._work = asyncio.create_task(self._steps())
        try:
            await self._work
        except self._failures.fenced:
            self.fenced = True
            self.log.warning("a lane was taken over by another worker")
        except self._failures.kafka as error:
            self.failed = True
            self.log.error("a lane lost Kafka and begins again: %s", error)

    async def _steps(self) -> None:
        if not self.should_stop:
            await self._lane.start()
        while not self.should_stop:
            await self._lane.step()


class Lanes(mode.Service):
    """Runs the lanes that Faust assigns, and only those."""

    def __init__(self, app: faust.App, make: LaneMaker, failures: Failures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._app = app
        self._make = make
        self._failures = failures
        self._running: dict[int, LaneService] = {}
        self._lock = asyncio.Lock()

    @property
    def partitions(self) -> list[int]:
        """Partitions of the lanes that run."""
        return sorted(self._running)

    async def on_start(self) -> None:
        self._app.on_rebalance_complete.connect(self._follow, weak=False)
        await self._follow()

    async def on_stop(self) -> None:
        await self._follow()

    async def _follow(self, *_: Any, **__: Any) -> None:
        async with self._lock:
            mine = set() if self.should_stop else self._assigned()
            gone = [p for p, lane in self._running.items() if p not in mine or lane.fenced or lane.failed]
            await asyncio.gather(*(self._running.pop(p).stop() for p in gone))
            for partition in sorted(mine - self._running.keys()):
                self._running[partition] = LaneService(
                    self._make(partition), self._failures, loop=self.loop, beacon=self.beacon
                )
            await asyncio.gather(*(lane.maybe_start() for lane in self._running.values()))

    @mode.Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(PAUSE_SECONDS)
            # Fenced, but still assigned here: the worker was taken for dead, and has come back.
            if any(lane.failed or lane.fenced for lane in self._running.values()):
                await self._follow()

    def _assigned(self) -> set[int]:
        try:
            assignment = self._app.consumer.assignment()
        except ConsumerNotStarted:  # told to stop while it starts, a worker comes here without one
            return set()
        return {tp.partition for tp in assignment if tp.topic == LANES}


def make_app(
    role: str,
    *,
    brokers: str,
    credentials: CredentialsT | None,
    lanes: int,
    data: Path,
    web: tuple[str, int] | None,
    registry: CollectorRegistry,
    make: LaneMaker,
    failures: Failures,
) -> faust.App:
    """The Faust app of one role: group `<role>.workers`, lanes by the `lanes` topic, /metrics and /health."""
    host, port = web or ("127.0.0.1", 6066)  # Faust wants a port even for a page that it does not serve
    app = faust.App(
        f"{role}.workers",
        broker=[f"kafka://{server}" for server in brokers.split(",")],
        broker_credentials=credentials,
        topic_partitions=lanes,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        datadir=str(data),
        web_enabled=web is not None,
        web_host=host,
        web_bind=host,  # Faust would listen on all addresses of the machine
        web_port=port,
        worker_redirect_stdouts=False,
    )
    membership = app.topic(LANES, key_type=bytes, value_type=bytes, value_serializer="raw", partitions=lanes)

    @app.agent(membership)
    async def _members(stream: Any) -> None:
        """The topic stays empty: its partitions only say which lanes this worker has."""
        async for _ in stream:
            pass

    started: list[Lanes] = []

    class AppLanes(Lanes):
        """Faust instantiates services by itself: this one knows its app and its lanes."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(app, make, failures, **kwargs)
            started.append(self)

    app.service(AppLanes)

    @app.page("/metrics")
    async def _metrics(view: Any, _request: Any) -> Any:
        return view.bytes(generate_latest(registry), content_type="text/plain; version=0.0.4")

    @app.page("/health")
    async def _health(view: Any, _request: Any) -> Any:
        return view.json({"role": role, "lanes": [p for service in started for p in service.partitions]})

    return app
