"""Which measures of one value column give each other away: homes = low + high, or one count under two names.

A *value column* is what several measures add up over the same premises: 1 per premises, or one input's values.
Its measures differ only in their conditions, each a set of *patterns*: a premises' pattern says, for every
statistic of an input that any condition looks at, between which of the conditions' thresholds it lies. So every
cell of every measure is a row over the atoms (place, pattern), and all of them together are the Kronecker
product of the *membership* matrix (measures × patterns) and the table's incidence (cells × places).

Invariants
- A measure that is no linear combination of the others in the membership matrix is decided alone: a functional
  that vanishes on the others leaves of any relation between cells a relation between its own. The rest are
  *linked*: their tables must be protected as one.
- Patterns are those that premises of the release group show: that between two thresholds there is nobody is
  taken to be known (low below 1000 and high from 1001 on add up to all). What nobody can know before the
  figures are out is not: that everybody, or nobody, lies on one side of a threshold, or that nobody meets a
  joint condition. There the patterns beyond are possible too; so every measure counts some pattern, and a zero
  is protected like any other figure (homes = high says that low = 0).
- In a window of one base window sum, mean and max are one statistic.
- Each group is looked at by itself. Nothing depends on the order of rows.

Not seen here: premises with data of one input, of another and of either (`join: none`) are different premises,
whose numbers are not linked; and what signs and bounds give away (a published 0 empties its parts) is left to
the program of bounds (disclosure rules, §3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.condition import Condition
from broker.core.disclosure.secondary import determined
from broker.core.disclosure.table import Table
from broker.core.policy import Count, Policy, Sum
from broker.core.products import Units

Membership = NDArray[np.int8]  # measures × patterns, 0/1
_Pattern = tuple[int, ...]  # per statistic the number of its cuts that the premises is not below


class _Statistic(NamedTuple):
    input: str
    stat: str


class _Cut(NamedTuple):
    """Below it lie values < at, or, with `after`, <= at; in the smallest unit."""

    at: Fraction
    after: bool


class _Side(NamedTuple):
    """What a condition asks of a pattern: to be below a statistic's cut, or not to be."""

    statistic: int
    cut: int
    below: bool

    def holds(self, pattern: _Pattern) -> bool:
        return (pattern[self.statistic] <= self.cut) is self.below

    def moved(self, pattern: _Pattern) -> _Pattern:
        """The nearest pattern for which it holds."""
        here = pattern[self.statistic]
        there = min(here, self.cut) if self.below else max(here, self.cut + 1)
        return (*pattern[: self.statistic], there, *pattern[self.statistic + 1 :])


@dataclass(frozen=True)
class _Conditions:
    """All cuts of some measures: per statistic in ascending order, each with the condition `is below it`; and
    per measure its conditions."""

    cuts: dict[_Statistic, dict[_Cut, Condition]]
    sides: list[list[_Side]]

    @property
    def sizes(self) -> list[int]:
        """How many intervals the cuts make of each statistic."""
        return [1 + len(cuts) for cuts in self.cuts.values()]


def memberships(
    measures: Sequence[Count | Sum], policy: Policy, units: Units, table: Table
) -> dict[str, Membership]:
    """Per release group the membership matrix of measures of one value column. table: theirs."""
    conditions = _conditions(measures, policy)
    seen = _seen(conditions, units, table)
    nobody = {(0,) * len(conditions.cuts)}
    return {
        group: _membership(_possible(seen.get(group, nobody), conditions), conditions)
        for group in table.cells["group"].unique()
    }


def linked(membership: Membership) -> list[int]:
    """The measures (indices) that are linear combinations of others."""
    every = range(len(membership))
    return [i for i in every if determined(membership[[j for j in every if j != i]], membership[[i]])[0]]


def _conditions(measures: Sequence[Count | Sum], policy: Policy) -> _Conditions:
    single = policy.window.length == policy.window.base

    def place(name: str, condition: Condition) -> tuple[_Statistic, _Cut]:
        stat = "sum" if single else condition.stat
        at, after = condition.threshold * policy.inputs[name].factor, condition.op in ("<=", ">")
        if stat != "mean":  # sums and maxima are whole numbers: x <= 999, as x < 999.5, is x < 1000
            at, after = Fraction(floor(at) + 1 if after else ceil(at)), False
        cut = _Cut(at, after)
        return _Statistic(name, stat), cut

    found: dict[_Statistic, dict[_Cut, Condition]] = {}
    for measure in measures:
        for name, condition in measure.where.items():
            statistic, cut = place(name, condition)
            below = Condition(
                condition.stat, "<=" if condition.op in ("<=", ">") else "<", condition.threshold
            )
            found.setdefault(statistic, {})[cut] = below
    cuts = {statistic: dict(sorted(found[statistic].items())) for statistic in sorted(found)}
    number = {statistic: i for i, statistic in enumerate(cuts)}
    sides = []
    for measure in measures:
        placed = [(*place(*each), each[1].op in ("<", "<=")) for each in sorted(measure.where.items())]
        sides.append([_Side(number[s], list(cuts[s]).index(cut), below) for s, cut, below in placed])
    return _Conditions(cuts, sides)


def _seen(conditions: _Conditions, units: Units, table: Table) -> dict[str, set[_Pattern]]:
    """Per release group the patterns of its premises."""
    if not conditions.cuts:
        return {}
    homes: pl.DataFrame | None = None
    names = [str(i) for i in range(len(conditions.cuts))]
    for name, (statistic, cuts) in zip(names, conditions.cuts.items(), strict=True):
        above = pl.sum_horizontal(
            (~units.meets(statistic.input, below)).cast(pl.Int64) for below in cuts.values()
        )
        frame = units.frames[statistic.input]
        _, first = np.unique(frame["home"].to_numpy(), return_index=True)
        here = frame[first].select("home", "area", "segment", above.alias(name))
        homes = here if homes is None else homes.join(here.select("home", name), on="home")
    assert homes is not None
    group_of = table.cells["group"].gather(table.members[table.starts[:-1]])
    atom = table.locate(homes)
    shown = homes.filter(atom >= 0).select(names).with_columns(group=group_of.gather(atom[atom >= 0]))
    seen: dict[str, set[_Pattern]] = {}
    for *pattern, group in shown.unique().iter_rows():
        seen.setdefault(group, set()).add(tuple(pattern))
    return seen


def _possible(seen: set[_Pattern], conditions: _Conditions) -> set[_Pattern]:
    """The patterns that the group's premises show, and those beyond that nobody can exclude."""
    found = seen
    for i, size in enumerate(conditions.sizes):
        shown = {pattern[i] for pattern in seen}
        beyond = [*range(min(shown)), *range(max(shown) + 1, size)]
        found = found | {(*pattern[:i], j, *pattern[i + 1 :]) for pattern in found for j in beyond}
    for sides in conditions.sides:
        if not any(_meets(pattern, sides) for pattern in found):
            found = found | {_moved(pattern, sides) for pattern in found}
    return found


def _meets(pattern: _Pattern, sides: Iterable[_Side]) -> bool:
    return all(side.holds(pattern) for side in sides)


def _moved(pattern: _Pattern, sides: Iterable[_Side]) -> _Pattern:
    for side in sides:
        pattern = side.moved(pattern)
    return pattern


def _membership(patterns: set[_Pattern], conditions: _Conditions) -> Membership:
    """One column per set of measures that some pattern has."""
    counted = {tuple(_meets(pattern, sides) for sides in conditions.sides) for pattern in patterns}
    return np.array(sorted(counted), dtype=np.int8).T
