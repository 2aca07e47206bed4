"""Microdata as the core needs them: exact integers, and who contributed.

Invariants
- Totals are value × weight, summed over rows; without a value column each row's value is 1, so that a total is the
  (weighted) number of rows. Both columns are whole numbers of their last decimal place, so that no float decides.
- A contributor may have several rows, in any cells. Where the file names none, every row is a contributor of its own.
- A contributor belongs to one holding. Where the file names none, every contributor is a holding of its own.
- Frequency counts weight: a contributor counts in a cell with the largest weight of its rows there. A row of weight 0
  makes its cells exist and contributes nothing to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from broker.core.disclosure import rounding
from broker.core.static.hierarchy import Hierarchy


@dataclass(frozen=True)
class Microdata:
    """rows: DataFrame with the dimensions' columns (String) and contributor, holding (Int64, indices), value (Int64,
    value × weight in units of 10^-places), weight (Int64, in units of 10^-weight_places).

    contributors, holdings: names by index, sorted.
    """

    rows: pl.DataFrame
    contributors: list[str]
    holdings: list[str]
    places: int
    weight_places: int


def amount(number: int, places: int) -> Decimal:
    """A whole number of units of 10^-places, exactly."""
    return rounding.in_unit(number, 10**places)


def amount_text(number: int, places: int) -> str:
    """The same as printed: plain decimal, no trailing zeros."""
    return rounding.text(amount(number, places))


Hierarchies = Mapping[str, Mapping[str, Hierarchy]]
"""Table → its dimensions, in the SPEC's order → hierarchy."""
