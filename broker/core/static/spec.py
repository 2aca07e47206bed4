"""The SPEC of a static table: its dimensions, which columns mean what, and what must stay unknown.

    dimensions: {region: {hierarchy: regions.csv}, sector: {}}     # {} = flat, with a total
    value: turnover
    contributor: company
    holding: group
    weight: weight
    rules: {min_contributors: 3, min_holdings: 2, p_percent: 15, dominance: [[1, 85]],
            zero_is_sensitive: true, without_each_holding: true}
    protect: {singletons: true, insiders: true, intervals: true, prior: 50}
    linked: [{name: zones, dimensions: {zone: {}, sector: {}}}]

Invariants
- A rule that is absent is not applied; a SPEC without any rule is refused, since it would protect nothing. A rule
  that is written down without a value is a mistake, not an absent one.
- A protection that is absent is on: nobody gets a weaker table by leaving a line out.
- A role (value, contributor, holding, weight) that is absent is played by the column of that name, if there is one.
- Closed: an unknown field is an error that names it and the nearest field that exists.
"""

from __future__ import annotations

from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from broker.core.errors import InputError, Refused
from broker.core.policy_fields import Exact, Line, Name, Percent, Positive
from broker.core.strict_yaml import read_mapping

TOTAL: Final = "Total"
"""The root of every hierarchy, and the margin in a table."""
ROLES: Final = ("value", "contributor", "holding", "weight")
PRIOR: Final = Fraction(50)
"""What an attacker knows of every finest cell unless SPEC says otherwise, ± percent."""
OUTPUT: Final = ("value", "contributors", "status", "reason")
"""The columns of a table after its dimensions."""


def _switched(value: object) -> object:
    return {False: None, True: PRIOR}[value] if isinstance(value, bool) else value


def _percent(value: Fraction | None) -> Fraction | None:
    """A number below 1 is a share: nobody means half a percent by 0.5."""
    if value is None:
        return None
    if not 0 < value <= 100:
        raise ValueError("write percent (50) or a share (0.5) for ±50 %, or false for no prior knowledge")
    return value if value >= 1 else value * 100


Prior = Annotated[Exact | None, BeforeValidator(_switched), AfterValidator(_percent)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Dimension(_Closed):
    """hierarchy: a CSV file `child,parent`, its path relative to the SPEC; none: flat with a total."""

    hierarchy: Line | None = None


def _flat(value: object) -> object:
    return {} if value is None else value


Dimensions = Annotated[
    dict[Line, Annotated[Dimension, BeforeValidator(_flat)]], Field(min_length=1, max_length=20)
]


class Rules(_Closed):
    """Primary rules (see `judge`). dominance: (n, k in percent) pairs; p_percent: percent."""

    min_contributors: Positive = 1
    min_holdings: Positive = 1
    p_percent: Percent = Fraction(0)
    dominance: tuple[tuple[Positive, Percent], ...] = ()
    zero_is_sensitive: StrictBool = False
    without_each_holding: StrictBool = False


class Protect(_Closed):
    """Against whom a suppressed figure is protected, and how far.

    singletons: someone alone in a cell knows that it is. insiders: each holding knows its own part of every cell.
    intervals: nobody can pin an unsafe figure closer than its level; off: nobody can compute it exactly. prior: what
    an attacker knows beforehand of every finest cell, ± percent; None: only that nothing is negative.
    """

    singletons: StrictBool = True
    insiders: StrictBool = True
    intervals: StrictBool = True
    prior: Prior = PRIOR


class Linked(_Closed):
    """A further table over the same microdata; `name` becomes part of its file's name."""

    name: Name
    dimensions: Dimensions


class Spec(_Closed):
    """One table and those linked to it."""

    dimensions: Dimensions
    value: Line | None = None
    contributor: Line | None = None
    holding: Line | None = None
    weight: Line | None = None
    rules: Rules = Rules()
    protect: Protect = Protect()
    linked: tuple[Linked, ...] = ()

    @model_validator(mode="after")
    def _columns_have_one_meaning(self) -> Spec:
        named = [getattr(self, role) for role in ROLES if getattr(self, role) is not None]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"column {', '.join(twice)} has two roles: each of {', '.join(ROLES)} is its own column"
            )
        both = sorted(set(named) & self.columns)
        if both:
            raise ValueError(
                f"column {', '.join(both)} is a dimension and has another role besides: keep one"
            )
        taken = sorted(self.columns & set(OUTPUT))
        if taken:
            raise ValueError(
                f"a dimension cannot be named {', '.join(taken)}: the table has a column of that name"
            )
        names = [table.name for table in self.linked]
        if len(set(names)) < len(names):
            raise ValueError("two linked tables have one name: their files would be the same")
        return self

    @property
    def columns(self) -> set[str]:
        """The columns that are dimensions of any table."""
        tables = (self.dimensions, *(table.dimensions for table in self.linked))
        return {column for dimensions in tables for column in dimensions}

    @property
    def tables(self) -> dict[str, dict[str, Dimension]]:
        """Dimensions of every table by its name; the first, `""`, is the main one."""
        return {"": self.dimensions, **{table.name: table.dimensions for table in self.linked}}


def load(text: str, name: str) -> Spec:
    """Read a SPEC from YAML text; `name` is its file name for messages.

    Raises InputError (`bad_yaml`, `unknown_field`, `bad_spec`), whose message lists every offending field, or Refused
    (`empty_rule`) where no rule is stated.
    """
    values = read_mapping(text, name)
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        findings = error.errors(include_url=False)
        unknown = any(finding["type"] == "extra_forbidden" for finding in findings)
        what = "; ".join(_sentence(finding) for finding in findings)
        raise InputError("unknown_field" if unknown else "bad_spec", what, where=name) from None
    if spec.rules == Rules() and not spec.rules.model_fields_set - {
        "zero_is_sensitive",
        "without_each_holding",
    }:
        raise Refused(
            "empty_rule",
            f"`rules` states no rule, so that nothing would be protected: write some of "
            f"{', '.join(Rules.model_fields)}",
            where=name,
        )
    return spec


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Spec,
    "dimensions.*": Dimension,
    "rules": Rules,
    "protect": Protect,
    "linked.*": Linked,
    "linked.*.dimensions.*": Dimension,
}
_WORDS: Final = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping {name: …}",
    "model_type": "must be a mapping {field: …}",
    "tuple_type": "must be a list [ … ]",
    "too_short": "must not be empty",
}


def _sentence(finding: ErrorDetails) -> str:
    steps = [str(step) for step in finding["loc"] if step != "[key]"]
    path, kind = ".".join(steps), finding["type"]
    if kind == "extra_forbidden":
        return f"`{path}` is not a field of a SPEC{_suggestion(steps)}"
    if not steps:
        return finding["msg"].removeprefix("Value error, ")
    if finding["input"] is None and kind != "missing":
        return f"`{path}` is empty: write its value, or leave the line out"
    if kind in _WORDS:
        return f"`{path}` {_WORDS[kind]}"
    said = finding["msg"].removeprefix("Value error, ")
    return f"`{path}` is {_shown(finding['input'])}: {said[0].lower()}{said[1:]}"


def _shown(value: Any) -> str:
    return f"`{value!s:.60}`" if isinstance(value, str | int) else "a list or mapping"


def _suggestion(steps: list[str]) -> str:
    *parent, field = steps
    fields = next((list(model.model_fields) for at, model in _MODELS.items() if _matches(at, parent)), [])
    near = get_close_matches(field, fields, n=1, cutoff=0.6)
    if near:
        return f": did you mean `{near[0]}`?"
    return f": the fields there are {', '.join(fields)}"


def _matches(pattern: str, steps: list[str]) -> bool:
    parts = pattern.split(".") if pattern else []
    return len(parts) == len(steps) and all(a in ("*", b) for a, b in zip(parts, steps, strict=True))
