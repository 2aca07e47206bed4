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

from broker.core.disclosure.table import IntArray, Table


def findings(candidates: pl.DataFrame, table: Table, margin: int) -> dict[int, list[str]]:
    """Reasons of the unsafe cells, by cell.

    candidates: DataFrame[partner, area, segment, counted: Boolean], one row per premises and partner such
    that the premises meets that partner's own condition."""
    names: list[str] = sorted(candidates["partner"].unique())
    partner = candidates["partner"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    atom, counts = table.locate(candidates), candidates["counted"].to_numpy()

    def number(rows: IntArray) -> IntArray:
        per_atom = np.bincount(atom[rows] * len(names) + partner[rows], minlength=table.atoms * len(names))
        per_cell: IntArray = table.add(per_atom.reshape(table.atoms, len(names)))
        return per_cell

    yes, no = number(np.flatnonzero((atom >= 0) & counts)), number(np.flatnonzero((atom >= 0) & ~counts))
    unsafe = (yes + no > 0) & (np.minimum(yes, no) < margin)
    reasons: dict[int, list[str]] = {}
    for cell, which in np.argwhere(unsafe).tolist():
        where = f"insider_margin:{names[which]}"
        found = reasons.setdefault(cell, [])
        for count, what in ((yes[cell, which], "counted"), (no[cell, which], "not counted")):
            found += [f"{where}:{count}<{margin} {what}"] if count < margin else []
    return reasons


def single_condition(counted: IntArray, eligible: IntArray, margin: int) -> dict[int, list[str]]:
    """The same for conditions on one input: against everybody who does not know it. Both arguments: premises
    per cell."""
    unsafe = np.flatnonzero((counted > 0) & (eligible - counted < margin))
    return {
        cell: [f"insider_margin:*:{eligible[cell] - counted[cell]}<{margin} not counted"]
        for cell in unsafe.tolist()
    }
