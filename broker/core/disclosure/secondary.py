"""Secondary suppression in one table, or several linked ones: no unsafe cell is determined by what is published.

Model. Every cell is a row over the table's atoms (see `table`); publishing a set of cells gives away exactly
the span of their rows. An unsafe cell is determined iff its row lies in that span. (How *closely* it can be
bounded, by whom, and together with older figures, is decided elsewhere; rows and targets are arguments here,
so that rows of other tables and targets that are no cells fit in.)

Greedy choice in the style of Langsrud's GaussSuppression (Ø. Langsrud, "Secondary Cell Suppression by
Gaussian Elimination: An Algorithm Suitable for Handling Issues with Zeros and Singletons", PSD 2024):
candidates in publishing order; each is published unless that would put a target into the span. All rows are
kept reduced by the published ones (Gauss-Jordan), so that publishing row c determines target t iff the
reduced t is a multiple of the reduced c. The result is maximal: no secondary could be published in addition,
because the span only grows.

Arithmetic is exact, modulo a prime below 2^31 (products of residues fit int64). In which directions could a
prime lie? Let P be the published rows and t a target.
- Dependence over Q can vanish modulo p only if rank_p(P) < rank_Q(P), that is, if p divides every maximal
  minor of P; only then could a determined target pass as safe. The converse error (independent over Q,
  dependent mod p) merely suppresses more.
- One table of nested areas by one flat list of segments has no such prime. Write its additive relations as:
  each area's cell of a segment, or of the margin, is the sum of its children's; each lowest area's margin is
  the sum of its segments. All other relations follow. Every cell occurs in at most two of these equations,
  and with the signs of the margin's equations turned, in one as +1 and in the other as -1: the matrix E is
  the incidence matrix of a directed graph, hence totally unimodular, and has the same rank over every field.
  The rows of N, the cells × atoms matrix, represent the dual of its matroid (E·N = 0, N holds an identity:
  each atom is a cell, if a hidden one), so that a set of rows has the same rank over Q and modulo every
  prime: here the answer is exact in both directions. In that graph a cell is determined iff it is a bridge
  between unpublished cells, which a test uses as its oracle.
- For rows of any other kind (linked measures, overlapping partitions) the finished pattern is checked again
  modulo a second prime, with rows in another order. A target passes wrongly only if *both* primes divide all
  maximal minors of P. These primes are fixed, but the rows are 0/1 incidences of a territory, not chosen by
  someone who could aim at 2^62.

Deterministic: the order is total (ties by area code and segment) and nothing depends on the order of the
input."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.errors import ProgrammerError

Matrix = NDArray[np.int8] | IntArray
PRIMES: Final = (2_147_483_647, 2_147_483_629)  # the two largest primes below 2^31


def suppress(rows: NDArray[np.int8], unsafe: BoolArray, order: IntArray) -> BoolArray:
    """Per row of `rows` (cells × atoms, 0/1): whether it must be suppressed for the unsafe ones' sake.

    order: the candidates in publishing order, first = last to be given up; unsafe rows and rows that are not
    in it are never published. Raises ProgrammerError if the finished pattern fails the check by the second
    prime."""
    secondary = np.zeros(len(rows), dtype=bool)
    if unsafe.any():
        given_up = _greedy(rows[unsafe], rows[order], PRIMES[0])
        secondary[order[given_up]] = True
        published = rows[order[~given_up]]
        if spanned(published, rows[unsafe], PRIMES[1]).any():
            raise ProgrammerError("pattern_unsafe", "an unsafe cell is determined by the published ones")
    return secondary


def spanned(published: Matrix, targets: Matrix, prime: int) -> BoolArray:
    """Per target: whether it lies in the span of the published rows modulo `prime`. Entries: 0 to prime - 1."""
    by_size = np.argsort(np.count_nonzero(published, axis=1), kind="stable")  # short rows first: less fill-in
    system = _System(targets, published[by_size], prime)
    for i in range(system.n, len(system.rows)):
        step = system.step(i)
        if step is not None:
            system.publish(step)
    return np.asarray([not row.any() for row in system.rows[: system.n]], dtype=bool)


def _greedy(targets: NDArray[np.int8], candidates: NDArray[np.int8], prime: int) -> BoolArray:
    """Which candidates, in their order, cannot be published without determining a target."""
    system = _System(targets, candidates, prime)
    given_up = np.zeros(len(candidates), dtype=bool)
    for i in range(system.n, len(system.rows)):
        step = system.step(i)
        if step is None:
            continue  # the published figures imply it already
        if system.exposes(step):
            given_up[i - system.n] = True
        else:
            system.publish(step)
    return given_up


@dataclass(frozen=True, slots=True)
class _Step:
    """What publishing a row would do. hit: the rows that change, in the columns of `support`, to
    `reduced`."""

    hit: IntArray
    support: IntArray
    reduced: IntArray


class _System:
    """Targets (the first n rows), then candidates; all those still open are reduced by the published ones."""

    def __init__(self, targets: Matrix, candidates: Matrix, prime: int) -> None:
        self.rows: IntArray = np.concatenate((targets, candidates)).astype(np.int64)
        self.n = len(targets)
        self._prime = prime
        self._used: IntArray = np.count_nonzero(self.rows, axis=0)  # per column: rows that are not zero there

    def step(self, i: int) -> _Step | None:
        """The elimination by row i, None if the row is zero: published rows imply it."""
        row = self.rows[i]
        support = np.flatnonzero(row)
        if not len(support):
            return None
        # The column that fewest rows share fills in least. The choice changes the cost, never the result.
        pivot = int(support[np.argmin(self._used[support])])
        column = self.rows[:, pivot]
        hit = np.flatnonzero(column)
        hit = hit[(hit < self.n) | (hit > i)]
        scale = column[hit] * pow(int(row[pivot]), -1, self._prime) % self._prime
        reduced = (self.rows[np.ix_(hit, support)] - scale[:, None] * row[support]) % self._prime
        return _Step(hit, support, reduced)

    def exposes(self, step: _Step) -> bool:
        """Whether it would make a target zero: zero on the support by the step, elsewhere as it was."""
        for target, part in zip(step.hit, step.reduced, strict=True):
            if target >= self.n:
                break
            row = self.rows[target]
            if not part.any() and np.count_nonzero(row) == np.count_nonzero(row[step.support]):
                return True
        return False

    def publish(self, step: _Step) -> None:
        block = np.ix_(step.hit, step.support)
        before = np.count_nonzero(self.rows[block], axis=0)
        self._used[step.support] += (
            np.count_nonzero(step.reduced, axis=0) - before - 1
        )  # the row itself is closed
        self.rows[block] = step.reduced


def determined(published: NDArray[np.int8], targets: NDArray[np.int8]) -> list[bool]:
    """The same by another method, for audits and tests: elimination over the rationals, row by row, no
    modulus."""
    basis: dict[int, dict[int, Fraction]] = {}

    def reduce(row: NDArray[np.int8]) -> dict[int, Fraction]:
        rest = {int(j): Fraction(int(row[j])) for j in np.flatnonzero(row)}
        for pivot in sorted(basis):  # echelon form: a basis row has no entry before its pivot
            factor = rest.get(pivot, Fraction(0))
            if factor:
                for j, x in basis[pivot].items():
                    rest[j] = rest.get(j, Fraction(0)) - factor * x
        return {j: x for j, x in rest.items() if x}

    for row in published:
        rest = reduce(row)
        if rest:
            pivot = min(rest)
            basis[pivot] = {j: x / rest[pivot] for j, x in rest.items()}
    return [not reduce(target) for target in targets]
