"""What the stages ask of the edge: small protocols, so that a stage never knows a client library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

Place = tuple[str, int]
"""Topic and partition."""


class Batch(Protocol):
    """Consecutive records of one partition, as columns."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def keys(self) -> list[bytes | None]: ...
    @property
    def values(self) -> list[bytes | None]: ...
    @property
    def offsets(self) -> list[int]: ...
    @property
    def timestamps(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Out:
    """One record to write; no partition = the key's."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes


class Reader(Protocol):
    """Partitions read from offsets that the lane decides (`edge.kafka.lane_client.LaneReader`)."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def topics(self) -> set[str]: ...
    async def committed(self, places: Iterable[Place]) -> dict[Place, tuple[int, str]]: ...
    async def first_offsets(self, places: Iterable[Place]) -> dict[Place, int]: ...
    async def end_offsets(self, places: Iterable[Place]) -> dict[Place, int]: ...
    async def assign(self, positions: Mapping[Place, int]) -> None: ...
    async def leave(self, place: Place) -> None: ...
    async def seek(self, place: Place, offset: int) -> None: ...
    async def position(self, place: Place) -> int: ...
    async def behind(self) -> dict[Place, int]:
        """How many records of each assigned place lie in Kafka unread, as far as is known without asking."""

    async def poll(self, places: Sequence[Place], *, most: int, wait_ms: int) -> Sequence[Batch]:
        """Raises Unreadable for the first partition that Kafka does not hand out; the others lose nothing by it."""

    @property
    def assigned(self) -> frozenset[Place]: ...


class Writer(Protocol):
    """One transaction at a time (`edge.kafka.lane_client.LaneWriter`)."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def commit(self, out: Sequence[Out], offsets: Mapping[Place, tuple[int, str]]) -> dict[Place, int]:
        """The offset of the first record that was written to each place."""

    async def trim(self, before: Mapping[Place, int]) -> None:
        """Deletes what lies before these offsets, sooner or later; never raises for what Kafka does not do."""


class Clock(Protocol):
    """Milliseconds since the epoch, UTC."""

    def now(self) -> int: ...


class Keys(Protocol):
    """The broker's keys, 32 bytes each (`edge.keys`)."""

    def epoch_key(self, domain: str, epoch: str) -> bytes: ...
    def window_key(self, domain: str, length: str, start: int) -> bytes: ...
    def rounding_key(self, domain: str, epoch: str) -> bytes: ...
    def audit_key(self) -> bytes: ...
    def quarantine_key(self) -> bytes: ...


class Decoded(Protocol):
    """A batch as columns: readings, completeness marks (offset, until ms), bad records (offset, reason, schema_id)."""

    @property
    def readings(self) -> pl.DataFrame: ...
    @property
    def marks(self) -> Sequence[tuple[int, int]]: ...
    @property
    def bad(self) -> pl.DataFrame: ...


class Framed(Protocol):
    """A batch as columns: the records of each schema that was asked for, with their offsets."""

    @property
    def frames(self) -> dict[str, pl.DataFrame]: ...


class Codec(Protocol):
    """The schemas folder (`edge.schemas.SchemaFolder`)."""

    def encode(self, name: str, record: dict[str, Any]) -> bytes: ...
    def decode(self, value: bytes | None) -> tuple[str, dict[str, Any]]: ...
    def decode_columns(
        self, values: Sequence[bytes | None], offsets: Sequence[int], names: Sequence[str], *, max_bytes: int
    ) -> Framed: ...
    def decode_readings(
        self,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        reader: str,
        *,
        max_bytes: int,
        stream: str,
    ) -> Decoded: ...


@dataclass(frozen=True, slots=True)
class Columns:
    """A `Batch` made of several."""

    topic: str
    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    timestamps: list[int]


def together(batches: Sequence[Batch]) -> Batch:
    """Consecutive batches of one partition as one."""
    if len(batches) == 1:
        return batches[0]
    return Columns(
        batches[0].topic,
        batches[0].partition,
        [key for batch in batches for key in batch.keys],
        [value for batch in batches for value in batch.values],
        [offset for batch in batches for offset in batch.offsets],
        [timestamp for batch in batches for timestamp in batch.timestamps],
    )
