"""A release as a table: the rows that everybody may read, and those for auditors. Same cells, same bytes.

Invariants
- Rows are sorted by (product, window's start, the policy's level order, area, segment, the policy's measure
  order), whatever order the reports come in: through Kafka or from files, the same release is the same
  bytes.
- `releases_csv` has a value for published cells only, and nothing that tells why another has none.
- UTF-8, one header line, `\\n` line ends, quotes only where RFC 4180 (section 2, rules 5 to 7) needs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

PUBLISHED: Final = "published"
SUPPRESSED: Final = "suppressed"

KEYS: Final = ("product", "window_start", "window_end", "area", "level", "segment", "measure")
RELEASE_COLUMNS: Final = (*KEYS, "value", "status")
DECISION_COLUMNS: Final = (*KEYS, "true_value", "contributors", "holdings", "reasons")

# Cells as everybody may read them, and what auditors see besides.
PUBLIC_CELLS: Final = {
    "area": pl.String,
    "level": pl.String,
    "segment": pl.String,
    "measure": pl.String,
    "value": pl.String,
    "status": pl.String,
}
CELLS: Final = {
    **PUBLIC_CELLS,
    "true_value": pl.String,
    "contributors": pl.Int64,
    "holdings": pl.Int64,
    "reasons": pl.String,
    "primary": pl.Boolean,
}


@dataclass(frozen=True)
class Report:
    """Cells of one product, window and release group.

    window_start, window_end: ISO 8601 in the territory's zone; start: the same start in ms, to sort by;
    levels, measures: the policy's, in its order; cells: a DataFrame with the columns of PUBLIC_CELLS or
    CELLS."""

    product: str
    start: int
    window_start: str
    window_end: str
    levels: tuple[str, ...]
    measures: tuple[str, ...]
    cells: pl.DataFrame


def releases_csv(reports: Iterable[Report]) -> bytes:
    """`releases.csv`: what was published. Needs the columns of PUBLIC_CELLS only."""
    return _csv(reports, RELEASE_COLUMNS)


def decisions_csv(reports: Iterable[Report]) -> bytes:
    """`decisions.csv`, for auditors only: the truth and the reasons. Needs the columns of CELLS."""
    return _csv(reports, DECISION_COLUMNS)


def in_order(cells: pl.DataFrame, levels: Iterable[str], measures: Iterable[str]) -> pl.DataFrame:
    """Cells sorted by (level order, area, segment, measure order)."""
    rank = [_rank("level", levels), pl.col("area"), pl.col("segment"), _rank("measure", measures)]
    return cells.sort(rank)


def _rank(column: str, order: Iterable[str]) -> pl.Expr:
    names = list(order)
    return pl.col(column).replace_strict(names, range(len(names)), return_dtype=pl.Int64)


def _csv(reports: Iterable[Report], columns: tuple[str, ...]) -> bytes:
    wanted = [column for column in columns if column not in KEYS[:3]]
    frames = [
        report.cells.select(wanted).with_columns(
            product=pl.lit(report.product),
            window_start=pl.lit(report.window_start),
            window_end=pl.lit(report.window_end),
            start=pl.lit(report.start),
            level_rank=_rank("level", report.levels),
            measure_rank=_rank("measure", report.measures),
        )
        for report in reports
    ]
    if not frames:
        return (",".join(columns) + "\n").encode()
    rows = pl.concat(frames).sort("product", "start", "level_rank", "area", "segment", "measure_rank")
    return rows.select(columns).write_csv().encode()
