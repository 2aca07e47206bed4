"""The statistician's files: microdata, hierarchies and published tables as CSV or Parquet, into the core's values.

    microdata   the SPEC's dimensions and roles; other columns are not read
    hierarchy   child,parent
    table       the dimensions,value,contributors,status,reason

Invariants
- A row that cannot count refuses the whole file, with its line and what stands there: a total with a row left out is
  wrong without anybody seeing it.
- Numbers are decimals with a point. They are scaled by the power of ten that makes whole numbers of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from broker.core.errors import InputError
from broker.core.static.hierarchy import COLUMNS, Hierarchy
from broker.core.static.microdata import Microdata
from broker.core.static.published import PUBLISHED, STATUSES, PublishedTable
from broker.core.static.spec import ROLES, TOTAL, Spec
from broker.edge.table_files import TableFile, read_table
from broker.edge.text_columns import exact_integers

_MOST_PLACES: Final = 12
_LIMIT: Final = 2.0**56
_WRONG: Final = {
    "not_finite": "is not a finite number",
    "bad_value": "is not a number: write decimals with a point, without separators",
    "inexact_value": f"has more than {_MOST_PLACES} decimals",
    "out_of_bounds": "has more digits than can be added exactly",
}


def read_hierarchy(path: Path) -> Hierarchy:
    """A hierarchy file. Raises InputError where it is no table or no tree (see `core.static.hierarchy`)."""
    rows = read_table(path, COLUMNS).frame
    return Hierarchy.from_rows(rows.select(pl.col(COLUMNS).fill_null("")), str(path))


def read_microdata(path: Path, spec: Spec, codes: dict[str, list[Hierarchy]]) -> Microdata:
    """A microdata file. codes: for every dimension the hierarchies, if any, whose codes it must have.

    Raises InputError that names line and offender: `missing_column`, `empty_file`, `bad_row`, `not_in_hierarchy`,
    `negative_weight`, `two_holdings`, `too_large`.
    """
    named = [getattr(spec, role) for role in ROLES]
    required = tuple(sorted(spec.columns)) + tuple(name for name in named if name)
    optional = tuple(
        role for role, name in zip(ROLES, named, strict=True) if not name and role not in spec.columns
    )
    table = read_table(path, required, optional=optional)
    if not table.frame.height:
        raise InputError("empty_file", "there is no row below the first line", where=str(path))
    columns = {role: name or role for role, name in zip(ROLES, named, strict=True)}
    for column in sorted(spec.columns):
        _check_codes(table, column, codes.get(column, []), path)
    value, places = _numbers(table, columns["value"], path, stated=spec.value is not None)
    weight, weight_places = _numbers(table, columns["weight"], path, stated=spec.weight is not None)
    _refuse(table, columns["weight"], weight < 0, "is a negative weight", path, "negative_weight")
    contributor = _names(table, columns["contributor"], path, spec.contributor is not None)
    if contributor is None:
        contributor = pl.select(pl.format("row {}", table.lines)).to_series()
    holding = _names(table, columns["holding"], path, spec.holding is not None)
    holding = contributor if holding is None else holding
    _check_holdings(contributor, holding, table, path)
    contributors, holdings = contributor.unique().sort(), holding.unique().sort()
    rows = table.frame.select(sorted(spec.columns)).with_columns(
        contributor=_indices(contributor, contributors),
        holding=_indices(holding, holdings),
        value=_products(value, weight, path),
        weight=weight,
    )
    names = contributors.to_list(), holdings.to_list()
    return Microdata(rows, *names, places + weight_places, weight_places)


def _check_codes(table: TableFile, column: str, hierarchies: list[Hierarchy], path: Path) -> None:
    text = table.frame[column]
    _refuse(table, column, text.is_null(), "is empty: a row has a code in every dimension", path)
    margin = f"names the margin: a row of microdata has a code below {TOTAL}"
    _refuse(table, column, text == TOTAL, margin, path, "not_in_hierarchy")
    for hierarchy in hierarchies:
        strange = ~text.is_in(list(hierarchy.codes))
        what = "is not in the dimension's hierarchy: correct the row, or add the code to the hierarchy file"
        _refuse(table, column, strange, what, path, "not_in_hierarchy")


def _numbers(table: TableFile, column: str, path: Path, *, stated: bool) -> tuple[pl.Series, int]:
    """The column in units of 10^-places, and places; without such a column 1 everywhere."""
    absent = column not in table.frame.columns or table.frame[column].null_count() == table.frame.height
    if absent and not stated:
        return pl.repeat(1, table.frame.height, dtype=pl.Int64, eager=True), 0
    text = table.frame[column]
    _refuse(table, column, text.is_null(), "is empty: a row has a number there", path)
    places = _places(text)
    found = exact_integers(text, places)
    for reason, what in _WRONG.items():
        _refuse(table, column, (found["reason"] == reason).fill_null(value=False), what, path)
    return found["value"], places


def _places(text: pl.Series) -> int:
    """How many decimals the longest number has."""
    parts = text.str.extract_groups(
        r"^[+-]?[0-9]*(?:\.([0-9]*?)0*)?(?:[eE]([+-]?[0-9]{1,4}))?$"
    ).struct.unnest()
    decimals, exponent = (pl.col(name) for name in parts.columns)
    needed = parts.select(
        decimals.fill_null("").str.len_chars().cast(pl.Int64) - exponent.cast(pl.Int64).fill_null(0)
    ).to_series()
    return min(max(int(needed.max() or 0), 0), _MOST_PLACES)  # type: ignore[arg-type]  # Int64


def _names(table: TableFile, column: str, path: Path, stated: bool) -> pl.Series | None:
    """The column of names, None where there is none."""
    absent = column not in table.frame.columns or table.frame[column].null_count() == table.frame.height
    if absent and not stated:
        return None
    _refuse(table, column, table.frame[column].is_null(), "is empty: a row belongs to someone", path)
    return table.frame[column]


def _check_holdings(contributor: pl.Series, holding: pl.Series, table: TableFile, path: Path) -> None:
    pairs = pl.DataFrame({"contributor": contributor, "holding": holding, "line": table.lines})
    first = pairs.unique(["contributor", "holding"], keep="first", maintain_order=True)
    twice = first.filter(pl.col("contributor").is_duplicated())
    if twice.height:
        name = twice["contributor"][0]
        seen = " and ".join(
            f"{group} (line {line})"
            for _, group, line in twice.filter(pl.col("contributor") == name).iter_rows()
        )
        raise InputError(
            "two_holdings",
            f"contributor {name} is in holdings {seen}: a contributor belongs to one; correct the rows, or give it two "
            "names",
            where=str(path),
        )


def _indices(names: pl.Series, sorted_names: pl.Series) -> pl.Series:
    return sorted_names.search_sorted(names).cast(pl.Int64)


def _products(value: pl.Series, weight: pl.Series, path: Path) -> pl.Series:
    if (
        float((value.cast(pl.Float64) * weight.cast(pl.Float64)).abs().sum()) >= _LIMIT
        or float(weight.cast(pl.Float64).sum()) >= _LIMIT
    ):
        raise InputError(
            "too_large",
            "the numbers are too large, or have too many decimals, to be added exactly in 64 bits: use a larger unit, "
            "or fewer decimals",
            where=str(path),
        )
    return value * weight


def _refuse(
    table: TableFile, column: str, wrong: pl.Series, what: str, path: Path, reason: str = "bad_row"
) -> None:
    if wrong.any():
        row = int(wrong.arg_true()[0])
        shown = table.frame[column][row]
        said = f"`{shown:.60}` {what}" if shown is not None else what
        raise InputError(reason, f"column {column}, line {int(table.lines[row])}: {said}", where=str(path))


def read_published(
    path: Path, columns: Sequence[str], codes: Mapping[str, Hierarchy | None]
) -> PublishedTable:
    """A published table. columns: its dimensions; codes: their hierarchies, None where it is flat.

    Raises InputError that names line and offender: `missing_column`, `empty_file`, `bad_row`, `not_in_hierarchy`,
    `cell_twice`.
    """
    table = read_table(path, (*columns, "value", "status"))
    if not table.frame.height:
        raise InputError("empty_file", "there is no row below the first line", where=str(path))
    for column in columns:
        text, hierarchy = table.frame[column], codes[column]
        _refuse(table, column, text.is_null(), f"is empty: a margin is {TOTAL}", path)
        if hierarchy is not None:
            what = "is not in the dimension's hierarchy"
            _refuse(table, column, ~text.is_in(list(hierarchy.codes)), what, path, "not_in_hierarchy")
    status = table.frame["status"]
    _refuse(
        table,
        "status",
        ~status.is_in(STATUSES).fill_null(value=False),
        f"is none of {', '.join(STATUSES)}",
        path,
    )
    twice = table.frame.select(columns).is_duplicated()
    _refuse(table, columns[0], twice, "stands in two rows of the same cell", path, "cell_twice")
    value = table.frame["value"]
    _refuse(
        table, "value", value.is_null() & (status == PUBLISHED), "is empty, but the cell is published", path
    )
    places = _places(value.drop_nulls())
    numbers = exact_integers(value, places)
    for reason, what in _WRONG.items():
        wrong = (numbers["reason"] == reason).fill_null(value=False) & value.is_not_null()
        _refuse(table, "value", wrong, what, path)
    return PublishedTable(table.frame.select(columns), numbers["value"], status, places)
