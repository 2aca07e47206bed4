"""Promises about remainders: what a pattern gives away without printing it is found, and nothing else."""

from __future__ import annotations

import random
from itertools import pairwise

import brute_attacker as brute
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from suppression_world import crossed, flat, nested, sparse

from broker.core.disclosure.remainders import given_away

Sets = set[frozenset[int]]


def found(figures: list[list[int]], published: list[bool], n: int) -> Sets:
    rows = sparse([each for each, is_out in zip(figures, published, strict=True) if is_out], n)
    given = given_away(rows)
    return {frozenset(given.indices[a:b].tolist()) for a, b in pairwise(given.indptr)}


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_found_is_known_to_everybody_and_not_printed(seed: int) -> None:
    rng = random.Random(seed)
    n = rng.randint(3, 8)
    figures = [sorted(rng.sample(range(n), rng.randint(1, n))) for _ in range(rng.randint(2, 10))]
    published = [rng.random() < 0.6 for _ in figures]
    out = [each for each, is_out in zip(figures, published, strict=True) if is_out]
    rows = [[int(j in each) for j in range(n)] for each in out]
    for rest in found(figures, published, n):
        assert brute.spanned(rows, [int(j in rest) for j in range(n)]), f"seed {seed}"
        assert sorted(rest) not in out


def test_every_line_of_a_table_has_its_remainder() -> None:
    """A line's remainder, on the atoms that stay unknown: of rows and columns, and of the total both ways."""
    seen = 0
    for seed in range(60):
        rng = random.Random(seed)
        a, b = rng.randint(2, 5), rng.randint(2, 5)
        figures = crossed([flat(a), flat(b)], [a, b])
        published = [rng.random() < (0.5 if len(each) == 1 else 0.9) for each in figures]
        given = found(figures, published, a * b)
        out = {frozenset(each) for each, is_out in zip(figures, published, strict=True) if is_out}
        known = followed(out)
        lines = [each for each in out if len(each) > 1]
        total = frozenset(range(a * b))
        rows = [each for each in lines if len({j // b for j in each}) == 1]
        columns = [each for each in lines if len({j % b for j in each}) == 1]
        rests = [line - known for line in lines]
        rests += [total.difference(known, *way) for way in (rows, columns) if total in out and len(way) > 1]
        for rest in rests:
            if rest and rest not in out:
                assert rest in given, f"seed {seed}: {sorted(rest)}"
                seen += 1
    assert seen > 50


def followed(out: Sets) -> set[int]:
    """The atoms that single unknowns make known."""
    known: set[int] = set()
    while True:
        more = {next(iter(each - known)) for each in out if len(each - known) == 1}
        if more <= known:
            return known
        known |= more


def test_a_hierarchys_remainder_is_that_of_its_lowest_published_parts() -> None:
    figures = [sorted(each) for each in nested(3, 3)]  # the total, three communes, nine leaves
    suppressed = [[0], [1], [3, 4, 5], [4], [5], [0, 1, 2]]
    published = [each not in suppressed for each in figures]
    assert found(figures, published, 9) == {frozenset({0, 1, 4, 5})}
    alone = [each not in [[0], [3, 4, 5], [4], [5]] for each in figures]
    assert found(figures, alone, 9) == {frozenset({0}), frozenset({4, 5})}


def test_nothing_published_gives_nothing_away() -> None:
    assert given_away(sparse([], 4)).shape == (0, 4)
    assert not np.diff(given_away(sparse([[0, 1, 2, 3]], 4)).indptr).size
