"""An input may be written in any usual unit; inside, values are whole numbers of the smallest one."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_samples import sample

from broker.core.condition import Condition
from broker.core.errors import InputError
from broker.core.policy import unit_divisor
from broker.core.products import _meets


@pytest.mark.parametrize(
    ("unit", "smallest", "factor"),
    [("Wh", "Wh", 1), ("kWh", "Wh", 1000), ("MWh", "Wh", 10**6), ("GWh", "Wh", 10**9)],
)
def test_an_energy_input_counts_in_watt_hours_whatever_its_unit(
    unit: str, smallest: str, factor: int
) -> None:
    spec = sample(("inputs.energy.unit", unit)).inputs["energy"]
    assert (spec.smallest, spec.factor) == (smallest, factor)


@pytest.mark.parametrize(("unit", "factor"), [("mL", 1), ("L", 1000), ("m3", 10**6)])
def test_a_water_input_counts_in_millilitres_whatever_its_unit(unit: str, factor: int) -> None:
    spec = sample(("inputs.water.unit", unit)).inputs["water"]
    assert (spec.smallest, spec.factor) == ("mL", factor)


@pytest.mark.parametrize("stat", ["sum", "mean", "max"])
def test_a_condition_is_read_in_its_input_s_unit(stat: str) -> None:
    homes = pl.DataFrame({"total": [19_999, 20_000], "peak": [19_999, 20_000], "n": [1, 1]})
    met = homes.select(_meets(Condition.parse(f"{stat} < 20"), 1000)).to_series()
    assert met.to_list() == [True, False]


@given(
    stat=st.sampled_from(["sum", "mean", "max"]),
    op=st.sampled_from(["<", "<=", ">", ">="]),
    number=st.one_of(st.decimals(-3, 3, places=4).map(str), st.integers(-(10**18) + 1, 10**18 - 1).map(str)),
    factor=st.sampled_from([1, 10, 1000, 10**9]),
    total=st.one_of(st.integers(-4000, 4000), st.integers(-(2**62), 2**62)),
    n=st.integers(1, 745),
)
def test_a_column_of_homes_meets_what_its_definition_says(
    stat: str, op: str, number: str, factor: int, total: int, n: int
) -> None:
    condition = Condition.parse(f"{stat} {op} {number}")
    homes = pl.DataFrame({"total": [total], "peak": [total], "n": [n]})
    scaled = Condition(condition.stat, condition.op, condition.threshold * factor)
    assert homes.select(_meets(condition, factor)).item() == scaled.holds(total, total, n)


def test_half_a_kilowatt_hour_is_five_hundred_watt_hours() -> None:
    homes = pl.DataFrame({"total": [499, 500], "peak": [499, 500], "n": [1, 1]})
    assert homes.select(_meets(Condition.parse("sum < 0.5"), 1000)).to_series().to_list() == [True, False]
    assert Condition.parse("sum < 0.5").threshold == Fraction(1, 2)


@pytest.mark.parametrize(
    ("units", "divisor"),
    [(("Wh", "kWh"), 10**3), (("Wh", "Wh"), 1), (("mL", "m3"), 10**6), (("mL", "L"), 10**3)],
)
def test_units_convert_by_exact_powers_of_ten(units: tuple[str, str], divisor: int) -> None:
    assert unit_divisor(*units) == divisor
    with pytest.raises(InputError, match="bad_unit"):
        unit_divisor(units[0], "gallon")
