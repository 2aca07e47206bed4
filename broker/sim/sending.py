"""From what homes use to what partners send: meters, their faults, and the order of sending.

Invariants
- A partner sends day after day; step s holds what it sends before its completeness mark `until`. All readings
  of a window are sent before the mark that closes it, except those of phase `late`: they come after the mark
  that closes the last window that they could still open or fill, so that they never count, whatever the
  interleaving.
- Phases: normal (with first values that a correction replaces), duplicate, late, unknown (no site names the
  point), malformed (decodes, but cannot be true: negative, beyond any meter, far in the future).
- Half-hours of a day sum to the daily value exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from broker.core.calendar import Edges
from broker.sim.places import REGISTER_SIZE, Flags, Ints
from broker.sim.spec import Faults

PHASES: Final = ("normal", "duplicate", "late", "unknown", "malformed")
QUALITIES: Final = ("measured", "estimated")
HALF_HOUR: Final = 1_800_000
FAR_FUTURE: Final = 4_102_444_800_000  # 2100-01-01T00:00:00Z
READINGS: Final = ("delivery_point", "start", "end", "value", "quality", "offset")

# How a day's energy spreads over its half-hours: night, morning, midday, evening.
_SHAPE: Final = np.repeat([5, 4, 4, 9, 10, 8, 8, 7, 9, 13, 13, 10], 4)


@dataclass(frozen=True)
class Step:
    """What a partner sends in one go. frame: readings frame with `phase`, in order; raw: records that are no
    readings at all; until: the completeness mark that follows, ms."""

    frame: pl.DataFrame
    raw: tuple[bytes, ...]
    until: int


@dataclass(frozen=True)
class Flat:
    """Readings in columns, each Int64 [n]: point (index), step, rank (order within the step), start, end,
    value, quality and phase (indices)."""

    point: Ints
    step: Ints
    rank: Ints
    start: Ints
    end: Ints
    value: Ints
    quality: Ints
    phase: Ints

    def take(self, which: Ints | Flags) -> Flat:
        return Flat(*(column[which] for column in vars(self).values()))

    def having(self, **columns: Ints | int) -> Flat:
        full = {
            name: np.broadcast_to(np.asarray(c, np.int64), self.point.shape) for name, c in columns.items()
        }
        return Flat(**{**vars(self), **full})


def together(parts: list[Flat]) -> Flat:
    """Rows of all parts, one after the other."""
    return Flat(
        *(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True))
    )


def intervals(use: Ints, sends: Flags, edges: Edges, rng: np.random.Generator, faults: Faults) -> Flat:
    """Daily energy of each point (Int64 [points, days], Wh) where `sends`, day after day."""
    points, days = use.shape
    drifts = rng.random((points,)) < faults.drift
    read = np.where(drifts[:, None], use + np.abs(use) * np.arange(days) // 1000, use)
    sent = sends & ~_stopped(points, days, rng, faults.stopped) & (rng.random(use.shape) >= faults.missing)
    day, point = np.nonzero(sent.T)
    rows = _rows(point, day, edges[day], edges[day + 1], read[point, day])
    estimated = (rng.random(len(point)) < faults.estimated).astype(np.int64)
    return _with_faults(rows.having(quality=estimated), rng, faults, steps=days, lag=1)


def registers(use: Ints, edges: Edges, rng: np.random.Generator, faults: Faults) -> Flat:
    """Register states of each point (mL) at the midnights or up to 90 minutes before: days + 1 of them.

    use: Int64 [points, days], mL. Every second meter is read at midnight exactly.
    """
    points, days = use.shape
    total = np.concatenate([np.zeros((points, 1), np.int64), np.cumsum(use, axis=1)], axis=1)
    begin = rng.integers(10**8, 3 * 10**9, (points,))
    rolls = rng.random((points,)) < faults.roll_over
    when = rng.integers(1, days + 1, points)
    begin = np.where(rolls, REGISTER_SIZE - total[np.arange(points), when - 1] - 1, begin)
    state = (begin[:, None] + total) % REGISTER_SIZE
    resets = (rng.random((points,)) < faults.resets) & ~rolls
    after = resets[:, None] & (np.arange(days + 1) >= when[:, None])
    state = np.where(after, total - total[np.arange(points), when][:, None] + 100, state)
    early = np.where(np.arange(points) % 2 == 0, 0, rng.integers(300_000, 5_000_000, points))
    jitter = rng.integers(0, 240_000, (points, days + 1)) * (early > 0)[:, None]
    moment = edges[: days + 1] - early[:, None] - jitter
    sent = ~_stopped(points, days + 1, rng, faults.stopped) & (rng.random(state.shape) >= faults.missing)
    sent[:, 0] = True
    step, point = np.nonzero(sent.T)
    rows = _rows(point, step, moment[point, step], moment[point, step], state[point, step])
    # A register value opens windows up to two days after it (`max_gap`): late for all only after the fourth.
    return _with_faults(rows, rng, faults, steps=days + 1, lag=5)


def half_hours(rows: Flat, which: Flags) -> Flat:
    """The same with each daily row of `which` replaced by its half-hours, which sum to it."""
    whole = rows.take(which)
    count = (whole.end - whole.start) // HALF_HOUR
    at = np.repeat(np.arange(len(count)), count)
    k = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    cumulated = np.concatenate([[0], np.cumsum(np.resize(_SHAPE, 50))])
    weight = cumulated[count][at]
    value = whole.value[at]
    parts = whole.take(at).having(
        start=whole.start[at] + k * HALF_HOUR,
        end=whole.start[at] + (k + 1) * HALF_HOUR,
        value=value * cumulated[k + 1] // weight - value * cumulated[k] // weight,
    )
    return together([rows.take(~which), parts])


def steps(
    rows: Flat, names: list[str], marks: Edges, rng: np.random.Generator, faults: Faults, *, net: bool
) -> tuple[Step, ...]:
    """Order, name and divide the rows; add what is malformed. marks: the `until` after each step."""
    # Who serves nobody sends nothing but marks: without them no window would ever close.
    wrong = max(1, round(faults.malformed * len(rows.point))) if names and faults.malformed else 0
    rows = together([rows, *_malformed(rows, wrong, len(names), rng, net=net)]) if wrong else rows
    rows = rows.take(np.lexsort((rows.rank, rows.step)))
    strangers = [rng.bytes(10).hex() for _ in range(wrong)]
    frame = pl.DataFrame(
        {
            "delivery_point": pl.Series([*names, *strangers]).gather(rows.point),
            "start": rows.start,
            "end": rows.end,
            "value": rows.value,
            "quality": pl.Series(QUALITIES).gather(rows.quality),
            "offset": np.arange(len(rows.point)),
            "phase": pl.Series(PHASES).gather(rows.phase),
        }
    )
    garbage = _garbage(wrong, rng)
    garbage_at = rng.integers(0, len(marks), len(garbage)).tolist()
    ends = np.searchsorted(rows.step, np.arange(len(marks) + 1))
    return tuple(
        Step(
            frame=frame[int(ends[s]) : int(ends[s + 1])],
            raw=tuple(record for record, at in zip(garbage, garbage_at, strict=True) if at == s),
            until=int(marks[s]),
        )
        for s in range(len(marks))
    )


def _rows(point: Ints, step: Ints, start: Ints, end: Ints, value: Ints) -> Flat:
    none = np.zeros(len(point), np.int64)
    return Flat(point, step, none, start, end, value, none, none)


def _stopped(points: int, count: int, rng: np.random.Generator, share: float) -> Flags:
    """Meters that fall silent: true from some reading on."""
    at = np.where(rng.random((points,)) < share, rng.integers(1, max(count, 2), points), count)
    silent: Flags = np.arange(count) >= at[:, None]
    return silent


def _with_faults(rows: Flat, rng: np.random.Generator, faults: Faults, steps: int, lag: int) -> Flat:
    """Some rows sent twice, some first wrong and then corrected, some sent when no window can use them."""
    draw = rng.random(len(rows.point))
    bounds = np.cumsum([faults.duplicates, faults.corrections, faults.late])
    duplicate, corrected = draw < bounds[0], (draw >= bounds[0]) & (draw < bounds[1])
    sent_in = rows.step + lag + rng.integers(0, 3, len(draw))
    late = (draw >= bounds[1]) & (draw < bounds[2]) & (sent_in < steps)
    wrong = rows.value + np.where(corrected, np.abs(rows.value) // 3 + 1000, 0)
    first = rows.having(value=wrong)
    return together(
        [
            first.take(~late),
            rows.take(duplicate).having(rank=1, phase=PHASES.index("duplicate")),
            rows.take(corrected).having(rank=2),
            rows.having(step=sent_in, rank=3, phase=PHASES.index("late")).take(late),
        ]
    )


def _malformed(rows: Flat, count: int, points: int, rng: np.random.Generator, *, net: bool) -> list[Flat]:
    """Rows like others, but of unknown points, impossible values and a time far ahead."""

    def some(phase: str) -> Flat:
        return rows.take(rng.integers(0, len(rows.point), count)).having(rank=4, phase=PHASES.index(phase))

    ahead = some("malformed")
    impossible = 10**15 if net else -5
    return [
        some("unknown").having(point=points + np.arange(count)),
        some("malformed").having(value=impossible),
        ahead.having(start=ahead.start + FAR_FUTURE, end=ahead.end + FAR_FUTURE),
    ]


def _garbage(count: int, rng: np.random.Generator) -> list[bytes]:
    """Records that are no readings: nothing, text with a NaN, noise, a schema id that nobody registered."""
    kinds = (
        lambda: b"",
        lambda: b'{"value": NaN}',
        lambda: rng.bytes(24),
        lambda: b"\x00\x7f\xff\xff\xff" + rng.bytes(16),
    )
    return [kinds[n % len(kinds)]() for n in range(max(count, len(kinds)) if count else 0)]
