"""Frames as bytes: Arrow IPC in pieces that a Kafka record can carry.

A piece holds at most `MAX_BYTES` of plain columns, so that one record never nears Kafka's limit of 1 MiB.
Text columns go out as dictionaries: an area's name is written once a piece.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl

MAX_BYTES = 512 * 1024


def pieces(frame: pl.DataFrame) -> Iterator[bytes]:
    """The frame, in order, as Arrow IPC pieces of at most about `MAX_BYTES`; nothing for an empty frame."""
    if frame.height == 0:
        return
    rows = max(1, int(frame.height * MAX_BYTES / max(1, frame.estimated_size())))
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    for start in range(0, frame.height, rows):
        buffer = io.BytesIO()
        part = frame.slice(start, rows).with_columns(pl.col(name).cast(pl.Categorical) for name in texts)
        part.write_ipc(buffer, compression="lz4")
        yield buffer.getvalue()


def frame(piece: bytes) -> pl.DataFrame:
    """The frame of one piece, text columns as strings again."""
    data = pl.read_ipc(io.BytesIO(piece))
    return data.with_columns(
        pl.col(name).cast(pl.String)
        for name, dtype in data.schema.items()
        if isinstance(dtype, pl.Categorical)
    )
