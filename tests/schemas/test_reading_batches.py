"""Batches of a stream: columns and record by record give the same, and a bad record costs only itself."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import polars as pl
import pytest
from codec_helpers import FOLDER, HOUR, START, decode, interval_batch, one_by_one, reading, reasons
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core import readings as contract
from broker.core.contract import KINDS, QUALITIES, UNITS, reading_schema
from broker.core.errors import InputError, ProgrammerError
from broker.core.reasons import REASONS
from broker.edge.schemas import columns, records
from broker.edge.schemas.sieve import sound

INT64 = st.integers(-(2**63), 2**63 - 1)
POINTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80)
READINGS = st.builds(
    lambda point, start, end, value, quality: {
        "delivery_point": point,
        "start": start,
        "end": end,
        "value": value,
        "quality": quality,
    },
    POINTS,
    INT64,
    INT64,
    INT64,
    st.sampled_from(QUALITIES),
)
MARK = FOLDER.encode("completeness-mark", {"stream": "power", "until": START})


@given(st.lists(READINGS, max_size=40))
@settings(deadline=None)
def test_columns_and_single_records_give_the_same(batch: list[dict[str, Any]]) -> None:
    values = [FOLDER.encode("gas-interval", record) for record in batch]
    decoded = decode(values, "gas-interval")
    expected = pl.DataFrame([r | {"offset": 100 + i} for i, r in enumerate(batch)], schema=contract.SCHEMA)
    assert decoded.readings.equals(expected)
    assert decoded.readings.schema == contract.SCHEMA
    assert reasons(decoded) == [] and decoded.marks == []
    assert [FOLDER.decode(value)[1] for value in values] == batch


@given(st.lists(READINGS, min_size=1, max_size=20), st.data())
@settings(deadline=None)
def test_what_columns_write_is_what_fastavro_writes(batch: list[dict[str, Any]], data: st.DataObject) -> None:
    name = reading_schema(data.draw(st.sampled_from(sorted(UNITS))), data.draw(st.sampled_from(KINDS)))
    frame = pl.DataFrame(batch, schema={k: v for k, v in contract.SCHEMA.items() if k != "offset"})
    if name.endswith("register"):
        batch = [
            {"at": r["start"]} | {k: r[k] for k in ("delivery_point", "value", "quality")} for r in batch
        ]
    assert FOLDER.encode_readings(frame, name) == [FOLDER.encode(name, record) for record in batch]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A record with some bytes cut, changed, inserted or appended behind its frame."""
    raw = FOLDER.encode("electricity-interval", draw(READINGS))
    place = draw(st.integers(5, len(raw)))
    rubbish = draw(
        st.binary(max_size=12) | st.sampled_from([b"\xff" * 9 + b"\x01", b"\x80\x00", b"\x80" * 12, b"\x01"])
    )
    return raw[:place] + rubbish + raw[place + draw(st.sampled_from([0, 0, 1, 2, 99])) :]


@given(st.lists(damaged(), max_size=30), st.sampled_from([0, 40]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_decoders_take_and_refuse_the_same_bytes(damage: list[bytes], good: int) -> None:
    """However the bytes are damaged, and whether a batch fails as a whole or in single rows."""
    values = damage[::2] + interval_batch(good) + damage[1::2]
    decoded = decode(values)
    frame, bad = one_by_one(values, "electricity-interval")
    assert [offset - 100 for offset, _ in reasons(decoded)] == bad
    assert {reason for _, reason in reasons(decoded)} <= {"undecodable"}
    assert decoded.readings.rows() == frame.rows()


@given(st.lists(damaged(), min_size=1, max_size=30))
@settings(deadline=None)
def test_the_sieve_blames_no_good_record_and_misses_no_broken_one(damage: list[bytes]) -> None:
    """It decides about time only: blamed records are read one by one, missed ones sought by halves."""
    values = [*damage, *interval_batch(5)]
    schema = FOLDER.reader("electricity-interval")
    assert schema.node is not None
    found = sound(schema.node, values, np.array([len(value) for value in values])).tolist()
    good = [records.read(value[5:], schema, schema) is not None for value in values]
    assert all(sieved for sieved, decodes in zip(found, good, strict=True) if decodes)
    kept = [value for value, sieved in zip(values, found, strict=True) if sieved]
    assert columns._deserialize(kept, FOLDER._columnar(schema.name)[schema.id].framed) is not None


def test_a_register_reading_starts_and_ends_at_its_moment() -> None:
    record = {"delivery_point": "p", "at": 12345, "value": 7, "quality": "measured"}
    decoded = decode([FOLDER.encode("water-register", record)], "water-register")
    assert decoded.readings.rows() == [("p", 12345, 12345, 7, "measured", 100)]


def test_marks_come_with_their_offsets_among_the_readings() -> None:
    later = FOLDER.encode("completeness-mark", {"stream": "power", "until": START + HOUR})
    values = interval_batch(6)
    decoded = decode([MARK, *values[:3], later, *values[3:]], stream="power")
    assert decoded.marks == [(100, START), (104, START + HOUR)]
    assert decoded.readings["offset"].to_list() == [101, 102, 103, 105, 106, 107]
    assert reasons(decoded) == []


def test_a_mark_of_another_stream_does_not_move_this_one() -> None:
    decoded = decode([MARK, *interval_batch(1), b""], stream="gas")
    assert decoded.marks == []
    assert decoded.bad.rows() == [(100, "wrong_schema", 20), (102, "empty", None)]
    assert len(decoded.readings) == 1


def bad_records() -> dict[str, tuple[bytes | None, str, int | None]]:
    """Each kind of bad record: its bytes, its reason and the schema id that its dead letter may name."""
    good = FOLDER.encode("electricity-interval", reading(1))
    head, point = good[:5], b"\x14point-0001"
    assert good[5:].startswith(point)
    rest = good[5 + len(point) :]
    quality = len(good) - 1
    return {
        "no value": (None, "empty", None),
        "empty": (b"", "empty", None),
        "oversized": (good + b"\0" * 5000, "oversized", 1),
        "oversized rubbish": (b"x" * 5000, "oversized", None),
        "frame cut": (good[:4], "bad_frame", None),
        "json": (b'{"delivery_point": "p"}', "bad_frame", None),
        "wrong magic": (b"\x01" + good[1:], "bad_frame", None),
        "unknown id": (b"\0" + struct.pack(">i", 999) + good[5:], "unknown_schema", 999),
        "negative id": (b"\0" + struct.pack(">i", -7) + good[5:], "unknown_schema", -7),
        "register": (
            FOLDER.encode("electricity-register", {"delivery_point": "p", "at": 1, "value": 1}),
            "wrong_schema",
            2,
        ),
        "another measure": (FOLDER.encode("gas-interval", reading(1)), "wrong_schema", 3),
        "consent": (FOLDER.encode("consent-heartbeat", {"at": 1}), "wrong_schema", 41),
        "no body": (head, "undecodable", 1),
        "one more byte": (good + b"\0", "undecodable", 1),
        "twice": (good + good[5:], "undecodable", 1),
        "garbage": (head + random.Random(1).randbytes(40), "undecodable", 1),
        "not UTF-8": (head + b"\x04\xc3\x28" + rest, "undecodable", 1),
        "half a character": (head + b"\x04a\xc3" + rest, "undecodable", 1),
        "no name": (head + b"\x00" + rest, "undecodable", 1),
        "NUL in the name": (head + b"\x06a\x00b" + rest, "undecodable", 1),
        "line feed in the name": (head + b"\x06a\nb" + rest, "undecodable", 1),
        "DEL in the name": (head + b"\x06a\x7fb" + rest, "undecodable", 1),
        "negative length": (head + b"\x01" + rest, "undecodable", 1),
        "huge length": (head + b"\xfe" + b"\xff" * 8 + b"\x01" + rest, "undecodable", 1),
        "no such symbol": (good[:quality] + b"\x08", "undecodable", 1),
        "negative symbol": (good[:quality] + b"\x01", "undecodable", 1),
        "symbol in two bytes": (good[:quality] + b"\x82\x00", "undecodable", 1),
        "endless number": (head + point + b"\xff" * 30, "undecodable", 1),
        "number of 68 bits": (head + point + b"\x80" * 9 + b"\x11" + rest[6:], "undecodable", 1),
        "bad mark": (MARK[:-1], "undecodable", 20),
        "mark with more": (MARK + b"\0", "undecodable", 20),
    }


@pytest.mark.parametrize("kind", sorted(bad_records()))
@pytest.mark.parametrize("count", [0, 40, 700])
def test_a_bad_record_costs_only_itself(kind: str, count: int) -> None:
    raw, reason, schema_id = bad_records()[kind]
    good = interval_batch(count)
    middle = count // 3
    decoded = decode([*good[:middle], raw, *good[middle:]])
    assert decoded.bad.rows() == [(100 + middle, reason, schema_id)]
    assert reason in REASONS
    expected = [100 + i for i in range(count + 1) if i != middle]
    assert decoded.readings["offset"].to_list() == expected
    assert decoded.readings["value"].to_list() == [i * 37 for i in range(count)]


@pytest.mark.parametrize("count", [0, 40])
def test_all_kinds_of_bad_records_at_once_leave_the_others_whole(count: int) -> None:
    bad = list(bad_records().values())
    values: list[bytes | None] = []
    for i in range(max(count, len(bad))):
        values += interval_batch(i + 1)[i:] if i < count else []
        values += [bad[i][0]] if i < len(bad) else []
    decoded = decode(values)
    assert sorted(r for _, r in reasons(decoded)) == sorted(reason for _, reason, _ in bad)
    assert decoded.readings["value"].to_list() == [i * 37 for i in range(count)]
    assert len(decoded.readings) + len(decoded.bad) == len(values)
    assert decoded.bad["offset"].is_sorted() and decoded.readings["offset"].is_sorted()


def test_a_record_cut_at_any_byte_is_quarantined_alone() -> None:
    good = interval_batch(40)
    for cut in range(len(good[7])):
        decoded = decode([*good[:7], good[7][:cut], *good[8:]])
        reason = "empty" if cut == 0 else "bad_frame" if cut < 5 else "undecodable"
        assert reasons(decoded) == [(107, reason)]
        assert decoded.readings["offset"].to_list() == [100 + i for i in range(40) if i != 7]


def test_text_beyond_ascii_is_a_name_like_any_other() -> None:
    points = ["é", "点", "🏠 12", "a" * 63, "a" * 64, "ü" * 40]
    values = [FOLDER.encode("heat-interval", reading(1, delivery_point=point)) for point in points]
    broken = values[0].replace("é".encode(), b"\xc3\xc3")
    decoded = decode([*values, broken, values[1]], "heat-interval")
    assert decoded.readings["delivery_point"].to_list() == [*points, points[1]]
    assert reasons(decoded) == [(106, "undecodable")]


def test_two_halves_of_a_character_in_neighbouring_records_do_not_make_one() -> None:
    """Side by side in the column's buffer they are UTF-8; each name alone is not."""
    good = FOLDER.encode("heat-interval", reading(1, delivery_point="zz"))
    first, second = good.replace(b"zz", b"z\xc3"), good.replace(b"zz", b"\xa9z")
    decoded = decode([good, first, second, good], "heat-interval")
    assert reasons(decoded) == [(101, "undecodable"), (102, "undecodable")]
    assert decoded.readings["delivery_point"].to_list() == ["zz", "zz"]


def test_an_empty_batch_is_an_empty_frame_of_the_contract() -> None:
    decoded = decode([])
    assert decoded.readings.schema == contract.SCHEMA and len(decoded.readings) == 0
    assert decoded.marks == [] and reasons(decoded) == []


@pytest.mark.parametrize("values", [[None], [b""], [None, b"", b"\0"], [b"\0\0"], [b"\0\0\0\0", None]])
def test_a_batch_without_a_single_frame_is_quarantined_whole(values: list[bytes | None]) -> None:
    expected = [(100 + i, "bad_frame" if value else "empty") for i, value in enumerate(values)]
    assert reasons(decode(values)) == expected


def test_values_and_offsets_must_be_as_many() -> None:
    with pytest.raises(ProgrammerError):
        FOLDER.decode_readings(interval_batch(2), [1], "electricity-interval", max_bytes=100)


def test_the_limit_counts_the_whole_record() -> None:
    value = interval_batch(1)[0]
    kept = FOLDER.decode_readings([value], [0], "electricity-interval", max_bytes=len(value))
    refused = FOLDER.decode_readings([value], [0], "electricity-interval", max_bytes=len(value) - 1)
    assert len(kept.readings) == 1 and reasons(refused) == [(0, "oversized")]


FRAME = pl.DataFrame([reading(i) for i in range(3)])


@pytest.mark.parametrize(
    ("frame", "column"),
    [
        (FRAME.drop("value"), "value"),
        (FRAME.with_columns(value=pl.col("value").cast(pl.Float64)), "value"),
        (FRAME.with_columns(start=pl.lit(None, dtype=pl.Int64)), "start"),
        (FRAME.with_columns(quality=pl.lit("good")), "quality"),
    ],
)
def test_what_is_no_reading_is_not_encoded_and_the_column_named(frame: pl.DataFrame, column: str) -> None:
    with pytest.raises(InputError) as caught:
        FOLDER.encode_readings(frame, "water-interval")
    assert caught.value.reason == "bad_reading" and caught.value.where == column


def test_readings_without_a_quality_are_measured() -> None:
    values = FOLDER.encode_readings(FRAME.drop("quality"), "water-interval")
    assert decode(values, "water-interval").readings["quality"].to_list() == ["measured"] * 3
