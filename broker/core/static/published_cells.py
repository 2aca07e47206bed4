"""Published tables laid over the cells that they are of.

Invariants
- With microdata, the cells are those of the microdata: a cell that the file leaves out counts as not published; a
  published figure that is not the microdata's total, or of a cell without any row, is a mistake of the input.
- Without microdata, the atoms are the finest cells that the files have (of linked tables: all combinations of theirs
  that agree in the dimensions they share, for nobody outside knows which of them are empty), and every other cell is
  the sum of those below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from broker.core.disclosure.table import BoolArray
from broker.core.errors import InputError, Refused
from broker.core.static.beyond import describe
from broker.core.static.cells import Tables, build, cells_of
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.microdata import Hierarchies, amount_text
from broker.core.static.published import PRIMARY, PUBLISHED, SECONDARY, SUPPRESSED, PublishedTable

_FIRST = (PUBLISHED, PRIMARY, SUPPRESSED, SECONDARY)
"""Of several names of one set: published is published; of the suppressed the one that demands most."""


@dataclass(frozen=True)
class Laid:
    """What the files say of the sets of the tables. status: per set, one of STATUSES; value: of those that have one, in
    units of 10^-places."""

    status: list[str]
    value: dict[int, int]
    places: int

    @property
    def published(self) -> BoolArray:
        return np.array([status == PUBLISHED for status in self.status], dtype=bool)


def lay(files: Mapping[str, PublishedTable], tables: Tables, where: Mapping[str, str]) -> Laid:
    """where: of each table the file's name, for messages. Raises InputError: `unknown_cell`, `contradiction`."""
    places = max(file.places for file in files.values())
    said: dict[int, str] = {}
    value: dict[int, int] = {}
    for name, file in files.items():
        numbers = _sets_of(name, file, tables, where[name])
        amounts = file.value * 10 ** (places - file.places)
        for number, status, amount in zip(numbers, file.status, amounts, strict=True):
            if number is None:
                continue
            said[number] = min(status, said.get(number, status), key=_FIRST.index)
            if amount is not None and value.setdefault(number, amount) != amount:
                shown = " and ".join(amount_text(each, places) for each in (value[number], amount))
                raise InputError(
                    "contradiction",
                    f"{describe('cell', tables.name_of(number), {})} and a cell of the same rows have different values "
                    f"({shown}): correct the table",
                    where=where[name],
                )
    return Laid([said.get(number, SUPPRESSED) for number in range(len(tables.sets))], value, places)


def _sets_of(name: str, file: PublishedTable, tables: Tables, where: str) -> pl.Series:
    """Of each row of a file its set; null for a cell without any row whose published figure is zero."""
    columns = list(tables.hierarchies[name])
    cells = tables.names(name).with_columns(set=tables.cells[name]["set"])
    numbers = file.cells.join(cells, on=columns, how="left", maintain_order="left")["set"]
    strange = numbers.is_null() & (file.value.fill_null(0) != 0)
    if strange.any():
        cell = describe("cell", file.cells.row(int(strange.arg_true()[0]), named=True), {})
        raise InputError(
            "unknown_cell",
            f"{cell} has a figure, but the microdata have no row in it: are they of this table?",
            where=where,
        )
    return numbers


def from_outside(files: Mapping[str, PublishedTable], hierarchies: Hierarchies, most_pairs: int) -> Tables:
    """The tables as they look to whoever has the files only. Raises Refused (`too_large`), InputError (`contradiction`)
    where linked tables have nothing in common."""
    rows: pl.DataFrame | None = None
    for name, file in files.items():
        finest = _finest(file.cells, hierarchies[name])
        if rows is None:
            rows = finest
            continue
        shared = [column for column in finest.columns if column in rows.columns]
        if not shared and rows.height * finest.height > most_pairs:
            raise Refused(
                "too_large",
                "the linked tables have too many combinations of cells: give --microdata",
                where=name,
            )
        rows = rows.join(finest, on=shared) if shared else rows.join(finest, how="cross")
        if not rows.height:
            raise InputError(
                "contradiction",
                "the linked tables have no code in common in the columns they share",
                where=name,
            )
    assert rows is not None
    tables, _ = build(rows, hierarchies, most_pairs=most_pairs)
    return tables


def _finest(cells: pl.DataFrame, dimensions: Mapping[str, Hierarchy]) -> pl.DataFrame:
    """The cells that no other cell of the table lies in."""
    columns = list(dimensions)
    keys, members = cells_of(cells.with_row_index("atom"), dimensions)
    inside = pl.Series([len(each) // 8 for each in members])
    names = keys.select(
        pl.lit(pl.Series(dimensions[column].codes)).gather(pl.col(column)).alias(column) for column in columns
    )
    return cells.join(names.filter(inside == 1), on=columns, how="semi", maintain_order="left")
