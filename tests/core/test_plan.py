"""A territory's plan: one bit per product, one pace per domain, and no plan from files that contradict each
other.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_samples import sample

from broker.core.areas import AreaTree
from broker.core.calendar import DAY, HOUR, Calendar
from broker.core.errors import InputError, Refused
from broker.core.plan import Activation, Stream, build_plan
from broker.core.policy import Policy, digest


def tree(*rows: tuple[str, str | None, str]) -> AreaTree:
    return AreaTree.from_rows(
        "iris-2026", pl.DataFrame(rows, schema=["area", "parent", "level"], orient="row")
    )


AREAS = tree(("e", None, "epci"), ("c", "e", "commune"), ("i", "c", "iris"))
STREAMS = [
    Stream("energy-a", "holding-a", "power", "electricity", "interval", "Wh"),
    Stream("energy-b", "holding-b", "power", "electricity", "interval", "Wh"),
    Stream("energy-b", "holding-b", "feed-in", "feed-in", "interval", "Wh", net=True),
    Stream("water-n", "water-holding", "water", "water", "register", "mL"),
]
GAS = {"measure": "gas", "unit": "Wh", "kind": "interval", "partners": ["gas-c"], "qualities": ["measured"]}
COLD = {"cold-days": frozenset({"2026-01-03"})}


def active(*changes: tuple[str, Any]) -> Activation:
    return Activation(sample(*changes), 1_000, COLD)


def plan(*activations: Activation, streams: list[Stream] = STREAMS, timezone: str = "Europe/Paris") -> Any:
    return build_plan(activations, streams, AREAS, timezone)


def test_a_product_knows_its_streams_references_and_digest() -> None:
    one = active()
    domain = plan(one).domains["housing"]
    (product,) = domain.products
    assert product.inputs == {"energy": (STREAMS[0], STREAMS[1]), "water": (STREAMS[3],)}
    assert product.streams == domain.streams == (STREAMS[0], STREAMS[1], STREAMS[3])
    assert product.references == COLD
    assert (product.digest, product.active_from, product.bit) == (digest(one.policy), 1_000, 0)
    assert (domain.base, domain.lateness, domain.calendar) == ("P1D", DAY, Calendar("Europe/Paris"))
    assert (domain.max_gap, domain.assign_start) == ({"water": 2 * DAY}, frozenset())
    assert domain.group_level == product.group_level == "epci"
    assert STREAMS[0].topic == "in.energy-a.power"


@settings(max_examples=10, deadline=None)
@given(st.permutations(["alpha", "beta", "gamma"]))
def test_bits_follow_names_not_the_order_of_files(names: list[str]) -> None:
    found = plan(*[active(("product", name)) for name in names])
    bits = {p.name: p.bit for p in found.domains["housing"].products}
    assert bits == {"alpha": 0, "beta": 1, "gamma": 2}
    assert set(found.products()) == set(bits)


def test_domains_do_not_share_bits_or_pace() -> None:
    hourly = active(
        ("product", "hourly"), ("domain", "grid"), ("window.base", "PT1H"), ("inputs.water.max_gap", "PT1H")
    )
    found = plan(active(), hourly)
    assert [d.products[0].bit for d in found.domains.values()] == [0, 0]
    assert found.domains["grid"].base == "PT1H"
    assert found.domains["grid"].max_gap == {"water": HOUR}


def test_without_active_policies_the_plan_is_empty() -> None:
    assert plan().domains == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ([("window.base", "PT1H"), ("inputs.water.max_gap", "PT2H")], "window.base"),
        ([("window.lateness", "PT0S")], "window.lateness"),
        ([("window.timezone", "Europe/Brussels")], "window.timezone"),
        ([("inputs.water.max_gap", "P1D")], "max_gap of water"),
        ([("inputs.energy.assign", "start")], "assign of electricity"),
        ([("areas.levels", ["iris", "commune"]), ("areas.group", "commune")], "areas.group"),
    ],
)
def test_products_that_disagree_are_refused(changes: list[tuple[str, Any]], field: str) -> None:
    with pytest.raises(Refused, match="domain_disagrees") as caught:
        plan(active(), active(("product", "weekly"), *changes))
    assert field in caught.value.what
    assert "vacancy-monthly" in caught.value.what
    assert "weekly" in caught.value.what
    assert "domain housing" in caught.value.where


def test_two_domains_need_one_release_level_too() -> None:
    """The lane of a row follows from the index of its release group."""
    levels = [("areas.levels", ["iris", "commune"]), ("areas.group", "commune")]
    with pytest.raises(Refused, match="domain_disagrees") as caught:
        plan(active(), active(("product", "weekly"), ("domain", "grid"), *levels))
    for said in ("areas.group", "vacancy-monthly has epci", "weekly has commune"):
        assert said in caught.value.what


def by_event_time(*changes: tuple[str, Any], after: str = "PT6H") -> Activation:
    return active(("product", "weekly"), ("watermark", {"event_time": {"idle_after": after}}), *changes)


@pytest.mark.parametrize("domain", ["housing", "grid"])
def test_one_stream_is_not_taken_by_marks_and_by_event_time(domain: str) -> None:
    """Else the newest reading would close the windows of who waits for a mark, in whichever domain."""
    with pytest.raises(Refused, match="watermark_disagrees") as caught:
        plan(active(), by_event_time(("domain", domain)))
    said = "vacancy-monthly@1 takes it by completeness marks, weekly@1 by event time"
    assert said in caught.value.what
    assert caught.value.where == "stream in.energy-a.power"


def test_products_that_ask_alike_or_share_no_stream_may_choose_their_watermark() -> None:
    assert plan(by_event_time(), by_event_time(("product", "other"), after="PT1H")).domains
    other = Stream("gas-c", "holding-c", "gas", "gas", "interval", "Wh")
    alone = by_event_time(
        ("controllers", ["gas-c"]),
        ("references", ...),
        ("inputs", {"gas": GAS}),
        ("measures", {"used": {"kind": "sum", "input": "gas", "unit": "kWh"}}),
        ("disclosure.waivers", []),
        ("disclosure.min_attestations", ...),
    )
    assert plan(active(), alone, streams=[*STREAMS, other]).domains


def test_the_same_in_words_is_no_disagreement() -> None:
    domain = plan(active(), active(("product", "weekly"), ("window.lateness", "PT24H"))).domains["housing"]
    assert domain.lateness == DAY


def test_assigning_by_start_is_per_measure() -> None:
    assert plan(active(("inputs.energy.assign", "start"))).domains["housing"].assign_start == {"electricity"}


def test_windows_are_shut_later_only_for_streams_whose_intervals_reach_over_their_end() -> None:
    domain = plan(active(("inputs.energy.assign", "start"))).domains["housing"]
    electricity, water_register = STREAMS[0], STREAMS[3]
    assert domain.shut(10 * DAY, water_register) == 11 * DAY  # lateness
    assert domain.shut(10 * DAY, electricity) == 11 * DAY + 25 * HOUR
    register = Stream("energy-a", "holding-a", "index", "electricity", "register", "Wh")
    assert domain.shut(10 * DAY, register) == 11 * DAY


def without(partner: str) -> list[Stream]:
    return [stream for stream in STREAMS if stream.partner != partner]


def water(
    holding: str = "water-holding", kind: str = "register", unit: str = "mL", net: bool = False
) -> list[Stream]:
    return [*without("water-n"), Stream("water-n", holding, "water", "water", kind, unit, net)]


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        (without("water-n"), "partner water-n, which has no register stream of water"),
        (water(kind="interval"), "no register stream"),
        (water(unit="Wh"), "in.water-n.water is in Wh"),
        (water(net=True), "net: true"),
        (water(holding="other"), "a waiver names holding water-holding"),
    ],
)
def test_an_input_without_its_stream_is_named(streams: list[Stream], said: str) -> None:
    with pytest.raises(InputError, match="bad_plan") as caught:
        plan(active(), streams=streams)
    assert said in caught.value.what
    assert caught.value.where == "product vacancy-monthly"


def test_levels_hierarchy_zone_references_and_names_are_checked_against_the_territory() -> None:
    cases: list[tuple[list[Activation], str, str]] = [
        ([active()], "UTC", "the territory's is UTC"),
        ([active(("areas.hierarchy", "iris-2025"))], "Europe/Paris", "the territory's is iris-2026"),
        ([active(("areas.levels", ["zone", "commune", "epci"]))], "Europe/Paris", "no level zone"),
        (
            [active(("areas.levels", ["commune", "iris", "epci"]))],
            "Europe/Paris",
            "commune `c` lies in no iris",
        ),
        ([Activation(sample(), 0, {})], "Europe/Paris", "reference cold-days"),
        ([active(), active(("version", 2))], "Europe/Paris", "unique in the territory"),
        ([active(), active(("domain", "grid"))], "Europe/Paris", "unique in the territory"),
    ]
    for activations, timezone, said in cases:
        with pytest.raises(InputError, match="bad_plan") as caught:
            plan(*activations, timezone=timezone)
        assert said in caught.value.what


def test_a_waiver_names_levels_of_the_policy_and_areas_of_the_territory() -> None:
    def waived(*areas: str) -> Activation:
        waiver = {"holding": "water-holding", "column": "water", "basis": "Law", "areas": list(areas)}
        return active(("disclosure.waivers", [waiver]))

    areas = tree(("33063", None, "epci"), ("2A004", "33063", "commune"), ("i", "2A004", "iris"))
    assert build_plan([waived("commune", "2A004", "33063")], STREAMS, areas, "Europe/Paris").domains
    with pytest.raises(InputError, match="bad_plan") as caught:
        build_plan([waived("commune", "33064")], STREAMS, areas, "Europe/Paris")
    assert "a waiver names 33064: neither a level of the policy nor an area of iris-2026" in caught.value.what


def test_versions_whose_spans_meet_are_products_of_their_own() -> None:
    one, two = active(), active(("version", 2))
    found = plan(replace(two, active_from=5_000), replace(one, active_until=5_000))
    assert [(p.key, p.bit) for p in found.domains["housing"].products] == [
        ("vacancy-monthly@1", 0),
        ("vacancy-monthly@2", 1),
    ]


def test_a_plan_travels_to_a_worker_process_whole() -> None:
    sent = plan(by_event_time(), by_event_time(("product", "other")))
    arrived = pickle.loads(pickle.dumps(sent))
    assert arrived.domains == sent.domains
    assert arrived.areas.digest() == sent.areas.digest()
    assert [p.digest for p in arrived.domains["housing"].products] == [
        digest(p.policy) for p in arrived.domains["housing"].products
    ]


def test_a_domain_holds_63_products() -> None:
    base: Policy = sample()
    many = [Activation(base.model_copy(update={"product": f"p{n:02d}"}), 0, COLD) for n in range(64)]
    assert max(p.bit for p in plan(*many[:63]).domains["housing"].products) == 62
    with pytest.raises(Refused, match="too_many_products"):
        plan(*many)
