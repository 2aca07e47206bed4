"""What the tests of schemas and codec share: the project's folder, batches, folders with one more file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from broker.core.errors import PartnerError
from broker.edge.schemas import SchemaFolder

SCHEMAS = Path(__file__).parents[2] / "schemas"
FOLDER = SchemaFolder.load(SCHEMAS)
MAX_BYTES = 4096
HOUR = 3_600_000
START = 1_767_225_600_000


def raw_schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))


def folder_with(path: Path, file: str, schema: Any, number: int = 1000) -> SchemaFolder:
    """The project's schemas and one more file."""
    return SchemaFolder.load(files_with(path, file, schema, number))


def files_with(path: Path, file: str, schema: Any, number: int = 1000) -> Path:
    target = path / "schemas"
    shutil.copytree(SCHEMAS, target)
    (target / file).write_text(json.dumps(schema), encoding="utf-8")
    with (target / "ids.yaml").open("a", encoding="utf-8") as ids:
        ids.write(f"{file}: {number}\n")
    return target


def reading(i: int, **changes: Any) -> dict[str, Any]:
    start = START + i * HOUR
    return {
        "delivery_point": f"point-{i:04}",
        "start": start,
        "end": start + HOUR,
        "value": i * 37,
        "quality": ["measured", "estimated", "substituted", "unknown"][i % 4],
    } | changes


def interval_batch(count: int) -> list[bytes]:
    return [FOLDER.encode("electricity-interval", reading(i)) for i in range(count)]


def decode(
    values: list[Any], name: str = "electricity-interval", folder: SchemaFolder = FOLDER, **more: Any
) -> Any:
    """Offsets start at 100, so that a row number cannot pass for one."""
    return folder.decode_readings(
        values, np.arange(100, 100 + len(values)), name, max_bytes=MAX_BYTES, **more
    )


def reasons(decoded: Any) -> list[tuple[int, str]]:
    return decoded.bad.select("offset", "reason").rows()


def one_by_one(
    values: list[bytes], name: str, folder: SchemaFolder = FOLDER
) -> tuple[pl.DataFrame, list[int]]:
    """The independent way, by `SchemaFolder.decode`: frame of the reader's fields, and the bad rows."""
    rows, bad = [], []
    for i, value in enumerate(values):
        try:
            found, record = folder.decode(value)
        except PartnerError:
            bad.append(i)
        else:
            assert found == name
            rows.append(record | {"offset": 100 + i})
    return pl.DataFrame(rows), bad
