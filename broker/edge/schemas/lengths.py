"""How many bytes the canonical Avro encoding of each row of decoded columns takes.

pyruhvro and fastavro stop at the end of a record and ignore what follows, so a record with garbage behind it
would pass. Canonical = every integer in the fewest bytes, every array in one block, as all common writers
do. A record never takes fewer bytes than its canonical form; so where the length fits, nothing follows it.
Also found here, since it needs the same walk: text that is not UTF-8 (pyruhvro does not look, and whoever
reads such a column next may crash) and an `int` beyond 32 bits.
Source: Apache Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from broker.edge.schemas.nodes import Node

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_FIXED = {"float": 4, "double": 8, "boolean": 1, "enum": 1}
_INT32 = np.iinfo(np.int32)
_LONGEST = 10
_TEN_BYTES = np.uint64(1 << 63)
_IMPOSSIBLE = 1 << 32
"""Longer than any record, and far from overflowing where lengths are added up."""


def varint_lengths(values: Ints) -> Ints | int:
    """Bytes of each value as a zigzag variable-length integer; one number where all are equal.

    A value of ten bytes gets an impossible length, which leaves its record to fastavro: the tenth byte holds
    one bit of the value, and pyruhvro ignores the others.
    """
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    shortest, longest = (max(1, -(-int(edge).bit_length() // 7)) for edge in (zigzag.min(), zigzag.max()))
    if shortest == longest:
        return shortest if shortest < _LONGEST else _IMPOSSIBLE
    lengths = np.full(len(values), shortest, dtype=np.int64)
    for size in range(shortest, longest):
        lengths += zigzag >= np.uint64(1 << (7 * size))
    lengths[zigzag >= _TEN_BYTES] = _IMPOSSIBLE
    return lengths


def encoded_lengths(node: Node, column: Any) -> tuple[Ints | int, Mask | None]:
    """Canonical length of each row of an Arrow column, and which rows are malformed (None: none is).

    The column is as pyruhvro made it: offset 0, strings with 32-bit offsets.
    """
    if len(column) == 0:
        return 0, None
    lengths, bad = _present(node, column)
    if not node.nullable:
        return lengths, bad
    if column.null_count == 0:
        return lengths + 1, bad
    valid: Mask = column.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid, lengths, 0) + 1, None if bad is None else bad & valid


def unnamed(column: Any) -> Mask | None:
    """Rows of a text column that cannot name anything: empty, or with control characters (None: none is)."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)
    octets = _octets(column, offsets)
    empty: Mask = np.diff(offsets) == 0
    if not empty.any() and (not len(octets) or (octets.min() >= 0x20 and not (octets == 0x7F).any())):
        return None
    control = np.flatnonzero((octets < 0x20) | (octets == 0x7F))
    empty[np.searchsorted(offsets, control, side="right") - 1] = True
    return empty


def _present(node: Node, column: Any) -> tuple[Ints | int, Mask | None]:
    if node.kind == "string":
        return _text(column)
    if node.kind in ("long", "int"):
        values = np.frombuffer(column.buffers()[1], np.int64, len(column))
        beyond = (values < _INT32.min) | (values > _INT32.max) if node.kind == "int" else None
        return varint_lengths(values), beyond if beyond is not None and beyond.any() else None
    if node.items is not None:
        return _array(node.items, column)
    if node.kind == "record":
        return record_lengths(node, [column.field(i) for i in range(len(node.fields))])
    return _FIXED[node.kind], None


def record_lengths(node: Node, columns: list[Any]) -> tuple[Ints | int, Mask | None]:
    """The same for a record's columns, in the order of its fields."""
    total: Ints | int = 0
    malformed: Mask | None = None
    for (_, child), column in zip(node.fields, columns, strict=True):
        lengths, bad = encoded_lengths(child, column)
        total = total + lengths
        if bad is not None:
            malformed = bad if malformed is None else malformed | bad
    return total, malformed


def _text(column: Any) -> tuple[Ints | int, Mask | None]:
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)
    sizes = np.diff(offsets).astype(np.int64)
    return sizes + varint_lengths(sizes), _not_utf8(_octets(column, offsets), offsets)


def _octets(column: Any, offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    data = column.buffers()[2]
    return np.frombuffer(data if data is not None else b"", np.uint8)[: int(offsets[-1])]


def _not_utf8(octets: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> Mask | None:
    """Rows that are not UTF-8; only rows with a byte beyond ASCII are looked at one by one."""
    data = octets.data
    if not len(octets) or octets.max() < 0x80 or _all_utf8(octets, offsets):
        return None
    suspects = np.unique(np.searchsorted(offsets, np.flatnonzero(octets >= 0x80), side="right") - 1)
    bad = np.zeros(len(offsets) - 1, dtype=np.bool_)
    for row in suspects.tolist():
        try:
            str(data[offsets[row] : offsets[row + 1]], "utf-8")
        except UnicodeDecodeError:
            bad[row] = True
    return bad


def _all_utf8(octets: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> bool:
    """Whether the whole buffer is UTF-8 and every row begins where a character does."""
    try:
        str(octets.data, "utf-8")
    except UnicodeDecodeError:
        return False
    starts = offsets[:-1][offsets[:-1] < len(octets)]
    return not bool(((octets[starts] & 0xC0) == 0x80).any())


def _array(items: Node, column: Any) -> tuple[Ints | int, Mask | None]:
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1)
    counts = np.diff(offsets).astype(np.int64)
    lengths, bad = encoded_lengths(items, column.values)
    sums = np.concatenate(([0], np.cumsum(np.broadcast_to(lengths, (len(column.values),)), dtype=np.int64)))
    total = sums[offsets[1:]] - sums[offsets[:-1]]
    # one block: count, items, then the count 0 that ends the array; an empty array is that 0 alone
    total += np.where(counts > 0, varint_lengths(counts) + 1, 1)
    if bad is None:
        return total, None
    hits = np.concatenate(([0], np.cumsum(bad, dtype=np.int64)))
    return total, (hits[offsets[1:]] - hits[offsets[:-1]]) > 0
