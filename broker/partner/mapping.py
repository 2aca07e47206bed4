"""A partner's own CSV export to readings: which column is what, in which unit and whose time.

    columns: {delivery_point: user key, timestamp: datetime, value: meter reading}   # quality: optional
    separator: ";"
    decimal: "."
    time: {format: "%d/%m/%Y %H:%M:%S", zone: Europe/Madrid}    # or {format: iso}: ISO 8601 with an offset
    measure: water
    kind: register                                              # or interval, with interval: PT1H | P1D | …
    unit: L
    where: {utility: electricity}                               # optional: only rows with these texts
    qualities: {M: measured, E: estimated}                      # optional: the export's words for the quality

Invariants
- Rows need no order. Every row comes out once: as a reading with its row number from 0 as `offset`, in `bad`
  with its reason, or, where `where` leaves it out, in `skipped`.
- A local time that happens twice (clocks go back) is taken as the first of the two, unless the point's rows
  in the file show that it is the second: there, time stands still or goes back. Such rows are counted. A
  local time that never was (clocks go forward) is bad.
- A day (`P1D`) ends at the same local time on the next day, after 23 to 25 hours.
- A row that ends later than the broker would take it is bad (`far_future`): one wrong year would else move the
  completeness mark that follows the file, and close windows whose rows are still to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from broker.core.calendar import DAY, duration_ms, is_zone
from broker.core.errors import BrokerError, InputError
from broker.core.readings import AHEAD
from broker.core.readings import SCHEMA as READINGS
from broker.core.strict_yaml import read_mapping
from broker.core.territory import parse
from broker.edge.files import calendar_day_later
from broker.edge.table_files import read_texts
from broker.edge.text_columns import UNITS, exact_integers, instants

QUALITIES: Final = ("measured", "estimated", "substituted", "unknown")
ISO: Final = "iso"
FIRST_LINES: Final = 5  # told of each reason


def _zone(name: str) -> str:
    if not is_zone(name):
        raise ValueError("write an IANA time zone, for example Europe/Paris")
    return name


def _length(text: str) -> str:
    try:
        positive = duration_ms(text) > 0
    except BrokerError as error:
        raise ValueError(error.what) from None
    if not positive:
        raise ValueError("an interval is longer than nothing")
    return text


def _known_unit(unit: str) -> str:
    if unit not in UNITS:
        raise ValueError(f"write one of {', '.join(UNITS)}")
    return unit


Mark = Annotated[str, StringConstraints(min_length=1, max_length=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Closed):
    """Names in the file's first line."""

    delivery_point: str
    timestamp: str
    value: str
    quality: str | None = None


class Time(_Closed):
    """format: of strptime, or `iso`; zone: of times without an offset."""

    format: str = ISO
    zone: Annotated[str, AfterValidator(_zone)] | None = None

    @model_validator(mode="after")
    def _zone_where_needed(self) -> Self:
        if self.zone is None and self.format != ISO and "%z" not in self.format:
            raise ValueError("times without an offset need `zone`, for example Europe/Paris")
        return self

    @property
    def local(self) -> bool:
        return self.format != ISO and "%z" not in self.format


class Mapping(_Closed):
    """How to read one export; see the module."""

    columns: Columns
    separator: Mark = ","
    decimal: Mark = "."
    time: Time = Time()
    measure: Literal["electricity", "gas", "heat", "water"]
    kind: Literal["interval", "register"]
    interval: Annotated[str, AfterValidator(_length)] | None = None
    unit: Annotated[str, AfterValidator(_known_unit)]
    where: dict[str, str] = {}
    qualities: dict[str, Literal["measured", "estimated", "substituted", "unknown"]] = Field(
        default={name: name for name in QUALITIES}
    )

    @model_validator(mode="after")
    def _interval_or_register(self) -> Self:
        if (self.interval is None) == (self.kind == "interval"):
            raise ValueError("kind: interval needs `interval` (for example PT1H), kind: register has none")
        if self.interval == "P1D" and self.time.zone is None:
            raise ValueError("days need `time.zone`: a day is local")
        if (UNITS[self.unit][0] == "mL") != (self.measure == "water"):
            raise ValueError(f"{self.measure} is not measured in {self.unit}")
        if self.separator == self.decimal:
            raise ValueError("`separator` and `decimal` are the same")
        return self


@dataclass(frozen=True)
class Mapped:
    """readings: readings frame; bad: DataFrame[offset Int64, reason String]; read: rows of the file; skipped:
    left out by `where`; ambiguous: local times that happened twice; until: end of the last reading, ms."""

    readings: pl.DataFrame
    bad: pl.DataFrame
    read: int
    skipped: int
    ambiguous: int

    @property
    def until(self) -> int | None:
        latest = self.readings["end"].max()
        return int(latest) if isinstance(latest, int) else None

    @property
    def not_read(self) -> dict[str, tuple[int, list[int]]]:
        """reason -> how many rows, and the lines of the first of them (the header is line 1)."""
        found = self.bad.group_by("reason", maintain_order=True).agg(
            n=pl.len(), lines=pl.col("offset").head(FIRST_LINES) + 2
        )
        return {reason: (n, lines) for reason, n, lines in found.iter_rows()}


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises InputError that names the file and every offending field."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("unreadable_file", f"the mapping cannot be read: {error}", where=str(path)) from None
    return make_mapping(read_mapping(text, path.name), path.name)


def make_mapping(values: dict[str, object], name: str) -> Mapping:
    """The mapping of a file's contents; `name` is for messages."""
    return parse(Mapping, values, name)


def apply_mapping(path: Path, mapping: Mapping, *, now: int) -> Mapped:
    """Read an export (CSV, also gzipped). now: ms. Raises InputError where it is no such table."""
    columns = mapping.columns
    named = {"delivery_point": columns.delivery_point, "timestamp": columns.timestamp, "value": columns.value}
    wanted = [*named.values(), *([columns.quality] if columns.quality else []), *mapping.where]
    table, broken = read_texts(path, wanted, separator=mapping.separator)
    numbered = table.with_columns(offset=pl.int_range(pl.len(), dtype=pl.Int64), broken=broken)
    here = [pl.col(column) == text for column, text in mapping.where.items()]
    chosen = numbered.filter(pl.col("broken") | pl.all_horizontal(pl.lit(True), *here))
    quality = pl.col(columns.quality) if columns.quality else pl.lit("measured")
    words = mapping.qualities if columns.quality else {"measured": "measured"}
    rows = chosen.select(
        *(pl.col(source).alias(name) for name, source in named.items()),
        quality=quality.replace_strict(words, default="unknown", return_dtype=pl.String),
        offset="offset",
        broken="broken",
    )
    numbers = exact_integers(rows["value"], UNITS[mapping.unit][1], mapping.decimal)
    start, ambiguous = _starts(rows, mapping)
    timed = rows.with_columns(start=start, end=_ends(start, mapping), value=numbers["value"])
    judged = timed.with_columns(reason=_reasons(timed, numbers["reason"], now + AHEAD))
    good = judged.filter(pl.col("reason").is_null())
    return Mapped(
        readings=good.select(READINGS.names()),
        bad=judged.filter(pl.col("reason").is_not_null()).select("offset", "reason"),
        read=len(table),
        skipped=len(table) - len(chosen),
        ambiguous=ambiguous,
    )


def _reasons(rows: pl.DataFrame, number: pl.Series, latest: int) -> pl.Series:
    reason = (
        pl.when(pl.col("broken") | pl.col("delivery_point").is_null())
        .then(pl.lit("undecodable"))
        .when(pl.col("start").is_null() | pl.col("end").is_null())
        .then(pl.lit("bad_timestamp"))
        .when(pl.col("end") > latest)
        .then(pl.lit("far_future"))
        .otherwise(pl.lit(number))
    )
    return rows.select(reason.cast(pl.String).alias("reason")).to_series()


def _ends(start: pl.Series, mapping: Mapping) -> pl.Series:
    if mapping.interval is None:
        return start
    length = duration_ms(mapping.interval)
    if length == DAY and mapping.time.zone is not None:
        return calendar_day_later(start, mapping.time.zone)
    return start + length


def _starts(rows: pl.DataFrame, mapping: Mapping) -> tuple[pl.Series, int]:
    """Int64 ms of each row's time, null where it is none; and how many were ambiguous."""
    text, time = rows["timestamp"].str.strip_chars(), mapping.time
    if time.format == ISO:
        return instants(text), 0
    if not time.local:
        return text.str.to_datetime(time.format, time_unit="ms", time_zone="UTC", strict=False).dt.epoch(
            "ms"
        ), 0
    assert time.zone is not None
    local = text.str.to_datetime(time.format, time_unit="ms", strict=False)
    first = local.dt.replace_time_zone(time.zone, ambiguous="earliest", non_existent="null").dt.epoch("ms")
    second = local.dt.replace_time_zone(time.zone, ambiguous="latest", non_existent="null").dt.epoch("ms")
    twice = (first != second).fill_null(False)
    if not twice.any():
        return first, 0
    again = _second_pass(rows.select("delivery_point", local=local, first=first, twice=twice))
    return pl.select(pl.when(twice & again).then(second).otherwise(first)).to_series(), int(twice.sum())


def _second_pass(rows: pl.DataFrame) -> pl.Series:
    """Which of the ambiguous rows belong to the second run of the clock: in the order of the file, their
    point's time went on by less than half of its usual step, or back, since the clock showed that hour."""
    step = rows.select(pl.col("first").diff().over("delivery_point")).to_series()
    usual = step.filter(step > 0).mode().min()
    half = usual // 2 if isinstance(usual, int) else 0
    numbered = rows.with_row_index("row").filter("twice")
    gap = pl.col("local").diff().over("delivery_point").dt.total_milliseconds()
    restarted = (gap < half).fill_null(False)
    # Once the second run began it lasts: until the next ambiguous hour, which is a season away.
    apart = (gap.abs() > DAY).fill_null(False)
    found = numbered.with_columns(season=apart.cum_sum().over("delivery_point"), restarted=restarted)
    later = found.select("row", again=pl.col("restarted").cum_max().over("delivery_point", "season"))
    joined = rows.with_row_index("row").join(later, on="row", how="left", maintain_order="left")
    return joined["again"].fill_null(False)
