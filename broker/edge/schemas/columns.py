"""A batch of framed records to columns in one call.

Order of checks, a record ends at the first that fails: `empty`, `oversized`, `bad_frame`, `unknown_schema`,
`wrong_schema` (known, but not one that the caller accepts), `undecodable`.

Invariants
- Every record of the batch is in exactly one of the frames or in `bad`; a bad record costs only itself.
- pyruhvro only ever sees schemas that have a `Node`; the others, and a batch's remains around a bad record,
  go to fastavro record by record. Both give the same columns for the same bytes.
- What pyruhvro does not check is checked here on its columns: bytes behind a record, UTF-8, `int` beyond 32
  bits.
- No Python loop over good records, as long as their writer's schema has a plan for columns.

The frame before each record is not cut off, which would copy every record: pyruhvro is given a schema that
begins with a boolean (the byte 0x00) and a float (the id's four bytes), and both columns are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyruhvro

from broker.core.errors import ProgrammerError
from broker.edge.schemas import records
from broker.edge.schemas.lengths import Ints, record_lengths, unnamed
from broker.edge.schemas.nodes import NAME, Node, avro_of, dtype_of
from broker.edge.schemas.schema import HEADER, Schema
from broker.edge.schemas.sieve import sound

Offsets = Sequence[int] | Ints
BAD_SCHEMA = pl.Schema({"offset": pl.Int64, "reason": pl.String, "schema_id": pl.Int64})
_CODES = ("", "empty", "oversized", "bad_frame", "unknown_schema", "wrong_schema", "undecodable")
_GOOD, _EMPTY, _OVERSIZED, _BAD_FRAME, _UNKNOWN, _WRONG, _UNDECODABLE = range(len(_CODES))
# So few records of a batch that does not decode are not halved again but read one by one.
_LEAF = 16
_PROMOTED = {("int", "long"), ("float", "double")}


@dataclass(frozen=True)
class Take:
    """One field of the reader: column of the writer, or (column None) the reader's default. `symbols`: those
    that the reader knows, where the writer has more; the others become `default`."""

    name: str
    column: int | None
    default: Any = None
    symbols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """How records of one writer become columns of the reader. `takes` None: by fastavro."""

    writer: Schema
    reader: Schema
    framed: str
    takes: tuple[Take, ...] | None
    dtypes: dict[str, pl.DataType]


@dataclass(frozen=True)
class Batch:
    """frames: by schema name, the reader's fields and `offset`, in the order of the batch; of every name
    that was asked for. bad: offset, reason, schema_id (null where the record names none), in the order of
    the batch."""

    frames: dict[str, pl.DataFrame]
    bad: pl.DataFrame


def make_plan(writer: Schema, reader: Schema) -> Plan | None:
    """None: the reader's records cannot be columns (they hold bytes, maps …)."""
    if reader.node is None or any(name == "offset" for name, _ in reader.node.fields):
        return None
    dtypes = {name: dtype_of(node) for name, node in reader.node.fields}
    if writer.node is None:
        return Plan(writer, reader, "", None, dtypes)
    fields = [{"name": "magic", "type": "boolean"}, {"name": "id", "type": "float"}]
    for i, field in enumerate(avro_of(writer.node)["fields"]):
        fields.append({"name": f"c{i}", "type": field["type"]})  # a partner may name a field `magic`
    framed = json.dumps({"type": "record", "name": "Framed", "fields": fields})
    return Plan(writer, reader, framed, _takes(writer.node, reader), dtypes)


def _takes(writer: Node, reader: Schema) -> tuple[Take, ...] | None:
    assert reader.node is not None
    columns = {name: (i, node) for i, (name, node) in enumerate(writer.fields)}
    takes = []
    for raw, (name, node) in zip(reader.raw["fields"], reader.node.fields, strict=True):
        if name not in columns:
            if node.items is not None or node.kind == "record" or raw.get("aliases"):
                return None
            takes.append(Take(name, None, default=raw["default"]))
            continue
        index, written = columns[name]
        if not _same(written, node):
            return None
        beyond = node.kind == "enum" and not set(written.symbols) <= set(node.symbols)
        takes.append(Take(name, index, node.default, node.symbols if beyond else None))
    return tuple(takes)


def _same(writer: Node, reader: Node) -> bool:
    if writer.nullable and not reader.nullable:
        return False
    if writer.items is not None or writer.fields:
        return (writer.kind, writer.items, writer.fields) == (reader.kind, reader.items, reader.fields)
    return writer.kind == reader.kind or (writer.kind, reader.kind) in _PROMOTED


def decode(
    values: Sequence[bytes | None],
    offsets: Offsets,
    plans: Mapping[int, Plan],
    known: frozenset[int],
    max_bytes: int,
) -> Batch:
    """Columns of a batch of one partition.

    values: framed records; offsets: int64, as many. plans: by the schema ids that the caller accepts; known:
    all ids of the folder. max_bytes: the longest record allowed, frame included.
    """
    values = values if isinstance(values, list) else list(values)
    places = np.asarray(offsets, dtype=np.int64)
    if len(places) != len(values):
        raise ProgrammerError("bad_batch", f"{len(values)} values with {len(places)} offsets")
    lengths, ids, codes = _heads(values, max_bytes)
    pieces: dict[str, list[tuple[Ints, pl.DataFrame]]] = {plan.reader.name: [] for plan in plans.values()}
    empties = {plan.reader.name: plan.dtypes for plan in plans.values()}
    for schema_id, rows in _groups(ids, codes, plans, known):
        chosen = values if len(rows) == len(values) else [values[i] for i in rows.tolist()]
        codes[rows] = _UNDECODABLE
        for good, frame in _decode_group(chosen, lengths[rows], plans[schema_id]):
            codes[rows[good]] = _GOOD
            pieces[plans[schema_id].reader.name].append((rows[good], frame))
    frames = {name: _joined(found, empties[name], places) for name, found in pieces.items()}
    return Batch(frames, _bad(codes, ids, places))


def _heads(values: list[bytes | None], max_bytes: int) -> tuple[Ints, Ints, npt.NDArray[np.uint8]]:
    """Length of each record, schema id (0 where there is none), and what is wrong with its frame."""
    count = len(values)
    array = pa.array(values, pa.large_binary())
    codes = np.zeros(count, dtype=np.uint8)
    if count == 0 or array.buffers()[2] is None or array.buffers()[2].size < HEADER:
        lengths = np.array([len(value or b"") for value in values], dtype=np.int64)
        codes[:] = np.where(lengths == 0, _EMPTY, _BAD_FRAME)
        return lengths, np.zeros(count, dtype=np.int64), codes
    _, places, data = array.buffers()
    bounds = np.frombuffer(places, np.int64, count + 1)
    lengths, starts = np.diff(bounds), bounds[:-1]
    octets = np.frombuffer(data, np.uint8)
    # every four bytes of the batch as a big-endian number; a record too short reads its neighbour's, unused
    words = np.ndarray((data.size - 3,), ">i4", data, strides=(1,))
    framed = (lengths >= HEADER) & (octets[np.minimum(starts, data.size - 1)] == 0)
    ids = np.where(framed, words[np.minimum(starts + 1, data.size - 4)], 0).astype(np.int64)
    if not framed.all() or lengths.max() > max_bytes:
        codes[~framed] = _BAD_FRAME
        codes[lengths > max_bytes] = _OVERSIZED
        codes[lengths == 0] = _EMPTY
    return lengths, ids, codes


def _groups(
    ids: Ints, codes: npt.NDArray[np.uint8], plans: Mapping[int, Plan], known: frozenset[int]
) -> Iterator[tuple[int, Ints]]:
    """Accepted schema ids of the batch with their rows; marks the others in `codes`."""
    sound = codes == _GOOD
    if len(ids) and sound.all() and (ids == ids[0]).all() and int(ids[0]) in plans:
        yield int(ids[0]), np.arange(len(ids), dtype=np.int64)
        return
    accepted = np.isin(ids, np.fromiter(plans, np.int64))
    strange = sound & ~accepted
    codes[strange] = np.where(np.isin(ids[strange], np.fromiter(known, np.int64)), _WRONG, _UNKNOWN)
    for schema_id in np.unique(ids[sound & accepted]).tolist():
        yield schema_id, np.flatnonzero(sound & (ids == schema_id))


def _decode_group(values: list[Any], lengths: Ints, plan: Plan) -> Iterator[tuple[Ints, pl.DataFrame]]:
    """Frames of the good records of one writer, each with their rows in `values`."""
    rows = np.arange(len(values), dtype=np.int64)
    if plan.takes is None:
        yield _one_by_one(values, rows, plan)
        return
    batch = _deserialize(values, plan.framed)
    if batch is not None:
        yield from _checked(values, rows, batch, lengths, plan)
        return
    if plan.writer.node is not None and plan.writer.exact:
        sieved = sound(plan.writer.node, values, lengths)
        yield _one_by_one(values, rows[~sieved], plan)
        rows = rows[sieved]
    yield from _halves(values, rows, lengths, plan)


def _halves(values: list[Any], rows: Ints, lengths: Ints, plan: Plan) -> Iterator[tuple[Ints, pl.DataFrame]]:
    """These rows at once; where they do not decode, by halves, and few of them record by record."""
    stack = [rows]
    while stack:
        rows = stack.pop()
        if len(rows) <= _LEAF:
            yield _one_by_one(values, rows, plan)
            continue
        batch = _deserialize([values[row] for row in rows.tolist()], plan.framed)
        if batch is not None:
            yield from _checked(values, rows, batch, lengths, plan)
        else:
            middle = len(rows) // 2
            stack += [rows[middle:], rows[:middle]]


def _deserialize(values: list[Any], framed: str) -> Any:
    """pyruhvro's record batch, or None where a record is not of the schema."""
    try:
        return pyruhvro.deserialize_array(values, framed)
    except ValueError:
        return None
    except BaseException as error:
        # A panic of Rust is not an Exception and its class cannot be imported. Schemas that are known to
        # cause one never come here; should bytes do so, they must not end the worker of all partners.
        if type(error).__name__ != "PanicException":
            raise
        return None


def _checked(
    values: list[Any], rows: Ints, batch: Any, lengths: Ints, plan: Plan
) -> Iterator[tuple[Ints, pl.DataFrame]]:
    """Frames of a decoded batch's rows, without what pyruhvro should not have taken."""
    node = plan.writer.node
    assert node is not None
    columns = batch.columns[2:]
    expected, found = record_lengths(node, columns)
    malformed = np.zeros(len(rows), dtype=np.bool_) if found is None else found
    for (name, _), column in zip(node.fields, columns, strict=True):
        nameless = unnamed(column) if name == NAME and column.type == pa.string() else None
        malformed = malformed if nameless is None else malformed | nameless
    fits = lengths[rows] == expected + HEADER
    keep = fits & ~malformed
    if keep.all():
        yield rows, _resolved(batch, plan)
        return
    yield rows[keep], _resolved(batch.filter(pa.array(keep)), plan)
    if not (fits | malformed).all():  # bytes behind it, an array in several blocks, a number of ten bytes
        yield _one_by_one(values, rows[~fits & ~malformed], plan)


def _resolved(batch: Any, plan: Plan) -> pl.DataFrame:
    """The reader's columns of the writer's (Avro, "Schema Resolution", by columns)."""
    assert plan.takes is not None
    taken = [(take.name, batch.column(take.column + 2)) for take in plan.takes if take.column is not None]
    columns = {name: pl.Series(name, column, dtype=plan.dtypes[name]) for name, column in taken}
    for take in plan.takes:
        if take.column is not None and take.symbols is None:
            continue
        default = pl.Series(take.name, [take.default], dtype=plan.dtypes[take.name])
        everywhere = default.new_from_index(0, batch.num_rows)
        column = columns.setdefault(take.name, everywhere)
        if take.symbols is not None:
            known = column.is_in(take.symbols) | column.is_null()
            columns[take.name] = column.zip_with(known, everywhere)
    return pl.DataFrame({name: columns[name] for name in plan.dtypes}, height=batch.num_rows)


def _one_by_one(values: list[Any], rows: Ints, plan: Plan) -> tuple[Ints, pl.DataFrame]:
    found = [(row, records.read(values[row][HEADER:], plan.writer, plan.reader)) for row in rows.tolist()]
    good = np.array([row for row, record in found if record is not None], dtype=np.int64)
    read = [record for _, record in found if record is not None]
    columns = {name: [record[name] for record in read] for name in plan.dtypes}
    return good, pl.DataFrame(columns, schema=plan.dtypes)


def _joined(
    pieces: list[tuple[Ints, pl.DataFrame]], dtypes: dict[str, pl.DataType], places: Ints
) -> pl.DataFrame:
    """All pieces with their offsets, in the order of the batch."""
    if not pieces:
        return pl.DataFrame(schema={**dtypes, "offset": pl.Int64})
    if len(pieces) == 1:
        rows, frame = pieces[0]
        return frame.hstack([pl.Series("offset", places[rows])])
    rows = np.concatenate([rows for rows, _ in pieces])
    order = np.argsort(rows)
    frame = pl.concat([frame for _, frame in pieces])[order]
    return frame.with_columns(offset=pl.Series(places[rows[order]]))


def _bad(codes: npt.NDArray[np.uint8], ids: Ints, places: Ints) -> pl.DataFrame:
    rows = np.flatnonzero(codes != _GOOD)
    if not len(rows):
        return pl.DataFrame(schema=BAD_SCHEMA)
    reasons = [_CODES[code] for code in codes[rows].tolist()]
    named = [schema_id or None for schema_id in ids[rows].tolist()]
    return pl.DataFrame({"offset": places[rows], "reason": reasons, "schema_id": named}, schema=BAD_SCHEMA)
