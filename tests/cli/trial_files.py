"""The files of a dry run, written and run as a user does, and what came out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from broker import cli

POINT = "energy-a-K1-0"
PARIS = ZoneInfo("Europe/Paris")
SUPPLIERS = {"energy-a": "holding-a", "energy-b": "holding-b", "energy-c": "holding-c"}
AREAS = "area,parent,level\nE1,,epci\nE2,,epci\nK1,E1,commune\nK2,E1,commune\nK3,E2,commune\n"
ENERGY: dict[str, Any] = {
    "measure": "electricity",
    "unit": "Wh",
    "kind": "interval",
    "partners": list(SUPPLIERS),
    "qualities": ["measured"],
}
WATER: dict[str, Any] = {
    "measure": "water",
    "unit": "mL",
    "kind": "register",
    "partners": ["water-n"],
    "qualities": ["measured"],
    "max_gap": "P2D",
}
LAX = {
    "min_contributors": 1,
    "min_holdings": 1,
    "p_percent": 1,
    "dominance": [[1, 100]],
    "without_each_holding": False,
    "zero_is_sensitive": False,
}
Reading = tuple[str, str, str, object]
"""partner, delivery point, timestamp, value."""


def policy(**changes: Any) -> dict[str, Any]:
    """Daily electricity of three suppliers by commune, hardly protected."""
    text = {"fr": "x", "en": "x"}
    values: dict[str, Any] = {
        "product": "daily",
        "version": 1,
        "domain": "housing",
        "title": text,
        "meaning": text,
        "processor": "broker",
        "dpia": "sha256:" + "0" * 64,
        "purpose": "planning",
        "lawful_basis": {"kind": "public_task", "reference": "CGCT L2224-37-1"},
        "inputs": {"energy": ENERGY},
        "join": "none",
        "window": {"length": "P1D", "base": "P1D", "timezone": "Europe/Paris"},
        "areas": {"hierarchy": "iris-2026", "levels": ["commune", "epci"], "group": "epci"},
        "measures": {
            "homes": {"kind": "count"},
            "used": {"kind": "sum", "input": "energy", "unit": "Wh"},
        },
        "disclosure": LAX,
        "recipients": ["public"],
        "licence": "etalab-2.0",
        "retention": {"contributions": "until-release", "releases": "P10Y"},
    }
    return values | changes


def local(day: int, month: int = 1) -> str:
    return datetime(2024, month, day, tzinfo=PARIS).isoformat()


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


@dataclass
class Trial:
    """A folder with the files of one dry run. homes: delivery point → (partner, area, segment)."""

    folder: Path
    policy: dict[str, Any] = field(default_factory=policy)
    homes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    sites: str | None = None
    areas: str = AREAS
    consent: str | None = None
    premises: Mapping[str, str] = field(default_factory=dict)

    def put(self, name: str, rows: Iterable[Reading]) -> None:
        self.readings[name] = table("partner,delivery_point,timestamp,value", rows)

    def run(self, *more: str) -> int:
        holdings = SUPPLIERS | {"water-n": "holding-w"}
        partners = sorted({name for spec in self.policy["inputs"].values() for name in spec["partners"]})
        sites = table(
            "partner,holding,delivery_point,premises,area,segment",
            (
                (partner, holdings[partner], point, self.premises.get(point, f"home-{point}"), area, segment)
                for point, (partner, area, segment) in self.homes.items()
            ),
        )
        files = {
            "policy.yaml": json.dumps(self.policy | {"controllers": partners}),
            "sites.csv": self.sites if self.sites is not None else sites,
            "areas.csv": self.areas,
            **{f"{name}.csv": text for name, text in self.readings.items()},
        }
        if self.consent is not None:
            files["consent.csv"] = self.consent
            more = ("--consent", str(self.folder / "consent.csv"), *more)
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        inputs = [
            part for name in self.readings for part in ("--readings", f"{name}={self.folder / name}.csv")
        ]
        fixed = ["--sites", str(self.folder / "sites.csv"), "--areas", str(self.folder / "areas.csv")]
        out = ["--out", str(self.folder / "out")]
        return cli.run(["dry-run", str(self.folder / "policy.yaml"), *inputs, *fixed, *out, *more])

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "out" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "out" / "summary.json").read_text())
        return found

    def truth(self, measure: str, segment: str = "*") -> dict[tuple[str, str], str]:
        """True value by (date of the window's start, area)."""
        return {
            (row["window_start"][:10], row["area"]): row["true_value"]
            for row in self.rows("decisions")
            if row["measure"] == measure and row["segment"] == segment
        }


def plain(trial: Trial, days: Iterable[int] = (1, 2), value: object = 1000) -> list[Reading]:
    return [(home[0], point, local(day), value) for point, home in trial.homes.items() for day in days]


def consents(*rows: tuple[object, ...]) -> str:
    return table("delivery_point,purpose,granted_from,expires_at,withdrawn_at", rows)
