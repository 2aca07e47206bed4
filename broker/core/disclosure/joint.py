"""Counts under conditions: what a partner that knows its own condition may learn of a home (provisional
rule).

A premises counts if it meets one condition per input. Partner P knows which premises meet its own: its
*candidates*. Of a cell's candidates of P it must learn of none whether it counts.

Provisional rule, for every cell, margins included: for each partner with candidates in the cell at least
`margin` of them count and at least `margin` do not. Where the conditions name one input only, its partners
know the outcome anyway, and the rule protects against everybody else: at least `margin` of the eligible
premises do not count (that enough do is the frequency rule's).

Known limits, which the bounded program over atoms (disclosure rules, §5) will lift: this rule refuses more
than it must where many partners compete, and it does not see what several cells or several months give away
together. That program replaces `findings` and keeps its form: reasons per cell, joined with those of the
primary rules."""

from __future__ import annotations

import numpy as np
import polars as pl

from broker.core.disclosure.figures import Figure
from broker.core.disclosure.table import Table


def findings(candidates: pl.DataFrame, table: Table, margin: int) -> dict[int, list[str]]:
    """Reasons of the unsafe cells, by cell.

    candidates: DataFrame[premises, partner, area, segment, counted: Boolean], one row per (premises,
    partner) that meets that partner's own condition."""
    rows = (
        table.locate(candidates)
        .group_by("premises", "partner")
        .agg(pl.col("atom").first(), pl.col("counted").any())
        .sort("partner", "premises")
    )
    names: list[str] = sorted(rows["partner"].unique())
    row, cell = table.spread(rows["atom"].to_numpy())
    partner = rows["partner"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    key = cell * max(len(names), 1) + partner[row]
    size = table.cells.height * len(names)
    everyone = np.bincount(key, minlength=size)
    counted = np.bincount(key[rows["counted"].to_numpy()[row]], minlength=size)
    reasons: dict[int, list[str]] = {}
    for k in np.flatnonzero((everyone > 0) & (np.minimum(counted, everyone - counted) < margin)).tolist():
        where = f"insider_margin:{names[k % len(names)]}"
        yes, no = int(counted[k]), int(everyone[k] - counted[k])
        found = reasons.setdefault(k // len(names), [])
        found += [f"{where}:{yes}<{margin} counted"] if yes < margin else []
        found += [f"{where}:{no}<{margin} not counted"] if no < margin else []
    return reasons


def single_condition(figures: list[Figure], eligible: list[int], margin: int) -> dict[int, list[str]]:
    """The same for conditions on one input: against everybody who does not know it. eligible: premises per
    cell."""
    return {
        cell: [f"insider_margin:*:{everyone - figure.n}<{margin} not counted"]
        for cell, (figure, everyone) in enumerate(zip(figures, eligible, strict=True))
        if figure.n and everyone - figure.n < margin
    }
