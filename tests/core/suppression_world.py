"""Static tables for the tests and measurements of secondary suppression: made-up contributors, primary rules
counted in plain numpy, and the problem that they pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from broker.core.disclosure.problem import UNBOUNDED, Insiders, Problem, Role, Targets


@dataclass(frozen=True)
class Contributors:
    """One row per contributor: its atom, holding and value."""

    atom: NDArray[np.int64]
    holding: NDArray[np.int64]
    value: NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """k contributors at least; no largest one beyond `dominance` % of the total; p%, of holdings."""

    k: int = 4
    p: int = 10
    dominance: int = 100
    holdings: bool = True


def sparse(rows: Sequence[Sequence[int]] | NDArray[np.int64], atoms: int | None = None) -> csr_array:
    """Rows given as lists of atoms."""
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    columns = (
        np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
        if len(rows)
        else np.zeros(0, np.int64)
    )
    width = (int(columns.max(initial=-1)) + 1) if atoms is None else atoms
    return csr_array((np.ones(len(columns), np.int64), columns, starts), shape=(len(rows), width))


def crossed(dimensions: Sequence[Sequence[Sequence[int]]], sizes: Sequence[int]) -> list[list[int]]:
    """Figures of a crossed table: every combination of one group of leaves of each dimension.

    dimensions: per dimension its groups (lists of leaves, the leaves themselves included); sizes: leaves of each.
    """
    strides = np.concatenate((np.cumprod(np.asarray(sizes)[::-1])[::-1][1:], [1]))
    rows = []
    for groups in product(*dimensions):
        index = np.zeros(1, np.int64)
        for stride, group in zip(strides, groups, strict=True):
            index = (index[:, None] + stride * np.asarray(group, dtype=np.int64)).ravel()
        rows.append(index.tolist())
    return rows


def flat(leaves: int) -> list[list[int]]:
    """A dimension without hierarchy: its leaves and their total."""
    return [[i] for i in range(leaves)] + ([list(range(leaves))] if leaves > 1 else [])


def nested(*branching: int) -> list[list[int]]:
    """A hierarchy: so many children at each level, all of its nodes."""
    leaves = int(np.prod(branching))
    groups, size = [[i] for i in range(leaves)], 1
    for branches in reversed(branching):
        size *= branches
        if branches > 1:
            groups += [list(range(start, start + size)) for start in range(0, leaves, size)]
    return groups


def people(
    rng: np.random.Generator,
    atoms: int,
    *,
    mean: float,
    holdings: int = 6,
    spread: float = 1.0,
    most: int = 1000,
) -> Contributors:
    """Contributors spread unevenly over atoms, their values skewed, holdings of unequal size."""
    number = np.minimum(rng.poisson(mean * rng.lognormal(-(spread**2) / 2, spread, atoms)), most)
    atom = np.repeat(np.arange(atoms), number)
    weights = 1.0 / np.arange(1, holdings + 1)
    return Contributors(
        atom,
        rng.choice(holdings, len(atom), p=weights / weights.sum()),
        np.maximum(1, rng.lognormal(6, 0.8, len(atom))).astype(np.int64),
    )


def sums(index: NDArray[np.int64], values: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    result = np.zeros(n, np.int64)
    np.add.at(result, index, values)
    return result


def judged(rows: csr_array, who: Contributors, rules: Rules) -> NDArray[np.int64]:
    """Per set of atoms the level that it must have, -1 where it is safe by itself."""
    atoms = rows.shape[1]
    total = rows @ sums(who.atom, who.value, atoms)
    number = rows @ np.bincount(who.atom, minlength=atoms)
    level = np.full(rows.shape[0], -1, np.int64)
    floor = -(-total // 10)
    few = (number > 0) & (number < rules.k)
    level[few] = floor[few]
    largest = np.zeros((2, rows.shape[0]), np.int64)
    by_atom = np.argsort(who.atom, kind="stable")
    bounds = np.searchsorted(who.atom[by_atom], np.arange(atoms + 1))
    if rules.dominance < 100:
        top = np.array([who.value[by_atom[a:b]].max(initial=0) for a, b in pairwise(bounds)])
        largest = maxima(rows, top)
        unsafe = 100 * largest > rules.dominance * total
        need = -(-100 * largest // rules.dominance) - total
        level[unsafe] = np.maximum(level, np.maximum(need, floor))[unsafe]
    if rules.holdings and rules.p:
        h = int(who.holding.max(initial=0)) + 1
        parts = np.zeros((h, atoms), np.int64)
        np.add.at(parts, (who.holding, who.atom), who.value)
        own = np.sort((rows @ parts.T), axis=1)
        first, second = own[:, -1], own[:, -2] if h > 1 else 0 * own[:, -1]
        rest = total - first - second
        unsafe = (100 * rest < rules.p * first) & (number > 0)
        need = -(-rules.p * first // 100) - rest
        level[unsafe] = np.maximum(level, np.maximum(need, floor))[unsafe]
    return level


def maxima(rows: csr_array, values: NDArray[np.int64]) -> NDArray[np.int64]:
    result = np.zeros(rows.shape[0], np.int64)
    filled = np.flatnonzero(np.diff(rows.indptr))
    result[filled] = np.maximum.reduceat(values[rows.indices], rows.indptr[filled])
    return result


def pose(
    figures: list[list[int]],
    atoms: int,
    who: Contributors,
    rules: Rules,
    *,
    prior: Fraction | None = Fraction(1, 2),
    insiders: bool = True,
    pairs: bool = True,
    alone: bool = True,
    atoms_too: bool = True,
) -> Problem:
    """The problem: figures without contributors are left out, atoms without contributors too."""
    number = np.bincount(who.atom, minlength=atoms)
    used = np.flatnonzero(number)
    place = np.full(atoms, -1)
    place[used] = np.arange(len(used))
    who = replace(who, atom=place[who.atom])
    kept = [[int(place[a]) for a in row if place[a] >= 0] for row in figures]
    rows = sparse([row for row in kept if row], len(used))
    level = judged(rows, who, rules)
    own = sparse([[a] for a in range(len(used))], len(used))
    single = set(rows.indices[rows.indptr[:-1]][np.diff(rows.indptr) == 1].tolist())
    more = [a for a in range(len(used)) if a not in single] if atoms_too else []
    extra = judged(own, who, rules)[more]
    chosen = [more[i] for i in np.flatnonzero(extra >= 0)]
    targets = Targets(
        sparse([rows.indices[rows.indptr[i] : rows.indptr[i + 1]] for i in np.flatnonzero(level >= 0)]
               + [[a] for a in chosen], len(used)),
        np.concatenate((level[level >= 0], extra[extra >= 0])),
    )  # fmt: skip
    values = sums(who.atom, who.value, len(used))
    h = int(who.holding.max(initial=0)) + 1
    parts = np.zeros((h, len(used)), np.int64)
    np.add.at(parts, (who.holding, who.atom), who.value)
    lone = np.full(len(used), -1)
    for a in np.flatnonzero(number[used] == 1):
        lone[a] = int(np.flatnonzero(who.atom == a)[0]) if len(used) < 2000 else a
    premises = rows @ number[used]
    cost = premises.astype(np.int64)
    cost[np.diff(rows.indptr) == len(used)] = int(cost.sum()) + 1
    return Problem(
        figures=rows,
        role=np.where(level >= 0, Role.PRIMARY, Role.CANDIDATE).astype(np.int8),
        cost=np.maximum(cost, 1),
        values=values,
        lower=np.zeros(len(used), np.int64),
        upper=np.full(len(used), UNBOUNDED, np.int64),
        targets=targets,
        prior=prior,
        insiders=Insiders(csr_array(parts), pairs=pairs) if insiders else None,
        alone=lone if alone else None,
        share=Fraction(rules.p or 10, 100),
    )
