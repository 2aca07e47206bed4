"""One record at a time: the Confluent frame, what is written is read back, and nothing else is."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fastavro
import pytest
from codec_helpers import FOLDER, reading
from fastavro.utils import generate_one

from broker.core.errors import PartnerError, ProgrammerError
from broker.edge.schemas import frame_of, split_frame
from broker.edge.schemas.nodes import node_of

EXAMPLES: dict[str, dict[str, Any]] = {
    "electricity-interval": reading(3),
    "water-register": {"delivery_point": "p", "at": -1, "value": 2**62, "quality": "unknown"},
    "completeness-mark": {"stream": "water", "until": 1_767_225_600_000},
    "site-history": {
        "delivery_point": "p",
        "sites": [
            {
                "valid_from": None,
                "valid_to": 5,
                "premises": "t",
                "area": "751010101",
                "segment": "é",
                "register_size": 10**11,
            },
            {
                "valid_from": 5,
                "valid_to": None,
                "premises": "u",
                "area": "a",
                "segment": "s",
                "register_size": None,
            },
        ],
    },
    "consent-state": {
        "delivery_point": "p",
        "purposes": [
            {
                "purpose": "x",
                "granted_from": 1,
                "expires_at": None,
                "withdrawn_at": 9,
                "receipt": "sha256:00",
            },
        ],
    },
    "consent-heartbeat": {"at": 0},
    "control": {"kind": "skip", "name": "n", "body": "{}"},
    "release-manifest": {
        "product": "p",
        "version": 1,
        "policy": "sha256:00",
        "window_start": 1,
        "window_end": 2,
        "group": "g",
        "hierarchy": "iris-2026",
        "timezone": "Europe/Paris",
        "levels": ["iris", "commune"],
        "measures": ["m"],
        "partners": ["a", "b"],
        "left_out": [],
        "chunks": 1,
        "cells_digest": "sha256:00",
        "engine": "0.1",
    },
    "release-cells": {
        "product": "p",
        "group": "g",
        "window_start": 1,
        "chunk": 0,
        "cells": [
            {
                "area": "a",
                "level": "iris",
                "segment": "*",
                "measure": "m",
                "value": "10",
                "status": "published",
            },
            {
                "area": "b",
                "level": "iris",
                "segment": "*",
                "measure": "m",
                "value": None,
                "status": "suppressed",
            },
        ],
    },
    "log-leaf": {"kind": "release", "product": "p", "version": 1, "policy": "", "release": "", "digest": "d"},
    "quarantine": {
        "reason": "empty",
        "topic": "in.a.s",
        "partition": 0,
        "offset": 2**40,
        "schema_id": None,
        "keyed_digest": b"\x01" * 32,
        "text": "the record has no value",
        "must_act": "partner",
    },
}


for _name in FOLDER.names():  # what only the broker itself writes: any record that fits
    if _name not in EXAMPLES:
        EXAMPLES[_name] = generate_one(FOLDER.reader(_name).parsed)


def vectors(shared_data: Path) -> list[dict[str, Any]]:
    text = (shared_data / "conformance" / "confluent" / "wire_format_vectors.json").read_text()
    return [vector for vector in json.loads(text)["vectors"] if vector["format"] == "AVRO"]


def test_the_confluent_vectors_hold(shared_data: Path) -> None:
    seen = 0
    for vector in vectors(shared_data):
        raw = bytes.fromhex(vector["hex"])
        if "schema_id" in vector:
            body = bytes.fromhex(vector.get("value_hex", ""))
            assert split_frame(raw) == (vector["schema_id"], body)
            assert frame_of(vector["schema_id"]) + body == raw
        else:  # version 1 carries a UUID and belongs in headers
            with pytest.raises(PartnerError) as caught:
                split_frame(raw)
            assert caught.value.reason == "bad_frame"
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_what_is_written_is_read_back(name: str) -> None:
    raw = FOLDER.encode(name, EXAMPLES[name])
    assert raw[:5] == frame_of(FOLDER.reader(name).id)
    assert FOLDER.decode(raw) == (name, EXAMPLES[name])


def test_other_implementations_read_what_is_written() -> None:
    """With the schema file as it stands, logical types and all."""
    raw = FOLDER.encode("electricity-interval", reading(3))
    record = fastavro.schemaless_reader(
        io.BytesIO(raw[5:]), fastavro.parse_schema(dict(FOLDER.reader("electricity-interval").raw)), None
    )
    assert record["start"].timestamp() * 1000 == reading(3)["start"]
    assert record["value"] == reading(3)["value"]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_record_cut_anywhere_or_with_more_behind_it_is_refused(name: str) -> None:
    raw = FOLDER.encode(name, EXAMPLES[name])
    for cut in (*range(min(len(raw), 60)), len(raw) - 1):
        with pytest.raises(PartnerError) as caught:
            FOLDER.decode(raw[:cut])
        assert caught.value.reason == ("empty" if cut == 0 else "bad_frame" if cut < 5 else "undecodable")
    for more in (b"\0", b"\x01", raw):
        with pytest.raises(PartnerError) as caught:
            FOLDER.decode(raw + more)
        assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\0\0\0\0", "bad_frame"),
        (b"\x01\0\0\0\x01", "bad_frame"),
        (b'{"value": 1}', "bad_frame"),
        (b"\0\0\0\x03\xe7", "unknown_schema"),
        (b"\0\xff\xff\xff\xff", "unknown_schema"),
        (b"\0\0\0\0\x01\x06abc", "undecodable"),
    ],
)
def test_each_defect_has_its_reason_and_the_message_no_payload(raw: bytes | None, reason: str) -> None:
    with pytest.raises(PartnerError) as caught:
        FOLDER.decode(raw, where="in.energy-a.power/3/17")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("in.energy-a.power/3/17: ")
    assert "abc" not in str(caught.value) and "value" not in str(caught.value).replace("no value", "")


def test_a_record_that_does_not_fit_is_not_written_and_its_content_not_told() -> None:
    wrong = [{"at": "secret"}, {"at": None}, {}, {"at": 1, "secret": 2}, {"at": 2**63}]
    for record in wrong:
        with pytest.raises(ProgrammerError) as caught:
            FOLDER.encode("consent-heartbeat", record)
        assert caught.value.reason == "unencodable"
        assert "secret" not in str(caught.value) and caught.value.__context__ is None


def test_defaults_are_filled_in() -> None:
    raw = FOLDER.encode("consent-state", {"delivery_point": "p", "purposes": [{"purpose": "x"}]})
    empty = {"granted_from": None, "expires_at": None, "withdrawn_at": None, "receipt": None}
    assert FOLDER.decode(raw)[1]["purposes"] == [{"purpose": "x"} | empty]


def members(shared_data: Path) -> dict[str, bytes]:
    with tarfile.open(shared_data / "conformance" / "avro" / "avro_share_test.tar.gz") as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {
            member.name.removeprefix("share/test/"): archive.extractfile(member).read() for member in files
        }


def test_avros_own_containers_come_out_the_same_whatever_their_codec(shared_data: Path) -> None:
    """The library beneath: one content, three codecs that need no further package, and the order of the
    sorted."""
    files = members(shared_data)
    expected = list(fastavro.reader(io.BytesIO(files["data/weather.avro"])))
    assert [json.loads(line) for line in files["data/weather.json"].splitlines()] == expected
    assert list(fastavro.reader(io.BytesIO(files["data/weather-deflate.avro"]))) == expected
    ordered = list(fastavro.reader(io.BytesIO(files["data/weather-sorted.avro"])))
    assert sorted(map(str, ordered)) == sorted(map(str, expected))


def test_avros_own_schemas_are_sorted_into_those_for_columns_and_the_others(shared_data: Path) -> None:
    files = members(shared_data)
    weather, interop = (json.loads(files[f"schemas/{name}.avsc"]) for name in ("weather", "interop"))
    assert node_of(weather) is not None
    assert node_of(interop) is None  # bytes, fixed, map, unions of many


def test_a_message_of_avros_single_object_encoding_is_a_bad_frame(shared_data: Path) -> None:
    """Its marker is C3 01: another wire format, told apart by its first byte."""
    with pytest.raises(PartnerError) as caught:
        FOLDER.decode(members(shared_data)["data/messageV1/test_message.bin"])
    assert caught.value.reason == "bad_frame"
