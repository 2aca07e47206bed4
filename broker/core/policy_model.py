"""The fields of a product policy, one model per mapping of the file. Use them through `policy`.

Invariants
- Frozen and closed: an unknown field is an error. Values that are no mappings are in `policy_fields`.
- What one field says about another is in `policy_checks`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_serializer,
    model_validator,
)

from broker.core.calendar import LENGTHS
from broker.core.policy_defaults import with_defaults
from broker.core.policy_fields import (
    Digest,
    Distinct,
    Exact,
    Line,
    Name,
    Names,
    Percent,
    Positive,
    ProductName,
    Span,
    Unit,
    Where,
    Whole,
    Words,
    Zone,
    smallest_unit,
    unit_divisor,
)


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
    start, which therefore waits for marks 25 h (the longest interval) beyond its end. net: values may be negative
    (feed-in: `{measure: electricity, …, net: true}`), and rules judge |x|; without it a negative reading is
    quarantined. days: only base windows on the dates of that reference count.
    """

    measure: Name
    unit: Unit
    kind: Literal["interval", "register"]
    partners: Names
    qualities: Names
    max_gap: Span | None = None
    assign: Literal["start"] | None = None
    net: StrictBool = False
    days: Name | None = None

    @property
    def smallest(self) -> Literal["Wh", "mL"]:
        """The unit in which the input's values are whole numbers everywhere inside the broker."""
        return smallest_unit(self.unit)

    @property
    def factor(self) -> int:
        """How many of the smallest unit make one of the input's unit, in which conditions are written."""
        return unit_divisor(self.smallest, self.unit)


class WindowRule(_Model):
    """Windows in local time; lateness: how long after its end a base window waits for late readings."""

    length: Literal["PT1H", "P1D", "P1M"]
    base: Literal["PT1H", "P1D"]
    timezone: Zone
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
    """levels: those that are published, from fine to coarse; group: the release group, the level whose areas are
    decided as a whole, which is the coarsest of them or lies above all of them."""

    hierarchy: Words
    levels: Annotated[tuple[Line, ...], Field(min_length=1), Distinct]
    group: Line

    @model_validator(mode="after")
    def _group_on_top(self) -> AreaRule:
        if self.group in self.levels[:-1]:
            raise ValueError(
                f"group must be the last (coarsest) of levels, here `{self.levels[-1]}`, or a level above them: "
                f"its table is decided as a whole"
            )
        return self


class Count(_Model):
    """Premises that meet every condition of `where`; with `join: none`, those present in `input` (or in
    any).
    """

    kind: Literal["count"]
    where: Where = {}
    input: Name | None = None


class Sum(_Model):
    """Total of one input over the premises that meet `where`, published in `unit`."""

    kind: Literal["sum"]
    input: Name | None = None  # filled in where the policy has one input
    unit: Unit
    where: Where = {}


class Mean(_Model):
    """A published sum over a published count."""

    kind: Literal["mean"]
    of: tuple[Name, Name]


class Ratio(_Model):
    """A published figure over another: numerator, denominator."""

    kind: Literal["ratio"]
    of: tuple[Name, Name]


Measure = Annotated[Count | Sum | Mean | Ratio, Field(discriminator="kind")]


class Rounding(_Model):
    """counts: to this base; magnitudes: to this many significant digits."""

    counts: Positive | None = None
    magnitudes: Annotated[StrictInt, Field(ge=1, le=15)] | None = None


class Waiver(_Model):
    """`holding` accepts that its part of `column` (an input) shows at these levels and in the areas of these
    codes, nowhere else; `basis`: the law that says so."""

    holding: Line
    column: Name
    basis: Words
    areas: Annotated[tuple[Line, ...], Field(min_length=1), Distinct]


class Disclosure(_Model):
    """Rules of disclosure control (Handbook on SDC, ch. 4).

    dominance: (n, k): unsafe where the n largest exceed k % of the total. p_percent, k: percent, exact.
    The five without default must be stated. The others may be left out and then have their safe value, that of the
    published example. `rounding` alone is off where it is left out: the rules judge exact values, so that rounding
    makes no figure safe that was not. `min_attestations` is signed, but not enforced yet: a dry run says so.
    """

    min_contributors: Positive
    min_holdings: Positive
    p_percent: Percent
    dominance: Annotated[tuple[tuple[Positive, Percent], ...], Field(min_length=1)]
    without_each_holding: StrictBool
    min_attestations: Whole = 2
    zero_is_sensitive: StrictBool = True
    prior_percent: Percent = Fraction(50)
    insider_margin: Whole = 5
    rounding: Rounding | None = None
    waivers: tuple[Waiver, ...] = ()
    sealed: Annotated[tuple[Name, ...], Distinct] = ()

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

    product: ProductName
    version: Positive
    domain: Name
    title: Text
    meaning: Text
    controllers: Names
    processor: Words
    dpia: Digest
    purpose: Line
    lawful_basis: LawfulBasis
    references: dict[Name, Reference] = {}
    inputs: Annotated[dict[Name, Input], Field(min_length=1)]
    join: Literal["premises", "none"]
    window: WindowRule
    watermark: Watermark = Watermark.model_construct(event_time=None)
    coverage: Annotated[Exact, Field(gt=0, le=1)]
    areas: AreaRule
    dimensions: Annotated[tuple[Literal["segment"], ...], Distinct] = ()
    measures: Annotated[dict[Name, Measure], Field(min_length=1)]
    disclosure: Disclosure
    recipients: Names
    licence: Words
    retention: Retention
    lines: dict[str, Text] = {}

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_elsewhere(cls, value: Any) -> Any:
        return with_defaults(value) if isinstance(value, dict) else value
