"""An empty rule means no release, a missing one too or its safe value: nothing loose is assumed."""

from __future__ import annotations

from typing import Any

import pytest
from policy_samples import changed, sample

from broker.core import policy_model
from broker.core.errors import BrokerError, InputError, Refused
from broker.core.policy import canonical, from_canonical, load, resolve


def failure(*changes: tuple[str, Any]) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        load(changed(*changes), "p.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("disclosure.min_contributors", "disclosure.min_contributors"),
        ("disclosure.min_holdings", "disclosure.min_holdings"),
        ("disclosure.p_percent", "disclosure.p_percent"),
        ("disclosure.dominance", "disclosure.dominance"),
        ("disclosure.without_each_holding", "disclosure.without_each_holding"),
        ("disclosure", "disclosure"),
        ("dpia", "dpia"),
        ("purpose", "purpose"),
        ("lawful_basis", "lawful_basis"),
        ("recipients", "recipients"),
        ("retention", "retention"),
        ("controllers", "controllers"),
    ],
)
@pytest.mark.parametrize("value", [..., None, "", []])
def test_a_missing_or_empty_rule_or_ground_means_no_release(path: str, name: str, value: Any) -> None:
    error = failure((path, value))
    assert isinstance(error, Refused)
    assert error.reason == "empty_rule"
    assert f"`{name}`" in error.what
    assert "means no release" in error.what


RULES = [
    *(f"disclosure.{name}" for name in policy_model.Disclosure.model_fields),
    "disclosure.rounding.counts",
    "disclosure.rounding.magnitudes",
    "coverage",
    "recipients",
    "lawful_basis",
    "retention",
]


@pytest.mark.parametrize("path", RULES)
@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_rule_that_is_written_down_and_empty_means_no_release(path: str, value: Any) -> None:
    if value == [] and path in ("disclosure.waivers", "disclosure.sealed"):
        assert sample((path, value))  # none, on purpose
        return
    error = failure((path, value))
    assert (error.reason, error.exit_code) == ("empty_rule", 3)
    assert f"`{path}" in error.what


@pytest.mark.parametrize("value", [[[]], [None], [{}]])
def test_a_dominance_rule_without_numbers_is_empty(value: Any) -> None:
    assert failure(("disclosure.dominance", value)).reason == "empty_rule"
    assert failure(("disclosure.dominance", [[1]])).reason == "bad_policy"


def test_an_empty_rule_beside_another_fault_is_named_with_it() -> None:
    error = failure(("disclosure.rounding", {}), ("disclosure.p_percent", ...), ("coverage", None))
    assert error.reason == "empty_rule"
    for path in ("disclosure.rounding", "disclosure.p_percent", "coverage"):
        assert error.what.count(f"`{path}`") == 1
    error = failure(("disclosure.rounding", {}), ("join", "houses"))
    assert (error.reason, "`disclosure.rounding`" in error.what) == ("bad_policy", True)


def test_a_rule_left_out_has_its_safe_value_and_the_resolved_policy_says_so() -> None:
    left_out = ("min_attestations", "zero_is_sensitive", "prior_percent", "insider_margin", "rounding")
    rules = resolve(sample(*((f"disclosure.{name}", ...) for name in left_out)))["disclosure"]
    assert {name: rules[name] for name in left_out} == {
        "min_attestations": 2,
        "zero_is_sensitive": True,
        "prior_percent": 50,
        "insider_margin": 5,
        "rounding": None,
    }
    policy = sample(("disclosure.rounding", ...))
    assert from_canonical(canonical(policy), "log") == policy


def test_a_rule_can_be_switched_off_only_by_saying_so() -> None:
    off = sample(
        ("disclosure.min_contributors", 1),
        ("disclosure.min_holdings", 1),
        ("disclosure.p_percent", 0),
        ("disclosure.dominance", [[1, 100]]),
        ("disclosure.without_each_holding", False),
    )
    assert off.disclosure.dominance == ((1, 100),)
    assert "[[1, 100]] switches it off" in failure(("disclosure.dominance", [])).what
    assert isinstance(failure(("disclosure.min_contributors", 0)), InputError)


def test_a_waiver_without_a_legal_basis_is_refused() -> None:
    waiver = {"holding": "water-holding", "column": "water", "areas": ["commune"]}
    error = failure(("disclosure.waivers", [waiver]))
    assert (error.reason, type(error)) == ("empty_rule", Refused)
