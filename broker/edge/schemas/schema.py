"""One schema file, and the frame that stands before each record on the wire (Confluent wire format, version
0)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from broker.core.errors import PartnerError
from broker.edge.schemas.nodes import Node, node_of

HEADER = 5
"""Bytes before the Avro body: 0x00 and the schema id as big-endian int32."""


@dataclass(frozen=True)
class Schema:
    """`name` is what the file is a version of; `version` None: a partner's variant. `raw` is the file's JSON,
    `parsed` the same for fastavro, without logical types."""

    name: str
    file: str
    id: int
    version: int | None
    raw: dict[str, Any]
    parsed: Any

    @cached_property
    def node(self) -> Node | None:
        """The tree for columns, None where only fastavro can read the schema."""
        return node_of(self.raw)

    @cached_property
    def exact(self) -> bool:
        """Whether a record has one encoding only, so that any other bytes are not what a writer made.
        An array may be cut into blocks in many ways."""
        return self.node is not None and not self.node.has_array

    @property
    def unit(self) -> str | None:
        """`Wh` or `mL` for readings, else None."""
        return self.raw.get("unit")


def frame_of(schema_id: int) -> bytes:
    """The bytes before each record of a schema."""
    return b"\0" + struct.pack(">i", schema_id)


def split_frame(raw: bytes | None, *, where: str = "") -> tuple[int, bytes]:
    """Schema id and body of a framed record; PartnerError `empty` or `bad_frame`."""
    if not raw:
        raise PartnerError("empty", "the record has no value", where=where)
    if len(raw) < HEADER or raw[0] != 0:
        raise PartnerError(
            "bad_frame", "the record does not begin with 0x00 and a schema id of four bytes", where=where
        )
    return int(struct.unpack(">i", raw[1:HEADER])[0]), raw[HEADER:]
