"""What a partner sends, to Kafka: readings, completeness marks, site histories and consent states.

Invariants
- Key of a reading, site history or consent state = the delivery point; the producer's partitioner (murmur2)
  puts all that is said about one point into one partition, in order.
- A mark goes to every partition of the stream's topic, after the readings that it speaks of: one idempotent
  producer keeps the order within a partition, also when it sends again.
- Nothing is lost silently: each record's delivery is confirmed or counted; `close` raises where one failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import polars as pl
from confluent_kafka import KafkaError, KafkaException, Producer

from broker.core.errors import BrokerError, OperatorError, PartnerError
from broker.core.plan import Stream
from broker.edge.schemas import SchemaFolder

CHUNK: Final = 20_000
QUEUE: Final = 200_000  # records in the producer's queue before the sender waits
PATIENCE: Final = 120.0  # seconds without any confirmation before giving up
MARK: Final = "completeness-mark"

Progress = Callable[[int], None]
_PARTNERS_FAULT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)


class Sendable(Protocol):
    """What a partner sends in one go, as `sim.Step`: readings frame, raw records, and the mark after them."""

    @property
    def frame(self) -> pl.DataFrame: ...
    @property
    def raw(self) -> tuple[bytes, ...]: ...
    @property
    def until(self) -> int: ...


class Outbox:
    """One topic's way out. Use `close` (or `with`) at the end: it waits for every confirmation.

    producer: made by `broker.edge.kafka.clients.bulk_producer`; several outboxes may share one.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self.topic = topic
        self.sent = 0
        self._failed = 0
        self._first: KafkaError | None = None
        self._partitions: int | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the topic has. Raises OperatorError or PartnerError where it cannot be seen."""
        if self._partitions is None:
            try:
                topic = self._producer.list_topics(self.topic, timeout=15.0).topics[self.topic]
            except KafkaException as error:
                raise self._translated(error.args[0], "the topic cannot be looked up") from error
            if topic.error is not None:
                raise self._translated(topic.error, "the topic cannot be used")
            self._partitions = len(topic.partitions)
        return self._partitions

    def put(self, keys: Sequence[bytes], values: Sequence[bytes], progress: Progress | None = None) -> None:
        """Queue records in order; waits where the queue is long. Raises where one was already refused."""
        for at in range(0, len(values), CHUNK):
            pairs = zip(keys[at : at + CHUNK], values[at : at + CHUNK], strict=True)
            self._queue([{"key": key, "value": value} for key, value in pairs])
            if progress is not None:
                progress(len(values[at : at + CHUNK]))

    def mark(self, value: bytes) -> None:
        """Queue one record without key to every partition."""
        self._wait(QUEUE)
        self._check()
        for partition in range(self.partitions):
            # One by one: `produce_batch` was seen to leave a message's own partition unheeded.
            try:
                self._producer.produce(self.topic, value, partition=partition, on_delivery=self._delivered)
            except KafkaException as error:
                raise self._translated(error.args[0], "a mark cannot be queued") from error
            self.sent += 1

    def close(self) -> None:
        """Wait until all is confirmed. Raises PartnerError or OperatorError where a record was not taken."""
        self._wait(0)
        self._check()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def _queue(self, messages: list[dict[str, Any]]) -> None:
        self._wait(QUEUE - len(messages))
        self._check()
        try:
            queued = self._producer.produce_batch(self.topic, messages, on_delivery=self._delivered)
        except KafkaException as error:
            raise self._translated(error.args[0], "records cannot be queued") from error
        self.sent += queued
        if queued < len(messages):
            refused = next(message["_error"] for message in messages if "_error" in message)
            raise self._translated(refused, f"{len(messages) - queued} records cannot be queued")
        self._producer.poll(0)

    def _wait(self, most: int) -> None:
        """Until at most so many records are on their way."""
        waited, before = 0.0, len(self._producer)
        while (on_their_way := len(self._producer)) > max(most, 0):
            waited, before = (waited + 0.2, before) if on_their_way >= before else (0.0, on_their_way)
            if waited > PATIENCE:
                self._check()
                raise OperatorError(
                    "kafka_silent",
                    f"{on_their_way} records are not confirmed: is Kafka up?",
                    where=self.topic,
                )
            self._producer.poll(0.2)

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed += 1
            self._first = self._first or error

    def _check(self) -> None:
        if self._first is not None:
            raise self._translated(self._first, f"{self._failed} of {self.sent} records were not taken")

    def _translated(self, error: KafkaError, what: str) -> BrokerError:
        if error.code() in _PARTNERS_FAULT:
            return PartnerError(
                "not_allowed", f"{what}: {error.str()}; check user, password and stream", where=self.topic
            )
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return OperatorError(
                "no_topic", f"{what}: it does not exist; provision the territory", where=self.topic
            )
        return OperatorError("not_delivered", f"{what}: {error.str()}", where=self.topic)


class StreamSender:
    """Readings and marks of one stream."""

    def __init__(self, producer: Producer, stream: Stream, schemas: SchemaFolder) -> None:
        self.outbox = Outbox(producer, stream.topic)
        self._stream = stream
        self._schemas = schemas
        self._schema = f"{stream.measure}-{stream.kind}"

    def readings(self, frame: pl.DataFrame, progress: Progress | None = None) -> None:
        """Send a readings frame, in its order."""
        for part in frame.iter_slices(CHUNK):
            keys = part["delivery_point"].cast(pl.Binary).to_list()
            self.outbox.put(keys, self._schemas.encode_readings(part, self._schema), progress)

    def raw(self, records: Iterable[bytes], progress: Progress | None = None) -> None:
        """Send records as they are, each under a key of its own (what a broken device would do)."""
        values = list(records)
        self.outbox.put([b"raw-%d" % n for n in range(len(values))], values, progress)

    def mark(self, until: int) -> None:
        """State that all of this stream up to `until` (ms) has been sent."""
        self.outbox.mark(self._schemas.encode(MARK, {"stream": self._stream.name, "until": until}))


def send_steps(sender: StreamSender, steps: Iterable[Sendable], progress: Progress | None = None) -> int:
    """Send steps in order, each followed by its mark, and wait for the last confirmation; returns the records
    sent, marks included. Raises PartnerError or OperatorError where a record was not taken."""
    for step in steps:
        send_step(sender, step, progress)
    sender.outbox.close()
    return sender.outbox.sent


def send_step(sender: StreamSender, step: Sendable, progress: Progress | None = None) -> None:
    """Queue one step: to interleave several partners, day by day."""
    sender.readings(step.frame, progress)
    sender.raw(step.raw, progress)
    sender.mark(step.until)


def send_sites(producer: Producer, partner: str, rows: pl.DataFrame, schemas: SchemaFolder) -> int:
    """Send site rows of one partner as one history per delivery point; returns how many."""
    fields = ["valid_from", "valid_to", "premises", "area", "segment", "register_size"]
    return _send_table(producer, f"sites.{partner}", rows, ("site-history", "sites", fields), schemas)


def send_consent(producer: Producer, partner: str, rows: pl.DataFrame, schemas: SchemaFolder) -> int:
    """Send consent rows of one partner as one state per delivery point; returns how many."""
    fields = ["purpose", "granted_from", "expires_at", "withdrawn_at"]
    return _send_table(producer, f"consent.{partner}", rows, ("consent-state", "purposes", fields), schemas)


def _send_table(
    producer: Producer,
    topic: str,
    rows: pl.DataFrame,
    form: tuple[str, str, list[str]],
    schemas: SchemaFolder,
) -> int:
    name, inner, fields = form
    grouped = rows.group_by("delivery_point", maintain_order=True).agg(pl.struct(fields).alias(inner))
    records = grouped.to_dicts()
    with Outbox(producer, topic) as outbox:
        keys = [record["delivery_point"].encode() for record in records]
        outbox.put(keys, [schemas.encode(name, record) for record in records])
    return len(records)
