"""From a solver's floats to witnesses in whole numbers.

A solution x of a local program lies in the cone of changes that the rows to be kept do not see. It is a sum of
*circuits*, changes of least support with the signs of x (R. T. Rockafellar, "The elementary vectors of a
subspace of R^N", 1969): x = Σ λ_i · c_i, each c_i a vector of small whole numbers. Any sum of n_i · c_i with
n_i <= λ_i · n stays within n times the bounds that x keeps; the n_i are rounded so that the target moves by the
whole number asked for. Floats propose the circuits; that each is a circuit is checked in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.linear import Floats
from broker.core.disclosure.table import BoolArray, IntArray

# Circuits of tables have tiny entries: what is no multiple of 1/1 … 1/24 of its least entry is not believed.
_MULTIPLES: Final = np.arange(1, 25)
_TINY: Final = 1e-7
_VAGUE: Final = 1e-2  # what a multiple of many units may lack to a whole number


class Circuit(NamedTuple):
    """How much of it the solution has, and the change itself."""

    weight: float
    change: IntArray


def circuits(solution: Floats, rows: NDArray[np.int64]) -> list[Circuit] | None:
    """The circuits of a solution, None where floats are too vague. solution: its entries that are not zero;
    rows: those that must not see it."""
    signs = np.sign(solution).astype(np.int64)
    matrix = rows * signs
    sizes = np.abs(solution)
    whole = _whole(sizes, matrix)
    found = _split(sizes, matrix) if whole is None else [Circuit(float(sizes.max() / whole.max()), whole)]
    return None if found is None else [Circuit(part.weight, part.change * signs) for part in found]


def combined(
    parts: list[Circuit], moves: list[int], need: int, fits: Callable[[IntArray], bool]
) -> IntArray | None:
    """A sum of circuits that moves the target by `need` or more, None if rounding leaves no such sum that fits.

    moves: by how much each circuit moves the target.
    """
    useful = [(part, move) for part, move in zip(parts, moves, strict=True) if move > 0]
    for vague in (_VAGUE, _TINY) if useful else ():
        times = [int(part.weight * need + vague) for part, _ in useful]
        total = sum(n * move for n, (_, move) in zip(times, useful, strict=True))
        result = np.zeros_like(parts[0].change)
        for n, (part, _) in zip(times, useful, strict=True):
            result += n * part.change
        while total < need:
            more = next(((part, move) for part, move in useful if fits(result + part.change)), None)
            if more is None:
                break
            result, total = result + more[0].change, total + more[1]
        if total >= need and fits(result):
            return result
    return None


def placed(change: IntArray, where: IntArray, width: int) -> IntArray:
    """A change of some of `width` atoms, as one of all of them."""
    result = np.zeros(width, dtype=np.int64)
    result[where] = change
    return result


def lowest_terms(change: IntArray) -> IntArray:
    """Divided by what all entries have in common."""
    common = int(np.gcd.reduce(change))  # 0 if nothing changes
    return change // common if common > 1 else change


def _whole(sizes: Floats, matrix: NDArray[np.int64]) -> IntArray | None:
    """The smallest whole multiple of the sizes that the rows do not see, if it has small entries."""
    if not len(sizes):
        return None
    scaled = (sizes / sizes.min())[:, None] * _MULTIPLES
    whole = np.rint(scaled)
    near = np.abs(whole - scaled).max(axis=0) < 10 * _TINY * _MULTIPLES * scaled[:, 0].max()
    first = int(near.argmax())
    change = whole[:, first].astype(np.int64)
    return change if near[first] and not (matrix @ change).any() else None


def _split(sizes: Floats, matrix: NDArray[np.int64]) -> list[Circuit] | None:
    """The circuits of a positive vector that is none."""
    basis = _kernel(matrix.astype(np.float64))
    rest, found = sizes.copy(), []
    while rest.max(initial=0.0) > _TINY:
        ray = _ray(rest, basis)
        whole = None if ray is None else _whole(ray[ray > 0], matrix[:, ray > 0])
        if ray is None or whole is None:
            return None
        change = placed(whole, np.flatnonzero(ray > 0), len(sizes))
        weight = float((rest[ray > 0] / whole).min())
        found.append(Circuit(weight, change))
        rest = rest - weight * change
        rest[rest < _TINY] = 0.0
    return found


def _ray(start: Floats, basis: Floats) -> Floats | None:
    """A circuit within the support of `start`, itself a positive vector of the kernel.

    Walk along the kernel until an entry is zero, leave that coordinate out, and so on, until one direction is
    left.
    """
    point, basis = start.copy(), _within(basis, start <= _TINY)
    while basis.shape[1] > 1:
        step = basis[:, 0] if basis[:, 0].max() > _TINY else -basis[:, 0]
        falls = step > _TINY
        point = point - step * float((point[falls] / step[falls]).min())
        gone = (point < _TINY) & (np.abs(basis) > _TINY).any(axis=1)
        point[point < _TINY] = 0.0
        if not gone.any():
            return None
        basis = _within(basis, gone)
    return point if basis.shape[1] == 1 and point.any() else None


def _within(basis: Floats, zero: BoolArray) -> Floats:
    """The part of the span of the columns that is zero at some coordinates."""
    for at in zero.nonzero()[0]:
        by = int(np.argmax(np.abs(basis[at]))) if basis.shape[1] else 0
        if basis.shape[1] and abs(basis[at, by]) > _TINY:
            others = np.arange(basis.shape[1]) != by
            basis = basis[:, others] - np.outer(basis[:, by] / basis[at, by], basis[at, others])
    return basis


def _kernel(matrix: Floats) -> Floats:
    """A basis, as columns, by Gauss-Jordan elimination with complete pivoting in each row."""
    work, pivots = matrix.copy(), []
    width = matrix.shape[1]
    for row in range(len(work)):
        pivot = int(np.argmax(np.abs(work[row])))
        if abs(work[row, pivot]) <= _TINY:
            continue
        work[row] /= work[row, pivot]
        factors = work[:, pivot].copy()
        factors[row] = 0.0
        work -= np.outer(factors, work[row])
        pivots.append((row, pivot))
    free = np.setdiff1d(np.arange(width), [pivot for _, pivot in pivots])
    basis = np.zeros((width, len(free)))
    basis[free, np.arange(len(free))] = 1.0
    for row, pivot in pivots:
        basis[pivot] = -work[row, free]
    return basis
