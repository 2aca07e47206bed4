"""A release is shown only whole and unaltered, once, and as the same rows that a dry run writes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.calendar import Calendar
from broker.core.errors import InputError, OperatorError
from broker.core.formats import geojson, parquet, read_geometries
from broker.core.published import (
    Decided,
    Record,
    Releases,
    as_report,
    decision_reports,
    in_windows,
    missing_groups,
    narrowed,
    rebuild,
)
from broker.core.report import CELLS, PUBLIC_CELLS, Report, decisions_csv, releases_csv

DAY = 86_400_000
FIRST = 1_767_222_000_000  # 2026-01-01 in Paris
PARIS = Calendar("Europe/Paris")
LEVELS = ["iris", "commune"]
MEASURES = ["vacant", "premises"]


def raw(value: dict[str, Any]) -> bytes:
    """Bytes that stand for the wire's: what counts is that they are the same for the same record."""
    return json.dumps(value, sort_keys=True).encode()


def chunk(start: int, group: str, number: int, cells: list[dict[str, Any]]) -> Record:
    value = {"product": "vacancy", "group": group, "window_start": start, "chunk": number, "cells": cells}
    return Record("release-cells", value | {"cells": pl.DataFrame(cells, schema=PUBLIC_CELLS)}, raw(value))


def manifest(start: int, group: str, chunks: Sequence[Record], **changes: Any) -> Record:
    value = {
        "product": "vacancy",
        "version": 1,
        "policy": "sha256:00",
        "window_start": start,
        "window_end": start + DAY,
        "group": group,
        "hierarchy": "iris-2026",
        "timezone": "Europe/Paris",
        "levels": LEVELS,
        "measures": MEASURES,
        "partners": ["energy-a", "water-n"],
        "left_out": [],
        "chunks": len(chunks),
        "cells_digest": "sha256:" + sha256(b"".join(c.raw for c in chunks)).hexdigest(),
        "engine": "1",
    } | changes
    return Record("release-manifest", value, raw(value))


def cell(area: str, level: str, measure: str, value: str | None) -> dict[str, Any]:
    status = "suppressed" if value is None else "published"
    return {
        "area": area,
        "level": level,
        "segment": "*",
        "measure": measure,
        "value": value,
        "status": status,
    }


def release(start: int = FIRST, group: str = "E0", chunks: int = 3) -> list[Record]:
    """Chunks, then manifest; each chunk has an iris with both measures, the first one the commune too."""
    parts = []
    for number in range(chunks):
        cells = [
            cell(f"{group}I{number}", "iris", m, v) for m, v in zip(MEASURES, (None, "1250.5"), strict=True)
        ]
        if not number:
            cells.append(cell(group, "commune", "premises", "40"))
        parts.append(chunk(start, group, number, cells))
    return [*parts, manifest(start, group, parts)]


def only_problem(records: list[Record]) -> OperatorError:
    """The one problem of these records, nothing of which is shown."""
    found = rebuild("vacancy", records)
    assert found.published == ()
    (problem,) = found.problems
    with pytest.raises(OperatorError, match=problem.error.reason):
        found.whole()
    assert "vacancy, window 2026-01-01T00:00:00+01:00, release group E0" in problem.error.where
    return problem.error


def test_a_whole_release_is_shown_as_it_was_written() -> None:
    (found,) = rebuild("vacancy", release()).whole()
    assert found.manifest.levels == tuple(LEVELS)
    assert found.manifest.partners == ("energy-a", "water-n")
    assert found.cells.schema == PUBLIC_CELLS
    assert found.cells["area"].to_list() == ["E0I0", "E0I0", "E0", "E0I1", "E0I1", "E0I2", "E0I2"]
    assert found.cells["value"].to_list() == [None, "1250.5", "40", None, "1250.5", None, "1250.5"]


def test_its_name_is_the_digest_of_its_canonical_manifest() -> None:
    (found,) = rebuild("vacancy", release()).whole()
    value = release()[-1].value
    canonical = json.dumps(
        dict(value), sort_keys=True, separators=(",", ":")
    ).encode()  # ASCII and integers only
    assert found.manifest.release == sha256(canonical).hexdigest()


def test_an_empty_release_is_one() -> None:
    (found,) = rebuild("vacancy", [manifest(FIRST, "E0", [])]).whole()
    assert found.cells.is_empty()
    assert releases_csv([as_report(found)]).count(b"\n") == 1


@pytest.mark.parametrize("number", range(3))
def test_a_missing_chunk_is_named(number: int) -> None:
    records = release()
    del records[number]
    error = only_problem(records)
    assert error.reason == "release_incomplete"
    assert error.what.startswith(f"of its 3 chunks these are missing: {number}:")


def test_cells_without_a_manifest_are_not_shown() -> None:
    found = rebuild("vacancy", release()[:-1])
    assert found.published == ()
    assert [(p.group, p.error.reason) for p in found.problems] == [("E0", "release_incomplete")]


def test_an_altered_cell_is_not_shown() -> None:
    for number in range(3):
        for position in range(2):
            records = release()
            value = json.loads(records[number].raw)
            value["cells"][position] |= {"value": "7", "status": "published"}
            records[number] = chunk(FIRST, "E0", number, value["cells"])
            error = only_problem(records)
            assert error.reason == "release_altered"
            assert "7" not in error.what.split("sha256:")[0]


def test_chunks_that_changed_places_are_not_shown() -> None:
    records = release()
    cells = [record.value["cells"].to_dicts() for record in records[:2]]
    records[:2] = [chunk(FIRST, "E0", number, cells[1 - number]) for number in range(2)]
    assert only_problem(records).reason == "release_altered"


def test_a_chunk_too_many_or_twice_with_other_contents_is_not_ignored() -> None:
    extra = [cell("E0I9", "iris", "vacant", "1")]
    assert "chunk 3 is none" in only_problem([*release(), chunk(FIRST, "E0", 3, extra)]).what
    assert "different contents" in only_problem([*release(), chunk(FIRST, "E0", 1, extra)]).what


@given(st.data())
def test_copies_and_order_of_records_change_nothing(data: st.DataObject) -> None:
    records = release() + release(FIRST + DAY) + release(FIRST, "E1", chunks=1)
    copies = data.draw(st.lists(st.sampled_from(records), max_size=8))
    mixed = data.draw(st.permutations(records + copies))
    found = rebuild("vacancy", mixed)
    assert found.problems == ()
    places = [(one.manifest.window_start, one.manifest.group) for one in found.published]
    assert places == [(FIRST, "E0"), (FIRST, "E1"), (FIRST + DAY, "E0")]
    for one, other in zip(found.published, rebuild("vacancy", records).published, strict=True):
        assert one.manifest == other.manifest
        assert one.cells.equals(other.cells)


@pytest.mark.parametrize("second_first", [False, True])
def test_a_second_different_manifest_is_an_alarm_whichever_came_first(second_first: bool) -> None:
    records = release()
    second = manifest(FIRST, "E0", records[:3], policy="sha256:01")
    error = only_problem([second, *records] if second_first else [*records, second])
    assert error.reason == "release_revised"


def test_one_bad_release_does_not_hide_the_others() -> None:
    found = rebuild("vacancy", release()[1:] + release(FIRST + DAY))
    assert [one.manifest.window_start for one in found.published] == [FIRST + DAY]
    assert [problem.start for problem in found.problems] == [FIRST]
    assert in_windows(found, "2026-01-02").whole() == list(found.published)
    with pytest.raises(OperatorError, match="release_incomplete"):
        in_windows(found, "2026-01-01").whole()


def test_a_release_of_another_product_is_not_shown() -> None:
    assert only_problem([manifest(FIRST, "E0", [], product="daily")]).reason == "release_altered"


@pytest.mark.parametrize(
    "wrong",
    [
        cell("E0", "epci", "vacant", "1"),
        cell("E0", "iris", "absent", "1"),
        cell("E0", "iris", "vacant", None) | {"value": "1"},
        cell("E0", "iris", "vacant", "1") | {"value": None},
    ],
)
def test_cells_that_contradict_the_manifest_or_themselves_are_not_shown(wrong: dict[str, Any]) -> None:
    parts = [chunk(FIRST, "E0", 0, [wrong])]
    assert only_problem([*parts, manifest(FIRST, "E0", parts)]).reason == "release_altered"


def test_the_table_is_the_one_that_a_dry_run_writes() -> None:
    """Rows by the policy's own orders, which are not alphabetical, through local times with their offsets."""
    summer = 1_782_856_800_000  # 2026-07-01 in Paris
    records = release(summer) + release(FIRST, "E1", chunks=1) + release()
    lines = (
        releases_csv([as_report(one) for one in rebuild("vacancy", records).whole()]).decode().splitlines()
    )
    assert lines[0] == "product,window_start,window_end,area,level,segment,measure,value,status"
    january = "vacancy,2026-01-01T00:00:00+01:00,2026-01-02T00:00:00+01:00"
    assert lines[1:5] == [
        f"{january},E0I0,iris,*,vacant,,suppressed",
        f"{january},E0I0,iris,*,premises,1250.5,published",
        f"{january},E0I1,iris,*,vacant,,suppressed",
        f"{january},E0I1,iris,*,premises,1250.5,published",
    ]
    assert lines[9:11] == [
        f"{january},E0,commune,*,premises,40,published",
        f"{january},E1,commune,*,premises,40,published",
    ]
    assert lines[-1] == (
        "vacancy,2026-07-01T00:00:00+02:00,2026-07-02T00:00:00+02:00,E0,commune,*,premises,40,published"
    )


def many() -> Releases:
    return rebuild("vacancy", [r for day in range(31) for r in release(FIRST + day * DAY)])


@pytest.mark.parametrize(
    ("window", "days"),
    [
        ("latest", [30]),
        ("all", list(range(31))),
        ("2026-01-01", [0]),
        ("2026-01-30/2026-01-31", [29, 30]),
        ("2026-01", list(range(31))),
        ("2025-12/2026-01-02", [0, 1]),
    ],
)
def test_windows_are_chosen_by_the_local_date_on_which_they_begin(window: str, days: list[int]) -> None:
    chosen = in_windows(many(), window)
    assert [one.manifest.window_start for one in chosen.published] == [FIRST + day * DAY for day in days]


def test_where_no_window_begins_the_message_says_which_there_are() -> None:
    with pytest.raises(InputError, match=r"31 days from 2026-01-01 to 2026-01-31 \[no_window\]"):
        in_windows(many(), "2026-02-01")
    with pytest.raises(InputError, match=r"begin on 2026-01-01 \[no_window\]"):
        in_windows(rebuild("vacancy", release()), "2026-02")
    with pytest.raises(InputError, match="nothing of it is released so far"):
        in_windows(rebuild("vacancy", []), "latest")


@pytest.mark.parametrize(
    "window",
    ["", "yesterday", "2026", "2026-13", "2026-02-30", "20260101", "/", "2026-01-02/2026-01-01", "2026-W01"],
)
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(InputError, match="bad_window"):
        in_windows(many(), window)


def test_a_window_that_some_groups_have_not_released_yet_is_told() -> None:
    found = rebuild("vacancy", release() + release(FIRST, "E1") + release(FIRST + DAY))
    assert missing_groups(in_windows(found, "latest"), found) == {"2026-01-02T00:00:00+01:00": ["E1"]}
    assert missing_groups(in_windows(found, "2026-01-01"), found) == {}


def reports() -> list[Report]:
    return [as_report(one) for one in rebuild("vacancy", release() + release(FIRST, "E1")).whole()]


def test_areas_and_levels_narrow_and_unknown_ones_are_named() -> None:
    def areas(**asked: Any) -> list[str]:
        return [
            area for report in narrowed(reports(), **asked) for area in report.cells["area"].unique().sort()
        ]

    assert areas(levels=["commune"]) == ["E0", "E1"]
    assert areas(areas=["E1", "E0I2"]) == ["E0I2", "E1"]
    assert areas(areas=["E1", "E0I2"], levels=["iris"]) == ["E0I2"]
    with pytest.raises(InputError, match="commune, iris"):
        narrowed(reports(), levels=["epci"])
    with pytest.raises(InputError, match=r"--area: .* area E7;"):
        narrowed(reports(), areas=["E0", "E7"])


def decided(one: Any, **changes: Any) -> Decided:
    hidden = {
        "true_value": pl.lit("3"),
        "contributors": 1,
        "holdings": 1,
        "reasons": pl.lit("p"),
        "primary": True,
    }
    cells = one.cells.with_columns(**hidden).cast(CELLS).with_columns(**changes)
    return Decided(one.manifest.release, {"group": one.manifest.group}, cells)


def test_decisions_are_shown_beside_the_release_that_they_explain() -> None:
    found = rebuild("vacancy", [*release(), manifest(FIRST, "E1", [])]).whole()
    text = decisions_csv(decision_reports(found, [decided(found[0])])).decode()
    assert text.splitlines()[1].endswith("E0I0,iris,*,vacant,3,1,1,p")
    assert len(text.splitlines()) == 8


def test_a_decision_that_is_missing_or_says_otherwise_is_an_alarm() -> None:
    found = rebuild("vacancy", release()).whole()
    with pytest.raises(OperatorError, match="evidence_missing"):
        decision_reports(found, [replace(decided(found[0]), release="00")])
    with pytest.raises(OperatorError, match="evidence_differs"):
        decision_reports(found, [decided(found[0], value=pl.lit("1"))])


def test_parquet_has_types_and_each_value_as_printed() -> None:
    table = pl.read_parquet(io.BytesIO(parquet(reports(), "Europe/Paris")))
    assert table.schema["window_start"] == pl.Datetime("ms", "Europe/Paris")
    assert table.schema["value"] == pl.Float64
    assert table["window_start"].dt.epoch("ms").unique().to_list() == [FIRST]
    assert table["window_end"].dt.epoch("ms").unique().to_list() == [FIRST + DAY]
    assert table["value"].to_list()[:2] == [None, 1250.5]
    assert table["value_text"].to_list()[:2] == [None, "1250.5"]
    assert set(table["status"]) == {"published", "suppressed"}


SQUARE = [[[2.0, 48.0], [2.1, 48.0], [2.1, 48.1], [2.0, 48.1], [2.0, 48.0]]]


def collection(*features: Any, **more: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features), **more})


def place(area: Any, geometry: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"area": area}, "geometry": geometry}


def test_geojson_has_a_feature_per_figure_in_its_place_or_nowhere() -> None:
    shape = {"type": "Polygon", "coordinates": SQUARE}
    places = read_geometries(collection(place("E0", shape), place("E9", shape)), "areas.geojson")
    document = json.loads(geojson(reports(), places))
    assert document["type"] == "FeatureCollection"
    assert all(feature.keys() == {"type", "geometry", "properties"} for feature in document["features"])
    found = [feature["properties"] for feature in document["features"]]
    lines = releases_csv(reports()).decode().splitlines()
    assert list(found[0]) == lines[0].split(",")
    assert len(found) == len(lines) - 1
    assert [p["value"] for p in found[:2]] == [None, 1250.5]
    assert [f["geometry"] for f in document["features"] if f["properties"]["area"] == "E0"] == [shape]
    assert all(f["geometry"] is None for f in document["features"] if f["properties"]["area"] != "E0")
    assert {type(p["value"]) for p in found} == {int, float, type(None)}
    assert json.loads(geojson([], {})) == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON"),
        ('{"type": "Feature"}', "FeatureCollection"),
        (collection(place(None, None)), "property `area`"),
        (collection({"type": "Feature", "geometry": None}), "property `area`"),
        (collection(*[place("E0", {"type": "Point", "coordinates": [2, 48]})] * 2), "twice"),
        (collection(place("E0", {"type": "Circle", "coordinates": [2, 48]})), "no type"),
        (collection(place("E0", {"type": "Point", "coordinates": [652_000.0, 6_862_000.0]})), "WGS 84"),
        (collection(place("E0", {"type": "Point", "coordinates": ["2", "48"]})), "WGS 84"),
        (
            collection(place("E0", {"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [2, 48]]]})),
            "closed",
        ),
        (collection(place("E0", {"type": "MultiPolygon", "coordinates": SQUARE})), "closed"),
        (collection(place("E0", {"type": "MultiPolygon", "coordinates": [2]})), "nested"),
        (collection(crs={"properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}), "WGS 84"),
    ],
)
def test_a_geometry_file_that_would_draw_nonsense_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        read_geometries(text, "areas.geojson")
    assert refused.value.where.startswith("areas.geojson")
