"""A territory's folder, read once and whole.

    territory.yaml  areas.csv  partners/<name>.yaml  recipients/<name>.yaml  policies/*.yaml
    references/*.csv  agreements/<product>-v<version>.<partner>.note

Only files of these names are read; nothing is followed out of the folder by a name in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from broker.core.errors import InputError
from broker.core.strict_yaml import read_mapping
from broker.core.territory import Territory, make_territory

_AREA_COLUMNS = ["area", "parent", "level"]


@dataclass(frozen=True)
class TerritoryFolder:
    """What the folder holds. `areas`: area, parent (empty = top), level, all text. `policies`, `references`
    and `agreements` by file name: texts, and bytes for the references, whose digests the policies state."""

    folder: Path
    territory: Territory
    areas: pl.DataFrame
    geometry: Path | None
    policies: Mapping[str, str]
    references: Mapping[str, bytes]
    agreements: Mapping[str, str]


def load_territory(folder: Path) -> TerritoryFolder:
    """Read and check the folder. Raises InputError that names the file and what to do."""
    if not (folder / "territory.yaml").is_file():
        raise InputError("no_territory", "there is no territory.yaml in this folder", where=str(folder))
    territory = make_territory(
        _mapping(folder, "territory.yaml"), _mappings(folder, "partners"), _mappings(folder, "recipients")
    )
    geometry = folder / territory.areas.geometry if territory.areas.geometry else None
    if geometry is not None and not geometry.is_file():
        raise InputError(
            "no_geometry", "territory.yaml names this file, but it is not there", where=str(geometry)
        )
    return TerritoryFolder(
        folder=folder,
        territory=territory,
        areas=_areas(folder / territory.areas.file),
        geometry=geometry,
        policies={path.name: _text(path) for path in _files(folder / "policies", "*.yaml")},
        references={path.name: _bytes(path) for path in _files(folder / "references", "*.csv")},
        agreements={path.name: _text(path) for path in _files(folder / "agreements", "*.note")},
    )


def _mapping(folder: Path, name: str) -> dict[str, Any]:
    return read_mapping(_text(folder / name), name)


def _mappings(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    return {
        f"{part}/{path.name}": _mapping(folder, f"{part}/{path.name}")
        for path in _files(folder / part, "*.yaml")
    }


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _areas(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, infer_schema=False, null_values=None).with_columns(pl.all().fill_null(""))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            "bad_areas", f"cannot read the areas: {str(error).splitlines()[0]}", where=str(path)
        ) from None
    if frame.columns != _AREA_COLUMNS:
        raise InputError("bad_areas", f"its columns must be {','.join(_AREA_COLUMNS)}", where=str(path))
    return frame


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise InputError("bad_encoding", "the file is not UTF-8 text", where=str(path)) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("unreadable", f"cannot read it: {error.strerror}", where=str(path)) from None
