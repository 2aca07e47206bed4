"""A Kafka in memory, a clock and a telemetry that remembers: the ports of the stages, for their tests.

The memory's partitions have gaps: each transaction ends with a marker that takes an offset, as in Kafka.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.core.errors import Unreadable
from broker.stages.ports import Out, Place


class Crash(Exception):
    """The process dies."""


@dataclass(frozen=True)
class Rec:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True)
class Records:
    topic: str
    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    timestamps: list[int]


def records(topic: str, partition: int, recs: Sequence[Rec]) -> Records:
    return Records(
        topic,
        partition,
        [rec.key for rec in recs],
        [rec.value for rec in recs],
        [rec.offset for rec in recs],
        [rec.timestamp for rec in recs],
    )


@dataclass
class Kafka:
    """commits: next offset and metadata by group and place; crash: how many commits from now one fails, and
    whether before or after it persisted; trims: whether it deletes what lanes let go of;
    handed: records that readers were given."""

    now: int = 0
    topics: set[str] = field(default_factory=set)
    logs: dict[Place, list[Rec]] = field(default_factory=lambda: defaultdict(list))
    ends: Counter[Place] = field(default_factory=Counter)
    starts: Counter[Place] = field(default_factory=Counter)
    commits: dict[tuple[str, Place], tuple[int, str]] = field(default_factory=dict)
    crash: tuple[int, str] | None = None
    trims: bool = True
    unreadable: set[Place] = field(default_factory=set)
    transactions: int = 0
    handed: int = 0

    def create(self, *topics: str) -> None:
        self.topics |= set(topics)

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        assert topic in self.topics
        place = topic, partition
        self.logs[place].append(Rec(self.ends[place], key, value, self.now))
        self.ends[place] += 1

    def transaction(self, group: str, out: Sequence[Out], offsets: Mapping[Place, tuple[int, str]]) -> None:
        due, when = self.crash or (0, "")
        self.crash = (due - 1, when) if self.crash else None
        if self.crash and due == 1 and when == "before":
            raise Crash
        self.transactions += 1
        for item in out:
            self.create(item.topic)
            self.send(item.topic, item.partition or 0, item.key, item.value)
        for place in {(item.topic, item.partition or 0) for item in out}:
            self.ends[place] += 1  # the marker
        self.commits |= {(group, place): at for place, at in offsets.items()}
        if self.crash and due == 1:
            raise Crash

    def trim(self, place: Place, before: int) -> None:
        """Deletes what lies before an offset."""
        assert before <= self.ends[place]
        self.starts[place] = max(before, self.starts[place])
        self.logs[place] = [rec for rec in self.logs[place] if rec.offset >= before]

    def values(self, topic: str, partition: int | None = None) -> list[bytes]:
        return [
            rec.value or b""
            for (name, number), log in sorted(self.logs.items())
            if name == topic and partition in (None, number)
            for rec in log
        ]


class MemoryReader:
    """Reads as `LaneReader` does."""

    def __init__(self, kafka: Kafka, group: str, most: int = 10**9) -> None:
        self._kafka = kafka
        self._group = group
        self._most = most
        self._positions: dict[Place, int] = {}
        self.polls: list[tuple[list[Place], int]] = []

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def topics(self) -> set[str]:
        return set(self._kafka.topics)

    async def committed(self, places: Iterable[Place]) -> dict[Place, tuple[int, str]]:
        found = {place: self._kafka.commits.get((self._group, place)) for place in places}
        return {place: at for place, at in found.items() if at is not None}

    async def first_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        return {place: self._kafka.starts[place] for place in places}

    async def end_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        return {place: self._kafka.ends[place] for place in places}

    async def assign(self, positions: Mapping[Place, int]) -> None:
        self._positions = {**positions, **self._positions}

    async def leave(self, place: Place) -> None:
        del self._positions[place]

    async def seek(self, place: Place, offset: int) -> None:
        self._positions[place] = offset

    async def position(self, place: Place) -> int:
        return self._positions[place]

    async def behind(self) -> dict[Place, int]:
        return {place: self._kafka.ends[place] - at for place, at in self._positions.items()}

    @property
    def assigned(self) -> frozenset[Place]:
        return frozenset(self._positions)

    async def poll(self, places: Sequence[Place], *, most: int, wait_ms: int) -> list[Records]:
        del wait_ms
        await asyncio.sleep(0)
        self.polls.append((list(places), most))
        left, found = min(most, self._most), []
        for place in places:
            if not left:
                break
            if place in self._kafka.unreadable:
                if found:
                    break
                raise Unreadable(*place, "TopicAuthorizationFailedError")
            log = self._kafka.logs[place]
            taken = [rec for rec in log if rec.offset >= self._positions[place]][:left]
            left -= len(taken)
            done = not taken or taken[-1] is log[-1]
            if left or done:
                self._positions[place] = self._kafka.ends[place] if done else taken[-1].offset + 1
            elif taken:
                self._positions[place] = taken[-1].offset + 1
            self._kafka.handed += len(taken)
            if taken:
                found.append(records(*place, taken))
        return found


class MemoryWriter:
    def __init__(self, kafka: Kafka, group: str) -> None:
        self._kafka = kafka
        self._group = group

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def commit(self, out: Sequence[Out], offsets: Mapping[Place, tuple[int, str]]) -> dict[Place, int]:
        first = {(item.topic, item.partition or 0): 0 for item in out}
        first = {place: self._kafka.ends[place] for place in first}
        self._kafka.transaction(self._group, out, offsets)
        return first

    async def trim(self, before: Mapping[Place, int]) -> None:
        if self._kafka.trims:
            for place, offset in before.items():
                self._kafka.trim(place, offset)


class Clock:
    """The kafka's append time is the lanes' time."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    def now(self) -> int:
        return self._kafka.now


class Told:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.pauses: list[tuple[str, ...]] = []
        self.stalls: list[tuple[str, int, int, bool]] = []
        self.left: dict[str, list[str]] = {}
        self.late_readings: Counter[str] = Counter()
        self.summaries: list[str] = []

    def readings(self, partner: str, outcome: str, reason: str, count: int) -> None:
        self.counts[partner, outcome, reason] += count

    def late(self, topic: str, count: int) -> None:
        self.late_readings[topic] += count

    def stalled(self, topic: str, partition: int, waiting_ms: int, *, given_up: bool) -> None:
        self.stalls.append((topic, partition, waiting_ms, given_up))

    def paused(self, partner: str, reason: str, detail: str) -> None:
        self.pauses.append((partner, reason, detail))

    def resumed(self, partner: str) -> None:
        self.pauses.append((partner, "resumed"))

    def left_out(self, products: Mapping[str, list[str]]) -> None:
        self.left = dict(products)

    @contextmanager
    def releasing(self, domain: str) -> Iterator[None]:
        del domain
        yield

    def released(self, product: str, summary: Any) -> None:
        del summary
        self.summaries.append(product)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
