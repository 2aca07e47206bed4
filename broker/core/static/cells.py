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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np
import polars as pl
from scipy import sparse

from broker.core.disclosure.problem import Rows
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
        number = np.repeat(np.arange(len(self)), np.diff(self.starts))
        return pl.DataFrame({"set": number, "atom": self.members})

    def as_bytes(self) -> Iterator[bytes]:
        """Of each set its atoms, as the bytes of their int64."""
        data = self.members.tobytes()
        return (data[8 * start : 8 * end] for start, end in pairwise(self.starts.tolist()))

    def rows(self, atoms: int) -> Rows:
        """The 0/1 matrix sets × atoms."""
        ones = np.ones(len(self.members), dtype=np.int64)
        return sparse.csr_array((ones, self.members, self.starts), shape=(len(self), atoms))


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
        return code_names(self.cells[table], self.hierarchies[table])

    @cached_property
    def incidence(self) -> Rows:
        """The 0/1 matrix sets × atoms."""
        return self.sets.rows(self.atoms.height)

    def name_of(self, number: int) -> dict[str, str]:
        """The codes of the first cell that is this set, by column."""
        table, cell = self._first[number]
        cells, dimensions = self.cells[table], self.hierarchies[table]
        return {column: hierarchy.codes[cells[column][cell]] for column, hierarchy in dimensions.items()}

    @cached_property
    def _first(self) -> dict[int, tuple[str, int]]:
        found: dict[int, tuple[str, int]] = {}
        for table, cells in self.cells.items():
            for cell, number in enumerate(cells["set"]):
                found.setdefault(number, (table, cell))
        return found


def build(
    rows: pl.DataFrame, hierarchies: Hierarchies, *, most_pairs: int = 2**31
) -> tuple[Tables, IntArray]:
    """The tables of rows, and of each row its atom.

    rows: DataFrame with all dimensions' columns (String), whose codes are in their hierarchies, at least one row.
    Raises Refused (`too_large`) where cells × atoms would have more than `most_pairs` entries.
    """
    columns = list(dict.fromkeys(column for dimensions in hierarchies.values() for column in dimensions))
    atoms = rows.select(columns).unique().sort(columns).with_row_index("atom")
    atom_of = rows.select(columns).join(atoms, on=columns, how="left", maintain_order="left")["atom"]
    check_size(atoms, hierarchies, most_pairs)
    sets: dict[bytes, int] = {}
    cells = {}
    for name, dimensions in hierarchies.items():
        keys, members = cells_of(atoms, dimensions)
        number = [sets.setdefault(each, len(sets)) for each in members]
        cells[name] = keys.with_columns(set=pl.Series(number, dtype=pl.Int64))
    return Tables(hierarchies, atoms.drop("atom"), cells, as_sets(sets)), atom_of.cast(pl.Int64).to_numpy()


def cells_of(
    atoms: pl.DataFrame, dimensions: Mapping[str, Hierarchy]
) -> tuple[pl.DataFrame, Iterator[bytes]]:
    """The cells of one table, DataFrame of its dimensions' columns (Int32) in order, and of each its atoms, as the
    bytes of their int64. atoms: DataFrame[atom, the dimensions' columns]."""
    columns = list(dimensions)
    pairs = atoms.select(
        "atom",
        *(_indices(atoms[column], hierarchy).alias(column) for column, hierarchy in dimensions.items()),
    )
    for column, hierarchy in dimensions.items():
        above = hierarchy.ancestors
        pairs = pairs.join(above, left_on=column, right_on="code").drop(column).rename({"ancestor": column})
    keys = pairs.select(columns).unique().sort(columns)
    placed = pairs.join(keys.with_row_index("cell"), on=columns).select("cell", "atom")
    return keys, runs(placed.sort("cell", "atom"), "cell")


def runs(members: pl.DataFrame, name: str) -> Iterator[bytes]:
    """Of each run of equal numbers in the column `name` its atoms, as the bytes of their int64."""
    numbers, atoms = members[name].to_numpy(), members["atom"].to_numpy().astype(np.int64).tobytes()
    starts = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), len(numbers)]
    return (atoms[8 * start : 8 * end] for start, end in pairwise(starts))


def code_names(cells: pl.DataFrame, dimensions: Mapping[str, Hierarchy]) -> pl.DataFrame:
    """Indices of codes to codes, column by column."""
    return cells.select(
        pl.lit(pl.Series(hierarchy.codes)).gather(pl.col(column)).alias(column)
        for column, hierarchy in dimensions.items()
    )


def as_sets(found: Iterable[bytes]) -> Sets:
    """Each the atoms of one set, ascending, as the bytes of their int64."""
    kept = list(found)
    starts = np.cumsum([0, *(len(members) // 8 for members in kept)], dtype=np.int64)
    return Sets(starts, np.frombuffer(b"".join(kept), dtype=np.int64))


def check_size(atoms: pl.DataFrame, hierarchies: Hierarchies, most: int) -> None:
    """Refuse (`too_large`) tables that have more than `most` pairs of a cell and an atom in it."""
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


def _indices(texts: pl.Series, hierarchy: Hierarchy) -> pl.Series:
    return texts.cast(pl.Enum(hierarchy.codes)).to_physical().cast(pl.Int32)
