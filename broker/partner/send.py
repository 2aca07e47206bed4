"""What a partner sends, to Kafka: readings, completeness marks, site histories and consent states.

Invariants
- Key of a reading, site history or consent state = the delivery point; the producer's partitioner (murmur2)
  puts all that is said about one point into one partition, in order.
- A mark goes to every partition of the stream's topic, after the readings that it speaks of: one idempotent
  producer keeps the order within a partition, also when it sends again.
- Nothing is lost silently: each record's delivery is confirmed or counted; `close` raises where one failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import polars as pl

from broker.core.contract import MARK, reading_schema
from broker.core.plan import Stream
from broker.edge.kafka.outbox import CHUNK, BulkProducer, Outbox, Progress
from broker.edge.schemas import SchemaFolder


class Sendable(Protocol):
    """What a partner sends in one go, as `sim.Step`: readings frame, raw records, and the mark after them."""

    @property
    def frame(self) -> pl.DataFrame: ...
    @property
    def raw(self) -> tuple[bytes, ...]: ...
    @property
    def until(self) -> int: ...


class StreamSender:
    """Readings and marks of one stream."""

    def __init__(self, producer: BulkProducer, stream: Stream, schemas: SchemaFolder) -> None:
        self.outbox = Outbox(producer, stream.topic)
        self._stream = stream
        self._schemas = schemas
        self._schema = reading_schema(stream.measure, stream.kind)

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


def send_sites(producer: BulkProducer, partner: str, rows: pl.DataFrame, schemas: SchemaFolder) -> int:
    """Send site rows of one partner as one history per delivery point; returns how many."""
    fields = ["valid_from", "valid_to", "premises", "area", "segment", "register_size"]
    return _send_table(producer, f"sites.{partner}", rows, ("site-history", "sites", fields), schemas)


def send_consent(producer: BulkProducer, partner: str, rows: pl.DataFrame, schemas: SchemaFolder) -> int:
    """Send consent rows of one partner as one state per delivery point; returns how many."""
    fields = ["purpose", "granted_from", "expires_at", "withdrawn_at"]
    return _send_table(producer, f"consent.{partner}", rows, ("consent-state", "purposes", fields), schemas)


def _send_table(
    producer: BulkProducer,
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
