"""A partner may add fields, omit those with a default, and know other qualities: its readings stay."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from codec_helpers import (
    FOLDER,
    MAX_BYTES,
    decode,
    folder_with,
    interval_batch,
    one_by_one,
    raw_schema,
    reading,
    reasons,
)
from fastavro import parse_schema, schemaless_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.edge.schemas import SchemaFolder, frame_of
from broker.edge.schemas.nodes import avro_of, node_of, plain

FILE = "electricity-interval@energy-a.avsc"
EXTRA: dict[str, tuple[Any, Any]] = {
    "text": ("string", "note"),
    "optional": (["null", "string"], None),
    "optional last": (["double", "null"], 1.5),
    "small": ("int", -5),
    "float": ("float", 0.5),
    "flag": ("boolean", True),
    "nested": ({"type": "record", "name": "Meter", "fields": [{"name": "a", "type": "long"}]}, {"a": 5}),
    "list": ({"type": "array", "items": "string"}, ["x", "y"]),
    # not for columns
    "bytes": ("bytes", b"\x00\x01"),
    "fixed": ({"type": "fixed", "name": "Mac", "size": 4}, b"abcd"),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x01"),
    "uuid": ({"type": "string", "logicalType": "uuid"}, "89791762-2336-4186-9674-299b90a802e2"),
    "map": ({"type": "map", "values": "long"}, {"a": 1}),
    "union": (["null", "string", "long"], 7),
}


def variant(kind: str, first: bool) -> dict[str, Any]:
    """electricity-interval with one more field, before or after the others; `name` may clash with inner
    names."""
    schema = raw_schema("electricity-interval")
    schema["fields"].insert(0 if first else 5, {"name": "magic", "type": EXTRA[kind][0]})
    return schema


def write(schema: dict[str, Any], record: dict[str, Any], number: int = 1000) -> bytes:
    """As a partner's own software would."""
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(plain(schema), named_schemas={}), record)
    return frame_of(number) + out.getvalue()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", sorted(EXTRA))
def test_a_partner_may_add_a_field_of_any_type(tmp_path: Path, kind: str, first: bool) -> None:
    schema = variant(kind, first)
    folder = folder_with(tmp_path, FILE, schema)
    values = [write(schema, reading(i) | {"magic": EXTRA[kind][1]}) for i in range(50)]
    decoded = decode(values, folder=folder)
    assert decoded.readings.equals(decode(interval_batch(50)).readings)
    assert reasons(decoded) == []
    frame, bad = one_by_one(values, "electricity-interval", folder)
    assert decoded.readings.rows() == frame.rows() and bad == []


@pytest.mark.parametrize("kind", sorted(EXTRA))
def test_a_bad_record_of_a_variant_costs_only_itself(tmp_path: Path, kind: str) -> None:
    schema = variant(kind, first=False)
    folder = folder_with(tmp_path, FILE, schema)
    values = [write(schema, reading(i) | {"magic": EXTRA[kind][1]}) for i in range(40)]
    whole = values[9]
    for cut in (*range(5, len(whole)), len(whole) + 1):
        values[9] = (whole + b"\x07")[:cut]
        decoded = decode(values, folder=folder)
        assert reasons(decoded) == [(109, "undecodable")]
        assert len(decoded.readings) == 39


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], SchemaFolder]:
    path = tmp_path_factory.mktemp("variants")
    cases = [(kind, first) for kind in EXTRA for first in (True, False)]
    return {case: folder_with(path / f"{case}", FILE, variant(*case)) for case in cases}


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_decoders_agree_on_damaged_variants(
    variants: dict[tuple[str, bool], SchemaFolder], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(EXTRA)))
    first = data.draw(st.booleans())
    schema = variant(kind, first)
    folder = variants[kind, first]
    values = []
    for i in range(data.draw(st.sampled_from([3, 30]))):
        raw = write(schema, reading(i) | {"magic": EXTRA[kind][1]})
        place = data.draw(st.integers(5, len(raw)))
        rubbish = data.draw(st.binary(max_size=6) | st.sampled_from([b"\xff" * 9 + b"\x01", b"\x80\x00"]))
        values.append(raw[:place] + rubbish + raw[place + data.draw(st.integers(0, 3)) :] if i % 3 else raw)
    decoded = decode(values, folder=folder)
    frame, bad = one_by_one(values, "electricity-interval", folder)
    assert [offset - 100 for offset, _ in reasons(decoded)] == bad
    assert decoded.readings.rows() == frame.rows()


def test_records_of_several_writers_in_one_batch_keep_their_order(tmp_path: Path) -> None:
    schema = variant("text", first=True)
    folder = folder_with(tmp_path, FILE, schema)
    old = interval_batch(40)
    values = [write(schema, reading(i) | {"magic": "x"}) if i % 3 else old[i] for i in range(40)]
    assert decode(values, folder=folder).readings.equals(decode(old).readings)


def test_an_omitted_field_takes_the_readers_default(tmp_path: Path) -> None:
    schema = raw_schema("electricity-interval")
    del schema["fields"][4]
    folder = folder_with(tmp_path, FILE, schema)
    values = [write(schema, {k: v for k, v in reading(i).items() if k != "quality"}) for i in range(20)]
    decoded = decode(values, folder=folder)
    assert decoded.readings["quality"].to_list() == ["measured"] * 20
    assert decoded.readings.rows() == one_by_one(values, "electricity-interval", folder)[0].select(
        decoded.readings.columns
    ).rows()  # fmt: skip


def test_a_quality_that_readers_do_not_know_is_unknown_and_kills_no_batch(tmp_path: Path) -> None:
    schema = raw_schema("electricity-interval")
    schema["fields"][4]["type"] |= {"symbols": ["measured", "guessed", "estimated"], "default": "guessed"}
    folder = folder_with(tmp_path, FILE, schema)
    qualities = ["measured", "guessed", "estimated"] * 10
    values = [write(schema, reading(i, quality=quality)) for i, quality in enumerate(qualities)]
    decoded = decode(values, folder=folder)
    assert decoded.readings["quality"].to_list() == ["measured", "unknown", "estimated"] * 10
    assert decoded.readings.rows() == one_by_one(values, "electricity-interval", folder)[0].rows()


def test_fields_in_another_order_and_smaller_numbers_are_read_alike(tmp_path: Path) -> None:
    schema = raw_schema("electricity-interval")
    schema["fields"].reverse()
    schema["fields"][1]["type"] = "int"
    folder = folder_with(tmp_path, FILE, schema)
    values = [write(schema, reading(i)) for i in range(30)]
    assert decode(values, folder=folder).readings.equals(decode(interval_batch(30)).readings)


def test_a_number_beyond_the_writers_int_is_not_cut_but_refused(tmp_path: Path) -> None:
    schema = raw_schema("electricity-interval")
    wide = json.loads(json.dumps(schema))
    schema["fields"][3]["type"] = "int"
    folder = folder_with(tmp_path, FILE, schema)
    numbers = (2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**33)
    values = [write(wide, reading(1, value=number)) for number in numbers]
    decoded = decode(values, folder=folder)
    assert decoded.readings["value"].to_list() == [2**31 - 1, -(2**31)]
    assert one_by_one(values, "electricity-interval", folder)[1] == [1, 3, 4]


def test_a_mark_is_read_whoever_wrote_it(tmp_path: Path) -> None:
    schema = raw_schema("completeness-mark")
    schema["fields"].append({"name": "count", "type": "long"})
    folder = folder_with(tmp_path, "completeness-mark@energy-a.avsc", schema)
    decoded = decode([write(schema, {"stream": "s", "until": 5, "count": 9})], folder=folder, stream="s")
    assert decoded.marks == [(100, 5)]


@pytest.mark.parametrize("kind", ["bytes", "fixed", "decimal", "map", "union"])
def test_pyruhvro_never_sees_what_it_cannot_do(kind: str) -> None:
    assert node_of(variant(kind, first=False)) is None


def test_a_type_that_holds_itself_is_not_for_columns() -> None:
    chain = {"type": "record", "name": "Chain", "fields": [{"name": "next", "type": ["null", "Chain"]}]}
    assert node_of(chain) is None
    assert node_of({"type": "record", "name": "Empty", "fields": []}) is None


def test_a_type_that_is_used_twice_is_known_by_its_name() -> None:
    meter = {"type": "enum", "name": "Size", "namespace": "x", "symbols": ["S"]}
    schema = {
        "type": "record",
        "name": "R",
        "namespace": "x",
        "fields": [
            {"name": "a", "type": meter},
            {"name": "b", "type": "Size"},
            {"name": "c", "type": ["null", "x.Size"]},
        ],
    }
    node = node_of(schema)
    assert node is not None and [child.symbols for _, child in node.fields] == [("S",)] * 3
    assert parse_schema(avro_of(node))


def table(count: int) -> tuple[list[dict[str, Any]], list[bytes]]:
    site = {"valid_to": None, "premises": "token", "area": "a", "segment": "s"}
    records = [
        {
            "delivery_point": f"p{i}",
            "sites": [{"valid_from": j or None, "register_size": j, **site} for j in range(i % 4)],
        }
        for i in range(count)
    ]
    return records, [FOLDER.encode("site-history", record) for record in records]


def sites(values: list[bytes], folder: SchemaFolder = FOLDER) -> Any:
    return folder.decode_columns(values, range(len(values)), ["site-history"], max_bytes=MAX_BYTES)


def test_site_tables_come_as_columns_too() -> None:
    records, values = table(60)
    batch = sites(values)
    frame = batch.frames["site-history"]
    assert frame.drop("offset").to_dicts() == records
    assert len(batch.bad) == 0


def test_a_bad_site_record_costs_only_itself() -> None:
    records, values = table(60)
    whole = values[7]
    for cut in (*range(5, len(whole)), len(whole) + 1):
        values[7] = (whole + b"\0")[:cut]
        batch = sites(values)
        assert batch.bad.rows() == [(7, "undecodable", 30)]
        assert batch.frames["site-history"].drop("offset").to_dicts() == records[:7] + records[8:]


def test_an_array_in_several_blocks_is_read_and_rubbish_behind_it_is_not() -> None:
    """Avro lets a writer cut an array into blocks, with their size in bytes before them."""
    records, values = table(20)
    value = values[2]
    head, items = value[: 5 + 3], value[5 + 3 : -1]
    assert items[0] == 4  # two items in one block
    size = len(items) - 1
    assert size < 64
    blocks = head + b"\x03" + bytes([size * 2]) + items[1:] + b"\0"
    batch = sites([*values[:2], blocks, *values[3:], blocks + b"\0"])
    assert batch.frames["site-history"].drop("offset").to_dicts() == records
    assert batch.bad.rows() == [(20, "undecodable", 30)]
