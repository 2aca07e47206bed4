"""Products of two inputs and roll-ups for the tests of products."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fold_worlds import DAY, Row, domain, name, rollup, rollups

from broker.core.calendar import Window
from broker.core.condition import Condition
from broker.core.plan import Product
from broker.core.policy import Input, Policy
from broker.core.products import Units, units
from broker.core.rollups import Rollups

DAYS = 5
WINDOW = Window(0, DAYS * DAY)
H1, H2 = name("h1"), name("h2")


def product(
    *,
    join: str = "premises",
    coverage: str = "0.8",
    bit: int = 0,
    inputs: tuple[str, ...] = ("energy", "water"),
    days: frozenset[str] | None = None,
    **measures: Any,
) -> Product:
    """energy: intervals of electricity by a, b, c; water: registers of w, x, a. days: what counts for energy."""
    every = {
        "energy": {"measure": "electricity", "unit": "Wh", "kind": "interval", "partners": ("a", "b", "c")},
        "water": {
            "measure": "water",
            "unit": "mL",
            "kind": "register",
            "partners": ("w", "x", "a"),
            "max_gap": "P1D",
        },
    }
    specs = {key: Input(**every[key], qualities=("measured",)) for key in inputs}
    if days is not None:
        specs["energy"] = specs["energy"].model_copy(update={"days": "cold"})
    # Only what the module reads; a whole policy is the policy module's test.
    policy = Policy.model_construct(
        product="p", join=join, coverage=Fraction(coverage), inputs=specs, measures=measures
    )
    references = {} if days is None else {"cold": days}
    return Product(policy, "sha256:0", bit, 0, {}, references, "epci")


def of(rows: list[Row], what: Product | None = None, window: Window = WINDOW) -> Units:
    return units(Rollups.of(rollups(rows)), what or product(inputs=("energy",)), domain(), window)


def water(day: int, point: str, value: int, **fields: Any) -> Row:
    return rollup(day, point, value, **{"partner": "w", "measure": "water", "kind": "register", **fields})


def energy(days: range, point: str = "e1", value: int = 10, **fields: Any) -> list[Row]:
    return [rollup(day, point, value, **fields) for day in days]


def waters(days: range, point: str = "w1", value: int = 7, **fields: Any) -> list[Row]:
    return [water(day, point, value, **fields) for day in days]


ALL = range(DAYS)


def where(**conditions: str) -> dict[str, Condition]:
    return {key: Condition.parse(text) for key, text in conditions.items()}
