"""Frames as bytes: Arrow IPC in pieces that a Kafka record can carry.

A piece holds at most `MAX_BYTES` of plain columns, so that one record never nears Kafka's limit of 1 MiB.
Layout of a piece: length of the plain stream (4 bytes, little-endian) ‖ one LZ4 block: an Arrow IPC stream of one
record batch. Compressed as a whole, because Arrow's own compression starts anew for every column of every piece,
and pieces are many and small: measured, it costs twice as much and takes as much room.

In the stream, text of few different values is a dictionary (an area's name is written once a piece), and bytes of
one length, as pseudonyms are, have no lengths of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa

MAX_BYTES = 512 * 1024
LENGTH_BYTES = 4
FEW = 1000
"""Different values of a text column that still go out as a dictionary."""

_LZ4 = pa.Codec("lz4_raw")


def pieces(frame: pl.DataFrame) -> Iterator[bytes]:
    """The frame, in order, as pieces of at most about `MAX_BYTES`; nothing for an empty frame."""
    return (piece for _, _, piece in pieces_by(frame, []))


def pieces_by(frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[int, ...], int, bytes]]:
    """(values of the integer columns `keys`, number of rows, piece) in ascending order of the keys, the rows of each
    in their order.

    The keys' columns are not in the pieces.
    """
    if frame.height == 0:
        return
    columns = [frame[key].to_numpy() for key in keys]
    bounds = [0, frame.height]
    if columns:
        order = np.lexsort(columns[::-1])
        columns = [column[order] for column in columns]
        frame = frame.drop(keys)[order]
        changes = np.logical_or.reduce([np.diff(column) != 0 for column in columns])
        bounds[1:1] = (np.flatnonzero(changes) + 1).tolist()
    rows = max(1, int(frame.height * MAX_BYTES / max(1, frame.estimated_size())))
    batch = _batch(frame)
    for first, end in pairwise(bounds):
        values = tuple(int(column[first]) for column in columns)
        for start in range(first, end, rows):
            part = batch.slice(start, min(rows, end - start))
            yield values, part.num_rows, _packed(part)


def frame(piece: bytes, *, categories: bool = False) -> pl.DataFrame:
    """The frame of one piece, text columns as strings again.

    categories: what went out as a dictionary stays one (Categorical): half the time, a quarter of the room.
    """
    length = int.from_bytes(piece[:LENGTH_BYTES], "little")
    plain = _LZ4.decompress(memoryview(piece)[LENGTH_BYTES:], decompressed_size=length)
    (batch,) = pa.ipc.open_stream(plain)
    if not categories:
        columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in batch.columns]
        batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    found = pl.from_arrow(batch)
    assert isinstance(found, pl.DataFrame)
    return found


def _packed(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    plain = sink.getvalue()
    packed: bytes = _LZ4.compress(plain, asbytes=True)
    return int(plain.size).to_bytes(LENGTH_BYTES, "little") + packed


def _batch(frame: pl.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [_column(column) for column in frame.rechunk().get_columns()], names=frame.columns
    )


def _column(column: pl.Series) -> pa.Array:
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    if column.dtype == pl.Binary:
        return _of_one_length(array)
    if column.dtype == pl.String:
        encoded = array.dictionary_encode()
        return encoded if len(encoded.dictionary) <= FEW else array
    return array


def _of_one_length(array: pa.Array) -> pa.Array:
    """Bytes (large_binary) without lengths, where all are there and have the same."""
    if not len(array) or array.null_count:
        return array
    _, places, data = array.buffers()
    ends = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    length = int(ends[1] - ends[0])
    if not length or (np.diff(ends) != length).any():
        return array
    values = data.slice(int(ends[0]), len(array) * length)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(length), len(array), [None, values])
