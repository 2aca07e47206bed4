"""The process under measurement: a worker's lanes, pinned to one core, on a Kafka that others have filled.

`python -m tests.bench.lanes WHAT RUN CORE < gates.json` with a worker's settings in the environment prints one
JSON object. WHAT:
- `consume`: the four lanes' readers alone, records as columns and nothing more;
- `ingest`: four ingest lanes. First they load sites and consent, behind a gate that lets no reading through; then
  all readings, exactly once, until the last is committed;
- `path`, `close`: four ingest and four release lanes. When all readings are folded into open windows, the gates
  after it let the completeness marks through, one set after the other: each time from there to the last commit of
  what follows from it is measured.

The lanes are those of `wiring.lane_maker`, unchanged. Only their Kafka clients are dressed up, so that the same
records can be read again: each RUN has groups and transactional ids of its own, takes what is in the broker's
own topics at its start for their beginning, and reads `in.*` up to the current gate only.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[3])})  # before polars counts the cores

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from aiokafka import TopicPartition

from broker import wiring
from broker.config import Settings
from broker.edge.kafka.lane_client import LaneReader, LaneWriter, Outgoing, Place, Records
from broker.edge.metrics import READINGS
from broker.edge.territory import load_territory

OWN = ("contributions", "ledger", "rollups")
"""Topics that earlier runs have written to."""


class Gates:
    """How far the lanes may read `in.*`: per topic the end offset of each partition."""

    def __init__(self, stages: list[dict[str, list[int]]]) -> None:
        self._stages = stages
        self._stage = 0
        self._opened = asyncio.Event()

    def end(self, place: Place) -> int | None:
        ends = self._stages[self._stage].get(place[0])
        return None if ends is None else ends[place[1]]

    def open_next(self) -> None:
        self._stage += 1
        self._opened.set()
        self._opened = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), seconds)


def dressed(run: str, gates: Gates) -> tuple[type[LaneReader], type[LaneWriter], list[Any], Counter[str]]:
    """The clients for one run; the readers made, and how many records were committed by topic."""
    readers: list[Any] = []
    written: Counter[str] = Counter()

    class Reader(LaneReader):
        def __init__(self, settings: Any, group: str, **options: Any) -> None:
            super().__init__(settings, f"{group}.{run}", **options)
            readers.append(self)
            self.polls = 0

        async def first_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
            places = list(places)
            own = [place for place in places if place[0] in OWN]
            rest = [place for place in places if place[0] not in OWN]
            return await self.end_offsets(own) | await super().first_offsets(rest)

        async def poll(self, places: Sequence[Place], *, most: int, wait_ms: int) -> list[Records]:
            self.polls += 1
            free = [place for place in places if not await self._at_gate(place)]
            if not free:
                await gates.wait(wait_ms / 1000)
                return []
            return [await self._cut(batch) for batch in await super().poll(free, most=most, wait_ms=wait_ms)]

        async def _at_gate(self, place: Place) -> bool:
            end = gates.end(place)
            return end is not None and await self.position(place) >= end

        async def _cut(self, batch: Records) -> Records:
            end = gates.end((batch.topic, batch.partition))
            if end is None or batch.offsets[-1] < end:
                return batch
            most = sum(offset < end for offset in batch.offsets)
            await self.seek((batch.topic, batch.partition), end)
            columns = ("keys", "values", "offsets", "timestamps")
            return replace(batch, **{name: getattr(batch, name)[:most] for name in columns})

        async def seek(self, place: Place, offset: int) -> None:
            self._reader().seek(TopicPartition(*place), offset)

    class Writer(LaneWriter):
        def __init__(self, settings: Any, transactional_id: str, group: str) -> None:
            super().__init__(settings, f"{transactional_id}.{run}", f"{group}.{run}")

        async def commit(
            self, out: Sequence[Outgoing], offsets: Mapping[Place, tuple[int, str]]
        ) -> dict[Place, int]:
            first = await super().commit(out, offsets)
            written.update(item.topic for item in out)
            return first

    return Reader, Writer, readers, written


class Lanes:
    """The lanes of some roles, stepped side by side in this event loop as a worker steps them."""

    def __init__(self, roles: Sequence[str], settings: Settings) -> None:
        count = load_territory(settings.territory).territory.lanes
        self._lanes = [wiring.lane_maker(role, settings)(p) for role in roles for p in range(count)]
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        asyncio.get_running_loop().set_default_executor(wiring.threads())
        for lane in self._lanes:
            await lane.start()

    def run(self) -> None:
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]

    async def _run(self, lane: Any) -> None:
        while not self._stopping:
            await lane.step()

    async def until(self, done: Callable[[], bool]) -> float:
        """The clock when `done` holds. Raises what a lane raised."""
        while not done():
            await self.pause()
        return time.perf_counter()

    async def pause(self) -> None:
        """20 ms for the lanes. Raises what a lane raised."""
        await asyncio.sleep(0.02)
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)
        for lane in self._lanes:
            await lane.stop()


def readings() -> int:
    """Readings that the ingest lanes have committed."""
    return int(
        sum(
            sample.value
            for metric in READINGS.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
    )


def memory() -> float:
    """Peak resident memory of this process so far, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError("no VmHWM")


async def consume(settings: Settings, run: str, stages: list[dict[str, list[int]]]) -> dict[str, Any]:
    login = settings.kafka.login(wiring.PRINCIPALS["ingest"], settings.secrets)
    lanes = len(next(iter(stages[0].values())))
    readers = [LaneReader(login, f"ingest.bare.{run}") for _ in range(lanes)]
    for reader in readers:
        await reader.start()
    begun, used = time.perf_counter(), time.process_time()

    async def one(lane: int, reader: LaneReader) -> int:
        places = [(topic, lane) for topic in sorted(stages[0])]
        await reader.assign(dict.fromkeys(places, 0))
        left, count = dict.fromkeys(places, 0), 0
        while any(left[place] < stages[0][place[0]][lane] for place in places):
            for batch in await reader.poll(places, most=100_000, wait_ms=200):
                left[batch.topic, lane] = batch.offsets[-1] + 1
                count += len(batch.values)
        return count

    counts = await asyncio.gather(*(one(lane, reader) for lane, reader in enumerate(readers)))
    result = {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - used,
        "records": sum(counts),
    }
    for reader in readers:
        await reader.stop()
    return result


async def lanes(settings: Settings, run: str, job: dict[str, Any], roles: Sequence[str]) -> dict[str, Any]:
    gates = Gates(job["gates"])
    wiring.LaneReader, wiring.LaneWriter, readers, written = dressed(run, gates)  # type: ignore[misc]
    under_test = Lanes(roles, settings)
    await under_test.start()
    under_test.run()
    loading = time.perf_counter()
    await _loaded(under_test, readers)
    loaded, begun, used = memory(), time.perf_counter(), time.process_time()
    gates.open_next()
    ingested = await under_test.until(lambda: readings() >= job["readings"])
    result: dict[str, Any] = {
        "records": job["readings"],
        "loading": begun - loading,
        "loaded_mb": loaded,
        "ingested": ingested - begun,
        "cpu": time.process_time() - used,
    }
    if "release" in roles:
        source = [
            reader for reader in readers if any(topic == "contributions" for topic, _ in reader.assigned)
        ]
        folded = await _folded(under_test, source)
        result |= {"folded": folded - begun, "folded_cpu": time.process_time() - used, "folded_mb": memory()}
        result["closings"], result["closings_cpu"] = [], []
        for expected in job["closings"]:  # one ledger row for each base window and lane
            enough = written["ledger"] + expected
            opened, used = time.perf_counter(), time.process_time()
            gates.open_next()
            closed = await under_test.until(lambda: written["ledger"] >= enough)  # noqa: B023 - awaited here
            result["closings"].append(closed - opened)
            result["closings_cpu"].append(time.process_time() - used)
        result["releases"] = written["log.policy"]
        result["closed"] = time.perf_counter() - begun
    result["peak_mb"] = memory()
    await under_test.stop()
    return result


async def _loaded(under_test: Lanes, readers: list[Any]) -> None:
    """Returns when every ingest lane knows its sites and consent."""
    for reader in readers:
        if ("control", 0) in reader.assigned:
            ends = await reader.end_offsets(reader.assigned)
            for place, end in ends.items():
                while await reader.position(place) < end:
                    await under_test.pause()
    waiting = [r for r in readers if any(topic.startswith("in.") for topic, _ in r.assigned)]
    polls = {id(reader): reader.polls for reader in waiting}
    # a lane asks for readings, then brings its tables up to date: at its second question they were
    await under_test.until(lambda: all(reader.polls > polls[id(reader)] + 1 for reader in waiting))


async def _folded(under_test: Lanes, source: list[Any]) -> float:
    """The clock when the release lanes have taken all that the ingest lanes wrote."""
    for reader in source:
        (place,) = (place for place in reader.assigned if place[0] == "contributions")
        end = (await reader.end_offsets([place]))[place]
        while await reader.position(place) < end:
            await under_test.pause()
        polls = reader.polls
        await under_test.until(lambda: reader.polls > polls)  # noqa: B023 - it asks again: all is folded
    return time.perf_counter()


def main() -> None:
    what, run = sys.argv[1:3]
    job = json.load(sys.stdin)
    settings = Settings()
    if what == "consume":
        result = asyncio.run(consume(settings, run, job["gates"]))
    else:
        roles = ["ingest"] if what == "ingest" else ["ingest", "release"]
        result = asyncio.run(lanes(settings, run, job, roles))
    result["threads"] = pl.thread_pool_size()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
