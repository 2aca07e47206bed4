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
from dataclasses import dataclass, field

import polars as pl

from broker.core.areas import AreaTree
from broker.core.consent import ConsentTable
from broker.core.control import ControlState
from broker.core.errors import BrokerError
from broker.core.plan import Plan
from broker.core.sites import SCHEMA as SITE_ROWS
from broker.core.sites import SiteTable
from broker.stages.books import BadRecord, Book
from broker.stages.ports import Batch, Codec

CONTROL = "control"
SITES = "sites."
CONSENT = "consent."


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
    """One partner's books, and the tables built from them.

    sites_changed: points that must be looked at for retractions and problems, beside those of the book of sites;
    stale: whether the site table must be built anew; level: the release level that it was built for.
    """

    sites: Book = field(default_factory=Book.of_sites)
    consent: Book = field(default_factory=Book.of_consent)
    sites_changed: set[str] = field(default_factory=set)
    stale: bool = True
    level: str | None = None
    site_table: SiteTable | None = None
    consent_table: ConsentTable = field(default_factory=ConsentTable.empty)
    heartbeat: int | None = None

    @property
    def doubtful(self) -> set[str]:
        """Points of which none of the readings counts."""
        return self.sites.doubtful | self.consent.doubtful


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
        self._state: bytes | None = None

    @property
    def state(self) -> bytes:
        """The control state, canonical; the same bytes until a control record changes it."""
        if self._state is None:
            self._state = self.control.dump()
        return self._state

    def apply(self, batch: Batch) -> list[BadRecord]:
        """Takes records of the control, sites or consent topics; returns those that are no good."""
        if batch.topic == CONTROL:
            return self._control(batch)
        kind, _, partner = batch.topic.partition(".")
        book = self._partners.setdefault(partner, _Partner())
        doubted = book.doubtful
        if f"{kind}." == SITES:
            bad, _ = book.sites.take(batch, partner, self._codec, self.lanes)
            book.stale = True
        else:
            bad, points = book.consent.take(batch, partner, self._codec, self.lanes)
            book.heartbeat = max([*batch.timestamps, book.heartbeat or 0])
            book.sites_changed |= points  # what they gave is taken back as if their sites were contested
            book.stale |= book.doubtful != doubted
        return bad

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
            sites = book.sites_changed | book.sites.changed
            if sites or book.consent.changed or replanned:
                changes.append(Change(name, book.site_table, _points(sites), _points(book.consent.changed)))
                bad += self._build(name, book, plan.group_level, sites)
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

    def _control(self, batch: Batch) -> list[BadRecord]:
        """Control records are few, and each may change the plan."""
        self._state = None
        bad = []
        for value, offset in zip(batch.values, batch.offsets, strict=True):
            try:
                name, record = self._codec.decode(value)
                known = name == "control" and self.control.apply(
                    record["kind"], record["name"], record["body"] or None
                )
                reason = "" if known else "wrong_schema"
            except BrokerError as error:
                reason = error.reason
            if reason:
                bad.append(BadRecord("broker", reason, batch.topic, batch.partition, offset, None, value))
        return bad

    def _build(self, name: str, book: _Partner, level: str | None, changed: set[str]) -> list[BadRecord]:
        if book.consent.changed:
            book.consent_table = ConsentTable.build(book.consent.rows)
        if level is None:
            return []  # what changed stays so: its problems are said when a product runs
        for changes in (book.sites.changed, book.consent.changed, book.sites_changed):
            changes.clear()
        if not book.stale and level == book.level:
            return []  # with the table its pseudonyms would go
        doubtful = pl.DataFrame(
            {"delivery_point": sorted(book.doubtful)}, schema={"delivery_point": pl.String}
        )
        contested = doubtful.select(
            pl.lit("" if n in ("premises", "area", "segment") else None, kind).alias(n)
            if n != "delivery_point"
            else pl.col(n)
            for n, kind in SITE_ROWS.items()
        )
        rows = pl.concat([book.sites.rows.join(doubtful, on="delivery_point", how="anti"), contested])
        book.site_table, problems = SiteTable.build(rows, name, self._areas, level)
        book.stale, book.level = False, level
        return [
            BadRecord(
                name, reason, SITES + name, self._partition, book.sites.offsets[point], None, point.encode()
            )
            for point, reason in problems.iter_rows()
            if point in changed and point not in book.doubtful
        ]


def _points(changed: set[str]) -> pl.Series:
    return pl.Series(sorted(changed), dtype=pl.String)
