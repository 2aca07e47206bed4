"""Files of a dry run: readings, sites, areas and consent as CSV or Parquet, into the core's frames.

    readings  partner,delivery_point,timestamp,value[,quality][,interval]
    sites     partner,holding,delivery_point,premises,area,segment[,valid_from,valid_to][,register_size]
    areas     area,parent,level
    consent   delivery_point,purpose,granted_from,expires_at,withdrawn_at

Times are ISO 8601 with an offset, empty = none. Text is UTF-8, with or without a byte order mark.

Invariants
- Every row of a readings file comes out exactly once: in the frame of its partner, with its row number from 0
  as `offset`, or in `bad` with its reason. A row of too many or too few fields is one bad row; the others go
  on.
- A table that decides who counts (sites, areas, consent) has no bad rows: the file is refused with the line,
  since a row left out could be an objection.
- How long an interval lasts is not in the file, unless it has the column `interval` (`PT30M`, `PT1H`, `P1D`).
  Else it is, for each partner, the most frequent gap between successive starts of one point (the shorter of
  two that are equally frequent); a day is a calendar day of the zone, of 23 to 25 hours; without any gap it
  is the base window.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from broker.core.calendar import DAY, duration_ms
from broker.core.errors import InputError
from broker.core.readings import SCHEMA as READINGS
from broker.edge.text_columns import UNITS, exact_integers, instants

READING_COLUMNS: Final = ("partner", "delivery_point", "timestamp", "value")
SITE_COLUMNS: Final = ("partner", "holding", "delivery_point", "premises", "area", "segment")
AREA_COLUMNS: Final = ("area", "parent", "level")
CONSENT_COLUMNS: Final = ("delivery_point", "purpose", "granted_from", "expires_at", "withdrawn_at")
BAD: Final = pl.Schema({"offset": pl.Int64, "reason": pl.String})


@dataclass(frozen=True)
class ReadingsFile:
    """frames: readings frame by partner; bad: DataFrame[offset Int64, reason String]; read: rows in all."""

    frames: dict[str, pl.DataFrame]
    bad: pl.DataFrame
    read: int

    @property
    def quarantined(self) -> dict[str, int]:
        """How many rows for each reason, sorted by reason."""
        counts = self.bad.group_by("reason").len().sort("reason")
        return dict(counts.iter_rows())


@dataclass(frozen=True)
class SitesFile:
    """rows: site rows by partner (as `core.sites.SCHEMA`); holdings: the holding of each partner."""

    rows: dict[str, pl.DataFrame]
    holdings: dict[str, str]


def read_readings(path: Path, *, unit: str, kind: str, base: str, timezone: str) -> ReadingsFile:
    """A readings file. unit: of its values; kind: interval | register; base: PT1H | P1D; timezone: IANA name.

    Values come out in the smallest unit (Wh, mL). Raises InputError (`unreadable_file`, `empty_file`,
    `missing_column`, `bad_unit`) for a file that is no such table.
    """
    if unit not in UNITS:
        raise InputError("bad_unit", f"`{unit}` is no unit of readings: {', '.join(UNITS)}", where=str(path))
    table, broken = _table(path, READING_COLUMNS, optional=("quality", "interval"), repair=True)
    read = len(table)
    numbers = exact_integers(table["value"], UNITS[unit][1])
    named = table.select(
        pl.all_horizontal(pl.col(c).fill_null("") != "" for c in ("partner", "delivery_point"))
    )
    start = _moments(table["timestamp"])
    length = _stated_lengths(table["interval"])
    reason = (
        pl.when(pl.lit(broken) | ~pl.lit(named.to_series()))
        .then(pl.lit("undecodable"))
        .when(pl.lit(start).is_null())
        .then(pl.lit("bad_timestamp"))
        .when(pl.lit(numbers["reason"]).is_not_null())
        .then(pl.lit(numbers["reason"]))
        .when(pl.lit(length).eq(-1).fill_null(False))
        .then(pl.lit("bad_interval"))
    )
    rows = table.select(
        partner="partner",
        delivery_point="delivery_point",
        start=start,
        value=numbers["value"],
        quality=pl.col("quality").fill_null("measured"),
        length=length,
        offset=pl.int_range(read, dtype=pl.Int64),
        reason=reason,
    )
    bad = rows.filter(pl.col("reason").is_not_null()).select("offset", pl.col("reason").cast(pl.String))
    good = rows.filter(pl.col("reason").is_null())
    frames = {
        str(name): _with_ends(frame, kind, base, timezone).select(READINGS.names())
        for (name,), frame in good.partition_by("partner", as_dict=True, maintain_order=True).items()
    }
    return ReadingsFile(frames=dict(sorted(frames.items())), bad=bad, read=read)


def read_sites(path: Path) -> SitesFile:
    """A sites file. Raises InputError naming the line of a bad time, register or missing name (`bad_row`),
    and a partner of two holdings (`two_holdings`)."""
    optional = ("valid_from", "valid_to", "register_size")
    table, _ = _table(path, SITE_COLUMNS, optional=optional)
    _all_present(table, ("partner", "holding", "delivery_point", "premises", "area"), path)
    size = exact_integers(table["register_size"], 0)
    _refuse_where(table["register_size"].is_not_null() & size["reason"].is_not_null(), path, "register_size")
    rows = table.with_columns(
        *(_optional_moments(table, column, path) for column in ("valid_from", "valid_to")),
        pl.col("segment").fill_null(""),
        register_size=size["value"],
    )
    pairs = rows.select("partner", "holding").unique().sort("partner", "holding")
    twice = pairs.filter(pl.col("partner").is_duplicated())
    if len(twice):
        raise InputError(
            "two_holdings",
            f"partner {twice['partner'][0]} has holdings {', '.join(twice['holding'])}: it belongs to one",
            where=str(path),
        )
    columns = ["delivery_point", "valid_from", "valid_to", "premises", "area", "segment", "register_size"]
    by_partner = rows.partition_by("partner", as_dict=True, maintain_order=True)
    return SitesFile(
        rows={str(name): frame.select(columns) for (name,), frame in sorted(by_partner.items())},
        holdings=dict(pairs.iter_rows()),
    )


def read_areas(path: Path) -> pl.DataFrame:
    """DataFrame[area, parent, level] of String, parent null at the top; `AreaTree` checks it."""
    table, _ = _table(path, AREA_COLUMNS)
    return table.select(AREA_COLUMNS)


def read_consent(path: Path) -> pl.DataFrame:
    """Consent rows (as `core.consent.SCHEMA`). Raises InputError (`bad_row`) naming the line of a bad time or
    missing name."""
    table, _ = _table(path, CONSENT_COLUMNS)
    _all_present(table, ("delivery_point", "purpose"), path)
    moments = [_optional_moments(table, column, path) for column in CONSENT_COLUMNS[2:]]
    return table.select("delivery_point", "purpose", *moments)


def calendar_day_later(start: pl.Series, timezone: str) -> pl.Series:
    """The same local time on the next day, ms; 24 hours later where that time does not exist."""
    local = start.cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(timezone).dt.replace_time_zone(None)
    later = local.dt.offset_by("1d").dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return later.dt.epoch("ms").fill_null(start + DAY)


def _with_ends(rows: pl.DataFrame, kind: str, base: str, timezone: str) -> pl.DataFrame:
    """Add `end`: of a register its moment, of an interval its stated or inferred length later."""
    if kind == "register":
        return rows.with_columns(end=pl.col("start"))
    if rows["length"].null_count():
        rows = rows.with_columns(pl.col("length").fill_null(_usual_gap(rows, timezone) or duration_ms(base)))
    end = pl.col("start") + pl.col("length")
    days = rows.filter(pl.col("length") == DAY).select("start").unique()
    if days.is_empty():
        return rows.with_columns(end=end)
    later = days.with_columns(later=calendar_day_later(days["start"], timezone))
    joined = rows.join(later, on="start", how="left", maintain_order="left")
    return joined.with_columns(end=pl.when(pl.col("length") == DAY).then("later").otherwise(end))


def _usual_gap(rows: pl.DataFrame, timezone: str) -> int | None:
    """The most frequent gap between successive starts of one point, ms; a calendar day counts as DAY."""
    starts = rows.select("delivery_point", "start").unique().sort("delivery_point", "start")
    local = (
        pl.col("start")
        .cast(pl.Datetime("ms", "UTC"))
        .dt.convert_time_zone(timezone)
        .dt.replace_time_zone(None)
    )
    same = pl.col("delivery_point") == pl.col("delivery_point").shift(1)
    gaps = starts.select(
        gap=pl.when(same & (local.diff().dt.total_milliseconds() == DAY))
        .then(pl.lit(DAY))
        .otherwise(pl.when(same).then(pl.col("start").diff()))
    ).drop_nulls()
    counted = gaps.group_by("gap").len().sort(["len", "gap"], descending=[True, False])
    return int(counted["gap"][0]) if len(counted) else None


def _stated_lengths(text: pl.Series) -> pl.Series:
    """The column `interval` in ms; null where empty, -1 where it is no length; DAY is a calendar day."""
    known: dict[str, int] = {}
    for name in text.unique().drop_nulls().to_list():
        try:
            known[name] = duration_ms(name) or -1
        except InputError:
            known[name] = -1
    return text.replace_strict(known, default=None, return_dtype=pl.Int64)


def _moments(column: pl.Series) -> pl.Series:
    """Int64 ms of a column of times; null where it is none, or has no offset."""
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            return pl.Series(column.name, [None] * len(column), dtype=pl.Int64)
        return column.dt.epoch("ms")
    return instants(column)


def _optional_moments(table: pl.DataFrame, name: str, path: Path) -> pl.Series:
    found = _moments(table[name])
    _refuse_where(table[name].is_not_null() & found.is_null(), path, name)
    return found.alias(name)


def _all_present(table: pl.DataFrame, names: tuple[str, ...], path: Path) -> None:
    for name in names:
        _refuse_where(table[name].fill_null("").str.strip_chars().eq(""), path, name)


def _refuse_where(wrong: pl.Series, path: Path, column: str) -> None:
    if wrong.any():
        line = int(wrong.arg_true()[0]) + 2  # the header is line 1
        raise InputError(
            "bad_row",
            f"column {column}, line {line}: missing or malformed; times are ISO 8601 with an offset",
            where=str(path),
        )


def read_texts(
    path: Path, required: Iterable[str], *, separator: str = ","
) -> tuple[pl.DataFrame, pl.Series]:
    """Columns of text of a CSV file (also gzipped), empty = null, and which rows had too many fields.

    Raises InputError (`unreadable_file`, `empty_file`, `missing_column`) where it is no such table.
    """
    table, broken = _csv(path, repair=True, separator=separator)
    names = tuple(dict.fromkeys(required))
    _have_columns(path, table, names)
    return table.select(names), broken


def _table(
    path: Path, required: tuple[str, ...], *, optional: tuple[str, ...] = (), repair: bool = False
) -> tuple[pl.DataFrame, pl.Series]:
    """The file as columns of text, empty = null (times of a Parquet file stay times), optional columns null
    where absent, and which rows had more fields than the header (only with `repair`; else they refuse it)."""
    table, broken = _parquet(path) if path.suffix in (".parquet", ".pq") else _csv(path, repair)
    _have_columns(path, table, required)
    texts = [
        pl.col(column) if isinstance(table.schema[column], pl.Datetime) else pl.col(column).cast(pl.String)
        for column in (*required, *optional)
        if column in table.columns
    ]
    absent = [pl.lit(None, pl.String).alias(column) for column in optional if column not in table.columns]
    return table.select(*texts).with_columns(*absent), broken


def _have_columns(path: Path, table: pl.DataFrame, required: tuple[str, ...]) -> None:
    lacking = [column for column in required if column not in table.columns]
    if lacking:
        raise InputError(
            "missing_column",
            f"there is no column {', '.join(lacking)}; the first line must name {','.join(required)}",
            where=str(path),
        )


def _parquet(path: Path) -> tuple[pl.DataFrame, pl.Series]:
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from None
    return table, _none_broken(table)


def _csv(path: Path, repair: bool, separator: str = ",") -> tuple[pl.DataFrame, pl.Series]:
    try:
        data = _unzipped(path.read_bytes()).rstrip(b"\r\n")
        if not data.strip():
            raise InputError(
                "empty_file", "the file is empty: its first line names the columns", where=str(path)
            )
        table = pl.read_csv(data, infer_schema=False, separator=separator, encoding="utf8-lossy")
    except pl.exceptions.ComputeError as error:
        if not repair:
            raise _unreadable(path, error) from None
        return _repaired(path, data, separator)
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from None
    return table, _none_broken(table)


def _unzipped(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _none_broken(table: pl.DataFrame) -> pl.Series:
    return pl.repeat(False, len(table), dtype=pl.Boolean, eager=True)


def _repaired(path: Path, data: bytes, separator: str) -> tuple[pl.DataFrame, pl.Series]:
    """The slow way for a file with rows of too many fields: such a row is emptied and marked."""
    lines = csv.reader(
        io.StringIO(data.decode("utf-8-sig", errors="replace"), newline=""), delimiter=separator
    )
    try:
        header, *rows = lines
    except csv.Error as error:
        raise _unreadable(path, error) from None
    width = len(header)
    broken = pl.Series([len(row) > width for row in rows], dtype=pl.Boolean)
    padded = [(row + [""] * width)[:width] if len(row) <= width else [""] * width for row in rows]
    table = pl.DataFrame(padded, schema=dict.fromkeys(header, pl.String), orient="row")
    return table.with_columns(pl.all().replace("", None)), broken


def _unreadable(path: Path, error: Exception) -> InputError:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
    return InputError("unreadable_file", f"it cannot be read as a table: {said}", where=str(path))
