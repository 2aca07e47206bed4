"""Sets of atoms that a pattern gives away although no figure is printed for them.

A line's remainder, a total less its published children, is known exactly to everybody: it must be safe as a set
of its own (disclosure rules, §2). So is what is left of any figure, a month or a zone, when what is published of
it, or follows from single unknowns, is subtracted. (Larger sets that are known, a remainder and a figure
together, need no look: the rules are subadditive.)

Found are, on the atoms that stay unknown: each published row; each less disjoint others that lie in it, once for
every *direction* in which it can be taken apart (a table's total: by lines, by columns); the same once more of
what that leaves; and the atoms that follow although they are no figure. A direction is begun with the largest
part that none has used, and goes on with parts that get in the way of the same others as the first does, as the
lines of a table all cross the columns. Only rows of ones are sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import single_unknowns
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.table import BoolArray, IntArray

_DIRECTIONS: Final = 8  # more than a table has dimensions

Sets = dict[bytes, IntArray]  # by their bytes


def given_away(published: Rows) -> Rows:
    """The sets, rows × atoms, without those that are published as such."""
    rows = int_rows(published)
    known, _ = single_unknowns(rows, np.zeros(rows.shape[0], dtype=np.int64))
    plain = np.ones(rows.shape[0], dtype=bool)
    np.logical_and.at(plain, np.repeat(np.arange(len(plain)), np.diff(rows.indptr)), rows.data == 1)
    printed = _by_bytes(_atoms(rows, i) for i in np.flatnonzero(plain).tolist())
    left = _unknown(printed, known)
    rests = _unknown(_rests(printed, rows.shape[1]), known)
    found = left | rests
    found |= _rests(found, rows.shape[1])
    found |= _by_bytes(np.flatnonzero(known).reshape(-1, 1))
    return _matrix({key: atoms for key, atoms in found.items() if key not in printed}, rows.shape[1])


def _rests(sets: Sets, width: int) -> Sets:
    """What is left of each set in each direction. width: number of atoms."""
    chosen = [atoms for atoms in sets.values() if len(atoms) > 1]
    rows = _matrix(_by_bytes(sorted(chosen, key=lambda atoms: (-len(atoms), atoms.tobytes()))), width)
    size = np.diff(rows.indptr)
    shared = int_rows(rows @ rows.T)
    near = [set(shared.indices[a:b].tolist()) for a, b in pairwise(shared.indptr.tolist())]
    outer = np.repeat(np.arange(len(size)), np.diff(shared.indptr))
    within = (shared.data == size[shared.indices]) & (size[shared.indices] < size[outer])
    starts = np.searchsorted(outer[within], np.arange(len(size) + 1))
    inner = [shared.indices[within][a:b].tolist() for a, b in pairwise(starts.tolist())]  # largest first
    taken, rests = np.zeros(width, dtype=bool), []
    for row in np.flatnonzero(np.diff(starts)).tolist():
        atoms = _atoms(rows, row)
        for direction in _directions(inner[row], inner, near):
            for part in direction:
                taken[_atoms(rows, part)] = True
            rests.append(atoms[~taken[atoms]])
            taken[atoms] = False
    return _by_bytes(rests)


def _directions(parts: list[int], inner: list[list[int]], near: list[set[int]]) -> Iterator[list[int]]:
    """Disjoint ones of a row's parts. parts: largest first; inner: of each row its parts; near: those that it
    overlaps."""
    largest = sorted(set(parts).difference(*(inner[part] for part in parts)))
    ways = {part: near[part].intersection(largest) for part in largest}
    fresh = dict.fromkeys(largest)
    for _ in range(_DIRECTIONS):
        if not fresh:
            return
        first = next(iter(fresh))
        alike = sorted(largest, key=lambda part: (-len(ways[part] & ways[first] - {part, first}), part))
        chosen, blocked = [first], set(ways[first])
        for part in alike:
            if part not in blocked:
                chosen.append(part)
                blocked |= ways[part]
        yield chosen
        for part in chosen:
            fresh.pop(part, None)


def _unknown(sets: Sets, known: BoolArray) -> Sets:
    return _by_bytes(atoms[~known[atoms]] for atoms in sets.values())


def _by_bytes(sets: Iterable[IntArray]) -> Sets:
    return {atoms.tobytes(): atoms for atoms in sets if len(atoms)}


def _atoms(rows: Rows, i: int) -> IntArray:
    return np.asarray(rows.indices[rows.indptr[i] : rows.indptr[i + 1]])


def _matrix(sets: Sets, width: int) -> Rows:
    chosen = list(sets.values())
    columns = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
    starts = np.cumsum([0, *map(len, chosen)])
    return csr_array((np.ones(len(columns), dtype=np.int64), columns, starts), shape=(len(chosen), width))
