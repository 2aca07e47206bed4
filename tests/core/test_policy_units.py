"""An input may be written in any usual unit; inside, values are whole numbers of the smallest one."""

from __future__ import annotations

import polars as pl
import pytest
from policy_samples import sample

from broker.core.condition import Condition
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
