"""Which records of a batch that does not decode are to blame, found on all records at once.

Only a sieve: suspects are then read record by record, the others by columns once more, so that an error here
could cost time but never a reading. Without it one malformed record in a hundred would make a batch thirty
times as expensive, which a partner could do to the others on the same lane.

The walk goes field by field, with one position for each record (Apache Avro 1.12 specification, "Binary
Encoding").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from broker.edge.schemas.lengths import Ints, Mask
from broker.edge.schemas.nodes import Node
from broker.edge.schemas.schema import HEADER

_SIZES = {"float": 4, "double": 8}
_LONGEST_VARINT = 10


def sound(node: Node, values: list[Any], lengths: Ints) -> Mask:
    """Records whose bytes are used up exactly by a record of the schema; `node` has no arrays."""
    walk = _Walk(values, lengths)
    walk.record(node, np.ones(len(values), dtype=np.bool_))
    used_up: Mask = walk.sound & (walk.places == walk.ends)
    return used_up


class _Walk:
    """places: where each record's next field begins; sound: nothing wrong so far."""

    def __init__(self, values: list[Any], lengths: Ints) -> None:
        # padded, so that the byte at the end of the last record can be asked for
        self.octets = np.frombuffer(b"".join([*values, b"\0"]), np.uint8)
        self.ends = np.cumsum(lengths)
        self.places = self.ends - lengths + HEADER
        self.sound: Mask = self.places <= self.ends

    def record(self, node: Node, active: Mask) -> None:
        for _, child in node.fields:
            self.field(child, active)

    def field(self, node: Node, active: Mask) -> None:
        """Steps over one field of the active records."""
        if node.nullable:
            branch = self._varint(active)
            self.sound &= ~active | ((branch >= 0) & (branch <= 1))
            active = active & (branch == (1 if node.null_first else 0))
        if node.kind == "record":
            self.record(node, active)
        elif node.kind in ("long", "int"):
            self._varint(active)
        elif node.kind == "enum":
            index = self._varint(active)
            self.sound &= ~active | ((index >= 0) & (index < len(node.symbols)))
        elif node.kind == "boolean":
            self.sound &= ~active | (self.octets[np.minimum(self.places, self.ends)] <= 1)
            self._step(np.int64(1), active)
        elif node.kind == "string":
            size = self._varint(active)
            self.sound &= ~active | (size >= 0)
            self._step(size, active)
        else:
            self._step(np.int64(_SIZES[node.kind]), active)

    def _step(self, size: Ints | np.int64, active: Mask) -> None:
        """Forward by `size` bytes; a record that has not as many left is unsound and stays where it is."""
        active = active & self.sound
        self.sound &= ~active | (size <= self.ends - self.places)
        self.places = self.places + np.where(active & self.sound, size, 0)

    def _varint(self, active: Mask) -> Ints:
        """Reads a zigzag variable-length integer of each active record; the others give 0."""
        value: npt.NDArray[np.uint64] = np.zeros(len(self.places), dtype=np.uint64)
        open_ = active & self.sound
        for k in range(_LONGEST_VARINT):
            self.sound &= ~open_ | (self.places < self.ends)
            open_ &= self.sound
            octet = self.octets[np.minimum(self.places, self.ends)]
            value |= np.where(open_, octet & 0x7F, 0).astype(np.uint64) << np.uint64(7 * k)
            self.places = self.places + open_
            open_ &= octet >= 0x80
            if not open_.any():
                break
        self.sound &= ~open_
        return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64)
