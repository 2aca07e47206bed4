"""A file as a table of text: CSV (also gzipped) or Parquet, whatever wrote it.

Invariants
- Text is UTF-8, with or without a byte order mark, without spaces at its ends. Empty = null, also a quoted
  empty field and an empty text of a Parquet file.
- One line of a CSV file is one row. Empty lines are no rows. A field in quotes may hold line breaks (RFC 4180,
  section 2, rule 6), but only where the lines together have exactly the header's fields: a quote that never
  closes, or closes in the middle of a field, spoils its own line and none of the following.
- Whole columns are read at once; line by line only where the columns do not account for every line of the
  file.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

import polars as pl

from broker.core.errors import InputError

_BLANK: Final = re.compile(rb"\n(?:[ \t]*\r?\n)+")
_LONGEST: Final = 100  # lines of one field in quotes; more is a quote that was never closed
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TableFile:
    """frame: columns of text (times of a Parquet file stay times). Per row: broken, whether it has other fields
    than the header says (it is empty then); lines, its line in the file, the header being line 1."""

    frame: pl.DataFrame
    broken: pl.Series
    lines: pl.Series


def read_table(
    path: Path, required: tuple[str, ...], *, optional: tuple[str, ...] = (), repair: bool = False
) -> TableFile:
    """The required and optional columns, null where an optional one is absent.

    repair: rows that are no rows of the table are marked in `broken`; else they refuse the file. Raises
    InputError (`unreadable_file`, `empty_file`, `missing_column`) where it is no such table.
    """
    table = _parquet(path) if path.suffix in (".parquet", ".pq") else _csv(path, repair)
    _have_columns(path, table.frame, required)
    present = [column for column in (*required, *optional) if column in table.frame.columns]
    absent = [pl.lit(None, pl.String).alias(column) for column in optional if column not in present]
    return TableFile(_texts(table.frame, present).with_columns(*absent), table.broken, table.lines)


def read_texts(
    path: Path, required: Iterable[str], *, separator: str = ","
) -> tuple[pl.DataFrame, pl.Series]:
    """Columns of text of a CSV file, and which rows are no rows of the table. Raises as `read_table` does."""
    table = _csv(path, repair=True, separator=separator)
    names = tuple(dict.fromkeys(required))
    _have_columns(path, table.frame, names)
    return _texts(table.frame, names), table.broken


def _texts(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    return table.select(
        pl.col(column)
        if isinstance(table.schema[column], pl.Datetime)
        else _text(pl.col(column).cast(pl.String).str.strip_chars())
        for column in columns
    )


def _text(trimmed: pl.Expr) -> pl.Expr:
    return pl.when(trimmed != "").then(trimmed)


def _have_columns(path: Path, table: pl.DataFrame, required: tuple[str, ...]) -> None:
    lacking = [column for column in required if column not in table.columns]
    if lacking:
        raise InputError(
            "missing_column",
            f"there is no column {', '.join(lacking)}; the first line must name {','.join(required)}",
            where=str(path),
        )


def _parquet(path: Path) -> TableFile:
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from None
    return _whole(table)


def _csv(path: Path, repair: bool, separator: str = ",") -> TableFile:
    try:
        data = _unzipped(path.read_bytes()).removeprefix(_BOM).strip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    if not data.strip():
        raise InputError("empty_file", "the file is empty: its first line names the columns", where=str(path))
    table = _columns(path, data, repair, separator)
    return table or _line_by_line(path, data, repair, separator)


def _columns(path: Path, data: bytes, repair: bool, separator: str) -> TableFile | None:
    """The whole file at once; None unless every line became a row (or, with `repair`, is empty)."""
    if _BLANK.search(data):
        if not repair:
            return None  # a message names lines
        data = _BLANK.sub(b"\n", data)
    try:
        table = _parsed(data, separator)
    except pl.exceptions.ComputeError:
        return None  # a row with more fields than the header
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from None
    return _whole(table) if table.height == data.count(b"\n") else None


def _parsed(data: bytes, separator: str) -> pl.DataFrame:
    return pl.read_csv(
        data,
        infer_schema=False,
        separator=separator,
        encoding="utf8-lossy",
        quote_char='"' if b'"' in data else None,
    )


def _whole(table: pl.DataFrame) -> TableFile:
    broken = pl.repeat(False, table.height, dtype=pl.Boolean, eager=True)
    return TableFile(table, broken, pl.int_range(2, table.height + 2, eager=True))


def _unzipped(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _line_by_line(path: Path, data: bytes, repair: bool, separator: str) -> TableFile:
    """The slow way: each line is looked at by itself, and one that is no row is emptied and marked, or refuses
    the file."""
    lines = [line.removesuffix("\r") for line in data.decode("utf-8", errors="replace").split("\n")]
    header = _fields(lines[:1], separator)
    if header is None or len(set(header)) < len(header):
        raise InputError("unreadable_file", "its first line must name each column once", where=str(path))
    width = len(header)
    numbers, broken, rows = [], [], [lines[0]]
    for number, row in _rows(lines, width, separator):
        if row is None and not repair:
            raise InputError(
                "unreadable_file",
                f"line {number} has more fields than the first line names, or a quote that is never closed",
                where=str(path),
            )
        numbers.append(number)
        broken.append(row is None)
        rows.append(separator * (width - 1) if row is None else row)
    return TableFile(
        _parsed("\n".join(rows).encode(), separator),
        pl.Series(broken, dtype=pl.Boolean),
        pl.Series(numbers, dtype=pl.Int64),
    )


def _rows(lines: Sequence[str], width: int, separator: str) -> Iterator[tuple[int, str | None]]:
    """Line number and text (None: no row) of all rows below the header."""
    at = 1
    while at < len(lines):
        line, number, taken = lines[at], at + 1, 1
        if '"' not in line:
            row = line if line.count(separator) < width else None
        else:
            fields = _fields([line], separator)
            if fields is None:
                fields, taken = _several_lines(lines, at, width, separator)
            row = None if fields is None or len(fields) > width else _quoted(fields, separator)
        if line.strip():
            yield number, row
        at += taken


def _quoted(fields: Sequence[str], separator: str) -> str:
    return separator.join('"' + field.replace('"', '""') + '"' for field in fields)


def _several_lines(lines: Sequence[str], at: int, width: int, separator: str) -> tuple[list[str] | None, int]:
    """The row of exactly `width` fields that begins in this line and ends in a later one, and of how many lines."""
    parts = [lines[at]]
    for line in islice(lines, at + 1, at + _LONGEST):
        parts.append(line)
        if '"' in line:
            fields = _fields(parts, separator)
            if fields is not None:
                return (fields, len(parts)) if len(fields) == width else (None, 1)
    return None, 1


def _fields(lines: Sequence[str], separator: str) -> list[str] | None:
    """The fields of one record; None where it is no record, or not a whole one."""
    feed = chain((line + "\n" for line in lines[:-1]), lines[-1:])
    try:
        return next(csv.reader(feed, delimiter=separator, strict=True), [])
    except csv.Error:
        return None


def _unreadable(path: Path, error: Exception) -> InputError:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
    return InputError("unreadable_file", f"it cannot be read as a table: {said}", where=str(path))
