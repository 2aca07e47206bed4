"""Whole topics as values: releases, receipts and decisions, read once from the beginning to the end as it is now.

Invariants
- Committed records only, no group membership, nothing is written: reading leaves no trace on the cluster.
- The end is that of the moment of the call. It may lie behind the last record, where a transaction's marker
  is; so what counts is the consumer's position, never an offset that was seen.
- Waiting is bounded: `STALL_SECONDS` without progress are an error.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from broker.core.chunks import frame
from broker.core.errors import BrokerError, InputError, OperatorError, PartnerError, Refused
from broker.core.published import CHUNK, MANIFEST, Decided, Published, Record, Releases, rebuild
from broker.core.report import PUBLIC_CELLS
from broker.core.sealing import unseal
from broker.edge.kafka.clients import check_login, consumer
from broker.edge.kafka.settings import KafkaSettings

OUT = "out."
RECEIPTS = "receipts."
EVIDENCE = "evidence"

# Kafka's own limit of a record is below it, unless an operator has raised that.
MAX_RECORD_BYTES = 16 << 20
STALL_SECONDS = 30.0
STOP_SECONDS = 4.0
# A topic that may be read but does not exist is only told by waiting: refusals come at once.
PROBE_SECONDS = 3.0
WAIT_MS = 200

_DECISION = re.compile(rb"([0-9a-f]{64})/decision/([0-9]+)")


class Columns(Protocol):
    """Decoded records by schema, and bad ones (offset, reason, schema_id)."""

    @property
    def frames(self) -> dict[str, pl.DataFrame]: ...
    @property
    def bad(self) -> pl.DataFrame: ...


class Codec(Protocol):
    """The schemas folder (`edge.schemas.SchemaFolder`)."""

    def decode(self, raw: bytes | None) -> tuple[str, dict[str, Any]]: ...
    def decode_columns(
        self, values: Sequence[bytes | None], offsets: Sequence[int], names: Sequence[str], *, max_bytes: int
    ) -> Columns: ...


class AuditKeys(Protocol):
    """Whoever holds the key that opens decisions (`edge.keys`)."""

    def audit_key(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Read:
    """One record as it lies in Kafka."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


async def visible_topics(settings: KafkaSettings) -> set[str]:
    """Names of the topics that this principal may see. Raises OperatorError where Kafka lets nobody in."""
    await check_login(settings)
    async with _running(consumer(settings), "the cluster's topics") as client:
        return set(await client.topics())


async def read_topic(settings: KafkaSettings, topic: str) -> list[Read]:
    """All committed records of a topic, by partition and offset.

    Raises Refused (`topic_not_allowed`) where this principal may not read it, InputError (`unknown_topic`)
    where there is none, OperatorError where Kafka cannot be reached or does not go on.
    """
    if topic not in await visible_topics(settings):
        raise await _absence(settings, topic)
    client = consumer(settings)
    client.subscribe([topic])  # without a group: all partitions, from their beginning
    async with _running(client, topic) as reader:
        try:
            return await _read_to_end(reader)
        except TopicAuthorizationFailedError as error:  # whoever may write there sees the topic all the same
            raise _not_allowed(settings, topic) from error


async def read_releases(settings: KafkaSettings, product: str, codec: Codec) -> Releases:
    """All releases of a product, those that cannot be shown included (see `core.published`).

    Raises Refused (`product_not_allowed`) with what to ask of the operator, InputError (`unknown_product`).
    """
    topic = OUT + product
    try:
        records = await read_topic(settings, topic)
    except (Refused, InputError) as error:
        readable = sorted(name[len(OUT) :] for name in await visible_topics(settings) if name.startswith(OUT))
        raise _no_product(settings.username, product, readable, error) from error
    return rebuild(product, _product_records(codec, records, topic))


async def releases(settings: KafkaSettings, product: str, codec: Codec) -> list[Published]:
    """All releases of a product, by window and release group. Raises OperatorError for the first that cannot
    be shown, and what `read_releases` raises."""
    return (await read_releases(settings, product, codec)).whole()


async def receipts(settings: KafkaSettings, partner: str, codec: Codec) -> dict[str, Any]:
    """Sums over a partner's receipts: read, admitted, late, and quarantined and refused by reason."""
    topic = RECEIPTS + partner
    totals: Counter[str] = Counter(read=0, admitted=0, late=0)
    reasons: dict[str, Counter[str]] = {"quarantined": Counter(), "refused": Counter()}
    for record in await read_topic(settings, topic):
        value = _decode(codec, record, topic, "receipt")
        totals.update({name: value[name] for name in totals})
        for outcome, counts in reasons.items():
            counts.update(value[outcome])
    return {**totals, **{outcome: dict(sorted(counts.items())) for outcome, counts in reasons.items()}}


async def decisions(settings: KafkaSettings, codec: Codec, keys: AuditKeys) -> list[Decided]:
    """The decisions behind all releases, opened with the audit key; for auditors only.

    Of several records of one key the last counts, as after compaction. Raises OperatorError (`bad_seal`).
    """
    pieces: dict[str, dict[int, tuple[dict[str, Any], pl.DataFrame]]] = {}
    last = {record.key: record for record in await read_topic(settings, EVIDENCE)}
    for key, record in last.items():
        named = _DECISION.fullmatch(key or b"")
        if named is None or key is None or record.value is None:
            continue  # other evidence, or a tombstone
        value = _decode(codec, record, EVIDENCE, "evidence")
        header = json.loads(value["header"])
        plain = unseal(
            value["body"],
            keys.audit_key(),
            topic=EVIDENCE,
            partition=record.partition,
            key=key,
            policies=header["policy"],
        )
        pieces.setdefault(named[1].decode(), {})[int(named[2])] = (header, frame(plain))
    found = []
    for release, parts in pieces.items():
        ordered = [parts[number] for number in sorted(parts)]
        found.append(Decided(release, ordered[0][0], pl.concat([cells for _, cells in ordered])))
    return sorted(found, key=lambda d: (d.header["product"], d.header["window_start"], d.header["group"]))


def _product_records(codec: Codec, records: Sequence[Read], topic: str) -> Iterator[Record]:
    """Manifests and chunks as the core takes them. Raises OperatorError where a record is neither: a release
    with a chunk less would be noticed, an empty one without its manifest would not."""
    values = [record.value for record in records]
    # by columns: a year of a large territory has millions of cells
    found = codec.decode_columns(values, range(len(values)), [CHUNK, MANIFEST], max_bytes=MAX_RECORD_BYTES)
    for bad in found.bad.head(1).iter_rows(named=True):
        record = records[bad["offset"]]
        raise OperatorError(
            bad["reason"],
            "a record is no manifest and no cells of a release; find out who wrote it",
            where=f"{topic}/{record.partition}/{record.offset}",
        )
    for schema in (CHUNK, MANIFEST):
        frame = found.frames[schema]
        for number, row in enumerate(frame.drop("cells", strict=False).iter_rows(named=True)):
            index = row.pop("offset")
            if schema == CHUNK:
                cells = frame["cells"][number].struct.unnest()
                row["cells"] = cells.select(pl.col(c).cast(t) for c, t in PUBLIC_CELLS.items())
            yield Record(schema, row, values[index] or b"")


def _decode(codec: Codec, record: Read, topic: str, wanted: str) -> dict[str, Any]:
    where = f"{topic}/{record.partition}/{record.offset}"
    try:
        schema, value = codec.decode(record.value)
    except PartnerError as error:  # here the broker is the writer
        raise OperatorError(error.reason, f"a record cannot be read: {error.what}", where=where) from error
    if schema != wanted:
        raise OperatorError("wrong_schema", f"a record of schema {schema} does not belong here", where=where)
    return value


def _no_product(who: str, product: str, readable: list[str], error: BrokerError) -> BrokerError:
    may = f"it may read {', '.join(readable)}" if readable else "it may read no product"
    if isinstance(error, Refused):
        return Refused(
            "product_not_allowed",
            f"{who} may not read product {product}, or there is none of that name ({may}); "
            f"ask the operator to add product {product} to your recipient file",
        )
    return InputError("unknown_product", f"there is no product {product}: check the name ({who}: {may})")


async def _absence(settings: KafkaSettings, topic: str) -> BrokerError:
    """Why a topic cannot be seen. Kafka says only of a topic that is asked for by name whether it is
    forbidden, and does not say of a forbidden one whether it exists."""
    client = consumer(settings)
    client.subscribe([topic])
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await client.start()
    except TopicAuthorizationFailedError:
        return _not_allowed(settings, topic)
    except (TimeoutError, UnknownTopicOrPartitionError):
        pass
    except KafkaError as error:
        return _unreachable(topic, error)
    finally:
        await _stop(client)
    return InputError("unknown_topic", f"there is no topic {topic}")


def _not_allowed(settings: KafkaSettings, topic: str) -> Refused:
    who = settings.username or "nobody"
    return Refused("topic_not_allowed", f"{who} may not read topic {topic}, or there is no such topic")


async def _read_to_end(client: AIOKafkaConsumer) -> list[Read]:
    found: list[Read] = []
    async with asyncio.timeout(STALL_SECONDS) as limit:
        ends = await client.end_offsets(sorted(client.assignment()))
        while True:
            positions = {tp: await client.position(tp) for tp in ends}
            waiting = [tp for tp, end in ends.items() if positions[tp] < end]
            if not waiting:
                break
            for tp, messages in (await client.getmany(*waiting, timeout_ms=WAIT_MS)).items():
                found += [
                    Read(m.key, m.value, tp.partition, m.offset) for m in messages if m.offset < ends[tp]
                ]
            if {tp: await client.position(tp) for tp in ends} != positions:
                limit.reschedule(asyncio.get_running_loop().time() + STALL_SECONDS)
    return sorted(found, key=lambda record: (record.partition, record.offset))


@asynccontextmanager
async def _running(client: AIOKafkaConsumer, what: str) -> AsyncIterator[AIOKafkaConsumer]:
    """The client, started and stopped; its errors in our words."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await client.start()
        yield client
    except TimeoutError as error:
        raise OperatorError(
            "kafka_stalled",
            f"Kafka did not go on for {STALL_SECONDS:.0f} s: check that all its nodes are up",
            where=what,
        ) from error
    except KafkaError as error:
        raise _unreachable(what, error) from error
    finally:
        await _stop(client)


def _unreachable(what: str, error: KafkaError) -> OperatorError:
    return OperatorError(
        "kafka_unreachable",
        f"cannot be read from Kafka ({type(error).__name__}): check the cluster",
        where=what,
    )


async def _stop(client: AIOKafkaConsumer) -> None:
    """Bounded, because a client that the cluster has cut off may hang in its own stop."""
    with suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(client.stop(), STOP_SECONDS)
