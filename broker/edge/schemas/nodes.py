"""Avro schemas as small trees, without documentation, names of types and logical types.

A node exists only for what pyruhvro decodes safely: int, long, float, double, boolean, string, enum, arrays
and records of these, each optionally in a union with null. Everything else (bytes, fixed, decimal, uuid,
maps, other unions, recursion, items that take no bytes) has no node and is left to fastavro: pyruhvro 0.4
panics on some of it, and an array of items without bytes would let a few bytes claim any number of items.

Logical types are dropped on purpose: an instant stays the int64 of milliseconds that it is on the wire.
Source: Apache Avro 1.12 specification, "Schema Declaration" and "Schema Resolution".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

PRIMITIVES = frozenset({"int", "long", "float", "double", "boolean", "string"})
# An index below 64 is one byte, so that the length of an enum on the wire is known without its index.
MAX_SYMBOLS = 64
NAME = "delivery_point"
"""Field whose text must not be empty and must not hold control characters, whatever the wire allows: it is a
key, and people and files will meet it."""


@dataclass(frozen=True)
class Node:
    """One type. `fields` only for records, `items` for arrays, `symbols` and `default` for enums."""

    kind: str
    nullable: bool = False
    null_first: bool = True
    symbols: tuple[str, ...] = ()
    default: str | None = None
    items: Node | None = None
    fields: tuple[tuple[str, Node], ...] = ()

    @property
    def has_array(self) -> bool:
        return self.kind == "array" or any(child.has_array for _, child in self.fields)


def node_of(schema: Any) -> Node | None:
    """The tree of an Avro schema, or None where it has a type that is not for pyruhvro."""
    return _node(schema, {}, "")


def _node(schema: Any, named: dict[str, Node | None], space: str) -> Node | None:
    if isinstance(schema, str):
        return Node(schema) if schema in PRIMITIVES else named.get(_full(schema, space))
    if isinstance(schema, list):
        return _union(schema, named, space)
    kind = schema["type"]
    if kind == "array":
        items = _node(schema["items"], named, space)
        return items and Node("array", items=items)
    if kind not in ("record", "enum"):
        return _node(kind, named, space)
    space = schema.get("namespace", space)
    name = _full(schema["name"], space)
    named[name] = None  # a type that names itself finds this: no tree
    named[name] = _record(schema, named, space) if kind == "record" else _enum(schema)
    return named[name]


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _union(branches: list[Any], named: dict[str, Node | None], space: str) -> Node | None:
    if len(branches) != 2 or branches.count("null") != 1:
        return None
    inner = _node(next(b for b in branches if b != "null"), named, space)
    return inner and replace(inner, nullable=True, null_first=branches[0] == "null")


def _record(schema: dict[str, Any], named: dict[str, Node | None], space: str) -> Node | None:
    fields = [(field["name"], _node(field["type"], named, space)) for field in schema["fields"]]
    known = tuple((name, node) for name, node in fields if node is not None)
    return Node("record", fields=known) if known and len(known) == len(fields) else None


def _enum(schema: dict[str, Any]) -> Node | None:
    symbols = tuple(schema["symbols"])
    return (
        Node("enum", symbols=symbols, default=schema.get("default")) if len(symbols) <= MAX_SYMBOLS else None
    )


def avro_of(node: Node, numbers: Iterator[int] | None = None) -> Any:
    """The Avro schema that pyruhvro is given for a node: `int` as `long` (the same bytes; pyruhvro would cut
    a value of more than 32 bits instead of refusing it), every named type under a fresh name."""
    numbers = numbers if numbers is not None else itertools.count()
    bare: Any = "long" if node.kind == "int" else node.kind
    if node.kind == "array" and node.items is not None:
        bare = {"type": "array", "items": avro_of(node.items, numbers)}
    elif node.kind == "enum":
        bare = {"type": "enum", "name": f"N{next(numbers)}", "symbols": list(node.symbols)}
    elif node.kind == "record":
        fields = [{"name": name, "type": avro_of(child, numbers)} for name, child in node.fields]
        bare = {"type": "record", "name": f"N{next(numbers)}", "fields": fields}
    if not node.nullable:
        return bare
    return ["null", bare] if node.null_first else [bare, "null"]


_DTYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "enum": pl.String(),
}


def dtype_of(node: Node) -> pl.DataType:
    """The polars type of a node's column."""
    if node.items is not None:
        return pl.List(dtype_of(node.items))
    if node.kind == "record":
        return pl.Struct({name: dtype_of(child) for name, child in node.fields})
    return _DTYPES[node.kind]


def plain(schema: Any) -> Any:
    """An Avro schema without its logical types, so that fastavro too gives instants as int64 and never
    a datetime (which does not reach as far as int64 does)."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in ("logicalType", "precision", "scale")}
    for key in ("type", "items", "values"):
        if key in out:
            out[key] = plain(out[key])
    if "fields" in out:
        out["fields"] = [plain(field) for field in out["fields"]]
    return out
