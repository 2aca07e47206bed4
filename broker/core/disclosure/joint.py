"""Counts under conditions: what a partner that knows its own condition may learn of a home (provisional
rule).

A premises counts if it meets one condition per input. Partner P knows which premises meet its own: its
*candidates*. Of a cell's candidates of P it must learn of none whether it counts.

Provisional rule, for every cell, margins included: for each partner with candidates in the cell at least
`margin` of them count and at least `margin` do not. What partners of one holding know together the holding
knows: it is judged likewise.

Where the conditions name one input only, its partners know the outcome of their own customers, and the rule
protects the others: at least `margin` of the eligible premises do not count (that enough do is the frequency
rule's), and of those that remain without a holding's (or partner's) own customers, if any, at least `margin`
count and at least `margin` do not. A customer whom it shares is judged as its own, and as not: it knows part
of the value.

Known limits, which the bounded program over atoms (disclosure rules, §5) will lift: this rule refuses more
than it must where many partners compete, and it does not see what several cells or several months give away
together. That program replaces `findings` and keeps its form: reasons per cell, joined with those of the
primary rules."""

from __future__ import annotations

import numpy as np
import polars as pl

from broker.core.disclosure.table import BoolArray, IntArray, Table


def findings(
    candidates: pl.DataFrame, table: Table, margin: int, who: str = "partner"
) -> dict[int, list[str]]:
    """Reasons of the unsafe cells, by cell.

    candidates: DataFrame[<who>, area, segment, counted: Boolean], one row per premises and partner (or
    holding) such that the premises meets that one's own condition."""
    names: list[str] = sorted(candidates[who].unique())
    yes, no = _split(candidates, table, names, who)
    reasons: dict[int, list[str]] = {}
    _short(reasons, yes, no, yes + no > 0, names, margin)
    return reasons


def single_condition(
    eligible: pl.DataFrame, counted: pl.Series, table: Table, margin: int
) -> dict[int, list[str]]:
    """The same for conditions on one input: against everybody who does not know it.

    eligible: DataFrame[home, holding, partner, area, segment], the eligible premises' parts of that input, one
    or more rows per premises and partner; counted: the homes that meet the condition."""
    counts = eligible["home"].is_in(counted.implode())
    yes, no = (table.count(eligible.filter(chosen).unique("home")) for chosen in (counts, ~counts))
    reasons: dict[int, list[str]] = {}
    for cell in np.flatnonzero((yes > 0) & (no < margin)).tolist():
        reasons[cell] = [f"insider_margin:*:{no[cell]}<{margin} not counted"]
    for who in ("holding", "partner"):
        own = eligible.with_columns(counted=counts).unique(["home", who])
        shared = own["home"].is_duplicated()
        if who == "partner":  # a holding's only partner knows what the holding knows
            pairs = eligible.select("holding", "partner").unique()
            sister = own["partner"].is_in(pairs.filter(pairs["holding"].is_duplicated())["partner"].implode())
            own, shared = own.filter(sister), shared.filter(sister)
        names: list[str] = sorted(own[who].unique())
        customers, known = (_split(rows, table, names, who) for rows in (own, own.filter(~shared)))
        served = (yes > 0)[:, None] & (customers[0] + customers[1] > 0)
        for yours, nays in (customers, known):
            rest = yes[:, None] - yours, no[:, None] - nays
            _short(reasons, *rest, served, [f"without {name}" for name in names], margin)
    return reasons


def _split(rows: pl.DataFrame, table: Table, names: list[str], who: str) -> tuple[IntArray, IntArray]:
    """How many of the rows count and how many do not, cells × names. rows: DataFrame[<who>, area, segment,
    counted]."""
    name = rows[who].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    atom, counts = table.locate(rows), rows["counted"].to_numpy()

    def number(chosen: IntArray) -> IntArray:
        per_atom = np.bincount(atom[chosen] * len(names) + name[chosen], minlength=table.atoms * len(names))
        per_cell: IntArray = table.add(per_atom.reshape(table.atoms, len(names)))
        return per_cell

    inside = atom >= 0
    return number(np.flatnonzero(inside & counts)), number(np.flatnonzero(inside & ~counts))


def _short(
    reasons: dict[int, list[str]],
    yes: IntArray,
    no: IntArray,
    asked: BoolArray,
    names: list[str],
    margin: int,
) -> None:
    """Add a reason wherever there is somebody of whom too few count, or too few do not; cells × names."""
    unsafe = np.nonzero(asked & (yes + no > 0) & (np.minimum(yes, no) < margin))
    for cell, which, counted, others in zip(
        *(each.tolist() for each in (*unsafe, yes[unsafe], no[unsafe])), strict=True
    ):
        found = reasons.setdefault(cell, [])
        for count, what in ((counted, "counted"), (others, "not counted")):
            reason = f"insider_margin:{names[which]}:{count}<{margin} {what}"
            if count < margin and reason not in found:
                found.append(reason)
