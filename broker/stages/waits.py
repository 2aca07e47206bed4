"""How long a domain's windows have waited for one of its streams, and up to where nobody waits any more.

Invariants
- `max_hold` holds per window: what the others completed less than `max_hold` ago is waited for, however long the
  stream has been silent. So a stream is given up at most up to where another one stood `max_hold` ago.
- A stream whose records lie there unread is never given up: the delay is the broker's. Where the broker cannot read
  it (a paused partner, a topic that is absent), the hold counts from when that began, or from the lane's start.
- What is forgotten (at a restart, or because the history is bounded) makes the hold longer, never shorter: of each
  stream the last mark and its append time are committed, and begin a new history.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from broker.core.admission import NO_MARK
from broker.core.calendar import duration_ms
from broker.core.plan import Domain, Plan, Stream
from broker.stages.ports import Place, Reader
from broker.stages.watermarks import Watermark

STEPS = 256
"""Marks of a stream that are remembered within the longest hold; those in between count as the next."""
TOLD_AFTER = 4
"""A stream is told of when windows have waited for it for this part of `max_hold`."""


@dataclass(frozen=True)
class Wait:
    """A change: a stream keeps windows waiting (ms; 0 = no more), and is given up for those that end by `until`."""

    place: Place
    waiting: int
    until: int | None = None


@dataclass
class _History:
    """Where a stream stood (ms), ascending, and when it came to stand there (ms)."""

    until: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def add(self, mark: Watermark) -> None:
        if mark.until > (self.until[-1] if self.until else NO_MARK):
            self.until.append(mark.until)
            self.at.append(max([mark.at, *self.at[-1:]]))

    def thin(self, now: int, hold: int) -> None:
        """Keeps one mark from before the hold and at most `STEPS` of it."""
        old = max(0, bisect_left(self.at, now - hold) - 1)
        del self.until[:old], self.at[:old]
        if len(self.at) > 2 and self.at[-2] - self.at[-3] < hold // STEPS:
            del self.until[-2], self.at[-2]

    def before(self, at: int) -> int:
        """The furthest that it stood before `at`."""
        index = bisect_left(self.at, at)
        return self.until[index - 1] if index else NO_MARK

    def passed(self, until: int) -> int | None:
        """When it first stood beyond `until`."""
        index = bisect_right(self.until, until)
        return self.at[index] if index < len(self.at) else None


class Waits:
    """Those of ingest lane `partition`."""

    def __init__(self, partition: int, reader: Reader) -> None:
        self._partition = partition
        self._reader = reader
        self._history: dict[Place, _History] = {}
        self._given_up: dict[Place, int] = {}
        self._blocked: dict[Place, int] = {}
        self._told: set[Place] = set()

    def take(self, marks: Mapping[Place, Watermark]) -> None:
        """Takes watermarks, those committed by a predecessor included."""
        for place, mark in marks.items():
            self._history.setdefault(place, _History()).add(mark)

    async def look(
        self, plan: Plan, readable: Collection[Place], paused: Collection[str], now: int
    ) -> list[Wait]:
        """What changed. readable: the streams whose topics are there."""
        holds = [(domain, _hold(domain)) for domain in plan.domains.values()]
        for history in self._history.values():
            history.thin(now, max((hold for _, hold in holds), default=0))
        streams = sorted({stream for domain, _ in holds for stream in domain.streams})
        self._block(streams, readable, paused, now)
        found = []
        for stream in streams:  # whoever gives one up does so for all its domains: the longest hold counts
            waiting = [(domain, hold) for domain, hold in holds if stream in domain.streams]
            others = {self._place(other) for domain, _ in waiting for other in domain.streams}
            others -= {self._place(stream)}
            hold = max(hold for _, hold in waiting)
            found += await self._judge(self._place(stream), sorted(others), hold, now)
        return found

    def _block(
        self, streams: Iterable[Stream], readable: Collection[Place], paused: Collection[str], now: int
    ) -> None:
        blocked = [s for s in streams if self._place(s) not in readable or s.partner in paused]
        self._blocked = {place: self._blocked.get(place, now) for place in map(self._place, blocked)}

    async def _judge(self, place: Place, others: list[Place], hold: int, now: int) -> list[Wait]:
        waiting = self._waiting(place, others, now)
        if waiting <= hold // TOLD_AFTER:
            over = place in self._told
            self._told.discard(place)
            return [Wait(place, 0)] if over else []
        if not await self._silent(place):
            return []
        until = max((self._of(other).before(now - hold) for other in others), default=NO_MARK)
        if waiting > hold and until > self._reached(place):
            self._given_up[place] = until
            self._told.add(place)
            return [Wait(place, waiting, until)]
        if place not in self._told:
            self._told.add(place)
            return [Wait(place, waiting)]
        return []

    def _waiting(self, place: Place, others: Iterable[Place], now: int) -> int:
        """ms since the first of the others went on without it, or since it can no longer be read."""
        reached = self._reached(place)
        passed = [at for other in others if (at := self._of(other).passed(reached)) is not None]
        return max(0, now - max(min(passed), self._blocked.get(place, 0))) if passed else 0

    async def _silent(self, place: Place) -> bool:
        """Whether nothing of it lies there unread that the broker could read."""
        if place in self._blocked:
            return True
        end = (await self._reader.end_offsets([place]))[place]
        return await self._reader.position(place) >= end

    def _place(self, stream: Stream) -> Place:
        return stream.topic, self._partition

    def _reached(self, place: Place) -> int:
        return max(self._given_up.get(place, NO_MARK), *self._of(place).until[-1:], NO_MARK)

    def _of(self, place: Place) -> _History:
        return self._history.get(place, _History())


def _hold(domain: Domain) -> int:
    return max(duration_ms(product.policy.window.max_hold) for product in domain.products)
