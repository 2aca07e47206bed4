"""A protected table as rows: every cell of every margin, published, primary or secondary.

    <dimensions>,value,contributors,status,reason

Invariants
- Rows are in the order of the cells (see `cells`): `Total` first, each code before what lies in it.
- Values and weights are in the microdata's decimals, exact, without trailing zeros.
- `status`: `published`; `primary`, unsafe by itself, `reason` then names every rule that says so; `secondary`, safe by
  itself and suppressed to protect another.
- For the public there are only `published` and `suppressed`, and of what is suppressed neither value nor contributors
  nor reason: not even whether it is the unsafe one. The columns are the same.
- UTF-8, one header line, `\\n` line ends, quotes only where RFC 4180 needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from broker.core.disclosure.primary import Verdict
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.static.cells import Tables
from broker.core.static.judge import Contributions, Judged
from broker.core.static.microdata import amount_text

PUBLISHED: Final = "published"
PRIMARY: Final = "primary"
SECONDARY: Final = "secondary"
SUPPRESSED: Final = "suppressed"
STATUSES: Final = (PUBLISHED, PRIMARY, SECONDARY, SUPPRESSED)


@dataclass(frozen=True)
class PublishedTable:
    """A table as it was published, by whomever. cells: DataFrame of its dimensions' columns; per cell: value in units
    of 10^-places, null where the file has none; status, one of STATUSES."""

    cells: pl.DataFrame
    value: pl.Series
    status: pl.Series
    places: int


def statuses(published: BoolArray, verdicts: Mapping[int, Verdict]) -> list[str]:
    """Of each set what becomes of it."""
    return [
        PUBLISHED if out else PRIMARY if number in verdicts else SECONDARY
        for number, out in enumerate(published.tolist())
    ]


def table_csv(
    tables: Tables,
    name: str,
    judged: Judged,
    published: BoolArray,
    contributions: Contributions,
    *,
    public: bool,
) -> bytes:
    """One table. published: per set of the tables."""
    what = statuses(published, judged.verdicts)
    if public:
        what = [status if status == PUBLISHED else SUPPRESSED for status in what]
    shown = published if public else np.ones_like(published)
    sets = pl.DataFrame(
        {
            "value": _texts(judged.total, contributions.places, shown),
            "contributors": _texts(judged.n, contributions.weight_places, shown),
            "status": what,
            "reason": _reasons(judged.verdicts, what),
        },
        schema_overrides=dict.fromkeys(("value", "contributors", "reason"), pl.String),
    )
    rows = tables.names(name).hstack(sets[tables.cells[name]["set"]])
    return rows.write_csv().encode()


def _texts(numbers: IntArray, places: int, shown: BoolArray) -> list[str | None]:
    return [
        amount_text(number, places) if show else None
        for number, show in zip(numbers.tolist(), shown.tolist(), strict=True)
    ]


def _reasons(verdicts: Mapping[int, Verdict], status: list[str]) -> list[str | None]:
    return [
        ";".join(verdicts[number].reasons) if each == PRIMARY else SECONDARY if each == SECONDARY else None
        for number, each in enumerate(status)
    ]
