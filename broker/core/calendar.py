"""Windows in a territory's local time: hours, days and months, and the instants at which they begin.

Invariants
- Instants are int64 milliseconds since the epoch, UTC. Windows are [start, end), consecutive, without gap.
- A *day* begins at the first instant whose local date is that day: it lasts 23, 24 or 25 hours where clocks
  change by an hour (also where midnight is skipped or happens twice).
- An *hour* begins whenever the local clock, as it ran before or after a change, shows a full hour; days and
  months begin full hours too. A day of 23 or 25 hours so has 23 or 25 hour windows; a zone that shifts by
  half an hour gets one shorter window at the change.
- Every `length` nests: each month edge is a day edge, each day edge an hour edge.
- The zone's rules come from the pinned `tzdata` package alone, not from the machine: the same windows
  everywhere. Lengths and durations are ISO 8601 (4.4.2.4: `PT1H`, `P1D`, `P1M`).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Final, overload
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core.errors import InputError, ProgrammerError

Edges = npt.NDArray[np.int64]

HOUR: Final = 3_600_000
DAY: Final = 86_400_000
LENGTHS: Final = ("PT1H", "P1D", "P1M")  # from short to long

# Beyond these no zone has rules that mean anything; readings are bounded long before.
FIRST: Final = 0  # 1970-01-01
LAST: Final = 7_258_118_400_000  # 2200-01-01

_DURATION = re.compile(
    r"P(?:(\d{1,5})W|(?:(\d{1,5})D)?(T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?)", re.ASCII
)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """[start, end) in milliseconds since the epoch."""

    start: int
    end: int


def duration_ms(text: str) -> int:
    """Milliseconds of a fixed span (`PT6H`, `P2D`, `P1W`, `P1DT12H`; a day is 86,400,000 ms).

    Raises InputError (`bad_duration`) for anything else, months and years included: they have no fixed
    length.
    """
    found = _DURATION.fullmatch(text)
    if found is None or text == "P" or text.endswith("T"):
        raise InputError(
            "bad_duration",
            f"`{text[:40]}` is not a fixed span of time: write weeks, days, hours, minutes or seconds in ISO "
            f"8601, "
            "for example P2D, PT6H or PT0S",
        )
    weeks, days, _, hours, minutes, seconds = (int(g) if g and g.isdigit() else 0 for g in found.groups())
    return (weeks * 7 + days) * DAY + hours * HOUR + minutes * 60_000 + seconds * 1000


def is_zone(name: str) -> bool:
    """Whether `name` is a time zone of the IANA database."""
    try:
        _zone(name)
    except InputError:
        return False
    return True


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    parts = name.split("/")
    if all(re.fullmatch(r"[A-Za-z0-9_+-]+", part) for part in parts):
        file = resources.files("tzdata").joinpath("zoneinfo", *parts)
        if file.is_file():
            with file.open("rb") as data:
                return ZoneInfo.from_file(data, key=name)
    raise InputError(
        "bad_timezone", f"`{name[:60]}` is no time zone: write its IANA name, for example Europe/Paris"
    )


class Calendar:
    """The windows of one time zone (IANA name). Raises InputError (`bad_timezone`) where there is no such
    zone.
    """

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._zone = _zone(timezone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calendar) and other.timezone == self.timezone

    def __hash__(self) -> int:
        return hash(self.timezone)

    def __repr__(self) -> str:
        return f"Calendar({self.timezone!r})"

    def __reduce__(self) -> tuple[type[Calendar], tuple[str]]:
        """By name: a zone read from a file does not pickle, and releases are decided in worker processes."""
        return Calendar, (self.timezone,)

    def edges(self, length: str, first_ms: int, last_ms: int) -> Edges:
        """Starts of the consecutive windows that cover [first_ms, last_ms], and the end of the last one.

        int64 [n + 1], strictly ascending: edges[0] <= first_ms, edges[-2] <= last_ms < edges[-1].
        """
        if not FIRST <= first_ms <= last_ms < LAST:
            raise ProgrammerError(
                "time_out_of_range", f"no windows for {first_ms} to {last_ms} ms: check bounds first"
            )
        wide = _EDGES[_known(length)](self, first_ms, last_ms)
        low = int(np.searchsorted(wide, first_ms, side="right")) - 1
        high = int(np.searchsorted(wide, last_ms, side="right"))
        return wide[low : high + 1]

    @overload
    def floor(self, length: str, ms: pl.Series) -> pl.Series: ...
    @overload
    def floor(self, length: str, ms: Edges) -> Edges: ...
    def floor(self, length: str, ms: pl.Series | Edges) -> pl.Series | Edges:
        """Start of the window that holds each instant: int64 of the same shape (and name); nulls stay
        null.
        """
        if isinstance(ms, pl.Series):
            known = ms.drop_nulls()
            floored = pl.Series(
                ms.name, self.floor(length, known.to_numpy().astype(np.int64)), dtype=pl.Int64
            )
            if len(known) == len(ms):
                return floored
            return pl.select(ms.is_not_null().arg_true().alias("at"), floored.alias("start")).pipe(
                lambda found: pl.Series(ms.name, [None] * len(ms), dtype=pl.Int64).scatter(
                    found["at"], found["start"]
                )
            )
        if ms.size == 0:
            return ms.astype(np.int64)
        edges = self.edges(length, int(ms.min()), int(ms.max()))
        return edges[np.searchsorted(edges, ms, side="right") - 1]

    def window(self, length: str, ms: int) -> Window:
        """The window that holds the instant."""
        return _window(self, length, ms)

    def next(self, length: str, window: Window) -> Window:
        """The window of this length that holds `window`'s end (its successor, for a window of that
        length).
        """
        return self.window(length, window.end)

    def windows(self, length: str, first_ms: int, last_ms: int) -> list[Window]:
        """All windows that cover [first_ms, last_ms], in order."""
        edges = self.edges(length, first_ms, last_ms).tolist()
        return [Window(start, end) for start, end in pairwise(edges)]

    def bases(self, window: Window, base: str) -> list[Window]:
        """The base windows that make up a window, in order: 743 hours in a March with a clock change."""
        return self.windows(base, window.start, window.end - 1)

    def iso(self, ms: int) -> str:
        """Local time with its offset, to the second: `2026-01-01T00:00:00+01:00`."""
        return self._local(ms).isoformat(timespec="seconds")

    def date(self, ms: int) -> str:
        """Local date: `2026-01-01`."""
        return self._local(ms).date().isoformat()

    def epoch(self, ms: int) -> str:
        """The pseudonyms' epoch, which is the local calendar year: `2026`."""
        return f"{self._local(ms).year:04d}"

    def epochs(self, first_ms: int, last_ms: int) -> list[str]:
        """All epochs that touch [first_ms, last_ms], in order."""
        return [f"{year:04d}" for year in range(self._local(first_ms).year, self._local(last_ms).year + 1)]

    def _local(self, ms: int) -> datetime:
        return datetime.fromtimestamp(ms // 1000, UTC).astimezone(self._zone)

    def _day_start(self, day: dt.date) -> int:
        """First instant of a local date. fold=0 is the first of two midnights, and the change where it is
        skipped.
        """
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        start = int(midnight.timestamp()) * 1000
        if self._local(start).date() == day and self._local(start).time() == midnight.time():
            return start
        # Midnight is skipped. Where the gap began before it, the date begins at the change, not after it.
        return max((t for t, _, _ in self._changes(start - DAY, start)), default=start)

    def _changes(self, first_ms: int, last_ms: int) -> list[tuple[int, int, int]]:
        """(instant, offset before, offset after) in ms of every clock change in (first_ms, last_ms]."""
        years = range(self._utc_year(first_ms), self._utc_year(last_ms) + 1)
        return [
            change
            for year in years
            for change in _changes_of(self.timezone, year)
            if first_ms < change[0] <= last_ms
        ]

    @staticmethod
    def _utc_year(ms: int) -> int:
        return datetime.fromtimestamp(ms // 1000, UTC).year


@lru_cache(maxsize=1024)  # of a function without effects: a lane asks for the same few again and again
def _window(calendar: Calendar, length: str, ms: int) -> Window:
    start, end = calendar.edges(length, ms, ms).tolist()
    return Window(start, end)


def _known(length: str) -> str:
    if length not in LENGTHS:
        raise ProgrammerError("bad_length", f"`{length}` is no window length: {', '.join(LENGTHS)}")
    return length


def _offset(zone: ZoneInfo, ms: int) -> int:
    shift = datetime.fromtimestamp(ms // 1000, UTC).astimezone(zone).utcoffset()
    return 0 if shift is None else shift // timedelta(milliseconds=1)


@lru_cache(maxsize=1024)
def _changes_of(timezone: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """Clock changes in one UTC year, found by halving each day whose ends differ (no zone changes twice in a
    day).
    """
    zone = _zone(timezone)
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
    end = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp()) * 1000
    found = []
    for day in range(begin - DAY, end, DAY):
        low, high = day, day + DAY
        before, after = _offset(zone, low), _offset(zone, high)
        if before == after:
            continue
        while high - low > 1000:
            middle = (low + high) // 2000 * 1000
            low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
        if begin <= high < end:
            found.append((high, before, after))
    return tuple(found)


def _hour_edges(calendar: Calendar, first_ms: int, last_ms: int) -> Edges:
    """Full hours by the clock in force, stretch by stretch between changes; wider than asked for."""
    low, high = first_ms - 2 * DAY, last_ms + 2 * DAY
    changes = calendar._changes(low, high)
    bounds = [low, *(t for t, _, _ in changes), high]
    offsets = [_offset(calendar._zone, low), *(after for _, _, after in changes)]
    parts = []
    for begin, end, offset in zip(bounds[:-1], bounds[1:], offsets, strict=True):
        # The end is included: there the clock that ran before the change may show a full hour.
        start = -(-(begin + offset) // HOUR) * HOUR - offset
        parts.append(np.arange(start, end + 1, HOUR, dtype=np.int64))
    days = _day_edges(calendar, first_ms, last_ms) if changes else np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate([*parts, days]))


def _day_edges(calendar: Calendar, first_ms: int, last_ms: int) -> Edges:
    first = calendar._local(first_ms).date() - timedelta(days=2)
    last = calendar._local(last_ms).date() + timedelta(days=2)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return np.unique(np.array([calendar._day_start(day) for day in days], dtype=np.int64))


def _month_edges(calendar: Calendar, first_ms: int, last_ms: int) -> Edges:
    first, last = calendar._local(first_ms), calendar._local(last_ms)
    months = range(first.year * 12 + first.month - 2, last.year * 12 + last.month + 2)
    return np.array([calendar._day_start(dt.date(m // 12, m % 12 + 1, 1)) for m in months], dtype=np.int64)


_EDGES = {"PT1H": _hour_edges, "P1D": _day_edges, "P1M": _month_edges}
