"""A condition is one statistic, one comparison and one number; nothing else is ever run."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.condition import Condition
from broker.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("sum < 20000", Condition("sum", "<", Fraction(20000))),
        (" mean>=5 ", Condition("mean", ">=", Fraction(5))),
        ("max <= -3", Condition("max", "<=", Fraction(-3))),
        ("sum > 007", Condition("sum", ">", Fraction(7))),
        ("sum < 0.50", Condition("sum", "<", Fraction(1, 2))),
        ("max>=-0.000000000001", Condition("max", ">=", Fraction(-1, 10**12))),
    ],
)
def test_a_condition_is_read_and_written_in_one_form(text: str, condition: Condition) -> None:
    assert Condition.parse(text) == condition
    assert isinstance(Condition.parse(text).threshold, Fraction)
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sum",
        "sum < ",
        "sum = 3",
        "sum < .5",
        "sum < 1.",
        "sum < 1.2.3",
        "sum < 1,5",
        "sum < 0.0000000000001",
        "sum < 1e3",
        "kwh < 20",
        "sum < 1 or 1",
        "min < 3",
        "sum < 1_0",
        "sum < ٣",
        "sum(x) < 1",
        "__import__('os')",
        "sum < 9999999999999999999",
        "SUM < 1",
        "sum << 1",
    ],
)
def test_nothing_else_parses(text: str) -> None:
    with pytest.raises(InputError, match="bad_condition") as caught:
        Condition.parse(text)
    assert "sum < 20000" in caught.value.what


@given(
    st.sampled_from(["sum", "mean", "max"]),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.one_of(st.integers(-50, 50).map(str), st.decimals(-50, 50, places=3).map(str)),
    st.lists(st.integers(-40, 40), min_size=1),
)
def test_it_means_what_it_says_in_exact_numbers(stat: str, op: str, number: str, totals: list[int]) -> None:
    condition, threshold = Condition.parse(f"{stat} {op} {number}"), Fraction(number)
    assert Condition.parse(str(condition)) == condition
    value = {
        "sum": Fraction(sum(totals)),
        "mean": Fraction(sum(totals), len(totals)),
        "max": Fraction(max(totals)),
    }[stat]
    meant = {
        "<": value < threshold,
        "<=": value <= threshold,
        ">": value > threshold,
        ">=": value >= threshold,
    }[op]
    assert condition.holds(sum(totals), max(totals), len(totals)) == meant
