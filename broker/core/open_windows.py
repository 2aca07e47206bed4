"""What one release lane remembers: contributions of open base windows, roll-ups of open longer windows.

Invariants
- Everything here is decided by the records of one contributions partition, in their order: replaying a
  prefix gives the same state, and no clock is read.
- A base window of a domain closes once, in order of time, when the watermark (the lowest over the input
  partitions) of every stream that contributes to it has passed `Domain.shut` of its end (lateness included), or every
  input partition that has not passed it was declared stalled. Streams contribute to the windows of products that run
  then: one that is activated for next month holds nothing today. Records for a closed window are counted as late and
  change nothing.
- A stream that was stalled when a base window closed is *left out* of it. Products whose policy says `hold`
  abandon their window then; products that say `release_without` are decided without that stream.
- A retraction clears product bits of rows that precede it, in open base windows and in the roll-ups of open
  longer windows alike (design: *What is retracted*).
- What is held belongs to products by key (`lives`): a product that may not run for a while, alone or with its
  whole domain, finds its windows as it left them. Only when its activation is removed does what was held for it go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from broker.core.bits import rename_bits
from broker.core.calendar import LENGTHS, Window
from broker.core.fold import retract, roll_up
from broker.core.fold_frames import ROLLUP
from broker.core.held import TEXT, Held, Packed, together
from broker.core.lives import Lives
from broker.core.plan import Domain, Plan, Product, Stream
from broker.core.rollups import Looks, Rollup, Rollups

Finish = Callable[[pl.DataFrame, int], pl.DataFrame]
"""(rows as they were folded, start of their base window) -> frame ROWS."""
NEVER = -(2**62)
MOST_BITS = 64


@dataclass(frozen=True)
class Due:
    """A product's window that the closing of its last base window completes."""

    domain: Domain
    product: Product
    window: Window
    rollups: Rollups
    left_out: tuple[Stream, ...]
    abandoned: bool


@dataclass(frozen=True)
class Closed:
    """One base window, closed: its roll-up, and the product windows to be decided now, in order."""

    domain: Domain
    window: Window
    rollup: pl.DataFrame
    due: tuple[Due, ...]


@dataclass
class _Book:
    """One domain's open windows. names: the key of each bit's product in roll-ups and retractions, the running ones
    first, as in the plan; rollups_from: start of the oldest base window whose roll-up may still be asked for."""

    next_start: int = NEVER
    rollups_from: int = NEVER
    names: list[str] = field(default_factory=list)
    rows: dict[int, list[Held]] = field(default_factory=dict)
    first_seq: dict[int, int] = field(default_factory=dict)
    retractions: list[pl.DataFrame] = field(default_factory=list)
    looks: Looks = field(default_factory=Looks)
    rollups: dict[int, Rollup] = field(default_factory=dict)
    left_out: dict[int, tuple[str, ...]] = field(default_factory=dict)
    late: int = 0


class OpenWindows:
    """The state of one release lane.

    lanes: number of input partitions whose marks must all have passed before a window closes; finish: what makes
    frame ROWS of the rows that `fold` was given, when their window closes.
    """

    def __init__(self, lanes: int, finish: Finish = lambda rows, _start: rows) -> None:
        self._lanes = lanes
        self._finish = finish
        self._plan: Plan | None = None
        self._lives = Lives()
        self._books: dict[str, _Book] = {}
        self._marks: dict[tuple[str, int], int] = {}
        self._stalled: dict[tuple[str, int], int] = {}
        self._awaited: dict[str, tuple[int, Sequence[Stream]]] = {}  # by domain: base window, needed by it

    # -- what arrives ---------------------------------------------------------------------------------

    def set_plan(self, plan: Plan, seq: int = 0) -> None:
        """The products in force from the record at `seq` on.

        A product's first window starts where its domain has not closed yet, and its own streams have not passed yet; a
        domain's is the earliest of its products'.
        """
        self._plan, self._awaited = plan, {}
        for name, domain in plan.domains.items():
            book = self._books.setdefault(name, _Book())
            if book.next_start == NEVER:
                first = min(max(product.active_from, self._passed(product)) for product in domain.products)
                book.next_start = domain.calendar.window(domain.base, first).start
                for start in [start for start in book.rows if start < book.next_start]:
                    del book.rows[start], book.first_seq[start]
        void = self._lives.follow(plan, seq, self._first)
        for name, book in self._books.items():
            running = [product.key for product in plan.domains[name].products] if name in plan.domains else []
            self._renumber(book, running, void)

    def takes(self, written: Sequence[str], seq: int) -> bool:
        """Whether a record at `seq` that was made for these products is for any that is still activated."""
        return any(self._lives.counts(name, seq) for name in written)

    def numbered(
        self, domain: str, rows: pl.DataFrame, column: str, written: Sequence[str], seq: int
    ) -> pl.DataFrame:
        """Rows of a record at `seq` with the product bits in `column` (bit i = written[i]) as this lane numbers
        them; bits of products that are not activated, or only since a later record, are cleared."""
        counting, names = self._counting(domain, written, seq), self._book(domain).names
        return rows if counting == names[: len(counting)] else rename_bits(rows, column, counting, names)

    def fold(
        self, domain: str, window: int, rows: Packed, seq: int, written: Sequence[str] | None = None
    ) -> bool:
        """Takes one chunk of contributions; False if its window has closed (then nothing changes).

        rows: frame ROWS without `seq`, or what `finish` makes that of; or the piece that holds them, which is opened
        when the window closes. written: the keys of the products that the mask's bits stand for; without it those
        that run.
        """
        book = self._book(domain)
        if window < book.next_start:
            self.count_late(domain, Held(rows, [], seq).opened([]).height)
            return False
        names = list(book.names) if written is None else self._counting(domain, written, seq)
        book.rows.setdefault(window, []).append(Held(rows, names, seq))
        book.first_seq.setdefault(window, seq)
        return True

    def count_late(self, domain: str, count: int) -> None:
        """Counts readings that came for a window that has closed."""
        self._book(domain).late += count

    def retract(self, domain: str, retractions: pl.DataFrame) -> None:
        """Takes retractions (`point, premises, bits, from_ms, seq`); they reach what precedes `seq`: roll-ups at once,
        open rows when their window closes."""
        book = self._book(domain)
        if book.rows:
            book.retractions.append(retractions)
        book.rollups = {
            start: rollup.retracted(book.looks, retractions) for start, rollup in book.rollups.items()
        }

    def mark(self, topic: str, lane: int, until: int) -> None:
        """All of `topic`'s partition `lane` before `until` (ms) has been read."""
        self._marks[topic, lane] = max(until, self._marks.get((topic, lane), NEVER))

    def stalled(self, topic: str, lane: int, until: int) -> None:
        """Waiting for `topic`'s partition `lane` is given up for windows that end by `until` (ms)."""
        self._stalled[topic, lane] = max(until, self._stalled.get((topic, lane), NEVER))

    def add_rollup(self, domain: str, window: int, rows: pl.DataFrame) -> None:
        """Takes a roll-up read back at the start of a lane."""
        book = self._book(domain)
        piece = Rollup.of(rows.with_columns(TEXT), Window(window, rows["end"][0]), book.looks)
        known = book.rollups.get(window)
        book.rollups[window] = piece if known is None else known.together(piece)

    # -- what follows ---------------------------------------------------------------------------------

    def may_close(self) -> bool:
        """Whether `close_next` would close anything."""
        return any(self._closable(domain) is not None for domain in self._domains())

    def close_next(self, seq: int) -> Iterator[Closed]:
        """Closes every base window that the record at `seq` lets close, in the order of domains and time."""
        for domain in self._domains():
            while (left_out := self._closable(domain)) is not None:
                yield self._close(domain, left_out, seq)

    def oldest_needed(self, position: int) -> int:
        """The offset from which a restarted lane must fold again: the first of its oldest open windows."""
        firsts = [seq for book in self._books.values() for seq in book.first_seq.values()]
        return min([position, *firsts])

    def snapshot(self) -> dict[str, Any]:
        """What a restarted lane must know beside the records that it folds again; canonical, JSON-ready."""
        books = sorted(self._books.items())
        return {
            "closed_until": {name: book.next_start for name, book in books if book.next_start > NEVER},
            "rollups_from": {name: book.rollups_from for name, book in books if book.rollups_from > NEVER},
            "late": {name: book.late for name, book in books if book.late},
            "lives": self._lives.dump(),
            "left_out": {
                name: {str(start): list(topics) for start, topics in sorted(book.left_out.items())}
                for name, book in books
            },
            "marks": [[topic, lane, until] for (topic, lane), until in sorted(self._marks.items())],
            "stalled": [[topic, lane, until] for (topic, lane), until in sorted(self._stalled.items())],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Takes back a snapshot, before or after the plan is set."""
        self._marks = {(topic, lane): until for topic, lane, until in snapshot["marks"]}
        self._stalled = {(topic, lane): until for topic, lane, until in snapshot["stalled"]}
        self._lives, self._awaited = Lives.load(snapshot["lives"]), {}
        for name, start in snapshot["closed_until"].items():
            book = self._books.setdefault(name, _Book())
            book.next_start = max(book.next_start, start)
            book.rollups_from = snapshot["rollups_from"].get(name, NEVER)
            left = snapshot["left_out"].get(name, {})
            book.left_out = {int(at): tuple(topics) for at, topics in left.items()}
        for name, count in snapshot["late"].items():
            self._book(name).late = count

    def open_count(self, domain: str) -> int:
        """Base windows of the domain that hold contributions and are open."""
        return len(self._books[domain].rows) if domain in self._books else 0

    def late(self, domain: str) -> int:
        """Readings for windows that had closed, of all time: those that ingest told of, and rows that came after the
        wait for their stream had been given up."""
        return self._books[domain].late if domain in self._books else 0

    def watermark(self, stream: Stream) -> int:
        """The lowest mark (ms) over the stream's partitions."""
        return min(self._marks.get((stream.topic, lane), NEVER) for lane in range(self._lanes))

    def next_start(self, domain: str) -> int:
        """Start (ms) of the oldest base window that has not closed."""
        return self._books[domain].next_start if domain in self._books else NEVER

    def oldest_rollup(self, domain: Domain, base: int) -> int:
        """Start of the oldest longer window that base window `base` still belongs to: of products that run, and of
        those that wait to run again."""
        assert self._plan is not None
        lengths = {product.policy.window.length for product in domain.products}
        for waiting in self._plan.waiting:
            if waiting.name == domain.name:
                lengths |= {product.policy.window.length for product in waiting.products}
        if self._plan.unreadable:
            lengths.add(LENGTHS[-1])
        return min(domain.calendar.window(length, base).start for length in lengths)

    def rollups_from(self, domain: str) -> int:
        """Start (ms) of the oldest base window whose roll-up may still be asked for."""
        return self._books[domain].rollups_from if domain in self._books else NEVER

    def rollups(self) -> set[tuple[str, int]]:
        """(domain, start) of the base windows whose roll-ups are held."""
        return {(name, start) for name, book in self._books.items() for start in book.rollups}

    # -- inside ---------------------------------------------------------------------------------------

    def _domains(self) -> list[Domain]:
        return [] if self._plan is None else [self._plan.domains[name] for name in sorted(self._plan.domains)]

    def _book(self, domain: str) -> _Book:
        return self._books.setdefault(domain, _Book())

    def _counting(self, domain: str, written: Sequence[str], seq: int) -> list[str]:
        """The key of each bit's product, "" for those for which a record at `seq` does not count, or no bit is left."""
        names = self._book(domain).names
        counting = [name if self._lives.counts(name, seq) else "" for name in written]
        new = [name for name in counting if name and name not in names]
        names += new[: MOST_BITS - len(names)]
        return [name if name in names else "" for name in counting]

    def _renumber(self, book: _Book, running: list[str], void: frozenset[str]) -> None:
        """Bits of `running` first; those of products that are void, or have no life any more, are cleared."""
        gone = {name for name in book.names if name in void or name not in self._lives}
        held = ["" if name in gone else name for name in book.names]
        now = [*running, *(name for name in held if name and name not in running)][:MOST_BITS]
        if held and not any(held):
            book.rows, book.first_seq, book.rollups, book.left_out, book.retractions = {}, {}, {}, {}, []
        elif held != now[: len(held)]:
            book.rows = {
                start: [chunk.without(gone) for chunk in chunks] for start, chunks in book.rows.items()
            }
            book.rollups = {
                start: rollup.each(lambda rows: rename_bits(rows, "mask", held, now))
                for start, rollup in book.rollups.items()
            }
            book.retractions = [rename_bits(rows, "bits", held, now) for rows in book.retractions]
        book.names = now

    def _closable(self, domain: Domain) -> tuple[str, ...] | None:
        """The topics left out of the next base window, or None where it must stay open."""
        if not domain.streams:
            return None
        window = domain.calendar.window(domain.base, self._book(domain.name).next_start)
        left_out = []
        for stream in self._needed(domain, window.start):
            needed = domain.shut(window.end, stream)
            behind = [
                lane for lane in range(self._lanes) if self._marks.get((stream.topic, lane), NEVER) < needed
            ]
            if any(self._stalled.get((stream.topic, lane), NEVER) < needed for lane in behind):
                return None
            if behind:
                left_out.append(stream.topic)
        return tuple(left_out)

    def _first(self, domain: Domain, product: Product) -> int:
        return max(self._book(domain.name).next_start, self._passed(product))

    def _passed(self, product: Product) -> int:
        """The furthest mark (ms) of the product's streams: what they sent before it was not read for the product."""
        marks = (
            self._marks.get((s.topic, lane), NEVER) for s in product.streams for lane in range(self._lanes)
        )
        return max(marks, default=NEVER)

    def _needed(self, domain: Domain, base: int) -> Sequence[Stream]:
        """The streams that base window `base` waits for: those of the products whose own window it belongs to. Where
        no product runs yet, all of them, so that the domain does not run ahead of its marks."""
        known = self._awaited.get(domain.name)
        if known is None or known[0] != base:
            running = [product for product in domain.products if self._own_window(domain, product, base)]
            streams = sorted({stream for product in running for stream in product.streams}) or domain.streams
            known = self._awaited[domain.name] = base, streams
        return known[1]

    def _own_window(self, domain: Domain, product: Product, base: int) -> Window | None:
        """The product's window that base window `base` belongs to; None where the product does not run then."""
        window = domain.calendar.window(product.policy.window.length, base)
        return window if self._lives.first(product) <= window.start < product.active_until else None

    def _close(self, domain: Domain, left_out: tuple[str, ...], seq: int) -> Closed:
        book = self._book(domain.name)
        window = domain.calendar.window(domain.base, book.next_start)
        chunks, rollup = book.rows.pop(window.start, []), _NO_ROLLUP
        book.first_seq.pop(window.start, None)
        if chunks:
            rows = self._finish(together(chunks, book.names), window.start)
            if book.retractions:
                rows = retract(rows, pl.concat(book.retractions))
            rollup = roll_up(rows, domain, window, seq)
        book.rollups[window.start] = Rollup.of(rollup, window, book.looks)
        if left_out:
            book.left_out[window.start] = left_out
        book.next_start = window.end
        due = tuple(self._due(domain, book, window))
        self._forget(domain, book)
        return Closed(domain, window, rollup, due)

    def _due(self, domain: Domain, book: _Book, base: Window) -> Iterator[Due]:
        ending = []
        for product in domain.products:
            window = self._own_window(domain, product, base.start)
            if window is not None and window.end == base.end:
                ending.append((window.start, product.policy.product, product, window))
        of_window: dict[int, Rollups] = {}
        for _start, _name, product, window in sorted(ending, key=lambda item: item[:2]):
            bases = [start for start in sorted(book.rollups) if window.start <= start < window.end]
            own = {stream.topic: stream for streams in product.inputs.values() for stream in streams}
            missing = {topic for start in bases for topic in book.left_out.get(start, ()) if topic in own}
            rollups = of_window.setdefault(
                window.start, Rollups(book.looks, tuple(book.rollups[at] for at in bases))
            )
            if missing:
                rollups = rollups.without({(own[topic].partner, own[topic].measure) for topic in missing})
            hold = product.policy.window.on_stall == "hold"
            yield Due(
                domain,
                product,
                window,
                rollups,
                tuple(own[topic] for topic in sorted(missing)),
                abandoned=bool(missing) and hold,
            )

    def _forget(self, domain: Domain, book: _Book) -> None:
        """Drops roll-ups that no product can need any more, and retractions that precede every row that is open."""
        oldest = self.oldest_rollup(domain, book.next_start)
        book.rollups_from = max(book.rollups_from, oldest)
        book.rollups = {start: rows for start, rows in book.rollups.items() if start >= oldest}
        book.left_out = {start: topics for start, topics in book.left_out.items() if start >= oldest}
        if not book.rollups:
            book.looks = Looks()  # of another year the pseudonyms are others
        reached = min(book.first_seq.values(), default=None)
        book.retractions = [
            each
            for each in book.retractions
            if reached is not None and int(each["seq"].max()) > reached  # type: ignore[arg-type]  # an Int64 column's maximum
        ]


_NO_ROLLUP = ROLLUP.to_frame().with_columns(TEXT)
