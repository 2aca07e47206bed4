"""What admission costs: `python tests/bench/bench_admission.py` (one core, best read on an idle machine).

100,000 checked interval readings of one stream, 12,500 sites of one lane, one site per point; cases are
measured in turn within one run, so that they can be compared. Prints
the median and the spread in microseconds a reading.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"  # before polars is imported
sys.path[:0] = [str(Path(__file__).parent.parent / "core"), str(Path(__file__).parent.parent.parent)]

from statistics import median  # noqa: E402  (both above must come first)
from time import perf_counter  # noqa: E402

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from admission_world import (  # noqa: E402
    BY_MONTH,
    CONSENT,
    ELECTRICITY,
    HOUR,
    WATER,
    admitted,
    consent_table,
    domain_of,
    keys,
    ms,
    product,
    site_table,
    water_product,
)

from broker.core.consent import ConsentTable  # noqa: E402
from broker.core.readings import check  # noqa: E402

READINGS, SITES, TURNS, SEED = 100_000, 12_500, 15, 20260101


def main() -> None:
    rng = np.random.default_rng(SEED)
    points = [rng.bytes(16).hex() for _ in range(SITES)]
    rows = [
        (p, None, None, rng.bytes(16).hex(), f"C{n % 3 + 1}", "home", 10**9) for n, p in enumerate(points)
    ]
    begun = perf_counter()
    sites = site_table(*rows)
    built = perf_counter()
    sites.pseudonyms("housing", keys("housing", "2026"))
    sys.stdout.write(
        f"site table {built - begun:.3f} s, pseudonyms {perf_counter() - built:.3f} s for {SITES} sites\n"
    )
    intervals = batch_of(rng, points, ms("2026-02-03 00:00"), HOUR // 2, HOUR // 2)
    registers = batch_of(rng, points, ms("2026-02-03 00:00"), 3 * HOUR, 0)
    consents = consent_table(*((p, "planning", ms("2026-01-01 00:00"), None, None) for p in points))
    one = domain_of(product())
    three = domain_of(*(product(f"daily-{n}") for n in range(3)))
    by_consent = domain_of(*(product(f"daily-{n}", lawful_basis=CONSENT, window=BY_MONTH) for n in range(3)))
    water = domain_of(water_product())
    none = ConsentTable.empty()
    marks = [(offset, ms("2026-02-03 00:00")) for offset in range(0, READINGS, 10_000)]
    cases = {
        "check": lambda: check(intervals, ELECTRICITY, ms("2026-02-05 00:00")),
        "1 product, no consent rows": lambda: admitted(intervals, one, sites, none),
        "3 products, no consent rows": lambda: admitted(intervals, three, sites, none, marks=marks),
        "3 products, 12,500 consent rows": lambda: admitted(intervals, three, sites, consents, marks=marks),
        "3 products by consent": lambda: admitted(intervals, by_consent, sites, consents, marks=marks),
        "registers, 1 product": lambda: admitted(registers, water, sites, none, WATER),
    }
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(TURNS):
        for name, case in cases.items():
            begun = perf_counter()
            case()
            spent[name].append((perf_counter() - begun) * 1e6 / READINGS)
    for name, figures in spent.items():
        sys.stdout.write(
            f"{name:34} {median(figures):6.3f} us a reading ({min(figures):.3f} to {max(figures):.3f})\n"
        )


def batch_of(rng: np.random.Generator, points: list[str], first: int, step: int, length: int) -> pl.DataFrame:
    """Every point's readings in turn, as meters send them: 8 each, in order of time."""
    count = READINGS // SITES
    start = np.repeat(first + 1 + np.arange(count) * step, SITES) - (length > 0)
    return pl.DataFrame(
        {
            "delivery_point": points * count,
            "start": start,
            "end": start + length,
            "value": rng.integers(0, 2000, READINGS),
            "quality": pl.Series(["measured"] * READINGS),
            "offset": np.arange(READINGS),
        }
    )


if __name__ == "__main__":
    main()
