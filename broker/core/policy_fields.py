"""The values of a policy's fields that are no mappings: names, numbers, spans, conditions, units.

Invariants
- Exact numbers are `Fraction`, read from decimals only; there is no float anywhere. Serialised, a whole number
  is an integer and any other its shortest decimal text.
- A name that becomes part of a topic or a file (the product's) is narrow; partners and their streams have to
  fit a territory's own, narrower rule besides (`territory`). Other names hold what people put into files:
  letters of both cases, digits, `_`, `-` and `.`; names that the broker only compares may be any one line.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StrictInt, StringConstraints

from broker.core.calendar import duration_ms, is_zone
from broker.core.condition import Condition
from broker.core.errors import InputError

_TEN: Final = {"Wh": {"Wh": 0, "kWh": 3, "MWh": 6, "GWh": 9}, "mL": {"mL": 0, "L": 3, "m3": 6}}


def _exact(value: object) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", value, re.ASCII):
        return Fraction(Decimal(value))
    raise ValueError("write a number, for example 15 or 0.9")


def _shortest(value: Fraction) -> int | str:
    if value.denominator == 1:
        return value.numerator
    # Only decimals get in, so the division ends; 24 digits hold the longest that `_exact` accepts.
    return format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f")


def _span(text: str) -> str:
    try:
        duration_ms(text)
    except InputError as error:
        raise ValueError(error.what) from None
    return text


def _condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    try:
        return Condition.parse(value if isinstance(value, str) else repr(value))
    except InputError as error:
        raise ValueError(error.what) from None


def _timezone(name: str) -> str:
    if not is_zone(name):
        raise ValueError("write an IANA time zone, for example Europe/Paris")
    return name


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("an entry occurs twice")
    return values


Distinct = AfterValidator(_distinct)
Words = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
ProductName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
Line = Annotated[str, StringConstraints(pattern=r"^\S(.{0,198}\S)?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Span = Annotated[str, AfterValidator(_span)]
Exact = Annotated[Fraction, BeforeValidator(_exact), PlainSerializer(_shortest)]
Percent = Annotated[Exact, Field(ge=0, le=100)]
Whole = Annotated[StrictInt, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]
Where = dict[Name, Annotated[Condition, BeforeValidator(_condition), PlainSerializer(str)]]
Names = Annotated[tuple[Name, ...], Field(min_length=1), Distinct]
Unit = Literal["Wh", "kWh", "MWh", "GWh", "mL", "L", "m3"]
Zone = Annotated[str, AfterValidator(_timezone)]


def smallest_unit(unit: str) -> Literal["Wh", "mL"]:
    """The unit in which values of `unit` are whole numbers everywhere inside the broker."""
    return "Wh" if unit in _TEN["Wh"] else "mL"


def units_of(smallest: str) -> tuple[str, ...]:
    """The units that are whole numbers of the smallest one."""
    return tuple(_TEN[smallest])


def unit_divisor(input_unit: str, measure_unit: str) -> int:
    """How many `input_unit` make one `measure_unit`, a power of ten: ("Wh", "kWh") -> 1000, ("mL", "m3") ->
    10**6.

    Raises InputError (`bad_unit`) where the units do not convert.
    """
    units = _TEN.get(input_unit, {})
    if measure_unit not in units:
        raise InputError(
            "bad_unit",
            f"{input_unit} does not convert to {measure_unit}: write one of {', '.join(units) or 'Wh, mL'}",
        )
    return int(10 ** units[measure_unit])
