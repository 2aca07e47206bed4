"""Whether records of a writer's schema can be read with a reader's schema, decided when the folder is loaded.

Stricter than Avro where Avro would let a figure change its meaning in silence: the unit and the logical type
must be the same, and an array's items must take at least a byte (else a few bytes could claim any number of
items).
Source: Apache Avro 1.12 specification, "Schema Resolution".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_PROMOTIONS = {
    "int": {"int", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "string": {"string"},
    "bytes": {"bytes"},
}
_NAMED = ("record", "enum", "fixed")


def problems(writer: Any, reader: Any) -> list[str]:
    """Why the writer's records cannot be read, a sentence each; empty: they can."""
    found = list(_Comparison(writer, reader).differences(writer, reader, "the record"))
    if writer.get("unit") != reader.get("unit"):
        found.append(f"the unit is {writer.get('unit')}, where readers count in {reader.get('unit')}")
    return found


def empty_items(schema: Any) -> bool:
    """Whether an array or map somewhere in the schema has items that may take no bytes."""
    names = _names(schema, "")
    return any(
        _takes_nothing(found["items" if found["type"] == "array" else "values"], names)
        for found in _walk(schema)
        if found.get("type") in ("array", "map")
    )


def _walk(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _walk(branch)
    elif isinstance(schema, dict):
        yield schema
        for key in ("type", "items", "values", "fields"):
            yield from _walk(schema.get(key))


def _takes_nothing(schema: Any, names: dict[str, Any], seen: frozenset[str] = frozenset()) -> bool:
    schema = _named(schema, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        if schema["name"] in seen:  # a record that holds itself directly cannot be written at all
            return True
        inside = seen | {schema["name"]}
        return all(_takes_nothing(field["type"], names, inside) for field in schema["fields"])
    return bool(kind == "null" or (kind == "fixed" and schema["size"] == 0))


def _names(schema: Any, space: str) -> dict[str, Any]:
    """Named types of a schema, each under its full and its short name."""
    out: dict[str, Any] = {}
    for found in _walk(schema):
        if found.get("type") in _NAMED and "name" in found:
            short = found["name"].rpartition(".")[2]
            full = found["name"] if "." in found["name"] else f"{found.get('namespace', space)}.{short}"
            out[full] = out[short] = found
    return out


def _named(schema: Any, names: dict[str, Any]) -> Any:
    """The definition behind a name, and the type inside an object that only adds properties to it."""
    if isinstance(schema, str):
        return names.get(schema, schema)
    if isinstance(schema, dict) and not isinstance(schema["type"], str):
        return _named(schema["type"], names)
    return names.get(schema["type"], schema) if isinstance(schema, dict) else schema


class _Comparison:
    """One comparison; holds the named types of both sides and the pairs of records already under way."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writers = _names(writer, writer.get("namespace", ""))
        self.readers = _names(reader, reader.get("namespace", ""))
        self.seen: set[tuple[str, str]] = set()

    def differences(self, writer: Any, reader: Any, where: str) -> Iterator[str]:
        writer, reader = _named(writer, self.writers), _named(reader, self.readers)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.differences(branch, reader, where)
        elif isinstance(reader, list):
            if all(any(self.differences(writer, branch, where)) for branch in reader):
                yield f"{where} has a type that no branch of the reader's union takes"
        else:
            yield from self._alike(writer, reader, where)

    def _alike(self, writer: Any, reader: Any, where: str) -> Iterator[str]:
        old, new = (s["type"] if isinstance(s, dict) else s for s in (writer, reader))
        logical = [s.get("logicalType") if isinstance(s, dict) else None for s in (writer, reader)]
        if logical[0] != logical[1]:
            yield f"{where} has logical type {logical[0]}, the reader {logical[1]}"
        if new not in _PROMOTIONS.get(old, {old}):
            yield f"{where} is {old}, the reader wants {new}"
        elif old in _NAMED and writer["name"].rpartition(".")[2] != reader["name"].rpartition(".")[2]:
            yield f"{where} is named {writer['name']}, the reader's {reader['name']}"
        elif old == "record":
            yield from self._records(writer, reader, where)
        elif old == "enum" and "default" not in reader and set(writer["symbols"]) - set(reader["symbols"]):
            yield f"{where} has symbols that the reader does not know, and the reader has no default for them"
        elif old == "fixed" and writer["size"] != reader["size"]:
            yield f"{where} has another size than the reader's"
        elif old in ("array", "map"):
            key = "items" if old == "array" else "values"
            yield from self.differences(writer[key], reader[key], f"an item of {where}")

    def _records(self, writer: Any, reader: Any, where: str) -> Iterator[str]:
        pair = (writer["name"], reader["name"])
        if pair in self.seen:
            return
        self.seen.add(pair)
        fields = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            known = next((fields[n] for n in (field["name"], *field.get("aliases", ())) if n in fields), None)
            name = f"field {field['name']} of {where}"
            if known is not None:
                yield from self.differences(known["type"], field["type"], name)
            elif "default" not in field:
                yield f"{name} is missing, and the reader has no default for it"
