"""A small territory for tests and benchmark of admission: two groups, a few streams, products as asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from broker.core import consent, readings, sites
from broker.core.admission import NO_MARK, Admission, admit
from broker.core.areas import AreaTree
from broker.core.consent import ConsentTable
from broker.core.plan import Activation, Domain, Stream, build_plan
from broker.core.policy import load
from broker.core.sites import SiteTable

HOUR = 3_600_000
DAY = 24 * HOUR
PARTNER = "energy-a"
ELECTRICITY = Stream(PARTNER, "holding-a", "electricity", "electricity", "interval", "Wh")
GAS = Stream(PARTNER, "holding-a", "gas", "gas", "interval", "Wh")
WATER = Stream(PARTNER, "holding-a", "water", "water", "register", "mL")
OTHER = Stream("energy-b", "holding-b", "electricity", "electricity", "interval", "Wh")
HEAT = Stream(PARTNER, "holding-a", "heat", "heat", "interval", "Wh")

AREAS = AreaTree.from_rows(
    "iris-2026",
    pl.DataFrame(
        {
            "area": ["G1", "G2", "C1", "C2", "C3"],
            "parent": ["", "", "G1", "G1", "G2"],
            "level": ["epci", "epci", "commune", "commune", "commune"],
        }
    ),
)


def ms(text: str, zone: str = "Europe/Paris") -> int:
    """Local time, as `2026-03-29 12:00`, in ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def keys(domain: str, epoch: str) -> bytes:
    return sha256(f"{domain}/{epoch}".encode()).digest()


def frame(schema: pl.Schema, rows: Iterable[Sequence[object]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def site_table(*rows: Sequence[object], partner: str = PARTNER) -> SiteTable:
    """Rows: delivery_point, valid_from, valid_to, premises, area, segment, register_size."""
    return SiteTable.build(frame(sites.SCHEMA, rows), partner, AREAS, "epci")[0]


def consent_table(*rows: Sequence[object], cut: int | None = None) -> ConsentTable:
    """Rows: delivery_point, purpose, granted_from, expires_at, withdrawn_at."""
    return ConsentTable.build(frame(consent.SCHEMA, rows), cut)


def batch(*rows: Sequence[object]) -> pl.DataFrame:
    """Rows: delivery_point, start, end, value[, quality]; offsets count from 0."""
    full = [(*(*row, "measured")[:5], offset) for offset, row in enumerate(rows)]
    return frame(readings.SCHEMA, full)


def product(name: str = "daily", **changes: object) -> str:
    """A policy on electricity of both partners, by day, public task; `changes` replace whole fields."""
    text = {"fr": "x", "en": "x"}
    policy: dict[str, object] = {
        "product": name,
        "version": 1,
        "domain": "housing",
        "title": text,
        "meaning": text,
        "controllers": [PARTNER, "energy-b"],
        "processor": "broker",
        "dpia": "sha256:" + "0" * 64,
        "purpose": "planning",
        "lawful_basis": {"kind": "public_task", "reference": "CGCT L2224-37-1"},
        "inputs": {"energy": energy()},
        "join": "none",
        "window": {"length": "P1D", "base": "P1D", "timezone": "Europe/Paris"},
        "areas": {"hierarchy": "iris-2026", "levels": ["commune", "epci"], "group": "epci"},
        "dimensions": ["segment"],
        "measures": {"used": {"kind": "sum", "input": "energy", "unit": "kWh"}},
        "disclosure": {
            "min_contributors": 10,
            "min_holdings": 3,
            "p_percent": 15,
            "dominance": [[1, 85]],
            "without_each_holding": True,
        },
        "recipients": ["public"],
        "licence": "etalab-2.0",
        "retention": {"contributions": "until-release", "releases": "P10Y"},
    }
    return json.dumps(policy | changes)


def energy(**changes: object) -> dict[str, object]:
    partners = [PARTNER, "energy-b"]
    return {
        "measure": "electricity",
        "unit": "Wh",
        "kind": "interval",
        "partners": partners,
        "qualities": ["measured"],
    } | changes


def water(**changes: object) -> dict[str, object]:
    own = {"measure": "water", "unit": "mL", "kind": "register", "partners": [PARTNER]}
    return own | {"qualities": ["measured"], "max_gap": "P2D"} | changes


CONSENT = {"kind": "consent"}
BY_MONTH = {"length": "P1M", "base": "P1D", "timezone": "Europe/Paris"}
BY_HOUR = {"length": "PT1H", "base": "PT1H", "timezone": "Europe/Paris"}


def water_product(name: str = "daily-water", **changes: object) -> str:
    """As `product`, on water registers."""
    measures = {"used": {"kind": "sum", "input": "water", "unit": "m3"}}
    own = {"controllers": [PARTNER], "inputs": {"water": water()}, "measures": measures}
    return product(name, **(own | changes))


def domain_of(*policies: str, active_from: dict[str, int] | None = None) -> Domain:
    """The domain of these policies; active_from: ms by product, default always."""
    loaded = [load(text, "test") for text in policies]
    starts = active_from or {}
    activations = [Activation(policy, starts.get(policy.product, 0)) for policy in loaded]
    streams = [ELECTRICITY, GAS, WATER, OTHER, HEAT]
    return build_plan(activations, streams, AREAS, "Europe/Paris").domains["housing"]


def admitted(
    readings: pl.DataFrame,
    domain: Domain,
    sites: SiteTable,
    consents: ConsentTable | None = None,
    stream: Stream = ELECTRICITY,
    **more: Any,
) -> Admission:
    """`admit` with no consent record, no mark and test keys unless told otherwise."""
    options: dict[str, Any] = {"keys": keys, "mark": NO_MARK} | more
    return admit(readings, stream, domain, sites, consents or ConsentTable.empty(), **options)


def reasons(admission: Admission) -> dict[int, str]:
    """Offset -> reason of all refused readings."""
    return dict(admission.refused.iter_rows())
