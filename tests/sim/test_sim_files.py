"""A written territory can be read back, and its input files hold exactly what was sent and can count."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from broker.core.areas import AreaTree
from broker.edge.data import data_folder
from broker.edge.files import read_areas, read_consent, read_readings, read_sites
from broker.edge.territory import load_territory
from broker.sim import TerritorySpec, World, generate, write_territory
from broker.sim.spec import Faults
from broker.sim.write import COUNTED

PARTNERS = ("energy-a", "energy-b", "energy-c", "water-n", "water-s")
KEYS = {name: f"{name}+00000000+AAAA" for name in PARTNERS}


@pytest.fixture(scope="module")
def world() -> World:
    faults = Faults(late=0.05, corrections=0.05, duplicates=0.05, malformed=0.005)
    spec = TerritorySpec(
        epcis=4,
        communes=8,
        iris=16,
        premises=600,
        days=12,
        half_hourly=(1, 2, 2),
        switches=0.1,
        faults=faults,
    )
    return generate(spec, seed=9)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_territory(world, tmp_path_factory.mktemp("territory"), KEYS)


def test_the_operators_files_describe_the_world(world: World, folder: Path) -> None:
    found = load_territory(folder)
    assert found.territory.name == "demo"
    assert found.territory.lanes == 4
    assert found.territory.timezone == "Europe/Paris"
    assert found.territory.streams == tuple(sorted(world.streams))
    assert {p.name: p.agreement_key for p in found.territory.partners} == KEYS
    tree = AreaTree.from_rows(found.territory.areas.hierarchy, found.areas)
    assert len(tree.groups("epci")) == 4
    assert len(tree.groups("iris")) == 16
    (city,) = found.territory.recipients
    assert sorted(city.products) == sorted(name.removesuffix(".yaml") for name in found.policies)


def test_the_shipped_policies_and_references_are_copied_byte_for_byte(folder: Path) -> None:
    source = data_folder("policies")
    names = [path.name for path in source.glob("*.yaml")]
    assert len(names) == 3
    assert filecmp.cmpfiles(source, folder / "policies", names, shallow=False)[0] == names
    references = [path.name for path in (source / "references").glob("*.csv")]
    assert filecmp.cmpfiles(source / "references", folder / "references", references, shallow=False)[0]


def counted(world: World) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """(measure, partner, what it sent that can count) with kind and value as sent."""
    for stream in world.streams:
        steps = world.readings[stream.partner][stream.name]
        frame = pl.concat([step.frame for step in steps]).filter(pl.col("phase").is_in(COUNTED))
        yield stream.measure, stream.partner, frame.drop("phase", "offset")


@pytest.mark.parametrize(
    ("name", "measure", "unit", "kind"),
    [("energy", "electricity", "Wh", "interval"), ("water", "water", "mL", "register")],
)
def test_input_files_hold_what_was_sent_less_the_late_and_malformed(
    world: World, folder: Path, *, name: str, measure: str, unit: str, kind: str
) -> None:
    path = folder / "input" / f"readings-{name}.csv"
    found = read_readings(path, unit=unit, kind=kind, base="P1D", timezone="Europe/Paris")
    assert found.quarantined == {}
    expected = {partner: frame for m, partner, frame in counted(world) if m == measure}
    assert list(found.frames) == sorted(expected)
    for partner, frame in expected.items():
        got = found.frames[partner]
        assert got.drop("offset").equals(frame), partner
        assert got["offset"].is_sorted()
    assert found.read == sum(len(frame) for frame in expected.values())


def test_sites_areas_and_objections_come_back_as_they_are(world: World, folder: Path) -> None:
    sites = read_sites(folder / "input" / "sites.csv")
    assert sites.holdings == {s.partner: s.holding for s in world.streams}
    for partner, rows in world.sites.items():
        assert sites.rows[partner].select(rows.columns).equals(rows)
    assert read_areas(folder / "input" / "areas.csv").equals(world.areas)
    said = pl.concat([world.consent[s.partner] for s in world.streams])
    assert read_consent(folder / "input" / "consent.csv").equals(said)


def ring_area(ring: list[list[float]]) -> float:
    """Twice the signed area (shoelace), 10^-4 degrees²: positive if counter-clockwise (RFC 7946, 3.1.6)."""
    return round(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring)) * 1e4, 3)


def test_every_area_has_a_polygon_as_large_as_its_parts(world: World, folder: Path) -> None:
    features = json.loads((folder / "areas.geojson").read_text())["features"]
    size: dict[str, float] = {}
    for feature in features:
        geometry: dict[str, Any] = feature["geometry"]
        assert geometry["type"] == "Polygon"
        (ring,) = geometry["coordinates"]
        assert ring[0] == ring[-1]
        assert len({tuple(point) for point in ring}) == len(ring) - 1
        size[feature["properties"]["area"]] = ring_area(ring)
    assert size.keys() == set(world.areas["area"])
    assert min(size.values()) > 0
    for parent, children in world.areas.drop_nulls("parent").group_by("parent").agg("area").iter_rows():
        assert size[parent] == pytest.approx(sum(size[child] for child in children))


def test_the_same_world_writes_the_same_bytes(world: World, folder: Path, tmp_path: Path) -> None:
    again = write_territory(generate(world.spec, world.seed), tmp_path / "again", KEYS)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(folder, again, files, shallow=False) == (files, [], [])
