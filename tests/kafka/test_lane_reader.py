"""A lane reads what the client itself would hand out, as columns: committed records only, each once, from any place."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from territories import territory

from broker.core.errors import Unreadable
from broker.edge.kafka.admin import Admin, TopicSpec
from broker.edge.kafka.clients import consumer, producer, transactional_producer
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.fetched import Fetched
from broker.edge.kafka.lane_client import LaneReader, Records
from broker.edge.kafka.provision import RELEASE, provision

Row = tuple[str, int, int, bytes | None, bytes | None, int]


def rows(batches: Sequence[Records]) -> list[Row]:
    return [
        (batch.topic, batch.partition, *row)
        for batch in batches
        for row in zip(batch.offsets, batch.keys, batch.values, batch.timestamps, strict=True)
    ]


@asynccontextmanager
async def reading(kafka: EmbeddedKafka, *places: tuple[str, int]) -> AsyncIterator[LaneReader]:
    reader = LaneReader(kafka.admin, None)
    await reader.start()
    try:
        await reader.assign(dict.fromkeys(places, 0))
        yield reader
    finally:
        await reader.stop()


async def all_rows(reader: LaneReader, place: tuple[str, int], most: int = 10_000) -> list[Row]:
    end = (await reader.end_offsets([place]))[place]
    found: list[Row] = []
    while await reader.position(place) < end:
        batches = await reader.poll([place], most=most, wait_ms=200)
        assert sum(len(batch.offsets) for batch in batches) <= most
        found += rows(batches)
    return found


async def as_the_client_reads(kafka: EmbeddedKafka, place: tuple[str, int]) -> list[Row]:
    client = consumer(kafka.admin)
    await client.start()
    tp = TopicPartition(*place)
    client.assign([tp])
    client.seek(tp, 0)
    end = (await client.end_offsets([tp]))[tp]
    found: list[Row] = []
    while await client.position(tp) < end:
        for messages in (await client.getmany(tp, timeout_ms=200)).values():
            found += [(m.topic, m.partition, m.offset, m.key, m.value, m.timestamp) for m in messages]
    await client.stop()
    return found


async def transactions(kafka: EmbeddedKafka, topic: str, seed: int) -> list[bytes]:
    """Committed and aborted transactions of two writers, with plain records between; what was committed."""
    rng = random.Random(seed)
    writers = [transactional_producer(kafka.admin, f"{topic}-{n}") for n in range(2)]
    plain = producer(kafka.admin)
    committed: list[bytes] = []
    for client in (*writers, plain):
        await client.start()
    for number in range(12):
        values = [b"%d-%d" % (number, n) for n in range(rng.randrange(1, 400))]
        writer, abort = rng.choice(writers), rng.random() < 0.4
        await writer.begin_transaction()
        for value in values:
            await writer.send(topic, value, key=rng.choice([None, b"k"]), partition=0)
        await writer.flush()
        await (writer.abort_transaction() if abort else writer.commit_transaction())
        committed += [] if abort else values
        committed.append(b"plain %d" % number)
        await plain.send_and_wait(topic, committed[-1], partition=0)
    for client in (*writers, plain):
        await client.stop()
    return committed


@pytest.mark.parametrize("most", [1, 7, 10_000])
async def test_a_lane_reads_exactly_the_committed_records_in_their_order_however_few_at_a_time(
    kafka: EmbeddedKafka, most: int
) -> None:
    topic, seed = f"lane-reader-{most}", random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    Admin(kafka.admin).ensure_topics({topic: TopicSpec(1)})
    committed = await transactions(kafka, topic, seed)
    async with reading(kafka, (topic, 0)) as reader:
        found = await all_rows(reader, (topic, 0), most)
    assert [row[4] for row in found] == committed
    assert found == await as_the_client_reads(kafka, (topic, 0))


async def test_reading_goes_on_in_the_middle_of_a_batch_after_a_new_assignment(kafka: EmbeddedKafka) -> None:
    Admin(kafka.admin).ensure_topics({"lane-middle": TopicSpec(2)})
    client = producer(kafka.admin)
    await client.start()
    for n in range(1000):
        await client.send("lane-middle", b"%d" % n, partition=0)
    await client.send_and_wait("lane-middle", b"other", partition=1)
    await client.stop()
    async with reading(kafka, ("lane-middle", 0)) as reader:
        first: list[Row] = []
        while len(first) < 300:
            first += rows(await reader.poll([("lane-middle", 0)], most=300 - len(first), wait_ms=200))
        await reader.assign({("lane-middle", 1): 0})
        rest = await all_rows(reader, ("lane-middle", 0))
    assert [row[4] for row in first + rest] == [b"%d" % n for n in range(1000)]


async def test_nothing_to_read_returns_after_the_wait(kafka: EmbeddedKafka) -> None:
    Admin(kafka.admin).ensure_topics({"lane-empty": TopicSpec(1)})
    async with reading(kafka, ("lane-empty", 0)) as reader:
        async with asyncio.timeout(10):
            assert await reader.poll([("lane-empty", 0)], most=10, wait_ms=300) == []
        assert await reader.poll([], most=10, wait_ms=300) == []


async def test_a_topic_that_may_not_be_read_says_so(kafka: EmbeddedKafka) -> None:
    provision(kafka.admin, territory(), kafka.home.secrets, products=["vacancy"])
    reader = LaneReader(kafka.settings(RELEASE), None)
    await reader.start()
    try:
        await reader.assign({("out.vacancy", 0): 0})
        with pytest.raises(Unreadable, match=r"out.vacancy/0.*TopicAuthorizationFailed"):
            for _ in range(100):
                await reader.poll([("out.vacancy", 0)], most=10, wait_ms=200)
    finally:
        await reader.stop()


async def test_a_batch_with_a_wrong_checksum_is_an_error_and_none_of_it_is_read(kafka: EmbeddedKafka) -> None:
    Admin(kafka.admin).ensure_topics({"lane-checksum": TopicSpec(1)})
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 1_700_000_000_000, b"k", b"value", [])
    batch = bytearray(builder.build())
    batch[-3] ^= 1
    client = consumer(kafka.admin)
    await client.start()
    try:
        tp = TopicPartition("lane-checksum", 0)
        client.assign([tp])
        client.seek(tp, 0)
        await client.end_offsets([tp])
        fetched = Fetched(client)
        put_in(client, tp, bytes(batch))
        with pytest.raises(Unreadable, match="CorruptRecord"):
            await fetched.poll([tp], 10, 0)
        assert await client.position(tp) == 0
    finally:
        await client.stop()


def put_in(client: object, tp: TopicPartition, batch: bytes) -> None:
    """A buffer as the client's fetcher keeps it: a broker would not store this one."""
    from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
    from aiokafka.record.memory_records import MemoryRecords

    records = PartitionRecords(tp, MemoryRecords(batch), [], 0, None, None, True, READ_COMMITTED)
    assignment = client._subscription.subscription.assignment  # type: ignore[attr-defined]
    client._fetcher._records[tp] = FetchResult(  # type: ignore[attr-defined]
        tp, assignment=assignment, partition_records=records, backoff=0
    )
