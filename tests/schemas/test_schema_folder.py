"""The registry: every schema documented, every id stable, no folder loads that readers could not read."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import fastavro
import pytest
from codec_helpers import FOLDER, SCHEMAS, files_with, folder_with, raw_schema
from fastavro.schema import to_parsing_canonical_form

from broker.core.contract import KINDS, QUALITIES, UNITS, reading_schema
from broker.core.errors import OperatorError, ProgrammerError
from broker.edge.schemas import SchemaFolder

# Schemas that partners and recipients hold: id, file, and the first 16 digits of the SHA-256 of its parsing
# canonical form and unit. A line here never changes; new ones are added.
PUBLISHED = {
    1: ("electricity-interval.avsc", "d7d946b963c8a737"),
    2: ("electricity-register.avsc", "90fc7d2e3e84c90c"),
    3: ("gas-interval.avsc", "eab89e1be6a930c3"),
    4: ("gas-register.avsc", "87ed948fb013522e"),
    5: ("heat-interval.avsc", "b8b561cb0ae3ea73"),
    6: ("heat-register.avsc", "9ae6c60f76c06e77"),
    7: ("water-interval.avsc", "a74dde9b39da5e1d"),
    8: ("water-register.avsc", "bb13a94346ec3e54"),
    20: ("completeness-mark.avsc", "6ce4c532557a9884"),
    30: ("site-history.avsc", "66d4f626e5473710"),
    40: ("consent-state.avsc", "bf50baead77ca95c"),
    41: ("consent-heartbeat.avsc", "ffba2178fa544cf3"),
    50: ("control.avsc", "e92c7bf2315ed3a8"),
    70: ("release-manifest.avsc", "aafe15ced1d6b2ff"),
    71: ("release-cells.avsc", "3563a4f1a2f044ec"),
    80: ("log-leaf.avsc", "00912dd22ceed18d"),
    90: ("quarantine.avsc", "66b0be5002ea36d0"),
    92: ("quarantine@2.avsc", "bf78e7d2bc01c61b"),
}


def walk(schema: Any, where: str) -> list[str]:
    """Every place in a schema that must be documented and is not."""
    if isinstance(schema, list):
        return [gap for branch in schema for gap in walk(branch, where)]
    if not isinstance(schema, dict):
        return []
    gaps = [where] if schema["type"] in ("record", "enum") and len(schema.get("doc", "")) < 20 else []
    for field in schema.get("fields", []):
        name = f"{where}.{field['name']}"
        gaps += [name] if len(field.get("doc", "")) < 6 else []
        gaps += walk(field["type"], name)
    return gaps + walk(schema.get("items"), where)


@pytest.mark.parametrize("file", sorted(SCHEMAS.glob("*.avsc")), ids=lambda file: file.stem)
def test_every_schema_and_field_is_documented(file: Path) -> None:
    assert walk(json.loads(file.read_text(encoding="utf-8")), file.stem) == []


def test_an_id_never_changes_its_meaning() -> None:
    found = {}
    for schema_id in range(1, 1000):
        if (schema := FOLDER.by_id(schema_id)) is not None:
            canonical = to_parsing_canonical_form(schema.raw) + str(schema.unit)
            found[schema_id] = (schema.file, hashlib.sha256(canonical.encode()).hexdigest()[:16])
    assert {schema_id: found.get(schema_id) for schema_id in PUBLISHED} == PUBLISHED


def test_every_measure_and_kind_has_a_schema_in_its_smallest_unit() -> None:
    for measure, unit in UNITS.items():
        for kind in KINDS:
            schema = FOLDER.reader(reading_schema(measure, kind))
            assert schema.unit == unit
            fields = {field["name"]: field["type"] for field in schema.raw["fields"]}
            assert fields["value"] == "long"
            assert tuple(fields["quality"]["symbols"]) == QUALITIES
            assert ("at" in fields) == (kind == "register")
    with pytest.raises(KeyError):
        reading_schema("steam", "interval")


def test_every_schema_of_the_issue_is_there() -> None:
    others = {
        "completeness-mark", "site-history", "consent-state", "consent-heartbeat", "control", "contribution",
        "rollup", "ledger-row", "release-manifest", "release-cells", "log-leaf", "quarantine",
    }  # fmt: skip
    assert set(FOLDER.names()) >= others | {reading_schema(m, k) for m in UNITS for k in KINDS}


def test_a_release_never_carries_a_count_of_homes() -> None:
    names = [field["name"] for field in raw_schema("release-manifest")["fields"]]
    names += [field["name"] for field in raw_schema("release-cells")["fields"][-1]["type"]["items"]["fields"]]
    assert not {"contributors", "holdings", "incomplete", "coverage", "reasons", "true_value"} & set(names)


def broken(change: str) -> Any:
    """A variant of electricity-interval with one defect."""
    schema = raw_schema("electricity-interval")
    fields = {field["name"]: field for field in schema["fields"]}
    if change == "unit":
        schema["unit"] = "kWh"
    elif change == "missing field":
        schema["fields"] = [field for field in schema["fields"] if field["name"] != "end"]
    elif change == "type":
        fields["value"]["type"] = "double"
    elif change == "instant":
        fields["start"]["type"]["logicalType"] = "timestamp-micros"
    elif change == "nullable":
        fields["value"]["type"] = ["null", "long"]
    elif change == "name":
        schema["name"] = "WaterInterval"
    elif change == "items":
        schema["fields"].append({"name": "nothing", "type": {"type": "array", "items": "null"}})
    elif change == "not a record":
        return {"type": "array", "items": "long"}
    elif change == "not avro":
        fields["value"]["type"] = "number"
    return schema


CHANGES = [
    "unit",
    "missing field",
    "type",
    "instant",
    "nullable",
    "name",
    "items",
    "not a record",
    "not avro",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_schema_that_readers_cannot_read_keeps_the_folder_from_loading(tmp_path: Path, change: str) -> None:
    file = "electricity-interval@energy-a.avsc"
    with pytest.raises(OperatorError) as caught:
        folder_with(tmp_path, file, broken(change))
    assert caught.value.reason == "bad_schemas"
    assert caught.value.where == file


def test_two_files_cannot_share_an_id(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="same id 7"):
        folder_with(tmp_path, "water-interval@n.avsc", raw_schema("water-interval"), number=7)


def test_a_file_without_an_id_and_an_id_without_a_file_are_named(tmp_path: Path) -> None:
    path = files_with(tmp_path, "water-interval@n.avsc", raw_schema("water-interval"))
    (path / "gas-interval@new.avsc").write_text(json.dumps(raw_schema("gas-interval")))
    with pytest.raises(OperatorError, match=r"gas-interval@new\.avsc"):
        SchemaFolder.load(path)
    (path / "gas-interval@new.avsc").unlink()
    (path / "water-interval@n.avsc").unlink()
    with pytest.raises(OperatorError, match=r"water-interval@n\.avsc"):
        SchemaFolder.load(path)


@pytest.mark.parametrize(
    "line", ["gas-interval.avsc: 4", "x.avsc: 0", "x.avsc: 2147483648", "x.avsc: one", "- x"]
)
def test_a_table_of_ids_that_says_two_things_or_nothing_is_refused(tmp_path: Path, line: str) -> None:
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    with (tmp_path / "schemas" / "ids.yaml").open("a") as ids:
        ids.write(line + "\n")
    with pytest.raises(OperatorError, match=r"ids\.yaml"):
        SchemaFolder.load(tmp_path / "schemas")


def test_a_variant_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="variant of steam-interval"):
        folder_with(tmp_path, "steam-interval@a.avsc", raw_schema("gas-interval"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError):
        SchemaFolder.load(tmp_path)


def test_readers_use_the_highest_version_and_still_read_the_older_ones(tmp_path: Path) -> None:
    newer = raw_schema("control")
    newer["fields"].append({"name": "since", "type": "long", "default": -1})
    folder = folder_with(tmp_path, "control@2.avsc", newer, number=51)
    assert folder.reader("control").id == 51
    old = FOLDER.encode("control", {"kind": "skip", "name": "a", "body": "{}"})
    assert folder.decode(old) == ("control", {"kind": "skip", "name": "a", "body": "{}", "since": -1})


def test_a_later_version_without_a_default_for_its_new_field_is_refused(tmp_path: Path) -> None:
    newer = raw_schema("control")
    newer["fields"].append({"name": "since", "type": "long"})
    with pytest.raises(OperatorError, match="since"):
        folder_with(tmp_path, "control@2.avsc", newer, number=51)


def test_an_unknown_name_is_the_programmers_mistake() -> None:
    with pytest.raises(ProgrammerError):
        FOLDER.reader("steam-interval")
    with pytest.raises(ProgrammerError):
        FOLDER.decode_columns([], [], ["contribution"], max_bytes=10)


def test_a_dead_letter_of_before_is_read_without_words() -> None:
    """Dead letters stay for weeks: those of version 1 have a reason code only."""
    first = FOLDER.by_id(90)
    assert first is not None
    letter = {
        "reason": "empty",
        "topic": "in.a.s",
        "partition": 0,
        "offset": 7,
        "schema_id": None,
        "keyed_digest": b"d",
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, first.raw, letter)
    name, found = FOLDER.decode(b"\0" + (90).to_bytes(4, "big") + body.getvalue())
    assert (name, found) == ("quarantine", letter | {"text": "", "must_act": ""})
