"""An ingest lane: partition p of every partner's topics in, encrypted contributions out, exactly once.

Each step: apply control, sites and consent up to their ends → take an equal quota of each partner's records →
decide about them → write contributions, marks, dead letters, receipts and the input offsets in one transaction.

Invariants
- Nothing is remembered but the tables and the watermarks, and both are in Kafka: the watermark of an input
  partition stands in the metadata of its committed offset.
- A partner whose tables are missing, whose consent service has gone silent, or whose topic cannot be read is
  paused and alerted; its marks stop, so its windows wait; the others go on.
- A mark goes out only after everything that precedes it in its partition, and only after the consent state of
  that moment was applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import polars as pl

from broker.core.calendar import Window, duration_ms
from broker.core.errors import Unreadable
from broker.core.plan import Domain, Stream
from broker.core.readings import OLDEST
from broker.core.retractions import consent_retractions, site_retractions
from broker.stages.books import BadRecord
from broker.stages.digest import Digest, Digester
from broker.stages.pauses import Pauses
from broker.stages.ports import Batch, Clock, Keys, Out, Place, Reader, Writer, together
from broker.stages.tables import CONSENT, CONTROL, SITES, Change, LaneTables, cut
from broker.stages.telemetry import Telemetry
from broker.stages.waits import Waits
from broker.stages.watermarks import Watermark, Watermarks

MOST_READINGS = 250_000
WAIT_MS = 200
GATHER_ROUNDS, GATHER_MS = 5, 200
OPEN_SPAN_MS = 70 * 86_400_000
"""How far before the marks of this lane, and the longest hold, an open window may reach: two months and their
lateness; which epochs a retraction concerns."""
AHEAD_MS = 3 * 86_400_000
"""How far ahead a contribution may be: a day of clocks that are wrong, and two days of `max_gap`."""


class IngestLane:
    """Ingest lane `partition`; `start`, then `step` again and again, then `stop`."""

    role = "ingest"

    def __init__(
        self,
        partition: int,
        tables: LaneTables,
        digester: Digester,
        state: Reader,
        reader: Reader,
        writer: Writer,
        keys: Keys,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._partition = partition
        self._tables = tables
        self._digester = digester
        self._state = state
        self._reader = reader
        self._writer = writer
        self._keys = keys
        self._clock = clock
        self._telemetry = telemetry
        self._ahead: dict[Place, Batch] = {}
        self._streams: dict[Place, Stream] = {}
        self._watermarks = Watermarks(partition, tables.lanes, reader)
        self._waits = Waits(partition, reader)
        self._read: dict[Place, int] = {}
        self._ever_read: set[Place] = set()
        self._pauses = Pauses(tables, clock, telemetry)
        self._announced = ""

    async def start(self) -> None:
        """Fence the former owner; then read what it committed, the tables up to there, and the plan."""
        self._pauses.begin()
        await self._writer.start()
        await self._state.start()
        await self._reader.start()
        places = await self._state_places()
        committed = await self._state.committed(places)
        await self._state.assign(await self._state.first_offsets(places))
        await self._read_state({place: offset for place, (offset, _) in committed.items()})
        self._tables.refresh()
        self._announced = committed.get((CONTROL, 0), (0, ""))[1]
        declared = [(stream.topic, self._partition) for stream in self._tables.control.streams()]
        self._ever_read |= (await self._reader.committed(declared)).keys()
        await self._follow_plan()

    async def stop(self) -> None:
        await asyncio.gather(*(client.stop() for client in (self._state, self._reader, self._writer)))

    async def step(self) -> None:
        """One round; returns after at most about `WAIT_MS` when there is nothing to do."""
        gathered = await self._gather()
        # after the fetch: no reading overtakes a withdrawal that it followed
        out, offsets = await self._catch_up()
        gathered = await self._put_back(gathered)
        digests, outgoing = await asyncio.to_thread(self._decide, gathered)
        out += outgoing
        now = self._clock.now()
        marks = await self._watermarks.idle(
            self._tables.plan, self._streams, self._pauses.reasons.keys(), now
        )
        marks |= {(d.stream.topic, self._partition): d.watermark for d in digests}
        out += self._marks(marks)
        self._take(marks)
        out += await self._stalled(now)
        moved = self._offsets(digests, marks)
        if out or offsets or moved:
            await self._writer.commit(out, offsets | moved)
        self._read |= {place: offset for place, (offset, _) in moved.items()}
        self._ever_read |= moved.keys()
        self._report(digests)
        for (topic, partition), records in (await self._reader.behind()).items():
            self._telemetry.lag(topic, partition, records)

    # -- control, sites, consent ----------------------------------------------------------------------

    async def _state_places(self) -> list[Place]:
        """The control topic, and this lane's partition of each partner's sites and consent that exist."""
        topics = await self._state.topics()
        own = sorted(topic for topic in topics if topic.startswith((SITES, CONSENT)))
        return [(CONTROL, 0), *((topic, self._partition) for topic in own)]

    async def _read_state(self, ends: Mapping[Place, int]) -> list[BadRecord]:
        """Applies records of the state topics up to these offsets; those fetched beyond wait for the next call,
        because what they take back must still be told."""
        bad: list[BadRecord] = []
        waiting = dict(ends)
        while waiting := {place: end for place, end in waiting.items() if await self._position(place) < end}:
            batches: list[Batch] = [self._ahead.pop(place) for place in waiting if place in self._ahead]
            if not batches:
                try:
                    batches += await self._state.poll(list(waiting), most=MOST_READINGS, wait_ms=WAIT_MS)
                except Unreadable as error:
                    self._pauses.set_aside(error)
                    waiting = {
                        place: end for place, end in waiting.items() if not self._pauses.is_aside(place[0])
                    }
            for batch in batches:
                place = batch.topic, batch.partition
                due, rest = cut(batch, waiting[place])
                if rest.offsets:
                    self._ahead[place] = rest
                bad += await asyncio.to_thread(self._tables.apply, due)
        return bad

    async def _position(self, place: Place) -> int:
        """Offset of the next record of a state topic that was not applied."""
        ahead = self._ahead.get(place)
        return ahead.offsets[0] if ahead else await self._state.position(place)

    async def _catch_up(self) -> tuple[list[Out], dict[Place, tuple[int, str]]]:
        """Brings the tables up to now; what follows from that, and the offsets to commit with it."""
        if self._lacks_topics():
            await self._follow_plan()
        places = [place for place in sorted(self._state.assigned) if not self._pauses.is_aside(place[0])]
        before = {place: await self._position(place) for place in places}
        ends = await self._state.end_offsets(places)
        behind = {place: end for place, end in ends.items() if before[place] < end}
        bad = await self._read_state(behind)
        changes, more, replanned = (
            await asyncio.to_thread(self._tables.refresh) if behind else ([], [], False)
        )
        if replanned:
            await self._follow_plan()
        # not those that were set aside meanwhile
        offsets = {place: (end, "") for place, end in behind.items() if await self._position(place) >= end}
        # first: what follows is read under this plan
        out = self._announce(offsets, await self._position((CONTROL, 0)))
        for record in [
            *bad,
            *more,
        ]:  # few, and each keeps somebody from counting: the operator should see them too
            self._telemetry.bad_record(
                record.partner, record.reason, record.topic, record.partition, record.offset
            )
            if record.partner != "broker":
                out.append(self._digester.dead_letter(record))
        out += await asyncio.to_thread(lambda: [item for c in changes for item in self._retractions(c)])
        return out, offsets

    def _announce(self, offsets: dict[Place, tuple[int, str]], read: int) -> list[Out]:
        """The control state as of offset `read`, to every release lane, whenever it is another than the last."""
        state = self._tables.state
        digest = sha256(state).hexdigest()
        if (CONTROL, 0) in offsets:
            offsets[CONTROL, 0] = (offsets[CONTROL, 0][0], digest)
        if digest == self._announced or not (self._announced or self._tables.control.activations):
            return []
        self._announced = digest
        self._telemetry.left_out(self._tables.left_out)
        return list(self._digester.plan(state, read))

    def _lacks_topics(self) -> bool:
        """Whether topics that the plan asks for were not there when they were looked for last."""
        known = {topic for topic, _ in self._state.assigned}
        return any(
            (stream.topic, self._partition) not in self._streams
            or not {SITES + stream.partner, CONSENT + stream.partner} <= known
            for domain in self._tables.plan.domains.values()
            for stream in domain.streams
        )

    async def _follow_plan(self) -> None:
        """Reads the streams that the plan asks for, those new to it from where they were committed."""
        places = await self._state_places()
        new = [place for place in places if place not in self._state.assigned]
        if new:
            await self._state.assign(await self._state.first_offsets(new))
        topics = await self._reader.topics()
        streams = {s for d in self._tables.plan.domains.values() for s in d.streams if s.topic in topics}
        wanted = {(s.topic, self._partition): s for s in sorted(streams)}
        fresh = [place for place in wanted if place not in self._reader.assigned]
        if fresh:
            committed = await self._reader.committed(fresh)
            first = await self._reader.first_offsets([place for place in fresh if place not in committed])
            self._take({place: Watermark.read(meta) for place, (_, meta) in committed.items()})
            self._ever_read |= committed.keys()
            self._read |= first | {place: offset for place, (offset, _) in committed.items()}
            await self._reader.assign({place: self._read[place] for place in fresh})
            self._watermarks.saw(fresh, self._clock.now())
        self._streams = wanted

    def _retractions(self, change: Change) -> Iterator[Out]:
        """What a changed site or consent record takes back, from each product that is activated."""
        sites = self._tables.sites(change.partner)
        own = f"in.{change.partner}."
        if sites is None or not any(topic.startswith(own) for topic, _ in self._ever_read):
            return  # nothing was ever admitted of this partner here
        for domain in (*self._tables.plan.domains.values(), *self._tables.plan.waiting):
            span = self._open_span(domain)
            epochs = domain.calendar.epochs(span.start, span.end - 1)
            keys = self._keys.epoch_key
            rows = pl.concat(
                [
                    site_retractions(change.sites, change.former, sites, domain, epochs=epochs, keys=keys),
                    consent_retractions(
                        change.consent,
                        sites,
                        self._tables.consent(change.partner),
                        domain,
                        span=span,
                        keys=keys,
                    ),
                ]
            )
            if rows.height:
                yield from self._digester.retractions(domain, rows)

    def _open_span(self, domain: Domain) -> Window:
        """Holds every moment that an open window of the domain may hold readings of.

        A stream without any mark holds every window since the domain began.
        """
        now = self._clock.now()
        marks = [self._watermarks.of((stream.topic, self._partition)).until for stream in domain.streams]
        began = max(OLDEST, min(product.active_from for product in domain.products))
        held = max(duration_ms(product.policy.window.max_hold) for product in domain.products)
        first = max(began - max([0, *domain.max_gap.values()]), min([now, *marks]) - held - OPEN_SPAN_MS)
        return Window(min(first, now), max([now, *marks]) + AHEAD_MS + 1)

    # -- readings -------------------------------------------------------------------------------------

    async def _gather(self) -> list[tuple[Batch, Stream]]:
        """Up to `MOST_READINGS` readings, or what comes in a second: a transaction of few costs as much. Where more
        lie in Kafka, nobody sleeps over it; and windows may wait for a completeness mark, which waits for nothing."""
        found: dict[Place, list[Batch]] = {}
        count = 0
        more = False
        for number in range(GATHER_ROUNDS):
            batches = await self._poll(0 if number and not more else WAIT_MS)
            for batch in batches:
                found.setdefault((batch.topic, batch.partition), []).append(batch)
                count += len(batch.offsets)
            if not batches or count >= MOST_READINGS or any(map(self._digester.ends_in_mark, batches)):
                break
            more = await self._more()
            if not more:
                await asyncio.sleep(GATHER_MS / 1000)
        return [(together(batches), self._streams[place]) for place, batches in sorted(found.items())]

    async def _more(self) -> bool:
        """Whether a partner that is read has more in Kafka: what a paused one has stays there while it is paused."""
        waiting = self._pauses.reasons
        return any(
            records
            for place, records in (await self._reader.behind()).items()
            if place in self._streams and self._streams[place].partner not in waiting
        )

    async def _poll(self, wait_ms: int) -> list[Batch]:
        """An equal quota of each partner that may be read; waits only where no partner has anything."""
        known = {topic for topic, _ in self._state.assigned}
        partners, resumed = self._pauses.look(self._streams, known)
        again = [place for place, stream in self._streams.items() if stream.partner in resumed]
        self._watermarks.saw(again, self._clock.now())
        if not partners:
            await asyncio.sleep(wait_ms / 1000)
            return []
        quota = max(1, MOST_READINGS // len(partners))
        batches: list[Batch] = []
        for places in partners.values():
            batches += await self._read_of(places, quota, 0)
        if not batches and wait_ms:
            every = [place for places in partners.values() for place in places]
            batches += await self._read_of(every, quota, wait_ms)
        return batches

    async def _read_of(self, places: list[Place], most: int, wait_ms: int) -> Sequence[Batch]:
        try:
            return await self._reader.poll(places, most=most, wait_ms=wait_ms)
        except Unreadable as error:
            self._pauses.set_aside(error)
            return []

    async def _put_back(self, gathered: list[tuple[Batch, Stream]]) -> list[tuple[Batch, Stream]]:
        """Without the readings of partners whose tables could not be brought up to date: they are read again."""
        kept = []
        for batch, stream in gathered:
            if self._pauses.is_aside(batch.topic):
                await self._reader.seek((batch.topic, batch.partition), batch.offsets[0])
            else:
                kept.append((batch, stream))
        return kept

    def _decide(self, batches: list[tuple[Batch, Stream]]) -> tuple[list[Digest], list[Out]]:
        """What the batches come to, and what goes out of it: in one go, so that lanes which wait for a core hold no
        half-done work in memory."""
        digests = [
            self._digester.digest(
                batch, stream, self._tables, self._watermarks.of((batch.topic, batch.partition))
            )
            for batch, stream in batches
        ]
        out = list(self._digester.contributions(digests, self._tables.plan))
        out += [self._digester.dead_letter(record) for digest in digests for record in digest.quarantined]
        return digests, out + [self._digester.receipt(digest) for digest in digests]

    # -- after a batch --------------------------------------------------------------------------------

    def _marks(self, marks: Mapping[Place, Watermark]) -> list[Out]:
        """What is new of these, to every release lane."""
        return [
            item
            for place, mark in sorted(marks.items())
            if mark.until > self._watermarks.of(place).until
            for item in self._digester.mark("mark", place[0], mark.until)
        ]

    def _take(self, marks: Mapping[Place, Watermark]) -> None:
        self._watermarks.take(marks)
        self._waits.take(marks)

    async def _stalled(self, now: int) -> list[Out]:
        """Tells of the streams that keep windows waiting; those given up also to every release lane."""
        out: list[Out] = []
        for wait in await self._waits.look(
            self._tables.plan, self._streams.keys(), self._pauses.reasons.keys(), now
        ):
            topic, partition = wait.place
            self._telemetry.stalled(topic, partition, wait.waiting, given_up=wait.until is not None)
            if wait.until is not None:
                out += self._digester.mark("stalled", topic, wait.until)
        return out

    def _offsets(
        self, digests: list[Digest], marks: Mapping[Place, Watermark]
    ) -> dict[Place, tuple[int, str]]:
        """Next offset and watermark of each input partition that moved."""
        read = {(digest.stream.topic, self._partition): digest.last + 1 for digest in digests}
        return {
            place: (read.get(place, self._read.get(place, 0)), mark.metadata())
            for place, mark in marks.items()
        }

    def _report(self, digests: list[Digest]) -> None:
        now = self._clock.now()
        for digest in digests:
            place = (digest.stream.topic, self._partition)
            self._watermarks.saw([place], now)
            tally, partner = digest.tally, digest.stream.partner
            self._telemetry.readings(partner, "admitted", "", tally.admitted)
            for reason, count in tally.quarantined.items():
                self._telemetry.readings(partner, "quarantined", reason, count)
            for reason, count in tally.refused.items():
                self._telemetry.readings(partner, "refused", reason, count)
            self._telemetry.watermark(place[0], self._partition, self._watermarks.of(place).until)
