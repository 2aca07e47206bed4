"""Differences of two cells that are surely safe, found without making them.

What is left of a set S without a set T is bounded by what is known of S and of the atoms in both. Where no value is
negative, with I = S ∩ T and D = S \\ T:

    size of D      = size of S − Σ size of the atoms in I
    weight of D   >= weight of S − Σ weight of the atoms in I      (who is in two atoms is taken off twice)
    holdings of D >= holdings of S − Σ holdings of the atoms in I
    largest in D  <= largest in S

If D keeps a rule with the worst of these, it keeps it. All other differences are looked at one by one (`beyond`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from broker.core.disclosure.primary import exceeds
from broker.core.disclosure.problem import Rows
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.static.judge import Contributions, Profile
from broker.core.static.spec import Rules

_AT_A_TIME = 2_000_000


@dataclass(frozen=True)
class Screen:
    """profile: of all sets of the tables; rows: sets × atoms, 0/1; weight, size, holdings: Σ per atom."""

    profile: Profile
    rows: Rows
    weight: IntArray
    size: IntArray
    holdings: IntArray
    least: int
    rules: Rules
    usable: bool

    @classmethod
    def of(cls, profile: Profile, rows: Rows, contributions: Contributions, rules: Rules) -> Screen:
        parts, atoms = contributions.parts, rows.shape[1]
        held = parts.select("atom", "holding").unique()
        return cls(
            profile=profile,
            rows=rows,
            weight=_sums(parts["atom"], parts["weight"], atoms),
            size=_sums(parts["atom"], parts["value"].abs(), atoms),
            holdings=np.bincount(held["atom"].to_numpy(), minlength=atoms).astype(np.int64),
            least=rules.min_contributors * 10**contributions.weight_places,
            rules=rules,
            usable=not (parts["value"] < 0).any(),
        )

    def doubtful(self, left: IntArray, right: IntArray) -> Iterator[IntArray]:
        """Pairs (S of `left`, T of `right`), as rows, such that S has atoms in T and others, and that what it has more
        may be unsafe; some at a time."""
        size = np.diff(self.rows.indptr)
        others = self.rows[right].T.tocsr()
        most = np.minimum(self.rows[left] @ np.diff(others.indptr), len(right))
        for block in _blocks(left, most):
            shared = self.rows[block] @ others
            shared.sort_indices()
            s, t = block[np.repeat(np.arange(len(block)), np.diff(shared.indptr))], right[shared.indices]
            kept = shared.data < size[s]
            if self.usable:
                # + 1 keeps entries of 0 in the product, so that all of them stand in the same places
                taken = [
                    self._shared(block, others, each)[kept] - shared.data[kept] for each in self._per_atom
                ]
                kept[kept] = ~self._safe(s[kept], *taken)
            yield np.stack((s[kept], t[kept]), axis=1)

    @property
    def _per_atom(self) -> tuple[IntArray, IntArray, IntArray]:
        return self.weight, self.size, self.holdings

    def _shared(self, block: IntArray, others: Rows, per_atom: IntArray) -> IntArray:
        """Σ (per_atom + 1) over the atoms that two sets share, in the order of the sets."""
        weighted = self.rows[block]  # a copy
        weighted.data = per_atom[weighted.indices] + 1
        product = weighted @ others
        product.sort_indices()
        sums: IntArray = product.data
        return sums

    def _safe(self, s: IntArray, weight: IntArray, size: IntArray, holdings: IntArray) -> BoolArray:
        """weight, size, holdings: of the atoms that are taken off."""
        profile, rules = self.profile, self.rules
        left_n, left_size = profile.n[s] - weight, profile.size[s] - size
        safe = self._crowd_is_safe(s, left_n, left_size) & (
            profile.holdings[s] - holdings >= rules.min_holdings
        )
        if rules.p_percent:
            p = rules.p_percent
            rest = left_size - profile.largest[s] - profile.second[s]
            safe &= ~exceeds(profile.largest[s], p.numerator, rest, 100 * p.denominator)
        if rules.without_each_holding:
            n, left = left_n - profile.heaviest[s], left_size - profile.widest[s]
            safe &= self._crowd_is_safe(s, n, left)
        return safe & (left_size > 0)

    def _crowd_is_safe(self, s: IntArray, n: IntArray, size: IntArray) -> BoolArray:
        safe: BoolArray = n >= self.least
        for (_, k), top in zip(self.rules.dominance, self.profile.tops, strict=True):
            safe &= ~exceeds(top[s], 100 * k.denominator, size, k.numerator)
        return safe


def _blocks(sets: IntArray, work: IntArray) -> list[IntArray]:
    """Runs of sets that share some millions of pairs at most."""
    number = np.cumsum(work) // _AT_A_TIME
    return [block for block in np.split(sets, np.flatnonzero(np.diff(number)) + 1) if len(block)]


def _sums(index: pl.Series, values: pl.Series, n: int) -> IntArray:
    result = np.zeros(n, dtype=np.int64)
    np.add.at(result, index.to_numpy(), values.to_numpy())
    return result
