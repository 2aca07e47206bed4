"""A town of homes with energy and water, and its release: for the tests of what is released together."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
from disclosure_world import Part, frame, tree
from policy_samples import sample

from broker.core.areas import AreaTree
from broker.core.calendar import Calendar, Window
from broker.core.plan import Domain, Product
from broker.core.products import Units
from broker.core.release import Decision, decide

AREAS = tree(4, 4)
KEY = b"r" * 32
JANUARY = Window(1_767_222_000_000, 1_769_900_400_000)  # 2026-01, Europe/Paris
ENERGY, WATER = ["energy-a", "energy-b", "energy-c"], ["water-n", "water-s"]
RULES_OFF = {
    "min_contributors": 1,
    "min_holdings": 1,
    "p_percent": 0,
    "dominance": [[1, 100]],
    "without_each_holding": False,
    "zero_is_sensitive": False,
    "insider_margin": 0,
}


def product(*changes: tuple[str, Any]) -> Product:
    """The sample policy without rounding, waivers and references, and with the changes asked for."""
    policy = sample(
        ("references", ...),
        ("controllers", [*ENERGY, *WATER]),
        ("inputs.energy.days", ...),
        ("inputs.energy.partners", ENERGY),
        ("inputs.water.partners", WATER),
        ("disclosure.rounding", ...),
        ("disclosure.waivers", []),
        ("disclosure.sealed", []),
        ("disclosure.min_attestations", 0),
        ("lines", {}),
        *changes,
    )
    return Product(policy, "sha256:test", 0, 0, {}, {}, "epci")


def off() -> list[tuple[str, Any]]:
    return [(f"disclosure.{name}", value) for name, value in RULES_OFF.items()]


def input_frame(parts: list[Part]) -> pl.DataFrame:
    rows = frame(parts)
    return rows.with_columns(
        total=pl.col("value").sum().over("premises"), peak=pl.col("value"), n=pl.lit(31, pl.Int64)
    )


def units(product: Product, inputs: dict[str, list[Part]]) -> Units:
    frames = {name: input_frame(parts) for name, parts in inputs.items()}
    eligible = pl.concat([f.select("premises", "area", "segment") for f in frames.values()]).unique()
    return Units(product, frames, eligible, 0, 0)


def town(seed: int, n: int = 600) -> dict[str, list[Part]]:
    """Homes with energy (three suppliers) and water (each operator alone in its communes), some of them
    empty."""
    rng = random.Random(seed)
    places = [code for code in AREAS.codes if "I" in code]
    weights = [rng.random() ** 3 + 0.02 for _ in places]
    energy, water = [], []
    for number in range(n):
        area = rng.choices(places, weights)[0]
        if rng.random() < 0.02:
            area = area[:4]  # the site hangs at the commune
        segment = "house" if rng.random() < 0.3 else "flat"
        empty, dry, dark = (rng.random() < share for share in (0.2, 0.3, 0.3))
        litres = rng.randint(0, 299_999) if empty or dry else rng.randint(300_000, 20_000_000)
        watts = rng.randint(0, 19_999) if empty or dark else rng.randint(20_000, 400_000)
        energy.append(Part(number, rng.choice(ENERGY), area, segment, watts))
        water.append(Part(number, "water-n" if area < "E0C2" else "water-s", area, segment, litres))
    return {"energy": energy, "water": water}


def run(product: Product, given: Units, areas: AreaTree = AREAS, group: str = "E0") -> Decision:
    domain = Domain("housing", "P1D", 0, Calendar("Europe/Paris"), frozenset(), {}, (product,), ())
    return decide(product, domain, areas, JANUARY, group, units=given, rounding_key=KEY)


def decided(product: Product, inputs: dict[str, list[Part]], areas: AreaTree = AREAS) -> Decision:
    return run(product, units(product, inputs), areas)


def by_cell(decision: Decision, measure: str) -> dict[tuple[str, str], dict[str, Any]]:
    rows = decision.cells.filter(pl.col("measure") == measure)
    return {(row["area"], row["segment"]): row for row in rows.iter_rows(named=True)}
