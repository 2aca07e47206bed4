"""What an ingest lane knows about partners, policies, sites and consent: its partition of the compacted topics.

Invariants
- A record in another partition than its key's changes nothing and becomes a dead letter. One that does not
  decode becomes a dead letter too and puts its delivery point in doubt: none of its readings counts until a
  good record replaces it, because a lost withdrawal would be a breach.
- Records are whole states: applying one twice, or a whole topic again, gives the same tables.
- Nothing here does I/O: the lane reads, this decides.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from broker.core.areas import AreaTree
from broker.core.consent import SCHEMA as CONSENT_ROWS
from broker.core.consent import ConsentTable
from broker.core.control import ControlState
from broker.core.errors import BrokerError, PartnerError
from broker.core.partitioner import partition_for
from broker.core.plan import Plan
from broker.core.sites import SCHEMA as SITE_ROWS
from broker.core.sites import SiteTable
from broker.stages.ports import Batch, Codec

CONTROL = "control"
SITES = "sites."
CONSENT = "consent."


@dataclass(frozen=True)
class BadRecord:
    """A record that goes to a partner's dead letters."""

    partner: str
    reason: str
    topic: str
    partition: int
    offset: int
    schema_id: int | None
    value: bytes | None


@dataclass(frozen=True)
class Part:
    """Some consecutive records of a batch."""

    topic: str
    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    timestamps: list[int]


def cut(batch: Batch, end: int) -> tuple[Part, Part]:
    """The batch's records before offset `end`, and the others."""
    at = bisect_left(batch.offsets, end)
    before, rest = (
        Part(
            batch.topic,
            batch.partition,
            batch.keys[side],
            batch.values[side],
            batch.offsets[side],
            batch.timestamps[side],
        )
        for side in (slice(at), slice(at, None))
    )
    return before, rest


@dataclass
class _Partner:
    """One partner's rows by delivery point, and the tables built from them.

    doubtful: points whose latest record was no good; they have a site row that contests them.
    """

    sites: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    consent: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    sites_changed: set[str] = field(default_factory=set)
    consent_changed: set[str] = field(default_factory=set)
    site_table: SiteTable | None = None
    consent_table: ConsentTable = field(default_factory=ConsentTable.empty)
    heartbeat: int | None = None


@dataclass(frozen=True)
class Change:
    """What changed of one partner since the last refresh. former: the site table before (None: unknown)."""

    partner: str
    former: SiteTable | None
    sites: pl.Series
    consent: pl.Series


class LaneTables:
    """The tables of ingest lane `partition` of `lanes`."""

    def __init__(self, areas: AreaTree, timezone: str, partition: int, lanes: int, codec: Codec) -> None:
        self._areas = areas
        self._timezone = timezone
        self._partition = partition
        self.lanes = lanes
        self._codec = codec
        self._partners: dict[str, _Partner] = {}
        self.control = ControlState()
        self.plan = Plan({}, areas)
        self.left_out: dict[str, list[str]] = {}

    def apply(self, batch: Batch) -> list[BadRecord]:
        """Takes records of the control, sites or consent topics; returns those that are no good."""
        if batch.topic == CONTROL:
            return self._each(batch, "broker", self._control)
        kind, _, partner = batch.topic.partition(".")
        book = self._partners.setdefault(partner, _Partner())
        take = self._site if f"{kind}." == SITES else self._consent
        return self._each(batch, partner, lambda *record: take(book, batch, *record))

    def refresh(self) -> tuple[list[Change], list[BadRecord], bool]:
        """Builds anew what changed: the changes, sites that contradict each other, whether the plan changed."""
        plan, self.left_out = self.control.plan(self._areas, self._timezone)
        replanned = plan != self.plan
        self.plan = plan
        for partner in self.control.partners:
            self._partners.setdefault(partner, _Partner())  # one without any site here has an empty table
        bad: list[BadRecord] = []
        changes = []
        for name in sorted(self._partners):
            book = self._partners[name]
            if book.sites_changed or book.consent_changed or replanned:
                changes.append(
                    Change(name, book.site_table, _points(book.sites_changed), _points(book.consent_changed))
                )
                bad += self._build(name, book, plan.group_level)
        return changes, bad, replanned

    def sites(self, partner: str) -> SiteTable | None:
        """None until a product runs."""
        book = self._partners.get(partner)
        return book.site_table if book else None

    def consent(self, partner: str) -> ConsentTable:
        book = self._partners.get(partner)
        return book.consent_table if book else ConsentTable.empty()

    def heartbeat(self, partner: str) -> int | None:
        """When (append time, ms) the partner's consent service last gave a sign of life."""
        book = self._partners.get(partner)
        return book.heartbeat if book else None

    # -- one record -----------------------------------------------------------------------------------

    def _each(self, batch: Batch, partner: str, take: Callable[..., str | None]) -> list[BadRecord]:
        bad = []
        columns = zip(batch.keys, batch.values, batch.offsets, batch.timestamps, strict=True)
        for key, value, offset, timestamp in columns:
            try:
                reason = take(key, value, offset, timestamp)
            except BrokerError as error:
                reason = error.reason
            if reason is not None:
                bad.append(BadRecord(partner, reason, batch.topic, batch.partition, offset, None, value))
        return bad

    def _control(self, _key: bytes | None, value: bytes | None, _offset: int, _timestamp: int) -> str | None:
        name, record = self._codec.decode(value)
        if name != "control" or not self.control.apply(
            record["kind"], record["name"], record["body"] or None
        ):
            return "wrong_schema"
        return None

    def _site(
        self,
        book: _Partner,
        batch: Batch,
        key: bytes | None,
        value: bytes | None,
        offset: int,
        _timestamp: int,
    ) -> str | None:
        point = self._point(key)
        if point is None:
            return "wrong_partition"
        book.sites_changed.add(point)
        book.places[point] = (batch.topic, batch.partition, offset)
        record = self._state(book, point, value, "site-history", "bad_site")
        if record is None:
            return "bad_site"
        book.sites[point] = [
            (point, *(site[name] for name in SITE_COLUMNS)) for site in record.get("sites", [])
        ]
        return None

    def _consent(
        self,
        book: _Partner,
        _batch: Batch,
        key: bytes | None,
        value: bytes | None,
        _offset: int,
        timestamp: int,
    ) -> str | None:
        book.heartbeat = max(timestamp, book.heartbeat or 0)
        if key == HEARTBEAT:
            return None
        point = self._point(key)
        if point is None:
            return "wrong_partition"
        book.consent_changed.add(point)
        record = self._state(book, point, value, "consent-state", "bad_consent")
        if record is None:
            book.sites_changed.add(point)
            return "bad_consent"
        book.consent[point] = [
            (point, *(state[name] for name in CONSENT_COLUMNS)) for state in record.get("purposes", [])
        ]
        return None

    def _point(self, key: bytes | None) -> str | None:
        """The delivery point, or None where the record lies in another partition than its key's."""
        if key is None or partition_for(key, self.lanes) != self._partition:
            return None
        return key.decode(errors="replace")

    def _state(
        self, book: _Partner, point: str, value: bytes | None, schema: str, reason: str
    ) -> dict[str, Any] | None:
        """The record, {} for a tombstone; None, and the point in doubt, where it is no good."""
        book.doubtful.discard((point, reason))
        if value is None:
            return {}
        try:
            name, record = self._codec.decode(value)
        except PartnerError:
            name, record = "", {}
        if name != schema or record["delivery_point"] != point:
            book.doubtful.add((point, reason))
            return None
        return record

    # -- tables ---------------------------------------------------------------------------------------

    def _build(self, name: str, book: _Partner, level: str | None) -> list[BadRecord]:
        book.consent_table = ConsentTable.build(_frame(book.consent, CONSENT_ROWS))
        if level is None:
            return []  # what changed stays so: its problems are said when a product runs
        changed, book.sites_changed, book.consent_changed = book.sites_changed, set(), set()
        rows = dict(book.sites)
        rows.update({point: [(point, None, None, "", "", "", None)] for point, _ in book.doubtful})
        book.site_table, problems = SiteTable.build(_frame(rows, SITE_ROWS), name, self._areas, level)
        doubtful = {point for point, _ in book.doubtful}
        return [
            BadRecord(name, reason, *book.places[point], None, point.encode())
            for point, reason in problems.iter_rows()
            if point in changed and point not in doubtful
        ]


HEARTBEAT = b"heartbeat"
SITE_COLUMNS = tuple(SITE_ROWS)[1:]
CONSENT_COLUMNS = tuple(CONSENT_ROWS)[1:]


def _frame(rows: dict[str, list[tuple[Any, ...]]], schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame([row for each in rows.values() for row in each], schema=schema, orient="row")


def _points(changed: set[str]) -> pl.Series:
    return pl.Series(sorted(changed), dtype=pl.String)
