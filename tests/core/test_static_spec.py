"""A SPEC says what it means or is refused, with the field that is wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from broker.core.errors import BrokerError, InputError, Refused
from broker.core.static.spec import load

WHOLE = """
dimensions: {region: {hierarchy: regions.csv}, sector: {}}
value: turnover
contributor: company
holding: group
weight: w
rules: {min_contributors: 3, min_holdings: 2, p_percent: 12.5, dominance: [[1, 85], [2, 90.5]],
        zero_is_sensitive: true, without_each_holding: true}
protect: {singletons: false, insiders: false, intervals: false, prior: 20}
linked:
  - {name: zones, dimensions: {zone: , sector: {}}}
"""


def test_every_field_of_a_whole_spec_is_read() -> None:
    spec = load(WHOLE, "s.yaml")
    assert spec.dimensions["region"].hierarchy == "regions.csv"
    assert (spec.value, spec.contributor, spec.holding, spec.weight) == ("turnover", "company", "group", "w")
    assert spec.rules.dominance == ((1, Fraction(85)), (2, Fraction(181, 2)))
    assert (spec.rules.min_contributors, spec.rules.min_holdings, spec.rules.p_percent) == (
        3,
        2,
        Fraction(25, 2),
    )
    assert spec.rules.zero_is_sensitive and spec.rules.without_each_holding
    assert spec.protect.prior == 20
    assert not (spec.protect.singletons or spec.protect.insiders or spec.protect.intervals)
    assert list(spec.tables) == ["", "zones"]
    assert spec.tables["zones"]["zone"].hierarchy is None


def test_a_protection_that_is_left_out_is_on() -> None:
    protect = load("dimensions: {a: }\nrules: {p_percent: 10}", "s.yaml").protect
    assert protect.singletons and protect.insiders and protect.intervals and protect.prior == 50
    share = load("dimensions: {a: }\nrules: {p_percent: 10}\nprotect: {prior: 0.5}", "s.yaml").protect
    assert share.prior == 50  # nobody means half a percent by it
    off = load("dimensions: {a: }\nrules: {p_percent: 10}\nprotect: {prior: false}", "s.yaml").protect
    assert off.prior is None and off.insiders


RULES = "\nrules: {p_percent: 10}"
WRONG: dict[str, tuple[str, type[BrokerError], str]] = {
    "unknown field": ("dimensions: {a: }\nprotekt: {}" + RULES, InputError, "did you mean `protect`"),
    "unknown rule": ("dimensions: {a: }\nrules: {min_contributor: 3}", InputError, "`min_contributors`"),
    "unknown field of a dimension": ("dimensions: {a: {hierarchi: x}}" + RULES, InputError, "`dimensions.a.hierarchi`"),
    "no dimension": ("dimensions: {}" + RULES, InputError, "`dimensions` must not be empty"),
    "no dimensions": ("value: x" + RULES, InputError, "`dimensions` is missing"),
    "no rule": ("dimensions: {a: }", Refused, "empty_rule"),
    "no rule in rules": ("dimensions: {a: }\nrules: {}", Refused, "empty_rule"),
    "all rules off": ("dimensions: {a: }\nrules: {zero_is_sensitive: false}", Refused, "empty_rule"),
    "a rule without a value": ("dimensions: {a: }\nrules: {p_percent: }", InputError, "`rules.p_percent` is empty"),
    "percent beyond 100": ("dimensions: {a: }\nrules: {p_percent: 101}", InputError, "`rules.p_percent` is `101`"),
    "a word for a truth": ("dimensions: {a: }\nrules: {zero_is_sensitive: yes}", InputError, "true or false"),
    "half a pair": ("dimensions: {a: }\nrules: {dominance: [[1]]}", InputError, "`rules.dominance.0.1` is missing"),
    "a pair unnested": ("dimensions: {a: }\nrules: {dominance: [1, 85]}", InputError, "rules.dominance"),
    "prior of nothing": ("dimensions: {a: }\nprotect: {prior: 0}" + RULES, InputError, "false for no prior"),
    "one column, two roles": ("dimensions: {a: }\nvalue: x\nweight: x" + RULES, InputError, "x has two roles"),
    "dimension and value": ("dimensions: {a: }\nvalue: a" + RULES, InputError, "a is a dimension"),
    "a dimension named like a column": ("dimensions: {status: }" + RULES, InputError, "status"),
    "two linked of one name": (
        "dimensions: {a: }\nlinked: [{name: z, dimensions: {b: }}, {name: z, dimensions: {c: }}]" + RULES,
        InputError,
        "one name",
    ),
    "a linked name that is a path": (
        "dimensions: {a: }\nlinked: [{name: ../z, dimensions: {b: }}]" + RULES, InputError, "`linked.0.name`",
    ),
    "a key twice": ("dimensions: {a: }\nrules: {p_percent: 10, p_percent: 5}", InputError, "occurs twice"),
    "no mapping": ("- a", InputError, "must hold one mapping"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_with_its_place(kind: str) -> None:
    text, error, said = WRONG[kind]
    with pytest.raises(error) as refused:
        load(text, "s.yaml")
    assert said in str(refused.value)
    assert "s.yaml" in str(refused.value)
