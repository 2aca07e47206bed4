"""What secondary suppression is asked, and what it answers: figures, targets and attackers over atoms.

Everything is a whole number of one unit, the smallest that matters. Where figures are small counts, let the
unit be a hundredth: a prior of ±50 % of one home is nothing in whole homes, and half the home in hundredths.

The model (disclosure rules, §2 and §3)
- The *atoms* have true values v. A *figure* is a row over them; all published rows are known exactly.
- A *target* is a row that must stay unknown: nobody may be able to bound it closer than v ± its level.
- An *attacker* knows the published rows, of every atom an interval around v (its *slack*, down and up), and
  adds nothing else:

  | attacker | its slack in an atom | its level of a target of mass X |
  |---|---|---|
  | outsider | public bounds, prior · size of the atom | the target's |
  | insider, pair of insiders | public bounds of the rest, prior · size of the rest | min(level, share · (X − own)) |
  | someone alone in atoms | as the outsider; none where it is alone | min(level, share · (X − own)) |

  A pair counts for a target to which at least four holdings contribute. Who has all of a target is no
  attacker of it. No level is wider than what the attacker's slack alone allows; where nothing is left of it,
  and for targets of level 0 (a zero total), the target must still not be *determined*: not be a linear
  combination of published rows.
- A *witness* of a target is an integer vector δ over the atoms that no published row sees (row · δ = 0) and
  that moves the target (target · δ > 0). It proves the target safe from an attacker, upwards, if a whole
  multiple of it stays within the attacker's slack and moves the target by the attacker's level; downwards
  likewise with -δ. The worlds v ± k·δ are whole numbers, so that knowing figures to be whole helps nobody.
  Witnesses are the certificate: who has the problem checks them with integer arithmetic.

| function | module | does |
|---|---|---|
| protect(problem, limits, judge=None) -> Protection | `suppression` | chooses the pattern; raises LimitReached |
| verify(problem, protection, primes) | `certificate` | the audit; raises ProgrammerError if anything is unproven |
| attack(problem, published, targets, limits) -> list[Interval] | `attack` | the gate: what each attacker gets |
| bounds(rows, totals, lower, upper, targets, limits) -> list of (low, high) | `attack` | an outsider, truth unknown |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.errors import ProgrammerError, Refused

Rows = Any  # scipy.sparse.csr_array of int64 (scipy publishes no types)
UNBOUNDED: Final = 2**62  # as an upper bound; its negative as a lower one


class Role(IntEnum):
    """What may become of a figure."""

    CANDIDATE = 0  # published unless it must be suppressed for a target's sake
    PRIMARY = 1  # unsafe by itself, or a hidden cell: never published
    FIXED = 2  # out already (the ledger): known to everybody, whatever is decided now


@dataclass(frozen=True)
class Targets:
    """Sets of atoms that must stay unknown. rows: targets × atoms, 0/1; level: per target, up and down, >= 0."""

    rows: Rows
    level: IntArray


@dataclass(frozen=True)
class Insiders:
    """The holdings. parts: holdings × atoms, each one's part of the value; sizes: its Σ|x| (None: |parts|).

    pairs: whether two of them, where at least four contribute, are an attacker too.
    """

    parts: Rows
    sizes: Rows | None = None
    pairs: bool = True


@dataclass(frozen=True)
class Problem:
    """One system of figures to be decided together. Arrays per figure or per atom, int64 unless said.

    figures: rows, figures × atoms; role: per figure, of `Role`; cost: per figure, > 0, what suppressing it
    costs (its premises, say; totals that must go last: dearer than all others together).
    values: v; lower, upper: what everybody knows of an atom without prior (0 and UNBOUNDED; capacity; net
    columns: a negative lower bound), lower <= v <= upper; size: Σ|x| of the atom (None: |v|).
    prior: everybody knows v to within ± prior · size (None: no prior).
    alone: per atom the number of the one contributor who is alone in it and knows that, -1: there is none.
    None: nobody knows such a thing, holdings neither.
    share: how closely insiders and those alone may come to what they lack: p/100 of it.
    """

    figures: Rows
    role: NDArray[np.int8]
    cost: IntArray
    values: IntArray
    lower: IntArray
    upper: IntArray
    targets: Targets
    prior: Fraction | None = None
    size: IntArray | None = None
    insiders: Insiders | None = None
    alone: IntArray | None = None
    share: Fraction = Fraction(1, 10)


@dataclass(frozen=True)
class Limits:
    """When to give up, and refuse. iterations: of the simplex method, in all; memory: bytes, as estimated."""

    iterations: int = 50_000_000
    memory: int = 3_000_000_000


class LimitReached(Refused):
    """Deciding would take more than the limits allow: nothing is published."""


@dataclass(frozen=True, order=True)
class Attacker:
    """Who attacks. No holding and nobody alone: an outsider. holdings: one or two; alone: a contributor."""

    holdings: tuple[int, ...] = ()
    alone: int = -1


@dataclass(frozen=True)
class Exposure:
    """A target that nothing can save. figures: the fixed ones that give it away (none: its bounds do)."""

    target: int
    attacker: Attacker
    figures: tuple[int, ...]


@dataclass(frozen=True)
class Protection:
    """The pattern, and what proves it.

    published: per figure, the fixed ones included; secondary: candidates given up for the targets' sake.
    targets: those of the problem, then the remainders that the pattern itself gives away and that the judge
    found unsafe. witnesses: rows, witnesses × atoms; witness_of: per witness its target, ascending.
    exposed: if there are any, the pattern does not protect, and must not be published.
    """

    published: BoolArray
    secondary: BoolArray
    targets: Targets
    witnesses: Rows
    witness_of: IntArray
    exposed: tuple[Exposure, ...] = field(default=())


# Sets of atoms (rows × atoms, 0/1) that a pattern gives away exactly -> the level of each that is unsafe by the
# primary rules, as a set of its own; -1: it is safe. Line remainders: a total less its published children.
Judge = Callable[[Rows], IntArray]


@dataclass(frozen=True)
class Interval:
    """What an attacker knows of a target: v + down <= target <= v + up, exactly; None: no bound.

    need: how wide it must be, down and up; short: not proven to be; determined: everybody can compute the target.
    """

    target: int
    attacker: Attacker
    down: Fraction | None
    up: Fraction | None
    need: tuple[int, int]
    short: bool
    determined: bool


_ROOM: Final = 2.0**61  # sums of what is moved stay within int64


def check(problem: Problem, limits: Limits) -> None:
    """Raises ProgrammerError if the problem contradicts itself or could leave int64, LimitReached if it is too
    large."""
    for right, what in _conditions(problem):
        if not right:
            raise ProgrammerError("bad_problem", f"secondary suppression needs {what}; nothing is published")
    insiders, atoms = problem.insiders, len(problem.values)
    holdings = 0 if insiders is None else insiders.parts.shape[0]
    pairs = holdings * (holdings - 1) // 2 if insiders is not None and insiders.pairs else 0
    coalitions = 1 + holdings + pairs
    needed = 200 * problem.figures.nnz + 40 * atoms * (8 + holdings) + 8 * coalitions * holdings
    needed += 16 * min(coalitions * atoms, 2**24)
    if needed > limits.memory:
        raise LimitReached(
            "too_large", f"deciding would take some {needed:,} bytes; allowed are {limits.memory:,}"
        )


def _conditions(problem: Problem) -> Iterator[tuple[Any, str]]:
    """Whether it holds, and what; each makes sense if those before it hold."""
    figures, atoms = problem.figures.shape
    values, level = problem.values, problem.targets.level
    size = np.abs(values) if problem.size is None else problem.size
    yield len(problem.role) == len(problem.cost) == figures, "a role and a cost for each figure"
    yield (
        len(values) == len(problem.lower) == len(problem.upper) == len(size) == atoms,
        "bounds for each atom",
    )
    yield problem.targets.rows.shape == (len(level), atoms), "a level for each target"
    if problem.alone is not None:
        yield len(problem.alone) == atoms, "for each atom who is alone in it"
    if problem.insiders is not None:
        sizes = problem.insiders.parts if problem.insiders.sizes is None else problem.insiders.sizes
        yield (
            problem.insiders.parts.shape[1] == sizes.shape[1] == atoms,
            "the parts of holdings for each atom",
        )
        yield problem.insiders.parts.shape[0] == sizes.shape[0], "sizes of as many holdings as have parts"
    yield np.isin(problem.role, list(Role)).all(), "known roles"
    yield (problem.lower <= values).all() and (values <= problem.upper).all(), "true values within the bounds"
    yield (size >= np.abs(values)).all(), "sizes that are no less than the values"
    yield (level >= 0).all() and (problem.cost > 0).all(), "levels >= 0 and costs > 0"
    yield problem.prior is None or 0 <= problem.prior <= 1, "a prior of at most ± 100 %"
    yield 0 < problem.share <= 1, "a share above 0 and up to 1"
    yield float(size.sum(dtype=np.float64)) < _ROOM / 16, "values that fit into 64 bits"
    yield 16.0 * float(level.max(initial=0)) * max(atoms, 1) < _ROOM, "levels that fit into 64 bits"
