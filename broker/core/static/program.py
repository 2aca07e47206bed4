"""A static table as a problem of secondary suppression (`core.disclosure.problem`).

Units. Values are whole numbers of the last decimal place of value × weight. A level is rounded up to such a whole
number: who knows that figures are whole cannot do better than the level. The problem is then stated in hundredths of
that place where they fit, because a prior of ±50 % of one is nothing in whole numbers.

What an attacker knows of an atom besides the published figures: it is not negative, unless some value of the microdata
is; ± prior of its size. An insider's share is the p of the p % rule, 10 % where there is none or a smaller one, as the
10 % of X that every level has at least.

Cost of suppressing a cell: its contributors; the grand totals last of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

import numpy as np
import polars as pl
from scipy import sparse

from broker.core.disclosure.primary import Verdict
from broker.core.disclosure.problem import UNBOUNDED, Insiders, Judge, Problem, Role, Rows, Targets
from broker.core.disclosure.table import IntArray
from broker.core.errors import InputError
from broker.core.static.beyond import Beyond
from broker.core.static.cells import Sets, Tables
from broker.core.static.judge import Contributions, Judged, judge
from broker.core.static.spec import Protect, Rules

_UNITS: Final = (100, 10, 1)
_ROOM: Final = 2.0**56
"""For sums of values, and for a level at every atom, as the problem demands."""


@dataclass(frozen=True)
class Program:
    """problem: its figures are the tables' sets, its targets the unsafe ones, then those beyond; unit: how many of its
    units are one of the microdata's; intervals: whether levels count."""

    problem: Problem
    unit: int
    intervals: bool

    def level(self, verdict: Verdict) -> int:
        """In the problem's unit."""
        return _level(verdict, self.unit, self.intervals)


def state(
    tables: Tables,
    contributions: Contributions,
    judged: Judged,
    beyond: Sequence[Beyond],
    protect: Protect,
    rules: Rules,
) -> Program:
    """The problem of protecting these tables. judged: the tables' sets; beyond: unsafe sets that are no cells."""
    atoms = tables.atoms.height
    parts = contributions.parts
    verdicts = [*judged.verdicts.values(), *(each.verdict for each in beyond)]
    unit = _unit(parts, verdicts, atoms)
    values, size = (
        _by_atom(parts["atom"], column * unit, atoms) for column in (parts["value"], parts["value"].abs())
    )
    negative = bool((parts["value"] < 0).any())
    unsafe = np.fromiter(judged.verdicts, dtype=np.int64)
    rows = tables.incidence
    role = np.full(len(tables.sets), Role.CANDIDATE, dtype=np.int8)
    role[unsafe] = Role.PRIMARY
    beyond_rows = as_rows([each.members for each in beyond], atoms)
    level = [_level(verdict, unit, protect.intervals) for verdict in verdicts]
    problem = Problem(
        figures=rows,
        role=role,
        cost=_cost(tables, judged),
        values=values,
        lower=np.full(atoms, -UNBOUNDED if negative else 0, dtype=np.int64),
        upper=np.full(atoms, UNBOUNDED, dtype=np.int64),
        targets=Targets(
            sparse.vstack([rows[unsafe], beyond_rows], format="csr"), np.array(level, dtype=np.int64)
        ),
        prior=None if protect.prior is None else protect.prior / 100,
        size=size if negative else None,
        insiders=_insiders(contributions, unit, atoms, negative=negative) if protect.insiders else None,
        alone=_alone(parts, atoms) if protect.singletons else None,
        share=max(rules.p_percent, Fraction(10)) / 100,
    )
    return Program(problem, unit, protect.intervals)


def _level(verdict: Verdict, unit: int, intervals: bool) -> int:
    return ceil(verdict.level) * unit if intervals else 0


def judge_of(contributions: Contributions, rules: Rules, program: Program) -> Judge:
    """The primary rules for sets that a pattern gives away."""

    def levels(rows: Rows) -> IntArray:
        sets = Sets(rows.indptr.astype(np.int64), rows.indices.astype(np.int64))
        found: IntArray = np.full(len(sets), -1, dtype=np.int64)
        for number, verdict in judge(sets, contributions, rules).verdicts.items():
            found[number] = program.level(verdict)
        return found

    return levels


def as_rows(members: Sequence[IntArray], atoms: int) -> Rows:
    """The 0/1 matrix sets × atoms of sets that are each given by its atoms."""
    starts = np.cumsum([0, *map(len, members)], dtype=np.int64)
    return Sets(starts, np.concatenate([np.zeros(0, dtype=np.int64), *members])).rows(atoms)


def _unit(parts: pl.DataFrame, verdicts: Sequence[Verdict], atoms: int) -> int:
    """The finest unit in which sums, and a level at every atom, fit into 64 bits."""
    total = float(parts["value"].cast(pl.Float64).abs().sum())
    level = max((float(verdict.level) for verdict in verdicts), default=0.0)
    for unit in _UNITS:
        if max(total, level * atoms) * unit < _ROOM:
            return unit
    raise InputError(
        "too_large",
        f"the values are too large, or have too many decimals, to be protected exactly in 64 bits with {atoms} finest "
        "cells: use a larger unit, or fewer decimals",
    )


def _by_atom(atom: pl.Series, numbers: pl.Series, atoms: int) -> IntArray:
    result = np.zeros(atoms, dtype=np.int64)
    np.add.at(result, atom.to_numpy(), numbers.to_numpy())
    return result


def _cost(tables: Tables, judged: Judged) -> IntArray:
    cost = np.maximum(judged.units, 1)
    everything = np.diff(tables.sets.starts) == tables.atoms.height
    cost[everything] = 1 + cost[~everything].sum()
    return cost


def _insiders(contributions: Contributions, unit: int, atoms: int, *, negative: bool) -> Insiders:
    held = (
        contributions.parts.group_by("holding", "atom")
        .agg(pl.col("value").sum(), size=pl.col("value").abs().sum())
        .sort("holding", "atom")
    )
    places = (held["holding"].to_numpy(), held["atom"].to_numpy())
    shape = (len(contributions.holdings), atoms)
    parts, sizes = (
        sparse.csr_array((held[name].to_numpy() * unit, places), shape=shape) for name in ("value", "size")
    )
    return Insiders(parts, sizes if negative else None)


def _alone(parts: pl.DataFrame, atoms: int) -> IntArray:
    """Of each atom its only contributor, -1 where there are none or several."""
    single = parts.filter(~pl.col("atom").is_duplicated())
    alone = np.full(atoms, -1, dtype=np.int64)
    alone[single["atom"].to_numpy()] = single["contributor"].to_numpy()
    return alone
