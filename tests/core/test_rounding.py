"""Promises of rounding and printing: unbiased, bound to the set of premises, exact, one canonical form."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from disclosure_world import LEVELS, Part, frame, pseudonym, tree
from hypothesis import given
from hypothesis import strategies as st

from broker.core.disclosure.rounding import (
    Fingerprint,
    fingerprints,
    in_unit,
    quotient,
    quotient_significant,
    round_count,
    significant,
    text,
)
from broker.core.disclosure.table import Table, build

KEY = b"k" * 32


def homes(numbers: list[int]) -> tuple[pl.DataFrame, Table]:
    rows = frame([Part(n, "h1", "E0C0I0", "flat", 1) for n in numbers])
    return rows, build(rows, tree(1, 1), LEVELS, ["E0"], segmented=True)


def test_a_set_is_named_by_its_size_and_the_sums_of_both_halves_of_its_pseudonyms() -> None:
    numbers = list(range(40))
    high = sum(int.from_bytes(pseudonym(n)[:8], "big") for n in numbers) % 2**64
    low = sum(int.from_bytes(pseudonym(n)[8:], "big") for n in numbers) % 2**64
    assert set(fingerprints(*homes(numbers))) == {Fingerprint(40, high, low)}


def test_the_same_homes_are_rounded_alike_in_every_cell_window_and_order() -> None:
    numbers = list(range(17))
    rows, table = homes(numbers)
    twice = pl.concat([rows, rows]).sample(fraction=1, shuffle=True, seed=1)
    assert len({*fingerprints(rows, table), *fingerprints(twice, table)}) == 1


@pytest.mark.parametrize("field", ["n", "high", "low"])
def test_each_part_of_a_sets_name_takes_part_in_the_draw(field: str) -> None:
    def draws(value: int) -> list[int]:
        return [round_count(12, 5, replace(Fingerprint(12, i, i), **{field: value}), KEY) for i in range(60)]

    assert draws(1) != draws(2)


def test_one_home_more_or_another_key_draws_anew() -> None:
    def draws(key: bytes, shift: int) -> list[int]:
        rows = [homes(list(range(i, i + 18 + shift))) for i in range(60)]
        return [round_count(18, 5, fingerprints(*row)[0], key) for row in rows]

    assert draws(KEY, 0) == draws(KEY, 0)
    assert draws(KEY, 0) != draws(b"x" * 32, 0)
    assert draws(KEY, 0) != draws(KEY, 1)


@pytest.mark.parametrize("remainder", range(5))
def test_rounding_is_unbiased_and_never_moves_a_count_by_the_base(remainder: int) -> None:
    rng = random.Random(remainder)
    count, n = 40 + remainder, 4000
    drawn = [
        round_count(count, 5, Fingerprint(count, rng.getrandbits(64), rng.getrandbits(64)), KEY)
        for _ in range(n)
    ]
    assert {abs(value - count) < 5 and value % 5 == 0 for value in drawn} == {True}
    # 4 standard deviations of the mean of n draws; seeded, so it cannot flicker.
    assert abs(sum(drawn) / n - count) < 4 * 2.5 / n**0.5


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 6))
def test_magnitudes_keep_so_many_digits_and_are_nearest_with_ties_to_even(total: int, digits: int) -> None:
    value = in_unit(total, 1000)
    assert Fraction(value) == Fraction(total, 1000)  # the unit is exact
    rounded = significant(value, digits)
    step = Fraction(10) ** (value.adjusted() - digits + 1)
    assert abs(Fraction(rounded) - Fraction(value)) <= step / 2
    assert len(rounded.normalize().as_tuple().digits) <= digits
    if abs(Fraction(rounded) - Fraction(value)) == step / 2:
        assert Fraction(rounded) / step % 2 == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1.23E+6", "1230000"),
        ("120.500", "120.5"),
        ("100", "100"),
        ("0.000", "0"),
        ("-0.0", "0"),
        ("-7.10", "-7.1"),
        ("1E-3", "0.001"),
    ],
)
def test_figures_have_one_printed_form(value: str, shown: str) -> None:
    assert text(Decimal(value)) == shown


@pytest.mark.parametrize(
    ("top", "bottom", "shown"), [("1", "8", "0.1250"), ("1", "16000", "0.0001"), ("5", "3", "1.6667")]
)
def test_ratios_have_four_decimals(top: str, bottom: str, shown: str) -> None:
    assert format(quotient(Decimal(top), Decimal(bottom)), "f") == shown


def test_ratios_round_half_to_even() -> None:
    assert quotient(Decimal(1), Decimal(20000)) == Decimal("0.0000")  # 0.00005
    assert quotient(Decimal(3), Decimal(20000)) == Decimal("0.0002")  # 0.00015


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.integers(1, 6))
def test_means_are_rounded_once_from_the_exact_quotient(top: int, bottom: int, digits: int) -> None:
    value = Fraction(quotient_significant(Decimal(top), Decimal(bottom), digits))
    exact = Fraction(top, bottom)
    assert value == exact == 0 or abs(value - exact) / abs(exact) <= Fraction(1, 2 * 10 ** (digits - 1))
