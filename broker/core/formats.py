"""Releases in open formats, for whoever reads them: CSV, Parquet, GeoJSON. The same rows in the same order.

Invariants
- The CSV is `releases.csv` of a dry run, byte for byte; the others hold its rows and nothing more.
- No figure is lost on the way: Parquet has each value as printed (`value_text`) beside its number.
- GeoJSON is RFC 7946: WGS 84 degrees, longitude first, no `crs`; a Feature without a known place has geometry
  null (section 3.2). A geometry file in another reference system is refused, not drawn in the wrong place.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from broker.core.errors import InputError
from broker.core.report import Report, releases_csv

_ISO: Final = "%Y-%m-%dT%H:%M:%S%#z"

# Nesting of `coordinates` above a position (RFC 7946, 3.1).
_DEPTHS: Final = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_RINGS: Final = {"Polygon": 1, "MultiPolygon": 2}
# Names of WGS 84, longitude first, that the `crs` member of older files may have.
_WGS84: Final = ("CRS84", "EPSG::4326", "EPSG:4326")

Geometries = Mapping[str, Mapping[str, Any]]
"""Area → geometry object."""


def rows(reports: Sequence[Report]) -> pl.DataFrame:
    """The rows of `releases.csv`, all columns text; value null where suppressed."""
    return pl.read_csv(releases_csv(reports), infer_schema=False)


def parquet(reports: Sequence[Report], timezone: str) -> bytes:
    """Apache Parquet: window_start, window_end as timestamps (ms) in `timezone`, value Float64, value_text."""
    moments = ("window_start", "window_end")
    table = rows(reports).with_columns(
        *(
            pl.col(name).str.to_datetime(_ISO, time_unit="ms", time_zone="UTC").dt.convert_time_zone(timezone)
            for name in moments
        ),
        value=pl.col("value").cast(pl.Float64),
        value_text=pl.col("value"),
    )
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def geojson(reports: Sequence[Report], geometries: Geometries) -> bytes:
    """A FeatureCollection with one Feature per cell: its properties are the columns of `releases.csv`."""
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    lines = []
    for row in rows(reports).iter_rows(named=True):
        feature = {
            "type": "Feature",
            "geometry": geometries.get(row["area"]),
            "properties": row | {"value": _number(row["value"])},
        }
        lines.append(encoder.encode(feature))
    return ('{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n").encode()


def _number(text: str | None) -> int | float | None:
    if text is None:
        return None
    return float(text) if "." in text else int(text)


def read_geometries(text: str, where: str) -> dict[str, Mapping[str, Any]]:
    """Geometry of each area from GeoJSON whose Features have a property `area`.

    Raises InputError (`bad_geometry`) that names `where` and the Feature.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _bad(f"it is not JSON ({error})", where) from error
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
        raise _bad("it must be a GeoJSON FeatureCollection", where)
    if "crs" in document and not any(name in json.dumps(document["crs"]) for name in _WGS84):
        raise _bad(f"its coordinates must be {_DEGREES}", where)
    features = document.get("features")
    found: dict[str, Mapping[str, Any]] = {}
    for number, feature in enumerate(features if isinstance(features, list) else []):
        place = f"{where}, feature {number}"
        properties = feature.get("properties") if isinstance(feature, dict) else None
        area = properties.get("area") if isinstance(properties, dict) else None
        if not isinstance(area, str) or not area:
            raise _bad("it has no property `area` with the area's code as text", place)
        if area in found:
            raise _bad(f"area {area[:40]} is there twice", place)
        if feature.get("geometry") is not None:
            _check(feature["geometry"], place)
            found[area] = feature["geometry"]
    return found


_DEGREES: Final = "WGS 84 longitude and latitude in degrees (RFC 7946, section 4)"


def _check(geometry: Any, place: str) -> None:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        for part in geometry["geometries"]:
            _check(part, place)
        return
    if kind not in _DEPTHS:
        raise _bad("its geometry is of no type that GeoJSON has", place)
    parts = [geometry.get("coordinates")]
    for level in range(_DEPTHS[kind]):
        if not all(isinstance(part, list) for part in parts):
            raise _bad(f"the coordinates of its {kind} are not nested as they must be", place)
        parts = [inner for part in parts for inner in part]
        if _RINGS.get(kind) == level + 1:
            _check_rings(parts, place)
    for position in parts:
        _check_position(position, place)


def _check_rings(rings: list[Any], place: str) -> None:
    """A ring has four positions or more, and ends where it begins (RFC 7946, 3.1.6)."""
    for ring in rings:
        if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
            raise _bad("a ring of its polygon is not closed, or has fewer than four positions", place)


def _check_position(position: Any, place: str) -> None:
    numbers = isinstance(position, list) and len(position) >= 2 and all(map(_is_number, position))
    if not numbers or not (-180 <= position[0] <= 180 and -90 <= position[1] <= 90):
        raise _bad(f"its coordinates must be {_DEGREES}", place)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad(what: str, where: str) -> InputError:
    return InputError("bad_geometry", what, where=where)
