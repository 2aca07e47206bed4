"""An attacker in plain Python and rationals, for small systems: knows nothing of the code under test.

Programs are solved by the simplex method with Bland's rule in Fractions, worlds are enumerated one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from math import ceil, floor
from typing import NamedTuple

from scipy.sparse import csr_array

from broker.core.disclosure.problem import Problem

F = Fraction
BIG = 10**10  # stands for no bound


def largest(rows: list[list[int]], lower: list[int], upper: list[int], goal: list[int]) -> Fraction:
    """max goal · x where rows · x = 0, lower <= x <= upper, lower <= 0 <= upper.

    x = Σ λ_k · (k-th vector of the kernel), λ = p - q with p, q >= 0: 0 is a corner to start from."""
    kernel = _kernel(rows, len(goal))
    table, right = [], []
    for j in range(len(goal)):
        line = [vector[j] for vector in kernel]
        for sign, bound in ((1, upper[j]), (-1, -lower[j])):
            table.append([sign * x for x in line] + [-sign * x for x in line])
            right.append(F(bound))
    gain = [sum((g * x for g, x in zip(goal, vector, strict=True)), F(0)) for vector in kernel]
    return _simplex(table, right, gain + [-g for g in gain])


def _simplex(table: list[list[Fraction]], right: list[Fraction], gain: list[Fraction]) -> Fraction:
    """max gain · y where table · y <= right, y >= 0; in dictionaries, by Bland's rule."""
    inside = list(range(len(gain)))
    basic = [len(gain) + i for i in range(len(table))]
    best = F(0)
    while True:
        entering = [(name, j) for j, name in enumerate(inside) if gain[j] > 0]
        if not entering:
            return best
        _, enter = min(entering)
        _, _, leave = min(
            (right[i] / row[enter], basic[i], i) for i, row in enumerate(table) if row[enter] > 0
        )
        pivot = table[leave][enter]
        line = [x / pivot for x in table[leave]]
        line[enter] = 1 / pivot
        step = right[leave] / pivot
        for i, row in enumerate(table):
            factor = row[enter]
            if i != leave and factor:
                table[i] = [x - factor * y for x, y in zip(row, line, strict=True)]
                table[i][enter] = -factor / pivot
                right[i] -= factor * step
        table[leave], right[leave] = line, step
        factor = gain[enter]
        best += factor * step
        gain = [x - factor * y for x, y in zip(gain, line, strict=True)]
        gain[enter] = -factor / pivot
        inside[enter], basic[leave] = basic[leave], inside[enter]


def _kernel(rows: list[list[int]], width: int) -> list[list[Fraction]]:
    basis = _echelon(rows)
    pivots = {at for at, _ in basis}
    vectors = []
    for free in (j for j in range(width) if j not in pivots):
        vector = [F(int(j == free)) for j in range(width)]
        for at, row in basis:
            vector[at] = -row[free]
        vectors.append(vector)
    return vectors


def _echelon(rows: list[list[int]]) -> list[tuple[int, list[Fraction]]]:
    """Reduced rows, each with its pivot."""
    basis: list[tuple[int, list[Fraction]]] = []
    for row in rows:
        left = _rest(basis, row)
        at = next((j for j, x in enumerate(left) if x), None)
        if at is not None:
            unit = [x / left[at] for x in left]
            basis = [(k, [x - r[at] * y for x, y in zip(r, unit, strict=True)]) for k, r in basis]
            basis.append((at, unit))
    return basis


def _rest(basis: list[tuple[int, list[Fraction]]], vector: list[int]) -> list[Fraction]:
    left = [F(x) for x in vector]
    for at, row in basis:
        factor = left[at]
        if factor:
            left = [x - factor * y for x, y in zip(left, row, strict=True)]
    return left


def spanned(rows: list[list[int]], target: list[int]) -> bool:
    """Whether the target is a linear combination of the rows."""
    return not any(_rest(_echelon(rows), target))


class Knower(NamedTuple):
    """An attacker: how far it must hold each atom to move, and by how much the target must move for it."""

    name: str
    down: list[int]
    up: list[int]
    wanted: int

    def reach(self, target: list[int], *, up: bool) -> int:
        """How far its slack alone lets the target move."""
        sides = [(self.up, self.down) if (t > 0) == up else (self.down, self.up) for t in target]
        return sum(abs(t) * side[0][j] for j, (t, side) in enumerate(zip(target, sides, strict=True)))


def knowers(problem: Problem, target: list[int], level: int) -> Iterator[Knower]:
    """Everybody who attacks the target, by the definitions in `problem`."""
    n = len(target)
    values = problem.values.tolist()
    size = [abs(v) for v in values] if problem.size is None else problem.size.tolist()
    mass = sum(abs(t) * s for t, s in zip(target, size, strict=True))
    parts = [] if problem.insiders is None else csr_array(problem.insiders.parts).toarray().tolist()
    sizes = [[abs(x) for x in row] for row in parts]
    if problem.insiders is not None and problem.insiders.sizes is not None:
        sizes = csr_array(problem.insiders.sizes).toarray().tolist()

    def knower(name: str, members: Sequence[int], known: Collection[int] = ()) -> Knower | None:
        down, up = [], []
        for j in range(n):
            part, its = sum(parts[h][j] for h in members), sum(sizes[h][j] for h in members)
            rest = max(size[j] - its, 0)
            low, high = int(problem.lower[j]), int(problem.upper[j])
            low = max(low, min(part, values[j])) if low >= 0 else low
            bounds = [min(values[j] - low, BIG), min(high - values[j], BIG)]
            if problem.prior is not None:
                bounds = [min(b, floor(problem.prior * rest)) for b in bounds]
            if (problem.alone is not None and its and not rest) or j in known:
                bounds = [0, 0]
            down.append(bounds[0])
            up.append(bounds[1])
        own = sum(abs(target[j]) * sum(sizes[h][j] for h in members) for j in range(n))
        own += sum(abs(target[j]) * size[j] for j in known)
        rest = max(mass - own, 0)
        wanted = min(level, ceil(problem.share * rest)) if own else level
        return Knower(name, down, up, wanted) if rest else None

    contribute = [h for h in range(len(parts)) if any(t and s for t, s in zip(target, sizes[h], strict=True))]
    found = [knower("outsider", ())]
    found += [knower(f"insider {h}", (h,)) for h in range(len(parts))]
    if problem.insiders is not None and problem.insiders.pairs and len(contribute) >= 4:
        found += [knower(f"pair {g} {h}", (g, h)) for g, h in combinations(range(len(parts)), 2)]
    if problem.alone is not None:
        for who in sorted({a for a in problem.alone.tolist() if a >= 0}):
            atoms = [j for j in range(n) if problem.alone[j] == who]
            found.append(knower(f"alone {who}", (), atoms))
    yield from (each for each in found if each is not None)


def worlds(rows: list[list[int]], lower: list[int], upper: list[int]) -> Iterator[list[int]]:
    """All whole x with rows · x = 0 within the bounds."""

    def go(j: int, x: list[int]) -> Iterator[list[int]]:
        if j == len(lower):
            yield x
            return
        for value in range(lower[j], upper[j] + 1):
            new = [*x, value]
            if all(_can_be_zero(row, new, lower, upper) for row in rows):
                yield from go(j + 1, new)

    yield from go(0, [])


def _can_be_zero(row: list[int], x: list[int], lower: list[int], upper: list[int]) -> bool:
    done = sum(r * y for r, y in zip(row, x, strict=False))
    rest = range(len(x), len(row))
    low = done + sum(min(row[j] * lower[j], row[j] * upper[j]) for j in rest)
    high = done + sum(max(row[j] * lower[j], row[j] * upper[j]) for j in rest)
    return low <= 0 <= high
