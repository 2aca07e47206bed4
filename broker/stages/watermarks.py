"""How far each input partition of an ingest lane is complete, and what follows from silence.

Invariants
- A watermark never goes back, and is committed with the offset of what said it.
- Event time (opt-in) runs `idle_after` behind the newest reading of a known point: so much disorder is allowed
  (`policy_model.EventTime`), as of readings that are sent by hour and not by point.
- Silence is judged by the broker's clock, completeness never: what silence comes to goes out as a record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from broker.core.admission import NO_MARK
from broker.core.calendar import duration_ms
from broker.core.plan import Domain, Plan, Stream
from broker.core.sites import Ints, SiteTable
from broker.stages.ports import Place


@dataclass(frozen=True)
class Watermark:
    """Of one input partition. until: all before it was sent (ms); at: append time of what said so (ms)."""

    until: int = NO_MARK
    at: int = 0

    def metadata(self) -> str:
        return json.dumps({"mark": self.until, "at": self.at}, sort_keys=True)

    @classmethod
    def read(cls, metadata: str) -> Watermark:
        if not metadata:
            return cls()
        found = json.loads(metadata)
        return cls(int(found["mark"]), int(found["at"]))


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
    """Those of one lane, by input partition. started: when the lane began (ms)."""

    def __init__(self) -> None:
        self._started = 0
        self._known: dict[Place, Watermark] = {}
        self._last_seen: dict[Place, int] = {}

    def start(self, now: int) -> None:
        self._started = now

    def of(self, place: Place) -> Watermark:
        return self._known.get(place, Watermark())

    def take(self, marks: Mapping[Place, Watermark]) -> None:
        """Takes what was committed."""
        self._known |= marks

    def saw(self, place: Place, now: int) -> None:
        """Records of the partition were read."""
        self._last_seen[place] = now

    def idle(
        self, plan: Plan, streams: Mapping[Place, Stream], paused: Mapping[str, str], now: int
    ) -> dict[Place, Watermark]:
        """Streams without marks, silent for longer than their policy's `idle_after`, follow the others."""
        moved = {}
        for domain in plan.domains.values():
            for place, stream in _own(domain, streams):
                after = None if stream.partner in paused else event_time([domain], stream)
                if after is not None and now - self._last_seen.get(place, self._started) > after:
                    until = self._latest(domain, streams, place)
                    if until > self.of(place).until:
                        moved[place] = Watermark(until, now)
        return moved

    def _latest(self, domain: Domain, streams: Mapping[Place, Stream], but: Place) -> int:
        """The furthest watermark of the domain's other streams in this lane."""
        others = [self.of(place).until for place, _ in _own(domain, streams) if place != but]
        return max(others, default=NO_MARK)


def _own(domain: Domain, streams: Mapping[Place, Stream]) -> Iterator[tuple[Place, Stream]]:
    return ((place, s) for place, s in sorted(streams.items()) if s in domain.streams)
