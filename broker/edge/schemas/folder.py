"""The schemas folder: the registry of every schema that the broker reads or writes.

Invariants
- `ids.yaml` gives every file its number; a number belongs to one file and every file has one. What is not in
  the folder does not exist: nothing is ever fetched from elsewhere.
- `<name>.avsc` is version 1 of a schema, `<name>@<number>.avsc` a later one, `<name>@<text>.avsc` a partner's
  variant. Readers use the highest version; every other file must resolve to it, or the folder does not load.
- Wire format: 0x00, the id as big-endian int32, the Avro body with nothing behind it.
- Logical types are not applied: an instant is an int64 of milliseconds, UTC, in both directions.

Sources: Apache Avro 1.12 specification; Confluent wire format, version 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
from fastavro.schema import SchemaParseException, UnknownType

from broker.core.contract import MARK
from broker.core.errors import InputError, OperatorError, PartnerError, ProgrammerError
from broker.core.strict_yaml import read_mapping
from broker.edge.schemas import columns, readings, records, resolution
from broker.edge.schemas.columns import Batch, Offsets, Plan
from broker.edge.schemas.nodes import plain
from broker.edge.schemas.readings import Decoded
from broker.edge.schemas.schema import Schema, frame_of, split_frame

IDS = "ids.yaml"
_INT32 = 2**31


class SchemaFolder:
    """All schemas, by name and by id; immutable after `load`."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self._by_id = {schema.id: schema for schema in schemas}
        self._readers: dict[str, Schema] = {}
        for schema in sorted((s for s in schemas if s.version is not None), key=lambda s: s.version or 0):
            self._readers[schema.name] = schema
        plans = {schema.id: columns.make_plan(schema, self._readers[schema.name]) for schema in schemas}
        self._plans: dict[str, dict[int, Plan]] = {name: {} for name in self._readers}
        for schema_id, plan in plans.items():
            if plan is not None:
                self._plans[plan.reader.name][schema_id] = plan

    @classmethod
    def load(cls, path: Path) -> SchemaFolder:
        """Reads and checks a folder; OperatorError `bad_schemas` names the file and what is wrong with it."""
        ids = _read_ids(path)
        schemas = [_read(path / file, number) for file, number in sorted(ids.items())]
        _check_versions(schemas)
        return cls(schemas)

    def names(self) -> list[str]:
        return sorted(self._readers)

    def reader(self, name: str) -> Schema:
        """The newest version of a schema; ProgrammerError for an unknown name."""
        try:
            return self._readers[name]
        except KeyError:
            raise ProgrammerError("unknown_schema", f"no schema is named {name}") from None

    def by_id(self, schema_id: int) -> Schema | None:
        return self._by_id.get(schema_id)

    def encode(self, name: str, record: dict[str, Any]) -> bytes:
        """One framed record in the newest version; instants as int64 ms. Absent fields take their defaults.

        ProgrammerError `unencodable` (which names the schema, never a value) for what does not fit."""
        schema = self.reader(name)
        return frame_of(schema.id) + records.write(schema, record)

    def decode(self, raw: bytes | None, *, where: str = "") -> tuple[str, dict[str, Any]]:
        """Name and content of one framed record, read with the newest version.

        PartnerError with `empty`, `bad_frame`, `unknown_schema` or `undecodable`; `where` goes into its
        text."""
        schema_id, body = split_frame(raw, where=where)
        writer = self._by_id.get(schema_id)
        if writer is None:
            raise PartnerError(
                "unknown_schema",
                f"schema id {schema_id} is not in the schemas folder: agree the schema with the operator",
                where=where,
            )
        record = records.read(body, writer, self._readers[writer.name])
        if record is None:
            raise PartnerError("undecodable", f"the bytes do not decode with {writer.file}", where=where)
        return writer.name, record

    def decode_columns(
        self, values: Sequence[bytes | None], offsets: Offsets, names: Sequence[str], *, max_bytes: int
    ) -> Batch:
        """A batch of one partition whose topic carries these schemas, as columns (see `columns.decode`)."""
        plans = {schema_id: plan for name in names for schema_id, plan in self._columnar(name).items()}
        return columns.decode(values, offsets, plans, frozenset(self._by_id), max_bytes)

    def decode_readings(
        self,
        values: Sequence[bytes | None],
        offsets: Offsets,
        reader: str,
        *,
        max_bytes: int,
        stream: str | None = None,
    ) -> Decoded:
        """A batch of one stream's partition: readings, completeness marks and bad records; each record is in
        exactly one of them. `stream`: where given, a mark that names another one is bad (`wrong_schema`)."""
        batch = self.decode_columns(values, offsets, [reader, MARK], max_bytes=max_bytes)
        return readings.assemble(batch, self.reader(reader), self.reader(MARK), stream)

    def encode_readings(self, frame: pl.DataFrame, name: str) -> list[bytes]:
        """Framed records, in the newest version, of a frame with delivery_point, start, end (not of
        registers), value and quality; InputError `bad_reading` where a column does not fit (see
        `readings.encode`)."""
        return readings.encode(frame, self._columnar(name)[self.reader(name).id])

    def _columnar(self, name: str) -> dict[int, Plan]:
        """Plans of all versions and variants of a schema that can be columns."""
        self.reader(name)
        if not self._plans[name]:
            raise ProgrammerError(
                "not_columnar", f"{name} holds types that columns cannot: decode its records"
            )
        return self._plans[name]


def _bad(file: str, what: str) -> OperatorError:
    return OperatorError("bad_schemas", what, where=file)


def _read_ids(path: Path) -> dict[str, int]:
    try:
        ids = read_mapping((path / IDS).read_text(encoding="utf-8"), IDS)
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(IDS, f"the table of schema ids cannot be read ({type(error).__name__})") from error
    except InputError as error:
        raise _bad(error.where or IDS, error.what) from error
    taken: dict[int, str] = {}
    for file, number in ids.items():
        if type(number) is not int or not 0 < number < _INT32:
            raise _bad(IDS, f"{file}: an id is a whole number from 1 to {_INT32 - 1}")
        if number in taken:
            raise _bad(
                IDS, f"{file} and {taken[number]} have the same id {number}; an id names one file for ever"
            )
        taken[number] = file
    files = {file.name for file in path.glob("*.avsc")}
    if missing := sorted(files ^ set(ids)):
        raise _bad(missing[0], "a schema file needs a line in ids.yaml, and each line a file")
    return ids


def _read(path: Path, schema_id: int) -> Schema:
    name, _, tag = path.stem.partition("@")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        # its own table of named types: files do not know each other
        parsed = fastavro.parse_schema(plain(raw), named_schemas={})
    except (OSError, ValueError, KeyError, TypeError, SchemaParseException, UnknownType) as error:
        raise _bad(path.name, f"it is not an Avro schema ({type(error).__name__}: {error})") from error
    if not isinstance(raw, dict) or raw.get("type") != "record":
        raise _bad(path.name, "a schema of a topic is a record")
    if resolution.empty_items(raw):
        raise _bad(path.name, "the items of an array or map must take at least a byte")
    version = 1 if not tag else int(tag) if tag.isdecimal() else None
    return Schema(name, path.name, schema_id, version, raw, parsed)


def _check_versions(schemas: Sequence[Schema]) -> None:
    newest: dict[str, Schema] = {}
    for schema in schemas:
        if schema.version is not None and schema.version >= (newest.get(schema.name, schema).version or 0):
            newest[schema.name] = schema
    for schema in schemas:
        reader = newest.get(schema.name)
        if reader is None:
            raise _bad(schema.file, f"it is a variant of {schema.name}, which has no file {schema.name}.avsc")
        if found := resolution.problems(schema.raw, reader.raw):
            raise _bad(schema.file, f"readers of {reader.file} cannot read it: " + "; ".join(found))
