"""How long deciding takes: one release group of 2,500 premises, and all of a territory of 20,000.

Run: python tests/bench/bench_decide.py. One core; medians and spread, no assertion on time.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import numpy as np
import polars as pl
from disclosure_world import Part, tree
from release_world import product, run, units

from broker.core.disclosure.secondary import suppress
from broker.core.disclosure.table import build

MEASURES = {
    "premises": {"kind": "count"},
    "vacant": {"kind": "count", "where": {"energy": "sum < 20000", "water": "sum < 300000"}},
    "energy_kwh": {"kind": "sum", "input": "energy", "unit": "kWh"},
    "litres": {"kind": "sum", "input": "water", "unit": "L"},
}


def town(seed: int, n: int, places: list[str]) -> dict[str, list[Part]]:
    rng = random.Random(seed)
    inputs: dict[str, list[Part]] = {"energy": [], "water": []}
    weights = [rng.random() ** 2 + 0.01 for _ in places]
    for number in range(n):
        (area,) = rng.choices(places, weights)
        segment, empty = rng.choice(["flat", "house"]), rng.random() < 0.2
        energy = rng.randint(0, 15_000) if empty else rng.randint(20_000, 400_000)
        water = rng.randint(0, 200_000) if empty else rng.randint(300_000, 20_000_000)
        inputs["energy"].append(Part(number, f"energy-{rng.choice('abc')}", area, segment, energy))
        inputs["water"].append(Part(number, rng.choice(["water-n", "water-s"]), area, segment, water))
    return inputs


def spread(name: str, seconds: list[float]) -> None:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    print(f"{name:58} median {middle:.3f} s, {low:.3f} to {high:.3f} s, {len(seconds)} runs")  # noqa: T201 (a report)


def timed(work: object, runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()  # type: ignore[operator] # any callable without arguments
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    policy = product(("measures", MEASURES), ("disclosure.rounding", {"counts": 5, "magnitudes": 3}))
    areas = tree(5, 5)
    places = [code for code in areas.codes if "I" in code]
    groups = [units(policy, town(seed, 2_500, places)) for seed in range(8)]
    cells = run(policy, groups[0], areas).cells.height
    spread(
        f"one group, 2,500 premises, 4 measures, {cells} cells",
        timed(lambda: run(policy, groups[0], areas), 15),
    )
    spread("8 groups, 20,000 premises", timed(lambda: [run(policy, g, areas) for g in groups], 5))

    areas = tree(40, 20)
    frame = pl.DataFrame(
        [(code, s) for code in areas.codes if "I" in code for s in ("flat", "house")],
        schema=["area", "segment"],
        orient="row",
    )
    table = build(frame, areas, ("iris", "commune", "epci"), ["E0"], segmented=True)
    rows = table.incidence()
    premises = rows.astype(np.int64) @ np.random.default_rng(1).integers(3, 60, table.atoms)
    unsafe = premises < 6
    order = np.lexsort((np.arange(len(premises)), -premises))
    order = order[~unsafe[order]]
    spread(
        f"secondary alone, {len(rows)} cells, {int(unsafe.sum())} unsafe",
        timed(lambda: suppress(rows, unsafe, order), 3),
    )


if __name__ == "__main__":
    main()
