"""Columns of names as numbers, for what is done in arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Coded:
    """names: different values, ascending, of which an Enum may have more than occur; codes: per row the index of its
    own."""

    names: pl.Series
    codes: IntArray

    def among(self, wanted: Iterable[str]) -> BoolArray:
        """Per row, whether it is one of the wanted texts."""
        found = set(wanted)
        return np.array([name in found for name in self.names], dtype=bool)[self.codes]

    def index(self, text: str) -> int:
        """The code of a text, -1 where there is none."""
        return next((code for code, name in enumerate(self.names) if name == text), -1)


def of_texts(values: pl.Series) -> Coded:
    """Of texts: String, Categorical, or an Enum whose categories ascend; names are an Enum."""
    if not isinstance(values.dtype, pl.Enum):
        values = values.cast(pl.Enum(values.unique().cast(pl.String).sort()))
    kind = values.dtype
    assert isinstance(kind, pl.Enum), "it was made one"
    return Coded(kind.categories.cast(kind), values.to_physical().to_numpy().astype(np.int64))


def of_pseudonyms(values: pl.Series) -> Coded:
    """Of pseudonyms, which have 16 bytes."""
    texts = np.frombuffer(b"".join(values.to_list()), dtype="S16")
    _, first, codes = np.unique(texts, return_index=True, return_inverse=True)
    return Coded(values[first], codes)
