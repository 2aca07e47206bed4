"""A synthetic world as files: an operator's territory folder, with the input of a dry run.

Invariants
- The folder has the form of a real territory's: territory.yaml, areas.csv, areas.geojson, partners/,
  recipients/, policies/ with their impact assessment, references/. The policies are the shipped ones.
- `input/` holds what `broker dry-run` reads: every reading that can count, in sending order, and every site
  and objection. Late, unknown and malformed records are not in it: they never change a release.
- The same world writes the same bytes. Polygons lie on a grid around a place in the middle of France: they
  are drawn, not surveyed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from broker.core.plan import Stream
from broker.edge.data import data_folder
from broker.sim.world import World

HIERARCHY: Final = "iris-2026"
CITY_PRODUCTS: Final = ("energy-water-daily", "underheating-monthly", "vacancy-monthly")
INPUTS: Final = {"energy": "electricity", "water": "water"}
"""Input names of the shipped policies and the measure that each takes."""
COUNTED: Final = ("normal", "duplicate")

_WEST, _NORTH, _CELL = 2.0, 47.3, 0.02  # degrees


def write_territory(world: World, folder: Path, agreement_keys: Mapping[str, str] | None = None) -> Path:
    """Write the territory and `input/`; returns the folder. agreement_keys: C2SP vkey of each partner."""
    folder.mkdir(parents=True, exist_ok=True)
    _yaml(
        folder / "territory.yaml",
        {
            "name": world.spec.name,
            "timezone": world.spec.timezone,
            "lanes": world.spec.lanes,
            "areas": {"hierarchy": HIERARCHY, "file": "areas.csv", "geometry": "areas.geojson"},
        },
    )
    world.areas.write_csv(folder / "areas.csv")
    (folder / "areas.geojson").write_text(
        json.dumps(geometry(world), separators=(",", ":")), encoding="utf-8"
    )
    for stream in world.streams:
        _yaml(folder / "partners" / f"{stream.partner}.yaml", _partner(world, stream, agreement_keys or {}))
    _yaml(
        folder / "recipients" / "city.yaml",
        {"name": "city", "title": "Intercommunalités du territoire", "products": list(CITY_PRODUCTS)},
    )
    copy_policies(folder)
    write_input(world, folder / "input")
    return folder


def copy_policies(folder: Path) -> None:
    """The shipped policies, their references and their impact assessment, into `folder`."""
    source = data_folder("policies")
    for path in sorted(source.glob("*.yaml")):
        _copy(path, folder / "policies" / path.name)
    for path in sorted((source / "dpia").glob("*.md")):
        _copy(path, folder / "policies" / "dpia" / path.name)
    for path in sorted((source / "references").glob("*.csv")):
        _copy(path, folder / "references" / path.name)


def write_input(world: World, folder: Path) -> Path:
    """Files of a dry run: readings-<input>.csv, sites.csv, areas.csv, consent.csv; returns the folder.

    Two columns more than a dry run asks for: `interval` of readings, because some points send half-hours on
    some days; `register_size` of sites, because counters roll over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world.areas.write_csv(folder / "areas.csv")
    for name, measure in INPUTS.items():
        frames = [_readings(world, stream) for stream in world.streams if stream.measure == measure]
        pl.concat(frames).write_csv(folder / f"readings-{name}.csv")
    site_frames = [
        world.sites[stream.partner].select(
            partner=pl.lit(stream.partner),
            holding=pl.lit(stream.holding),
            delivery_point="delivery_point",
            premises="premises",
            area="area",
            segment="segment",
            valid_from=_iso("valid_from", world),
            valid_to=_iso("valid_to", world),
            register_size="register_size",
        )
        for stream in world.streams
    ]
    pl.concat(site_frames).write_csv(folder / "sites.csv")
    moments = ("granted_from", "expires_at", "withdrawn_at")
    said = pl.concat([world.consent[stream.partner] for stream in world.streams])
    said.with_columns(_iso(column, world).alias(column) for column in moments).write_csv(
        folder / "consent.csv"
    )
    return folder


def geometry(world: World) -> dict[str, Any]:
    """GeoJSON (RFC 7946) of all areas: an IRIS is a cell, a commune a row of cells, an EPCI some rows."""
    features = [
        {"type": "Feature", "properties": {"area": area, "level": level}, "geometry": _polygon(cells)}
        for level, area, cells in _cells(world.tree)
    ]
    return {"type": "FeatureCollection", "features": features}


def _readings(world: World, stream: Stream) -> pl.DataFrame:
    steps = world.readings[stream.partner][stream.name]
    sent = pl.concat([step.frame for step in steps]).filter(pl.col("phase").is_in(COUNTED))
    half = (pl.col("end") - pl.col("start")) == 1_800_000
    length = (
        pl.lit(None, pl.String)
        if stream.kind == "register"
        else pl.when(half).then(pl.lit("PT30M")).otherwise(pl.lit("P1D"))
    )
    return sent.select(
        partner=pl.lit(stream.partner),
        delivery_point="delivery_point",
        timestamp=_iso("start", world),
        value="value",
        quality="quality",
        interval=length,
    )


def _iso(column: str, world: World) -> pl.Expr:
    """ISO 8601 in the territory's zone; a moment that is not a whole second keeps its milliseconds."""
    zoned = pl.col(column).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(world.spec.timezone)
    whole = pl.col(column) % 1000 == 0
    return (
        pl.when(whole)
        .then(zoned.dt.strftime("%Y-%m-%dT%H:%M:%S%:z"))
        .otherwise(zoned.dt.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    )


def _partner(world: World, stream: Stream, keys: Mapping[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": stream.partner,
        "holding": stream.holding,
        "title": world.titles[stream.partner],
        "streams": [
            {
                "name": stream.name,
                "measure": stream.measure,
                "kind": stream.kind,
                "unit": stream.unit,
                "net": stream.net,
            }
        ],
    }
    if stream.partner in keys:
        said["agreement_key"] = keys[stream.partner]
    return said


def _cells(tree: pl.DataFrame) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """(level, area, cells) of every area; EPCIs four in a row, each of them 10 cells wide and 10 high."""
    commune, epci = tree["commune_index"].to_list(), tree["epci_index"].to_list()
    widest = 1 + max(commune.count(c) for c in set(commune))
    highest = 1 + max(len({c for c, e in zip(commune, epci, strict=True) if e == one}) for one in set(epci))
    first_commune = {e: min(c for c, at in zip(commune, epci, strict=True) if at == e) for e in set(epci)}
    seen: dict[int, int] = {}
    at: list[tuple[int, int]] = []
    for c, e in zip(commune, epci, strict=True):
        seen[c] = seen.get(c, -1) + 1
        at.append((e % 4 * widest + seen[c], e // 4 * highest + c - first_commune[e]))
    for level in ("iris", "commune", "epci"):
        codes = tree[level].to_list()
        for area in dict.fromkeys(codes):
            yield level, area, [cell for code, cell in zip(codes, at, strict=True) if code == area]


def _polygon(cells: list[tuple[int, int]]) -> dict[str, Any]:
    """Rows of cells with the same left edge as one polygon, counter-clockwise from the south-west corner."""
    left = min(x for x, _ in cells)
    rows = sorted({y for _, y in cells}, reverse=True)
    corners = [(left, rows[0] + 1)]
    for y in rows:
        right = 1 + max(x for x, row in cells if row == y)
        corners += [(right, y)] if corners[-1] == (right, y + 1) else [(right, y + 1), (right, y)]
    corners += [(left, rows[-1]), corners[0]]
    ring = [[round(_WEST + _CELL * x, 4), round(_NORTH - _CELL * y, 4)] for x, y in corners]
    return {"type": "Polygon", "coordinates": [ring]}


def _yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
