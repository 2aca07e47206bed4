"""One ingest batch, from records to what goes out: pure but for the keys it is given.

Reads top to bottom: decode → contract → site, consent, window (admission) → encrypted contributions, marks, late
counts, dead letters and receipts. No payload, delivery point or token leaves this module in clear.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import polars as pl

from broker.core.admission import NO_MARK, Admission, admit
from broker.core.chunks import pieces, pieces_by
from broker.core.contract import MARK, reading_schema
from broker.core.errors import BrokerError
from broker.core.partitioner import partitions_for
from broker.core.plan import Domain, Plan, Stream
from broker.core.readings import REASONS_SCHEMA, check, check_marks
from broker.core.reasons import REASONS
from broker.core.sealing import Sealer
from broker.stages.books import BadRecord, bad_records
from broker.stages.ports import Batch, Codec, Keys, Out
from broker.stages.tables import LaneTables
from broker.stages.watermarks import Watermark, event_time, newest_events

CONTRIBUTIONS = "contributions"
MAX_RECORD_BYTES = 4096


@dataclass
class Tally:
    """Records of one input partition by outcome; `read` is their sum, whatever happens.

    A good completeness mark is no reading and in none of these; one that is no good is quarantined, hence read.
    """

    admitted: int = 0
    late: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        return self.admitted + sum(self.quarantined.values()) + sum(self.refused.values())


@dataclass(frozen=True)
class Digest:
    """What one batch of one stream comes to."""

    stream: Stream
    contributions: dict[str, pl.DataFrame]
    late: dict[str, pl.DataFrame]
    watermark: Watermark
    quarantined: list[BadRecord]
    tally: Tally
    first: int
    last: int


class Digester:
    """The pure step of ingest lane `partition`; one for the life of a lane."""

    def __init__(self, partition: int, lanes: int, codec: Codec, keys: Keys, sealer: Sealer) -> None:
        self._partition = partition
        self._lanes = lanes
        self._codec = codec
        self._keys = keys
        self._sealer = sealer

    def digest(self, batch: Batch, stream: Stream, tables: LaneTables, before: Watermark) -> Digest:
        """Decides about every record of a batch of one stream; nothing is written yet."""
        offsets = np.array(batch.offsets)
        decoded = self._codec.decode_readings(
            batch.values,
            batch.offsets,
            reading_schema(stream.measure, stream.kind),
            max_bytes=MAX_RECORD_BYTES,
            stream=stream.name,
        )
        timestamps = np.array(batch.timestamps)

        def taken_in(wanted: np.ndarray) -> np.ndarray:
            """When Kafka took in the records at some of the batch's offsets, both ascending."""
            return timestamps[np.searchsorted(offsets, wanted)] if len(wanted) < len(offsets) else timestamps

        appended = pl.Series(taken_in(decoded.readings["offset"].to_numpy()), dtype=pl.Int64)
        good, malformed = check(decoded.readings, stream, appended)
        places = np.array([offset for offset, _ in decoded.marks], np.int64)
        sound, unsound = check_marks(decoded.marks, taken_in(places))
        domains = [d for d in tables.plan.domains.values() if stream in d.streams]
        marks, event = _event_time(sound, good, taken_in, stream, domains, tables)
        admissions = {d.name: self._admit(good, stream, d, tables, before.until, marks) for d in domains}
        watermark = replace(
            _advance(before, marks, offsets, batch.timestamps), event=max(event, before.event)
        )
        tally, misplaced = _tally(good, admissions)
        bad = _together(decoded.bad, malformed, misplaced, unsound)
        tally.quarantined = _counts(bad["reason"])
        return Digest(
            stream,
            {name: a.contributions for name, a in admissions.items()},
            {name: a.late for name, a in admissions.items()},
            watermark,
            bad_records(batch, stream.partner, bad),
            tally,
            batch.offsets[0],
            batch.offsets[-1],
        )

    def ends_in_mark(self, batch: Batch) -> bool:
        """Whether a batch's last record is a completeness mark."""
        try:
            name, _ = self._codec.decode(batch.values[-1])
        except BrokerError:
            return False
        return name == MARK

    def _admit(
        self,
        good: pl.DataFrame,
        stream: Stream,
        domain: Domain,
        tables: LaneTables,
        mark: int,
        marks: Sequence[tuple[int, int]],
    ) -> Admission:
        sites = tables.sites(stream.partner)
        assert sites is not None, "a lane reads a stream only when its partner's tables are there"
        return admit(
            good,
            stream,
            domain,
            sites,
            tables.consent(stream.partner),
            keys=self._keys.epoch_key,
            mark=mark,
            marks=marks,
            partition_of=self._partition_of,
            partition=self._partition,
        )

    def _partition_of(self, points: pl.Series) -> pl.Series:
        return pl.Series(partitions_for([point.encode() for point in points], self._lanes))

    # -- what goes out --------------------------------------------------------------------------------

    def contributions(self, digests: Sequence[Digest], plan: Plan) -> Iterator[Out]:
        """The batch's contributions, encrypted under the key of their base window; then its late counts."""
        for name in sorted(plan.domains):
            frames = [
                d.contributions[name].hstack([_same("topic", d.stream.topic, d.contributions[name].height)])
                for d in digests
                if d.contributions.get(name) is not None and d.contributions[name].height
            ]
            if frames:
                yield from self._chunks(pl.concat(frames), plan.domains[name])
            for digest in digests:
                yield from self._late(digest, name)

    def _chunks(self, rows: pl.DataFrame, domain: Domain) -> Iterator[Out]:
        policies = policies_digest(domain)
        header = {"products": [p.key for p in domain.products], "policies": policies, "base": domain.base}
        rows = rows.hstack([(rows["group"] % self._lanes).alias("to")])
        for (window, to), count, piece in pieces_by(rows, ["window", "to"]):
            text = json.dumps(header | {"rows": count}, sort_keys=True)
            secret = self._keys.window_key(domain.name, domain.base, window)
            key = f"{domain.name}/{window}".encode()
            body = self._sealer.seal(
                piece, secret, topic=CONTRIBUTIONS, partition=to, key=key, policies=policies
            )
            yield self._envelope("chunk", domain.name, window, "", to, text, body, key)

    def _late(self, digest: Digest, domain: str) -> Iterator[Out]:
        late = digest.late.get(domain)
        if late is None:
            return
        for window, group, count in late.sort("window", "group").iter_rows():
            header = json.dumps({"group": group, "late": count}, sort_keys=True)
            yield self._envelope("tally", domain, window, digest.stream.topic, group % self._lanes, header)

    def mark(self, kind: str, topic: str, until: int) -> Iterator[Out]:
        """A mark (or `stalled`) of this lane's partition of `topic`, to every release lane."""
        for to in range(self._lanes):
            yield self._envelope(kind, "", until, topic, to)

    def plan(self, state: bytes, read: int) -> Iterator[Out]:
        """The control state as of offset `read` of the control topic, to every release lane."""
        for to in range(self._lanes):
            yield self._envelope("plan", "", 0, "", to, json.dumps({"read": read}), state)

    def retractions(self, domain: Domain, retractions: pl.DataFrame) -> Iterator[Out]:
        """Retractions (frame `retractions.RETRACTIONS`), each to the release lane of its group; by product key."""
        header = json.dumps({"products": [p.key for p in domain.products]}, sort_keys=True)
        rows = retractions.with_columns((pl.col("group") % self._lanes).alias("to")).drop("group").unique()
        for (to,), part in sorted(rows.partition_by("to", as_dict=True, include_key=False).items()):
            for piece in pieces(part.sort(pl.all())):
                yield self._envelope("retraction", domain.name, 0, "", int(to), header, piece)

    def _envelope(
        self,
        kind: str,
        domain: str,
        window: int,
        topic: str,
        to: int,
        header: str = "{}",
        body: bytes = b"",
        key: bytes | None = None,
    ) -> Out:
        record = {
            "kind": kind,
            "domain": domain,
            "window": window,
            "stream": topic,
            "lane": self._partition,
            "header": header,
            "body": body,
        }
        return Out(CONTRIBUTIONS, to, key, self._codec.encode("contribution", record))

    def dead_letter(self, bad: BadRecord) -> Out:
        """The reason, in words too, and the place; the payload only as a keyed digest that its sender can recognise."""
        digest = hmac.digest(self._keys.quarantine_key(), bad.value or b"", "sha256")
        record = {
            "reason": bad.reason,
            "topic": bad.topic,
            "partition": bad.partition,
            "offset": bad.offset,
            "schema_id": bad.schema_id,
            "keyed_digest": digest,
            "text": REASONS[bad.reason].text,
            "must_act": REASONS[bad.reason].must_act,
        }
        return Out(f"dlq.{bad.partner}", None, None, self._codec.encode("quarantine", record))

    def receipt(self, digest: Digest) -> Out:
        """What was read from a partner's partition and what became of it: counts only."""
        record = {
            "topic": digest.stream.topic,
            "partition": self._partition,
            "first_offset": digest.first,
            "last_offset": digest.last,
            "read": digest.tally.read,
            "admitted": digest.tally.admitted,
            "late": digest.tally.late,
            "quarantined": dict(sorted(digest.tally.quarantined.items())),
            "refused": dict(sorted(digest.tally.refused.items())),
        }
        topic = f"receipts.{digest.stream.partner}"
        return Out(topic, self._partition, None, self._codec.encode("receipt", record))


def policies_digest(domain: Domain) -> str:
    """SHA-256 over the digests of the domain's active policies: what its contributions were made under."""
    return sha256("\n".join(product.digest for product in domain.products).encode()).hexdigest()


def _event_time(
    marks: list[tuple[int, int]],
    good: pl.DataFrame,
    taken_in: Callable[[np.ndarray], np.ndarray],
    stream: Stream,
    domains: Sequence[Domain],
    tables: LaneTables,
) -> tuple[list[tuple[int, int]], int]:
    """The marks (offset, until ms), and the newest event (ms); where a policy opted in to event time, each newest
    event is a mark too, for what is `idle_after` before it."""
    behind = event_time(domains, stream)
    if behind is None:
        return marks, NO_MARK
    events = newest_events(good, taken_in(good["offset"].to_numpy()), tables.sites(stream.partner))
    said = sorted([*marks, *((offset, event - behind) for offset, event in events)])
    return said, max((event for _, event in events), default=NO_MARK)


def _advance(
    before: Watermark, marks: Sequence[tuple[int, int]], offsets: np.ndarray, timestamps: list[int]
) -> Watermark:
    latest = max(marks, key=lambda mark: mark[1], default=None)
    if latest is None or latest[1] <= before.until:
        return before
    return Watermark(latest[1], timestamps[int(np.searchsorted(offsets, latest[0]))])


def _tally(good: pl.DataFrame, admissions: dict[str, Admission]) -> tuple[Tally, pl.DataFrame]:
    """Counts over all domains: a reading that one domain admits is admitted; a misplaced one is quarantined."""
    if not admissions:
        return Tally(refused={"no_product": good.height} if good.height else {}), REASONS_SCHEMA.to_frame()
    refused, *others = [a.refused for a in admissions.values()]
    for other in others:
        refused = refused.join(other.select("offset"), on="offset", how="semi")
    misplaced = next(iter(admissions.values())).quarantined
    tally = Tally(
        admitted=good.height - refused.height - misplaced.height,
        late=max(int(a.late["count"].sum()) for a in admissions.values()),
        refused=_counts(refused["reason"]),
    )
    return tally, misplaced


def _same(name: str, value: str, height: int) -> pl.Series:
    return pl.Series(name, [value]).new_from_index(0, height)


def _counts(reasons: pl.Series) -> dict[str, int]:
    """How many of each reason, most frequent first."""
    return dict(reasons.value_counts(sort=True).iter_rows()) if len(reasons) else {}


def _together(decoded: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """(offset, reason, schema_id) of what was bad when it was decoded, and of what others found in good records."""
    found = [frame.with_columns(schema_id=pl.lit(None, pl.Int64)) for frame in others if frame.height]
    return pl.concat([decoded, *found]) if found else decoded
