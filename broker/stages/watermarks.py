"""How far each input partition of an ingest lane is complete, and what follows from silence.

Invariants
- A watermark never goes back, and is committed with the offset of what said it.
- Event time (opt-in) runs `idle_after` behind the newest reading of a known point: so much disorder is allowed
  (`policy_model.EventTime`), as of readings that are sent by hour and not by point.
- Silence is judged by the broker's clock, and only of what was read to its end: a backlog is not silence.
  Completeness is never judged by the clock, and what silence comes to goes out as a record.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from broker.core.admission import NO_MARK
from broker.core.calendar import duration_ms
from broker.core.plan import Domain, Plan, Stream
from broker.core.sites import Ints, SiteTable
from broker.stages.ports import Place, Reader

LOOK_MS = 60_000
"""How often a lane looks what the others committed, while a stream of its own is silent."""


@dataclass(frozen=True)
class Watermark:
    """Of one input partition. until: all before it was sent (ms); at: append time of what said so (ms); event: the
    newest reading's end (ms; kept of streams that go by event time)."""

    until: int = NO_MARK
    at: int = 0
    event: int = NO_MARK

    def metadata(self) -> str:
        event = {} if self.event == NO_MARK else {"event": self.event}
        return json.dumps({"mark": self.until, "at": self.at, **event}, sort_keys=True)

    @classmethod
    def read(cls, metadata: str) -> Watermark:
        if not metadata:
            return cls()
        found = json.loads(metadata)
        return cls(int(found["mark"]), int(found["at"]), int(found.get("event", NO_MARK)))


def event_time(domains: Iterable[Domain], stream: Stream) -> int | None:
    """`idle_after` (ms; the longest) of the products of these domains that take the stream by event time; None
    where all ask for marks."""
    spans = [
        duration_ms(product.policy.watermark.event_time.idle_after)
        for domain in domains
        for product in domain.products
        if product.policy.watermark.event_time is not None and stream in product.streams
    ]
    return max(spans, default=None)


def newest_events(good: pl.DataFrame, appended: Ints, sites: SiteTable | None) -> list[tuple[int, int]]:
    """(offset, end in ms) of each reading that is newer than all before it in the batch.

    good: readings frame; appended: when each was taken in (ms). Only points that had a site then: what is refused
    as unknown says nothing of the others. A meter whose clock is ahead is taken to speak of the present.
    """
    if sites is None or good.is_empty():
        return []
    known = sites.locate(good["delivery_point"], good["start"].to_numpy()).site >= 0
    return (
        good.select("offset", event=pl.min_horizontal("end", pl.Series(appended, dtype=pl.Int64)))
        .filter(known)
        .sort("offset")
        .with_columns(before=pl.col("event").cum_max().shift(1).fill_null(NO_MARK))
        .filter(pl.col("event") > pl.col("before"))
        .select("offset", "event")
        .rows()
    )


class Watermarks:
    """Those of ingest lane `partition` of `lanes`, by input partition."""

    def __init__(self, partition: int, lanes: int, reader: Reader) -> None:
        self._partition = partition
        self._lanes = lanes
        self._reader = reader
        self._known: dict[Place, Watermark] = {}
        self._last_seen: dict[Place, int] = {}
        self._elsewhere: dict[str, int] = {}
        self._looked = -LOOK_MS

    def of(self, place: Place) -> Watermark:
        return self._known.get(place, Watermark())

    def take(self, marks: Mapping[Place, Watermark]) -> None:
        """Takes what was read, or committed."""
        self._known |= marks

    def saw(self, places: Iterable[Place], now: int) -> None:
        """Records of these partitions were read, or could not be read before."""
        self._last_seen |= dict.fromkeys(places, now)

    async def idle(
        self, plan: Plan, streams: Mapping[Place, Stream], paused: Collection[str], now: int
    ) -> dict[Place, Watermark]:
        """Streams by event time that were read to their end and are silent for `idle_after`: complete up to that
        span before the newest event of their partner (`policy_model.EventTime`), wherever it was read.

        A partner that is silent altogether is not idle: its windows wait.
        """
        silent: dict[Place, int] = {}
        for place, stream in streams.items():
            after = None if stream.partner in paused else event_time(plan.domains.values(), stream)
            if after is not None and now - self._last_seen.get(place, now) > after:
                silent[place] = after
        if not silent:
            return {}
        ends = await self._reader.end_offsets(silent)
        newest = await self._newest_events({streams[place].partner for place in silent}, streams, now)
        moved = {}
        for place, after in silent.items():
            mark, until = self.of(place), newest[streams[place].partner] - after
            if until > mark.until and await self._reader.position(place) >= ends[place]:
                moved[place] = replace(mark, until=until, at=now)
        return moved

    async def _newest_events(
        self, partners: Collection[str], streams: Mapping[Place, Stream], now: int
    ) -> dict[str, int]:
        """By partner; from what every lane has committed where that was not looked at for long."""
        own = [(place, s.partner) for place, s in streams.items() if s.partner in partners]
        if now - self._looked >= LOOK_MS:
            self._looked = now
            others = {
                (topic, lane): partner
                for (topic, _), partner in own
                for lane in range(self._lanes)
                if lane != self._partition
            }
            for place, (_, metadata) in (await self._reader.committed(others)).items():
                known = self._elsewhere.get(others[place], NO_MARK)
                self._elsewhere[others[place]] = max(known, Watermark.read(metadata).event)
        return {
            partner: max(
                self._elsewhere.get(partner, NO_MARK),
                *(self.of(place).event for place, whose in own if whose == partner),
            )
            for partner in partners
        }
