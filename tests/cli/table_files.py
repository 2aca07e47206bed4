"""A statistician's files, written and used as by hand, and what came out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import cli

REGIONS = {"N": "Total", "S": "Total", "N1": "N", "N2": "N", "S1": "S", "S2": "S"}
HEAD = ("region", "sector", "company", "group", "turnover")
Line = tuple[object, ...]


def companies() -> list[Line]:
    """Six companies of four groups in each of four regions and two sectors, all alike but one: (N1, b) has one."""
    rows: list[Line] = []
    for region in ("N1", "N2", "S1", "S2"):
        for sector in ("a", "b"):
            number = 1 if (region, sector) == ("N1", "b") else 6
            rows += [(region, sector, f"{region}{sector}{i}", f"g{i % 4}", 100 + i) for i in range(number)]
    return rows


@dataclass
class Case:
    """A folder with the files of one table. spec: the SPEC as values."""

    folder: Path
    rows: list[Line] = field(default_factory=companies)
    head: tuple[str, ...] = HEAD
    spec: dict[str, Any] = field(
        default_factory=lambda: {
            "dimensions": {"region": {"hierarchy": "regions.csv"}, "sector": {}},
            "value": "turnover",
            "contributor": "company",
            "holding": "group",
            "rules": {"min_contributors": 3},
        }
    )
    hierarchies: dict[str, dict[str, str]] = field(default_factory=lambda: {"regions": dict(REGIONS)})

    @property
    def out(self) -> Path:
        return self.folder / "table.csv"

    def write(self) -> None:
        put(self.folder / "m.csv", self.head, self.rows)
        (self.folder / "s.yaml").write_text(json.dumps(self.spec), encoding="utf-8")
        for name, parents in self.hierarchies.items():
            put(self.folder / f"{name}.csv", ("child", "parent"), parents.items())

    def protect(self, *more: str) -> int:
        self.write()
        files = [str(self.folder / name) for name in ("m.csv", "s.yaml")]
        return cli.run(["protect", files[0], "--spec", files[1], "--out", str(self.out), *more])

    def audit(self, *more: str, microdata: bool = True) -> int:
        self.write()
        known = ["--microdata", str(self.folder / "m.csv")] if microdata else []
        return cli.run(["audit-table", str(self.out), "--spec", str(self.folder / "s.yaml"), *known, *more])

    def table(self, name: str = "") -> list[dict[str, str]]:
        return read(self.out.with_name(f"{self.out.name}.{name}.csv") if name else self.out)

    def cell(self, *codes: str, name: str = "") -> dict[str, str]:
        (found,) = [row for row in self.table(name) if tuple(row.values())[: len(codes)] == codes]
        return found


def put(path: Path, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
