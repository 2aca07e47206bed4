"""Readings and completeness marks of one stream, in both directions.

A register reading has one moment: `at` on the wire, `start` = `end` in the frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyruhvro

from broker.core import readings as contract
from broker.core.errors import InputError
from broker.edge.schemas.columns import BAD_SCHEMA, Batch, Plan
from broker.edge.schemas.schema import Schema, frame_of


@dataclass(frozen=True)
class Decoded:
    """readings: the readings frame (`core.readings.SCHEMA`), by offset. marks: (offset, until in ms UTC), by
    offset. bad: offset Int64, reason String, schema_id Int64 or null, by offset."""

    readings: pl.DataFrame
    marks: list[tuple[int, int]]
    bad: pl.DataFrame


def assemble(batch: Batch, reader: Schema, mark: Schema, stream: str | None) -> Decoded:
    """The parts of a stream's batch; see `SchemaFolder.decode_readings`."""
    frame = batch.frames[reader.name]
    columns = frame.to_dict()
    if "at" in columns:
        columns["start"] = columns["end"] = columns["at"]
    readings = pl.DataFrame({name: columns[name] for name in contract.SCHEMA})
    marks = batch.frames[mark.name]
    bad = batch.bad
    if stream is not None and (marks["stream"] != stream).any():
        own = marks["stream"] == stream
        bad = pl.concat([bad, _as_bad(marks.filter(~own), mark.id)]).sort("offset")
        marks = marks.filter(own)
    found = list(zip(marks["offset"].to_list(), marks["until"].to_list(), strict=True))
    return Decoded(readings, found, bad)


def _as_bad(marks: pl.DataFrame, schema_id: int) -> pl.DataFrame:
    return marks.select(
        "offset", reason=pl.lit("wrong_schema"), schema_id=pl.lit(schema_id, dtype=BAD_SCHEMA["schema_id"])
    )


def encode(frame: pl.DataFrame, plan: Plan) -> list[bytes]:
    """Framed records of a frame: delivery_point String, start and end Int64 ms (a register: `start` only),
    value Int64, quality String (absent: measured). InputError `bad_reading` names the column that does not
    fit."""
    node = plan.writer.node
    assert node is not None
    if "at" in plan.dtypes:
        frame = frame.rename({"start": "at"})
    if "quality" not in frame.columns:
        frame = frame.with_columns(quality=pl.lit("measured"))
    arrays: list[Any] = [
        pa.nulls(len(frame), pa.bool_()).fill_null(False),
        pa.nulls(len(frame), pa.float32()).fill_null(_id_as_float(plan.writer.id)),
    ]
    for name, child in node.fields:
        if name not in frame.columns or frame[name].dtype != plan.dtypes[name] or frame[name].null_count():
            raise InputError("bad_reading", f"a {plan.dtypes[name]} is needed in every row", where=name)
        if child.symbols and not frame[name].is_in(child.symbols).all():
            raise InputError("bad_reading", f"it must be one of {', '.join(child.symbols)}", where=name)
        arrays.append(_arrow(frame[name]))
    fields = [pa.field("magic", pa.bool_(), False), pa.field("id", pa.float32(), False)]
    fields += [pa.field(f"c{i}", array.type, False) for i, array in enumerate(arrays[2:])]
    batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    encoded: list[bytes] = pyruhvro.serialize_record_batch(batch, plan.framed, 1)[0].to_pylist()
    return encoded


def _arrow(series: pl.Series) -> Any:
    """pyruhvro takes strings with 32-bit offsets only."""
    array = series.to_arrow()
    return array.cast(pa.string()) if series.dtype == pl.String else array


def _id_as_float(schema_id: int) -> float:
    """The float whose four bytes on the wire are the schema id in the frame (Avro writes floats
    little-endian)."""
    return float(struct.unpack("<f", frame_of(schema_id)[1:])[0])
