"""One lane's own Kafka clients: manual partitions in, one transactional producer out.

Order matters: a lane starts its *writer* first, which fences the lane's former owner and settles its
transaction; only then may it read committed offsets, because the client never asks for stable ones. Offsets
and output are committed in one transaction; after `LaneFenced` nothing but `stop` is possible.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError, ProducerFenced

from broker.core.errors import OperatorError, ProgrammerError, Unreadable
from broker.edge.kafka.clients import FETCH_WAIT_MS, admin_client, consumer, transactional_producer
from broker.edge.kafka.fetched import Fetched, Records
from broker.edge.kafka.settings import KafkaSettings

Place = tuple[str, int]  # topic, partition

STOP_SECONDS = 1.0
TRIM_SECONDS, TRIM_WAIT_SECONDS = 60.0, 5.0

_log = structlog.get_logger("broker")


class LaneFenced(Exception):
    """Another worker owns this lane now."""


class KafkaUnreachable(OperatorError):
    """The cluster does not answer, or not as it should."""


KAFKA_FAILURES = (KafkaError, KafkaUnreachable, Unreadable, TimeoutError)
"""What a lane may raise when the cluster fails it; it begins again from what was committed."""


class Outgoing(Protocol):
    """One record to write in the lane's transaction."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes: ...


class LaneReader:
    """Reads assigned partitions, read_committed, from offsets that the caller decides.

    group: consumer group that holds offsets only, without members; None where none are kept. idle_ms: see
    `clients.consumer`. on_demand: nothing is fetched but while `poll` waits for it, so that no question for offsets
    stands behind a fetch that Kafka keeps: for topics whose ends are asked for again and again.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str | None,
        *,
        idle_ms: int = FETCH_WAIT_MS,
        on_demand: bool = False,
    ) -> None:
        self._settings = settings
        self._group = group
        self._idle_ms = idle_ms
        self._on_demand = on_demand
        self._consumer: AIOKafkaConsumer | None = None
        self._fetched: Fetched | None = None
        self._assigned: set[Place] = set()

    async def start(self) -> None:
        # Without the group: a client that has one gives up for good when it is assigned anew while it still
        # looks for the group's coordinator.
        self._consumer = consumer(self._settings, idle_ms=self._idle_ms, reset="none")
        with _unreachable(self._group or "reader"):
            await self._consumer.start()
        self._fetched = Fetched(self._consumer)

    async def stop(self) -> None:
        await _stop(self._consumer)

    async def topics(self) -> set[str]:
        """Names of all topics that this principal may see."""
        with _unreachable(self._group or "reader"):
            return set(await self._reader().topics())

    async def committed(self, places: Iterable[Place]) -> dict[Place, tuple[int, str]]:
        """Committed offset and its metadata, for the places that have one."""
        wanted = [TopicPartition(*place) for place in places]
        keeper = consumer(self._settings, self._group)
        try:
            await keeper.start()
            # the public `committed` drops the metadata, where a lane keeps its watermarks
            found = await keeper._coordinator.fetch_committed_offsets(wanted)
        finally:
            await _stop(keeper)
        return {
            (tp.topic, tp.partition): (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0
        }

    async def first_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        found = await self._reader().beginning_offsets([TopicPartition(*place) for place in places])
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def end_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        """Offset behind the last record of each place, now."""
        found = await self._reader().end_offsets([TopicPartition(*place) for place in places])
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def assign(self, positions: Mapping[Place, int]) -> None:
        """Reads these partitions too, from these offsets on; those already read go on where they are."""
        kept = {place: await self.position(place) for place in self._assigned}
        self._reassign({**positions, **kept})

    async def leave(self, place: Place) -> None:
        """Reads this partition no more."""
        self._reassign({other: await self.position(other) for other in self._assigned if other != place})

    async def seek(self, place: Place, offset: int) -> None:
        """The next record that `poll` hands out of this place is that at `offset`."""
        self._reader().seek(TopicPartition(*place), offset)

    def _reassign(self, wanted: Mapping[Place, int]) -> None:
        reader = self._reader()
        reader.assign([TopicPartition(*place) for place in wanted])
        for place, offset in wanted.items():
            reader.seek(TopicPartition(*place), offset)
        if self._on_demand:
            reader.pause(*(TopicPartition(*place) for place in wanted))
        self._assigned = set(wanted)

    async def position(self, place: Place) -> int:
        """Offset of the next record that `poll` will hand out."""
        return int(await self._reader().position(TopicPartition(*place)))

    async def behind(self) -> dict[Place, int]:
        """How many records of each assigned place lie in Kafka unread, as far as the last fetches told."""
        ends = {place: self._reader().highwater(TopicPartition(*place)) for place in self._assigned}
        return {
            place: max(0, end - await self.position(place)) for place, end in ends.items() if end is not None
        }

    @property
    def assigned(self) -> frozenset[Place]:
        return frozenset(self._assigned)

    async def poll(self, places: Sequence[Place], *, most: int, wait_ms: int) -> list[Records]:
        """At most `most` records of these places together, without waiting longer than `wait_ms`."""
        if not places:
            return []
        assert self._fetched is not None, "start comes first"
        wanted = [TopicPartition(*place) for place in places]
        if not self._on_demand:
            return await self._fetched.poll(wanted, most, wait_ms)
        reader = self._reader()
        reader.resume(*wanted)
        try:
            return await self._fetched.poll(wanted, most, wait_ms)
        finally:
            reader.pause(*wanted)

    def _reader(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            where = self._group or "reader"
            raise ProgrammerError("lane_not_started", "the lane's consumer is not running", where=where)
        return self._consumer


class LaneWriter:
    """Writes transactions under the lane's transactional id.

    group: the reader's group, whose offsets are committed with the output.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str, group: str) -> None:
        self._settings = settings
        self._transactional_id = transactional_id
        self._group = group
        self._producer: AIOKafkaProducer | None = None
        self._next_trim = -math.inf

    async def start(self) -> None:
        """Fences the lane's former owner and settles its open transaction."""
        self._producer = transactional_producer(self._settings, self._transactional_id)
        with _unreachable(self._transactional_id):
            await self._producer.start()

    async def stop(self) -> None:
        await _stop(self._producer)

    async def commit(
        self, out: Sequence[Outgoing], offsets: Mapping[Place, tuple[int, str]]
    ) -> dict[Place, int]:
        """Writes `out` and `offsets` (next offset, metadata) in one transaction: both or neither. Returns the offset
        of the first record that was written to each place.

        Raises LaneFenced where another worker has taken over; any other failure aborts the transaction.
        """
        if self._producer is None:
            where = self._transactional_id
            raise ProgrammerError("lane_not_started", "the lane's producer is not running", where=where)
        first: dict[Place, int] = {}
        try:
            async with self._producer.transaction():
                sent = [
                    await self._producer.send(item.topic, item.value, key=item.key, partition=item.partition)
                    for item in out
                ]
                for acknowledgement in sent:
                    at = await acknowledgement
                    place = at.topic, at.partition
                    first[place] = min(at.offset, first.get(place, at.offset))
                if offsets:
                    committed = {
                        TopicPartition(*place): OffsetAndMetadata(*at) for place, at in offsets.items()
                    }
                    await self._producer.send_offsets_to_transaction(committed, self._group)
        except ProducerFenced as error:
            raise LaneFenced(self._transactional_id) from error
        return first

    async def trim(self, before: Mapping[Place, int]) -> None:
        """Deletes the records before these offsets, at most once a minute: what is left today goes tomorrow."""
        if time.monotonic() < self._next_trim:
            return
        self._next_trim = time.monotonic() + TRIM_SECONDS
        client = admin_client(self._settings)
        try:
            async with asyncio.timeout(TRIM_WAIT_SECONDS):
                await client.start()
                await client.delete_records(
                    {TopicPartition(*place): RecordsToDelete(offset) for place, offset in before.items()}
                )
        except (KafkaError, TimeoutError) as error:
            _log.warning(
                "not_trimmed",
                lane=self._transactional_id,
                error=type(error).__name__,
                must_act="nobody: tried again",
            )
        finally:
            with suppress(KafkaError):
                await client.close()


@contextmanager
def _unreachable(where: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise KafkaUnreachable(
            "kafka_unreachable",
            f"a lane cannot reach Kafka ({type(error).__name__}): check that the cluster is up, and the "
            "BROKER_KAFKA__ settings",
            where=where,
        ) from error


async def _stop(client: AIOKafkaConsumer | AIOKafkaProducer | None) -> None:
    """Bounded, because a client that the cluster has cut off may hang in its own stop."""
    if client is not None:
        with suppress(KafkaError, TimeoutError, AssertionError):
            await asyncio.wait_for(client.stop(), STOP_SECONDS)
