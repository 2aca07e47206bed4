"""The fields of a product policy, one model per mapping of the file. Use them through `policy`.

Invariants
- Frozen and closed: an unknown field is an error. Exact numbers are `Fraction`, read from decimals only;
  there is no float anywhere. Serialised, a whole number is an integer and any other its shortest decimal
  text.
- What one field says about another is in `policy_checks`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_serializer,
    model_validator,
)

from broker.core.calendar import LENGTHS, duration_ms, is_zone
from broker.core.condition import Condition
from broker.core.errors import InputError

_TEN: Final = {"Wh": {"Wh": 0, "kWh": 3, "MWh": 6, "GWh": 9}, "mL": {"mL": 0, "L": 3, "m3": 6}}
_COVERAGE: Final = {"PT1H": 1, "P1D": 1, "P1M": "0.9"}  # a meter may fail for three days of a month


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


Words = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Area = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Span = Annotated[str, AfterValidator(_span)]
Exact = Annotated[Fraction, BeforeValidator(_exact), PlainSerializer(_shortest)]
Percent = Annotated[Exact, Field(ge=0, le=100)]
Whole = Annotated[StrictInt, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]
Where = dict[Key, Annotated[Condition, BeforeValidator(_condition), PlainSerializer(str)]]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]
Keys = Annotated[tuple[Key, ...], AfterValidator(_distinct)]
Unit = Literal["Wh", "kWh", "MWh", "GWh", "mL", "L", "m3"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Text(_Model):
    """One text in both languages of the territory."""

    fr: Words
    en: Words


class LawfulBasis(_Model):
    """GDPR art. 6(1): (e) public task with its text of law, or (a) consent; never both."""

    kind: Literal["public_task", "consent"]
    reference: Words | None = None

    @model_validator(mode="after")
    def _never_mixed(self) -> LawfulBasis:
        if (self.reference is None) == (self.kind == "public_task"):
            raise ValueError(
                "write {kind: public_task, reference: <text of law>} or {kind: consent}, never a mixture"
            )
        return self


class Input(_Model):
    """The streams of one measure and kind of several partners.

    unit: of values and conditions. max_gap (registers): how far from a window's edge a register may be read,
    default one base window. assign `start` (intervals): an interval belongs wholly to the base window of its
    start. net: values may be negative (feed-in). days: only base windows on the dates of that reference
    count.
    """

    measure: Key
    unit: Unit
    kind: Literal["interval", "register"]
    partners: Names
    qualities: Annotated[Keys, Field(min_length=1)]
    max_gap: Span | None = None
    assign: Literal["start"] | None = None
    net: StrictBool = False
    days: Key | None = None

    @property
    def smallest(self) -> Literal["Wh", "mL"]:
        """The unit in which the input's values are whole numbers everywhere inside the broker."""
        return "Wh" if self.unit in _TEN["Wh"] else "mL"

    @property
    def factor(self) -> int:
        """How many of the smallest unit make one of the input's unit, in which conditions are written."""
        return unit_divisor(self.smallest, self.unit)


class WindowRule(_Model):
    """Windows in local time; lateness: how long after its end a base window waits for late readings."""

    length: Literal["PT1H", "P1D", "P1M"]
    base: Literal["PT1H", "P1D"]
    timezone: Annotated[str, AfterValidator(_timezone)]
    lateness: Span = "PT0S"
    on_stall: Literal["hold", "release_without"] = "hold"
    max_hold: Span = "P10D"

    @model_validator(mode="after")
    def _base_fits(self) -> WindowRule:
        if LENGTHS.index(self.base) > LENGTHS.index(self.length):
            raise ValueError(f"length {self.length} is shorter than its base {self.base}")
        return self


class EventTime(_Model):
    """A silent stream counts as complete up to `idle_after` before the newest event of its partner."""

    idle_after: Span


class Watermark(_Model):
    """`marks` (the partner says what is complete; event_time is None) or {event_time: {idle_after}}."""

    event_time: EventTime | None

    @model_validator(mode="before")
    @classmethod
    def _either(cls, value: Any) -> Any:
        if value == "marks":
            return {"event_time": None}
        if isinstance(value, Watermark) or (isinstance(value, dict) and value.get("event_time")):
            return value
        raise ValueError("write `marks` or {event_time: {idle_after: PT6H}}")

    @model_serializer(mode="plain")
    def _as_written(self) -> Any:
        return (
            "marks" if self.event_time is None else {"event_time": {"idle_after": self.event_time.idle_after}}
        )


class AreaRule(_Model):
    """levels from fine to coarse; group: the release group, which is the coarsest of them."""

    hierarchy: Words
    levels: Annotated[Keys, Field(min_length=1)]
    group: Key

    @model_validator(mode="after")
    def _group_on_top(self) -> AreaRule:
        if self.group != self.levels[-1]:
            raise ValueError(
                f"group must be the last (coarsest) of levels, here `{self.levels[-1]}`: its table is "
                f"decided as a whole"
            )
        return self


class Count(_Model):
    """Premises that meet every condition of `where`; with `join: none`, those present in `input` (or in
    any).
    """

    kind: Literal["count"]
    where: Where = {}
    input: Key | None = None


class Sum(_Model):
    """Total of one input over the premises that meet `where`, published in `unit`."""

    kind: Literal["sum"]
    input: Key | None = None  # filled in where the policy has one input
    unit: Literal["Wh", "kWh", "MWh", "GWh", "mL", "L", "m3"]
    where: Where = {}


class Mean(_Model):
    """A published sum over a published count."""

    kind: Literal["mean"]
    of: tuple[Key, Key]


class Ratio(_Model):
    """A published figure over another: numerator, denominator."""

    kind: Literal["ratio"]
    of: tuple[Key, Key]


Measure = Annotated[Count | Sum | Mean | Ratio, Field(discriminator="kind")]


class Rounding(_Model):
    """counts: to this base; magnitudes: to this many significant digits."""

    counts: Positive | None = None
    magnitudes: Annotated[StrictInt, Field(ge=1, le=15)] | None = None


class Waiver(_Model):
    """`holding` accepts that its part of `column` (an input) shows at these levels and in the areas of these
    codes, nowhere else; `basis`: the law that says so."""

    holding: Name
    column: Key
    basis: Words
    areas: Annotated[tuple[Area, ...], Field(min_length=1), AfterValidator(_distinct)]


class Disclosure(_Model):
    """Rules of disclosure control (Handbook on SDC, ch. 4). The five without default must be stated.

    dominance: (n, k): unsafe where the n largest exceed k % of the total. p_percent, k: percent, exact.
    """

    min_contributors: Positive
    min_holdings: Positive
    p_percent: Percent
    dominance: Annotated[tuple[tuple[Positive, Percent], ...], Field(min_length=1)]
    without_each_holding: StrictBool
    min_attestations: Whole = 0
    zero_is_sensitive: StrictBool = True
    prior_percent: Percent = Fraction(50)
    insider_margin: Whole = 5
    rounding: Rounding | None = None
    waivers: tuple[Waiver, ...] = ()
    sealed: Keys = ()

    @model_validator(mode="after")
    def _sealed_exist(self) -> Disclosure:
        unknown = sorted(set(self.sealed) - (set(type(self).model_fields) - {"sealed", "waivers"}))
        if unknown:
            raise ValueError(f"sealed names {', '.join(unknown)}, which is no parameter of disclosure")
        return self


class Retention(_Model):
    contributions: Literal["until-release"]
    releases: Annotated[str, StringConstraints(pattern=r"^P[0-9]{1,4}[YMWD]$")]


class Reference(_Model):
    """Dates from a public source: a CSV file with a column `date`, named by its digest."""

    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    sha256: Digest
    title: Text


class Policy(_Model):
    """One product. The fields, their names and their order are those of the policy file."""

    product: Name
    version: Positive
    domain: Name
    title: Text
    meaning: Text
    controllers: Names
    processor: Words
    dpia: Digest
    purpose: Key
    lawful_basis: LawfulBasis
    references: dict[Key, Reference] = {}
    inputs: Annotated[dict[Key, Input], Field(min_length=1)]
    join: Literal["premises", "none"]
    window: WindowRule
    watermark: Watermark = Watermark.model_construct(event_time=None)
    coverage: Annotated[Exact, Field(gt=0, le=1)]
    areas: AreaRule
    dimensions: Annotated[tuple[Literal["segment"], ...], AfterValidator(_distinct)] = ()
    measures: Annotated[dict[Key, Measure], Field(min_length=1)]
    disclosure: Disclosure
    recipients: Names
    licence: Words
    retention: Retention
    lines: dict[str, Text] = {}

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_elsewhere(cls, value: Any) -> Any:
        return _with_defaults(value) if isinstance(value, dict) else value


def _with_defaults(value: dict[str, Any]) -> dict[str, Any]:
    """Defaults that depend on another field; tolerant of any shape, which validation judges afterwards."""
    window, inputs, measures = (_mapping(value.get(field)) for field in ("window", "inputs", "measures"))
    filled = dict(value)
    if value.get("coverage") is None and window.get("length") in _COVERAGE:
        filled["coverage"] = _COVERAGE[window["length"]]
    if inputs:
        filled["inputs"] = {name: _input_defaults(spec, window.get("base")) for name, spec in inputs.items()}
    if measures:
        filled["measures"] = {
            name: _measure_defaults(spec, list(inputs), value.get("join")) for name, spec in measures.items()
        }
    return filled


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _input_defaults(spec: Any, base: Any) -> Any:
    if isinstance(spec, dict) and spec.get("kind") == "register" and spec.get("max_gap") is None:
        return {**spec, "max_gap": base}
    return spec


def _measure_defaults(spec: Any, inputs: list[str], join: Any) -> Any:
    """A measure's only possible input: the policy's only one, or under `join: none` the one that `where`
    names.
    """
    if (
        not isinstance(spec, dict)
        or spec.get("kind") not in ("sum", "count")
        or spec.get("input") is not None
    ):
        return spec
    where = spec.get("where")
    if spec["kind"] == "sum" and len(inputs) == 1:
        return {**spec, "input": inputs[0]}
    if join == "none" and isinstance(where, dict) and len(where) == 1:
        return {**spec, "input": next(iter(where))}
    return spec


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
