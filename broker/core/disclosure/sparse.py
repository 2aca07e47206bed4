"""Rows over atoms, compressed; and the few operations on short index arrays that the search for witnesses does
thousands of times."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from broker.core.disclosure.table import IntArray


def int_rows(rows: Any) -> Any:
    """The same rows as csr with sorted int64 columns and data, without zeros and duplicates."""
    clean = csr_array(rows, dtype=np.int64, copy=True)
    clean.sum_duplicates()
    clean.eliminate_zeros()
    clean.indices, clean.indptr = clean.indices.astype(np.int64), clean.indptr.astype(np.int64)
    return clean


def entries(starts: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Of some rows of a compressed matrix all entries: the place of their row in `rows`, their own place."""
    first = starts[rows]
    size = starts[rows + 1] - first
    ends = size.cumsum()
    row = np.arange(len(rows)).repeat(size)
    place = np.arange(len(row))
    place += (first - ends + size).repeat(size)
    return row, place


def distinct(values: IntArray) -> IntArray:
    """Ascending, each once (`np.unique` takes five times as long on short arrays)."""
    ordered = np.sort(values)
    kept = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=kept[1:])
    return ordered[kept]


def merged(*values: IntArray) -> IntArray:
    """All of them, ascending, each once."""
    return distinct(np.concatenate(values))


class Numbering:
    """Numbers what occurs in an array 0, 1, 2…, in no sorted order but always the same, without sorting."""

    def __init__(self, size: int) -> None:
        self._last = np.zeros(size, dtype=np.int64)

    def of(self, values: IntArray) -> tuple[IntArray, IntArray]:
        """Per entry its number; per number a value. values: below `size`."""
        here = np.arange(len(values))
        self._last[values] = here
        last = self._last[values]
        is_last = last == here
        number = is_last.cumsum() - 1
        return number[last], values[is_last]
