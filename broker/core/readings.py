"""The contract of a reading, whatever it came from: what is checked before anybody's rights are.

Invariants
- Every reading that comes in goes out exactly once: in `good`, or in `quarantined` with the first reason that
  holds, in the order of `_rules`.
- A good reading lies within what a meter of its kind can measure (`LIMITS`), its times are plausible at
  `now_ms` (the broker's append time, never a wall clock: replaying gives the same outcome), and an interval
  is positive and at most 25 h long, the longest day there is.
- Only a stream whose meter can run backwards (`net`: feed-in) may carry a negative value.
- A completeness mark's time is bounded as a reading's is: one of another unit (seconds, microseconds) or from a
  clock that is wrong would otherwise stop every window, or make all that its partner still sends late.

Readings frame: delivery_point String, start, end Int64 (ms since the epoch, UTC; of a register end = start,
the moment), value Int64 (smallest unit: Wh or mL), quality String, offset Int64.

Sources of the limits: OIML R 49-1 / ISO 4064-1 (water meters: largest permanent flow Q3 = 6,300 m³/h with
overload flow Q4 = 1.25 Q3; largest indicating range 9,999,999 m³); French grid codes (40 MW is the largest
connection to the medium-voltage grid; larger sites are on the transmission grid, which no municipality's
utility meters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core.errors import InputError

HOUR: Final = 3_600_000
LONGEST_INTERVAL: Final = 25 * HOUR
AHEAD: Final = 24 * HOUR
"""How far a reading may lie ahead of the broker's clock: a partner's day of forecasts is not a reading, but a
clock that is off by a time zone must not cost a day of readings."""
OLDEST: Final = 946_684_800_000
"""2000-01-01T00:00:00Z: what is older is a meter's unset clock."""

SCHEMA: Final = pl.Schema(
    {
        "delivery_point": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "value": pl.Int64,
        "quality": pl.String,
        "offset": pl.Int64,
    }
)
REASONS_SCHEMA: Final = pl.Schema({"offset": pl.Int64, "reason": pl.String})


class Meter(Protocol):
    """What of a stream the contract depends on (`plan.Stream` has it)."""

    @property
    def measure(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def net(self) -> bool: ...


@dataclass(frozen=True)
class Limit:
    """per_hour: most that can flow in an hour; register: highest state a counter shows; in the smallest
    unit."""

    per_hour: int
    register: int


LIMITS: Final[Mapping[str, Limit]] = {
    # 40 MW, the largest medium-voltage connection; a counter of ten digits of kWh
    "electricity": Limit(per_hour=40_000_000, register=10**13),
    # 100 MW: above the largest turbine meters of a distribution network (G6500 at low pressure); ten digits
    # of kWh
    "gas": Limit(per_hour=100_000_000, register=10**13),
    # 100 MW: above any substation of a district heating network; ten digits of kWh
    "heat": Limit(per_hour=100_000_000, register=10**13),
    # Q4 = 1.25 * 6,300 m³/h; seven digits of m³
    "water": Limit(per_hour=7_875_000_000, register=10**13),
}


def check(
    readings: pl.DataFrame, stream: Meter, now_ms: int | pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide `readings` (readings frame) into the good ones and `(offset, reason)` of the quarantined.

    now_ms: when the broker took the readings in: one moment for all, or Int64 milliseconds aligned with the
    rows.
    Raises InputError for a stream whose measure or kind has no limits here: nothing is accepted unchecked.
    """
    rules = _rules(stream, pl.lit(now_ms))
    bad = readings.select(pl.any_horizontal(*rules.values()).alias("bad"))["bad"]
    if not bad.any():
        return readings, REASONS_SCHEMA.to_frame()
    first = pl.coalesce(*(pl.when(rule).then(pl.lit(reason)) for reason, rule in rules.items()))
    quarantined = readings.select("offset", first.alias("reason")).filter(bad)
    return readings.filter(~bad), quarantined


def check_marks(
    marks: Sequence[tuple[int, int]], appended: npt.NDArray[np.int64]
) -> tuple[list[tuple[int, int]], pl.DataFrame]:
    """Divide completeness marks (offset, until ms) into the good ones and `(offset, reason)` of the quarantined.

    appended: when the broker took each in (ms), aligned with the marks.
    """
    good: list[tuple[int, int]] = []
    bad: list[tuple[int, str]] = []
    for (offset, until), now in zip(marks, appended.tolist(), strict=True):
        if until < OLDEST:
            bad.append((offset, "bad_timestamp"))
        elif until - now > AHEAD:
            bad.append((offset, "far_future"))
        else:
            good.append((offset, until))
    return good, pl.DataFrame(bad, schema=REASONS_SCHEMA, orient="row")


def _rules(stream: Meter, now: pl.Expr) -> dict[str, pl.Expr]:
    """reason -> when it holds; never null, so that a missing field cannot pass for a good one."""
    limit = LIMITS.get(stream.measure)
    if limit is None or stream.kind not in ("interval", "register"):
        raise InputError(
            "unknown_measure",
            f"no limits are known for a stream of measure {stream.measure!r} and kind {stream.kind!r}; "
            f"a stream is an interval or register of {', '.join(LIMITS)}: correct the partner's file",
        )
    start, end, value = pl.col("start"), pl.col("end"), pl.col("value")
    register = stream.kind == "register"
    # exact in integers: no overflow up to 25 h (9e7 ms * 1e10 per hour < 2^63), and beyond it bad_interval
    # holds first
    most = pl.lit(limit.register) if register else (end - start) * limit.per_hour // HOUR
    bad_interval = end != start if register else (end <= start) | (end - start > LONGEST_INTERVAL)
    negative = pl.lit(False) if stream.net else value < 0
    return {
        "bad_timestamp": start.is_null() | end.is_null() | (start < OLDEST).fill_null(True),
        "bad_interval": bad_interval.fill_null(True),
        "far_future": (end > now + AHEAD).fill_null(True),
        "bad_value": value.is_null(),
        "negative": negative.fill_null(True),
        "out_of_bounds": ((value > most) | (value < -most)).fill_null(True),
    }
