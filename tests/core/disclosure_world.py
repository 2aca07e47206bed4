"""Small territories with premises, for the tests of disclosure control: truth in plain Python, frames for
the core."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import polars as pl

from broker.core.areas import AreaTree

LEVELS = ("iris", "commune", "epci")


def tree(communes: int = 3, iris: int = 3, epcis: int = 1) -> AreaTree:
    """E0 ⊃ E0C0 ⊃ E0C0I0 and so on."""
    rows = []
    for e in range(epcis):
        rows.append((f"E{e}", "", "epci"))
        for c in range(communes):
            rows.append((f"E{e}C{c}", f"E{e}", "commune"))
            rows += [(f"E{e}C{c}I{i}", f"E{e}C{c}", "iris") for i in range(iris)]
    return AreaTree.from_rows("test", pl.DataFrame(rows, schema=["area", "parent", "level"], orient="row"))


def pseudonym(number: int) -> bytes:
    return sha256(f"premises {number}".encode()).digest()[:16]


@dataclass(frozen=True)
class Part:
    """What one holding (through one partner) contributed for one premises."""

    premises: int
    holding: str
    area: str
    segment: str
    value: int


def frame(parts: Iterable[Part]) -> pl.DataFrame:
    """Contributions as `Units.contributions_of` gives them; the partner is named after its holding."""
    return pl.DataFrame(
        [
            (p.premises, pseudonym(p.premises), p.holding, p.holding, p.area, p.segment, p.value)
            for p in parts
        ],
        schema={
            "home": pl.Int64,
            "premises": pl.Binary,
            "holding": pl.String,
            "partner": pl.String,
            "area": pl.String,
            "segment": pl.String,
            "value": pl.Int64,
        },
        orient="row",
    )


def random_parts(rng: random.Random, areas: AreaTree, n: int, *, net: bool = False) -> list[Part]:
    """Premises spread unevenly, at any level of the tree, some of them customers of two holdings."""
    places = rng.sample(areas.codes, k=min(len(areas.codes), rng.randint(2, 12)))
    parts = []
    for number in range(n):
        area, segment = rng.choice(places), rng.choice(["flat", "house"])
        scale = 10 ** rng.randint(0, 4)
        for holding in rng.sample(["h1", "h2", "h3", "h4"], k=2 if rng.random() < 0.1 else 1):
            value = rng.randint(0, 9) * scale * (rng.choice([1, -1]) if net else 1)
            parts.append(Part(number, holding, area, segment, value))
    return parts


def cells_of(area: str, segment: str, areas: AreaTree) -> list[tuple[str, str]]:
    """All cells that a premises lies in, by walking up the tree."""
    found = []
    at: str | None = area
    while at is not None:
        found += [(at, segment), (at, "*")]
        at = areas.parent(at)
    return found
