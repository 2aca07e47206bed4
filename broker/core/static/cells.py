"""The cells of a static table and of those linked to it, as sets of atoms.

Invariants
- An *atom* is a class of rows that every table treats alike: one combination of codes of all dimensions of all tables,
  of which there is at least one row. (In one table alone, the atoms are its finest cells.)
- A cell is one code of each dimension of its table, `Total` for a margin. It exists iff a row lies in it, and is the
  set of atoms below it. Rows may hang at any code of a hierarchy, not only at the lowest.
- Cells that hold the same atoms are one figure under several names (a code with a single child and that child; the
  grand totals of two linked tables): they are decided once, as one *set*.
- Atoms come in the order of their codes, cells in the order (table, codes of its dimensions, each in its hierarchy's
  order), sets in the order of their first cell. The order of rows decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np
import polars as pl

from broker.core.disclosure.table import IntArray
from broker.core.errors import Refused
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.microdata import Hierarchies


@dataclass(frozen=True)
class Sets:
    """Sets of atoms: set s is members[starts[s]:starts[s + 1]], ascending."""

    starts: IntArray
    members: IntArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """DataFrame[set Int64, atom Int64], ascending."""
        return pl.DataFrame({"set": np.repeat(np.arange(len(self)), np.diff(self.starts)), "atom": self.members})


@dataclass(frozen=True)
class Tables:
    """atoms: DataFrame with all dimensions' columns (String), one row per atom; cells: of each table DataFrame with
    its dimensions' columns (Int32, indices of codes) and set (Int64)."""

    hierarchies: Hierarchies
    atoms: pl.DataFrame
    cells: dict[str, pl.DataFrame]
    sets: Sets

    def names(self, table: str) -> pl.DataFrame:
        """The codes of a table's cells, in their order: its dimensions' columns (String)."""
        return self.cells[table].select(
            pl.lit(pl.Series(hierarchy.codes)).gather(pl.col(column)).alias(column)
            for column, hierarchy in self.hierarchies[table].items()
        )


def build(rows: pl.DataFrame, hierarchies: Hierarchies, *, most_pairs: int = 2**31) -> tuple[Tables, IntArray]:
    """The tables of rows, and of each row its atom.

    rows: DataFrame with all dimensions' columns (String), whose codes are in their hierarchies, at least one row.
    Raises Refused (`too_large`) where cells × atoms would have more than `most_pairs` entries.
    """
    columns = list(dict.fromkeys(column for dimensions in hierarchies.values() for column in dimensions))
    atoms = rows.select(columns).unique().sort(columns).with_row_index("atom")
    atom_of = rows.select(columns).join(atoms, on=columns, how="left", maintain_order="left")["atom"]
    _check_size(atoms, hierarchies, most_pairs)
    sets: dict[bytes, int] = {}
    cells = {}
    for name, dimensions in hierarchies.items():
        keys, pairs = _cells(atoms, dimensions)
        number = [sets.setdefault(members, len(sets)) for members in _runs(pairs)]
        cells[name] = keys.with_columns(set=pl.Series(number, dtype=pl.Int64))
    return Tables(hierarchies, atoms.drop("atom"), cells, as_sets(sets)), atom_of.cast(pl.Int64).to_numpy()


def as_sets(found: Iterable[bytes]) -> Sets:
    """Each the atoms of one set, ascending, as the bytes of their int64."""
    kept = list(found)
    starts = np.cumsum([0, *(len(members) // 8 for members in kept)], dtype=np.int64)
    return Sets(starts, np.frombuffer(b"".join(kept), dtype=np.int64))


def _check_size(atoms: pl.DataFrame, hierarchies: Hierarchies, most: int) -> None:
    size = 0
    for dimensions in hierarchies.values():
        above = [
            hierarchy.generations[_indices(atoms[column], hierarchy).to_numpy()].astype(np.float64)
            for column, hierarchy in dimensions.items()
        ]
        size += int(prod(above).sum())
    if size > most:
        raise Refused(
            "too_large",
            f"the tables have {size:,} pairs of a cell and one of its {atoms.height:,} finest parts, of which {most:,} "
            "fit the memory allowed: raise --max-memory, or ask for fewer dimensions or generations",
        )


def _cells(atoms: pl.DataFrame, dimensions: dict[str, Hierarchy]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The cells of one table, and DataFrame[cell, atom] of what lies in them, ascending."""
    columns = list(dimensions)
    pairs = atoms.select(
        "atom", *(_indices(atoms[column], hierarchy).alias(column) for column, hierarchy in dimensions.items())
    )
    for column, hierarchy in dimensions.items():
        above = hierarchy.ancestors
        pairs = pairs.join(above, left_on=column, right_on="code").drop(column).rename({"ancestor": column})
    keys = pairs.select(columns).unique().sort(columns)
    placed = pairs.join(keys.with_row_index("cell"), on=columns).select("cell", "atom")
    return keys, placed.sort("cell", "atom")


def _runs(pairs: pl.DataFrame) -> Iterator[bytes]:
    """Of each cell in order its atoms, as the bytes of their int64."""
    cell, atoms = pairs["cell"].to_numpy(), pairs["atom"].to_numpy().astype(np.int64).tobytes()
    starts = [*np.flatnonzero(np.diff(cell, prepend=-1)).tolist(), len(cell)]
    return (atoms[8 * start : 8 * end] for start, end in pairwise(starts))


def _indices(texts: pl.Series, hierarchy: Hierarchy) -> pl.Series:
    return texts.cast(pl.Enum(hierarchy.codes)).to_physical().cast(pl.Int32)
