"""Files of a dry run: readings, sites, areas and consent as CSV or Parquet, into the core's frames.

    readings  partner,delivery_point,timestamp,value[,quality][,interval]
    sites     partner,holding,delivery_point,premises,area,segment[,valid_from,valid_to][,register_size]
    areas     area,parent,level
    consent   delivery_point,purpose,granted_from,expires_at,withdrawn_at

Times are ISO 8601 with an offset, empty = none, also where the empty field is quoted (see `table_files`).

Invariants
- Every row of a readings file comes out exactly once: in the frame of its partner, with its row number from 0
  as `offset`, or in `bad` with its reason. A row of too many or too few fields, or with a quote that never
  closes, is one bad row; the others go on.
- A table that decides who counts (sites, areas, consent) has no bad rows: the file is refused with the line,
  since a row left out could be an objection.
- How long an interval lasts is not in the file, unless it has the column `interval` (`PT30M`, `PT1H`, `P1D`).
  Else it is, for each partner, the most frequent gap between successive starts of one point (the shorter of
  two that are equally frequent); a day is a calendar day of the zone, of 23 to 25 hours. A gap longer than a
  base window is a hole, not a length: without any other gap it is the base window.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from broker.core.calendar import DAY, duration_ms
from broker.core.errors import InputError
from broker.core.readings import SCHEMA as READINGS
from broker.edge.table_files import TableFile, read_table
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
    found = read_table(path, READING_COLUMNS, optional=("quality", "interval"), repair=True)
    table, broken = found.frame, found.broken
    read = len(table)
    numbers = exact_integers(table["value"], UNITS[unit][1])
    named = table.select(pl.all_horizontal(pl.col("partner", "delivery_point").is_not_null()))
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
    table = read_table(path, SITE_COLUMNS, optional=optional)
    _all_present(table, ("partner", "holding", "delivery_point", "premises", "area"), path)
    size = exact_integers(table.frame["register_size"], 0)
    malformed = table.frame["register_size"].is_not_null() & size["reason"].is_not_null()
    _refuse_where(malformed, table, path, "register_size")
    rows = table.frame.with_columns(
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
    return read_table(path, AREA_COLUMNS).frame.select(AREA_COLUMNS)


def read_consent(path: Path) -> pl.DataFrame:
    """Consent rows (as `core.consent.SCHEMA`). Raises InputError (`bad_row`) naming the line of a bad time or
    missing name."""
    table = read_table(path, CONSENT_COLUMNS)
    _all_present(table, ("delivery_point", "purpose"), path)
    moments = [_optional_moments(table, column, path) for column in CONSENT_COLUMNS[2:]]
    return table.frame.select("delivery_point", "purpose", *moments)


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
        rows = rows.with_columns(pl.col("length").fill_null(_usual_gap(rows, duration_ms(base), timezone)))
    end = pl.col("start") + pl.col("length")
    days = rows.filter(pl.col("length") == DAY).select("start").unique()
    if days.is_empty():
        return rows.with_columns(end=end)
    later = days.with_columns(later=calendar_day_later(days["start"], timezone))
    joined = rows.join(later, on="start", how="left", maintain_order="left")
    return joined.with_columns(end=pl.when(pl.col("length") == DAY).then("later").otherwise(end))


def _usual_gap(rows: pl.DataFrame, longest: int, timezone: str) -> int:
    """The most frequent gap between successive starts of one point, ms, of those up to `longest`, which it is where
    there is none; a calendar day counts as DAY."""
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
    counted = gaps.filter(pl.col("gap") <= longest).group_by("gap").len()
    usual = counted.sort(["len", "gap"], descending=[True, False])["gap"]
    return int(usual[0]) if len(usual) else longest


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


def _optional_moments(table: TableFile, name: str, path: Path) -> pl.Series:
    column = table.frame[name]
    found = _moments(column)
    _refuse_where(column.is_not_null() & found.is_null(), table, path, name)
    return found.alias(name)


def _all_present(table: TableFile, names: tuple[str, ...], path: Path) -> None:
    for name in names:
        _refuse_where(table.frame[name].is_null(), table, path, name)


def _refuse_where(wrong: pl.Series, table: TableFile, path: Path, column: str) -> None:
    if wrong.any():
        line = int(table.lines[int(wrong.arg_true()[0])])
        raise InputError(
            "bad_row",
            f"column {column}, line {line}: missing or malformed; times are ISO 8601 with an offset",
            where=str(path),
        )
