"""Sets of atoms that a pattern gives away although no figure is printed for them.

A line's remainder, a total less its published children, is known exactly to everybody: it must be safe as a set
of its own (disclosure rules, §2). So is what is left of any figure, a month or a zone, when what is published of
it, or follows from single unknowns, is subtracted.

Found are, on the published rows over the atoms that stay unknown: the rows themselves; each row less disjoint
others that lie in it, once for every direction in which it can be taken apart (a table's total: by lines, by
columns); the same of what that leaves; and the atoms that follow although they are no figure. Only rows of
ones are sets.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from broker.core.disclosure.problem import Rows
from broker.core.disclosure.reduction import single_unknowns
from broker.core.disclosure.sparse import int_rows
from broker.core.disclosure.table import IntArray

_ROUNDS = 2


def given_away(published: Rows) -> Rows:
    """The sets, rows × atoms, without those that are published as such."""
    width = published.shape[1]
    known, _ = single_unknowns(published, np.zeros(published.shape[0], dtype=np.int64))
    plain = int_rows(published)
    ones = np.ones(plain.shape[0], dtype=bool)
    np.logical_and.at(ones, np.repeat(np.arange(len(ones)), np.diff(plain.indptr)), plain.data == 1)
    plain = plain[ones]
    printed = {_key(plain, i) for i in range(plain.shape[0])}
    left = plain.copy()
    left.data = np.where(known[left.indices], 0, left.data)
    found = _sets(int_rows(left))
    for _ in range(_ROUNDS):
        found = _differences(_matrix(found, width)) | found
    found |= {atom.tobytes(): atom for atom in np.flatnonzero(known).reshape(-1, 1)}
    return _matrix({key: atoms for key, atoms in found.items() if key not in printed}, width)


def _differences(rows: Rows) -> dict[bytes, IntArray]:
    """Each row less disjoint rows that lie in it, larger ones first: as long as there are some that no direction
    has used yet."""
    size = np.diff(rows.indptr)
    shared = int_rows(rows @ rows.T)
    outer = np.repeat(np.arange(rows.shape[0]), np.diff(shared.indptr))
    lies_in = (shared.data == size[shared.indices]) & (size[shared.indices] < size[outer])
    outer, inner = outer[lies_in], shared.indices[lies_in]
    order = np.lexsort((inner, -size[inner], outer))
    outer, inner = outer[order], inner[order]
    found: dict[bytes, IntArray] = {}
    starts = np.flatnonzero(np.diff(outer, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(outer)][: len(starts)], strict=True):
        atoms = _atoms(rows, int(outer[start]))
        for rest in _directions(atoms, [_atoms(rows, i) for i in inner[start:end].tolist()], rows.shape[1]):
            found.setdefault(rest.tobytes(), rest)
    return found


def _directions(atoms: IntArray, parts: list[IntArray], width: int) -> list[IntArray]:
    """What is left of the atoms in each direction. parts: largest first."""
    fresh, rests = set(range(len(parts))), []
    taken = np.zeros(width, dtype=bool)
    while fresh:
        used = []
        for i in sorted(range(len(parts)), key=lambda i: i not in fresh):
            if not taken[parts[i]].any():
                taken[parts[i]] = True
                used.append(i)
        rest = atoms[~taken[atoms]]
        taken[atoms] = False
        if len(rest):
            rests.append(rest)
        fresh -= set(used)
        fresh -= {i for i in fresh if any(np.isin(parts[i], parts[j]).all() for j in used)}
    return rests


def _sets(rows: Rows) -> dict[bytes, IntArray]:
    atoms = (_atoms(rows, i) for i in range(rows.shape[0]))
    return {each.tobytes(): each for each in atoms if len(each)}


def _atoms(rows: Rows, i: int) -> IntArray:
    return np.asarray(rows.indices[rows.indptr[i] : rows.indptr[i + 1]])


def _key(rows: Rows, i: int) -> bytes:
    return _atoms(rows, i).tobytes()


def _matrix(sets: dict[bytes, IntArray], width: int) -> Rows:
    chosen = list(sets.values())
    columns = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
    starts = np.cumsum([0, *map(len, chosen)])
    return csr_array((np.ones(len(columns), dtype=np.int64), columns, starts), shape=(len(chosen), width))
