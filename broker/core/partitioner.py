"""Which partition a key belongs to: Kafka's default partitioner, bit for bit.

murmur2 with seed 0x9747b28c, as `org.apache.kafka.common.utils.Utils.murmur2`; partition = (hash &
0x7fffffff) mod n, as `BuiltInPartitioner.partitionForKey`. Partners' topics share keys and partitioner, so a
record that stands in another partition was sent with other settings and would miss its site and consent. The
reference vectors are those of Kafka's own UtilsTest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
# Longer keys go one by one: no partner needs them, and each length costs a pass.
_LONG: Final = 128


def murmur2(key: bytes) -> int:
    """Java's signed 32-bit hash of a key."""
    length = len(key)
    h = (_SEED ^ length) & _MASK
    for at in range(0, length & ~3, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if length & 3:
        h = (h ^ int.from_bytes(key[length & ~3 :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


def partition_for(key: bytes, partitions: int) -> int:
    """The partition, from 0, of a key in a topic of so many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_for(keys: Sequence[bytes | None] | pl.Series, partitions: int) -> npt.NDArray[np.int64]:
    """The partition of every key; -1 for a missing key, which belongs to none.

    A polars Series holds binary or text (hashed as UTF-8). Shape: one int64 per key.
    """
    values = keys.cast(pl.Binary).to_list() if isinstance(keys, pl.Series) else keys
    result = np.full(len(values), -1, dtype=np.int64)
    lengths = np.array([-1 if key is None else len(key) for key in values], dtype=np.int64)
    joined = np.frombuffer(b"".join([key for key in values if key]), dtype=np.uint8)
    sizes = np.maximum(lengths, 0)
    starts = np.cumsum(sizes) - sizes
    for length in np.unique(lengths[(lengths >= 0) & (lengths <= _LONG)]).tolist():
        rows = np.flatnonzero(lengths == length)
        if len(rows) == len(values):
            same = joined.reshape(len(rows), length)
        else:
            same = joined[starts[rows, None] + np.arange(length)]
        result[rows] = (_murmur2_rows(same) & 0x7FFFFFFF) % partitions
    for row in np.flatnonzero(lengths > _LONG).tolist():
        key = values[row]
        assert key is not None
        result[row] = partition_for(key, partitions)
    return result


def _murmur2_rows(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Unsigned hashes of keys of one length, shape (keys, length): one step per four bytes, over all at
    once."""
    m = np.uint32(_M)
    rows, length = keys.shape
    h = np.full(rows, (_SEED ^ length) & _MASK, dtype=np.uint32)
    # The step of a word does not depend on the hash so far: all at once, then one word after the other.
    k = np.ascontiguousarray(keys[:, : length & ~3].T.reshape(-1, 4, rows).transpose(0, 2, 1)).view("<u4")[
        ..., 0
    ]
    k = k.astype(np.uint32, copy=False) * m
    k = (k ^ (k >> np.uint32(24))) * m
    for word in k:
        h = (h * m) ^ word
    if length & 3:
        rest = np.zeros((rows, 4), dtype=np.uint8)
        rest[:, : length & 3] = keys[:, length & ~3 :]
        h = (h ^ rest.view("<u4")[:, 0]) * m
    h = (h ^ (h >> np.uint32(13))) * m
    return (h ^ (h >> np.uint32(15))).astype(np.int64)
