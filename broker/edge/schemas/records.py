"""One record at a time, by fastavro: what columns cannot do, and everything that comes in small numbers.

fastavro alone is lax: it ignores what follows a record, takes any byte for a boolean, a negative index for an
enum's symbol and a negative length for a string. So a record is good only if its bytes are used up and,
where a record has one encoding only (`Schema.exact`), if writing it again gives the same bytes. That is also
exactly what the columns accept, so that a reading counts or not regardless of which decoder met it.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.read import SchemaResolutionError

from broker.core.errors import ProgrammerError
from broker.edge.schemas.nodes import NAME, Node
from broker.edge.schemas.schema import Schema

# What fastavro was seen to raise on bytes that are not of the schema.
_GARBAGE = (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)
_INT32 = range(-(2**31), 2**31)


def read(body: bytes, writer: Schema, reader: Schema) -> dict[str, Any] | None:
    """The record as the reader's schema has it, instants in int64 ms; None: the bytes are not the
    writer's."""
    source = BytesIO(body)
    try:
        record = _record(source, writer.parsed, None)
        if source.tell() != len(body) or not _faithful(record, body, writer) or not _named(record):
            return None
        if writer.id == reader.id:
            return record
        return _record(BytesIO(body), writer.parsed, reader.parsed)
    except (*_GARBAGE, SchemaResolutionError):
        return None


def _record(source: BytesIO, writer: Any, reader: Any) -> dict[str, Any]:
    return cast(dict[str, Any], fastavro.schemaless_reader(source, writer, reader))


def write(schema: Schema, record: dict[str, Any]) -> bytes:
    """The Avro body; absent fields take their defaults. ProgrammerError `unencodable`, without any value."""
    out = BytesIO()
    try:
        fastavro.schemaless_writer(out, schema.parsed, record, strict_allow_default=True)
    except (*_GARBAGE, AttributeError) as error:
        kind = type(error).__name__
    else:
        return out.getvalue()
    # outside of the handler, so that no traceback carries the values that fastavro quotes
    raise ProgrammerError("unencodable", f"a record does not fit the schema ({kind})", where=schema.file)


def _faithful(record: dict[str, Any], body: bytes, writer: Schema) -> bool:
    if writer.node is not None and not _ints_fit(writer.node, record):
        return False
    if not writer.exact:
        return True
    out = BytesIO()
    fastavro.schemaless_writer(out, writer.parsed, record)
    return out.getvalue() == body


def _named(record: dict[str, Any]) -> bool:
    point = record.get(NAME)
    return not isinstance(point, str) or (point != "" and not any(c < " " or c == "\x7f" for c in point))


def _ints_fit(node: Node, value: Any) -> bool:
    """Whether every `int` has at most 32 bits, which fastavro does not check."""
    if value is None:
        return True
    if node.kind == "int":
        return value in _INT32
    if node.items is not None:
        return all(_ints_fit(node.items, item) for item in value)
    return all(_ints_fit(child, value[name]) for name, child in node.fields)
