"""Sets that are no cells, and yet must stay unknown where they are unsafe (disclosure rules, §2).

| kind | the set |
|---|---|
| part | one atom: what all tables together have finest |
| both | what two overlapping cells of different tables have in common |
| less | what the first of them has and the second has not |
| remainder | a total less its published children along one dimension: depends on what is published |

(The prototype, with the tables' own cells as targets only, leaked 6 of 13 slivers between two partitions exactly.)

What two cells have in common is a cell of the table of both tables' dimensions: the intersections are made as that
table's cells. Differences that are surely safe are never made (see `screen`).

A set that has several names is there once, under the first. Sets are made and judged some at a time: of the safe ones
nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations, islice
from typing import Final, Literal

import numpy as np
import polars as pl

from broker.core.disclosure.primary import Verdict
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.static.cells import Tables, as_sets, cells_of, check_size, code_names, runs
from broker.core.static.hierarchy import Hierarchy
from broker.core.static.judge import Contributions, judge, profile
from broker.core.static.screen import Screen
from broker.core.static.spec import Rules

Kind = Literal["part", "both", "less", "remainder"]
Names = Mapping[str, str]
"""Column → code."""

_AT_A_TIME: Final = 50_000
_MEMBERS: Final = 4_000_000


@dataclass(frozen=True)
class Beyond:
    """An unsafe set that is no cell. of: its codes, of a difference or remainder those of the first cell; without: of a
    difference those of the second, of a remainder the dimension."""

    kind: Kind
    members: IntArray
    verdict: Verdict
    of: Names
    without: Names = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    """members: the atoms, ascending, as the bytes of their int64."""

    members: bytes
    kind: Kind
    name: Callable[[], tuple[Names, Names]]


def beyond_cells(
    tables: Tables, contributions: Contributions, rules: Rules, *, most_pairs: int
) -> list[Beyond]:
    """All unsafe parts, intersections and differences that are no cells, in a fixed order.

    Raises Refused (`too_large`) where all intersections together have more than `most_pairs` members."""
    return _unsafe(_candidates(tables, contributions, rules, most_pairs), tables, contributions, rules)


def remainders(
    tables: Tables, published: BoolArray, contributions: Contributions, rules: Rules
) -> list[Beyond]:
    """All unsafe remainders that are no cells, in a fixed order. published: per set of the tables."""
    candidates = (
        each
        for table, dimensions in tables.hierarchies.items()
        for column in dimensions
        for each in _remainders(tables, table, column, published)
    )
    return _unsafe(candidates, tables, contributions, rules)


def describe(kind: str, of: Names, without: Names) -> str:
    """A set in words."""
    codes = ", ".join(f"{column}={code}" for column, code in of.items())
    if kind == "remainder":
        return f"{codes} without the published codes of {', '.join(without)}"
    if kind == "less":
        return f"{codes} without {', '.join(f'{column}={code}' for column, code in without.items())}"
    return f"rows of {codes}" if kind == "part" else codes


def _unsafe(
    candidates: Iterator[_Candidate], tables: Tables, contributions: Contributions, rules: Rules
) -> list[Beyond]:
    found = []
    for batch in _batches(_new(candidates, tables)):
        sets = as_sets(each.members for each in batch)
        for number, verdict in judge(sets, contributions, rules).verdicts.items():
            each = batch[number]
            members = np.frombuffer(each.members, dtype=np.int64)
            found.append(Beyond(each.kind, members, verdict, *each.name()))
    return found


def _new(candidates: Iterable[_Candidate], tables: Tables) -> Iterator[_Candidate]:
    """Those that are neither cells nor there already."""
    seen = set(tables.sets.as_bytes())
    for each in candidates:
        if each.members not in seen:
            seen.add(each.members)
            yield each


def _batches(candidates: Iterator[_Candidate]) -> Iterator[list[_Candidate]]:
    while batch := list(islice(candidates, _AT_A_TIME)):
        yield batch


def _candidates(
    tables: Tables, contributions: Contributions, rules: Rules, most_pairs: int
) -> Iterator[_Candidate]:
    yield from _parts(tables)
    pairs = list(combinations(tables.cells, 2))
    for one, other in pairs:
        yield from _intersections(tables, one, other, most_pairs)
    if pairs:
        screen = Screen.of(profile(tables.sets, contributions, rules), tables.incidence, contributions, rules)
        for one, other in pairs:
            left, right = (np.unique(tables.cells[name]["set"].to_numpy()) for name in (one, other))
            for doubtful in chain(screen.doubtful(left, right), screen.doubtful(right, left)):
                yield from _differences(tables, doubtful)


def _parts(tables: Tables) -> Iterator[_Candidate]:
    for atom in range(tables.atoms.height):
        yield _Candidate(np.int64(atom).tobytes(), "part", partial(_row, tables.atoms, atom))


def _row(names: pl.DataFrame, number: int) -> tuple[Names, Names]:
    return names.row(number, named=True), {}


def _intersections(tables: Tables, one: str, other: str, most_pairs: int) -> Iterator[_Candidate]:
    dimensions: dict[str, Hierarchy] = dict(tables.hierarchies[one])
    atoms = tables.atoms.with_row_index("atom")
    for column, hierarchy in tables.hierarchies[other].items():
        label = column
        if dimensions.get(column, hierarchy) != hierarchy:  # the same column, grouped in another way
            label = f"{column} ({other})"
            atoms = atoms.with_columns(pl.col(column).alias(label))
        dimensions[label] = hierarchy
    check_size(atoms, {"": dimensions}, most_pairs)
    keys, members = cells_of(atoms, dimensions)
    names = code_names(keys, dimensions)
    for cell, each in enumerate(members):
        yield _Candidate(each, "both", partial(_row, names, cell))


def _differences(tables: Tables, doubtful: IntArray) -> Iterator[_Candidate]:
    """Of each pair of sets what the first has more than the second, some millions of members at a time."""
    size = np.diff(tables.sets.starts)[doubtful[:, 0]]
    for pairs in np.split(doubtful, np.flatnonzero(np.diff(np.cumsum(size) // _MEMBERS)) + 1):
        yield from _differences_of(tables, pairs)


def _differences_of(tables: Tables, doubtful: IntArray) -> Iterator[_Candidate]:
    frame = pl.DataFrame(doubtful, schema={"first": pl.Int64, "second": pl.Int64}).with_row_index("pair")
    members = frame.join(tables.sets.pairs, left_on="first", right_on="set")
    more = members.join(tables.sets.pairs, left_on=["second", "atom"], right_on=["set", "atom"], how="anti")
    for pair, each in enumerate(runs(more.sort("pair", "atom"), "pair")):  # none is empty
        yield _Candidate(each, "less", partial(_pair, tables, *doubtful[pair].tolist()))


def _pair(tables: Tables, first: int, second: int) -> tuple[Names, Names]:
    return tables.name_of(first), tables.name_of(second)


def _remainders(tables: Tables, table: str, column: str, published: BoolArray) -> Iterator[_Candidate]:
    """Of each total that has a published child along the column what the published children leave."""
    cells = tables.cells[table].with_row_index("cell")
    columns = list(tables.hierarchies[table])
    parents = pl.Series(tables.hierarchies[table][column].parents, dtype=pl.Int32)
    children = cells.filter(pl.col(column) > 0, pl.lit(pl.Series(published)).gather(pl.col("set")))
    lines = (
        children.with_columns(pl.lit(parents).gather(pl.col(column)).alias(column))
        .join(cells, on=columns, suffix="_above")
        .select("cell_above", "set_above", "set")
    )
    out = lines.join(tables.sets.pairs, on="set").select("cell_above", "atom")
    totals = lines.select("cell_above", "set_above").unique()
    rest = (
        totals.join(tables.sets.pairs, left_on="set_above", right_on="set")
        .join(out, on=["cell_above", "atom"], how="anti")
        .sort("cell_above", "atom")
    )
    names = tables.names(table)
    for cell, members in zip(
        rest["cell_above"].unique(maintain_order=True), runs(rest, "cell_above"), strict=True
    ):
        yield _Candidate(members, "remainder", partial(_line, names, cell, column))


def _line(names: pl.DataFrame, cell: int, column: str) -> tuple[Names, Names]:
    return names.row(cell, named=True), {column: ""}
