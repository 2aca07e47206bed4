"""How long folding and joining take on one core: `POLARS_MAX_THREADS=1 python tests/bench/bench_fold.py`.

Prints one line per step: median, smallest and largest of the runs, by the clock and of processor time (which
other work on the machine disturbs less), and rows per second at the median.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import polars as pl

from broker.core.calendar import Calendar, Window
from broker.core.condition import Condition
from broker.core.fold import retract, roll_up
from broker.core.fold_frames import ROLLUP, ROWS
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Input, Policy
from broker.core.products import Units, units

DAY: Final = 86_400_000
PREMISES: Final = 20_000
DAYS: Final = 31
ENERGY: Final = ("energy-a", "energy-b", "energy-c")
WATER: Final = ("water-n", "water-s")
DOMAIN: Final = Domain("housing", "P1D", 0, Calendar("UTC"), frozenset(), {"water": 2 * DAY}, (), ())


class Territory:
    """Random premises, each with one point per stream, from a seed."""

    def __init__(self, premises: int, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.n = premises
        self.areas = self._pick([f"iris-{i:03d}" for i in range(200)])
        self.premises = self._names()
        self.points = self._names()
        self.partners = self._pick(ENERGY)

    def _names(self) -> pl.Series:
        return pl.Series([self.rng.bytes(16) for _ in range(self.n)], dtype=pl.Binary)

    def _pick(self, names: Sequence[str]) -> pl.Series:
        return pl.Series(names)[self.rng.integers(0, len(names), self.n)]

    def rows(self, kind: str, per_point: int) -> pl.DataFrame:
        """One day of contributions: `per_point` intervals, or registers at both edges and between."""
        which = np.tile(np.arange(self.n), per_point)
        nth = np.repeat(np.arange(per_point), self.n)
        step = DAY // (per_point if kind == "interval" else per_point - 1)
        partner = self.partners[which]
        columns = {
            "window": 0,
            "group": 0,
            "point": self.points[which],
            "premises": self.premises[which],
            "area": self.areas[which],
            "segment": "home",
            "start": nth * step,
            "end": nth * step + (step if kind == "interval" else 0),
            "value": np.arange(len(which)),
            "order": np.arange(len(which)),
            "mask": 3,
            "role": 0,
            "register_size": None,
            "partner": partner,
            "holding": partner,
            "measure": "electricity" if kind == "interval" else "water",
            "kind": kind,
            "net": False,
            "seq": 1,
        }
        return pl.DataFrame({name: columns[name] for name in ROWS}).cast(dict(ROWS))

    def month(self) -> pl.DataFrame:
        """Roll-ups of two inputs for every premises and day, as a release lane holds them."""
        streams = [
            ("electricity", "interval", self._pick(ENERGY), self._names()),
            ("water", "register", self._pick(WATER), self._names()),
        ]
        return pl.concat(self._day(day, *stream) for day in range(DAYS) for stream in streams)

    def _day(self, day: int, measure: str, kind: str, partner: pl.Series, point: pl.Series) -> pl.DataFrame:
        columns = {
            "window": day * DAY,
            "end": (day + 1) * DAY,
            "point": point,
            "premises": self.premises,
            "partner": partner,
            "holding": partner,
            "measure": measure,
            "kind": kind,
            "net": False,
            "area": self.areas,
            "segment": "home",
            "mask": 3,
            "value": self.rng.integers(0, 20_000, self.n),
            "covered": DAY,
            "seq": 1,
        }
        return pl.DataFrame({name: columns[name] for name in ROLLUP}).cast(dict(ROLLUP)).sort("premises")


def vacancy() -> Product:
    """The joint monthly product of the example policy, as far as `units` reads it."""
    inputs = {
        "energy": Input(
            measure="electricity", unit="Wh", kind="interval", partners=ENERGY, qualities=("measured",)
        ),
        "water": Input(
            measure="water",
            unit="mL",
            kind="register",
            partners=WATER,
            qualities=("measured",),
            max_gap="P2D",
        ),
    }
    where = {"energy": Condition.parse("sum < 300000"), "water": Condition.parse("mean < 10000")}
    measures = {"premises": Count(kind="count"), "vacant": Count(kind="count", where=where)}
    policy = Policy.model_construct(
        product="vacancy", join="premises", coverage=Fraction("0.9"), inputs=inputs, measures=measures
    )
    return Product(policy, "sha256:0", 1, 0, {}, {}, "epci")


def measure(what: str, rows: int, run: Callable[[], Any], times: int = 9) -> None:
    run()
    wall, cpu = [], []
    for _ in range(times):
        begin, used = time.perf_counter(), time.process_time()
        run()
        wall.append((time.perf_counter() - begin) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    middle, used = statistics.median(wall), statistics.median(cpu)
    sys.stdout.write(
        f"{what:38} {middle:8.1f} ms ({min(wall):.1f} to {max(wall):.1f}); "
        f"processor {used:8.1f} ms ({min(cpu):.1f} to {max(cpu):.1f}); {rows / middle * 1000:12,.0f} rows/s\n"
    )


def main() -> None:
    sys.stdout.write(f"threads: {pl.thread_pool_size()}\n")
    today = Window(0, DAY)
    for kind, points, per_point in [
        ("interval", 2_083, 48),
        ("interval", 100_000, 1),
        ("register", 50_000, 2),
        ("register", 4_000, 25),
    ]:
        rows = Territory(points).rows(kind, per_point)
        measure(
            f"roll_up {kind} {points:,} x {per_point}", rows.height, lambda r=rows: roll_up(r, DOMAIN, today)
        )
        again = rows.sample(rows.height // 1000, seed=1).with_columns(pl.col("order") + rows.height)
        odd = pl.concat([rows, again])
        measure("  with 0.1 % corrections", odd.height, lambda r=odd: roll_up(r, DOMAIN, today))
    rows = Territory(100_000).rows("interval", 1)
    void = rows.sample(1000, seed=2).select(
        "point",
        "premises",
        pl.lit(1, pl.UInt64).alias("bits"),
        pl.lit(None, pl.Int64).alias("from_ms"),
        seq=2,
    )
    measure("retract 1,000 points", rows.height, lambda: retract(rows, void))
    month, product, window = Territory(PREMISES).month(), vacancy(), Window(0, DAYS * DAY)
    measure("units", month.height, lambda: units(month, product, DOMAIN, window))
    found: Units = units(month, product, DOMAIN, window)
    measure(
        "contributions_of + candidates",
        PREMISES,
        lambda: (found.contributions_of("vacant"), found.candidates("vacant")),
    )


if __name__ == "__main__":
    main()
