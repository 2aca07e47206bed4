"""Which products run: those that every partner signed, whatever is wrong with the others."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from policy_samples import changed

from broker.core.agreement import partners_of, sign_agreement
from broker.core.areas import AreaTree
from broker.core.calendar import FIRST, LAST
from broker.core.control import ControlState
from broker.core.errors import BrokerError, Refused
from broker.core.note import make_signer
from broker.core.policy import load

AREAS = AreaTree.from_rows(
    "iris-2026",
    pl.DataFrame(
        [("e", None, "epci"), ("c", "e", "commune"), ("i", "c", "iris")],
        schema=["area", "parent", "level"],
        orient="row",
    ),
)
COLD = "date\n2026-01-03\n"
SIGNERS = {name: make_signer(name, name.encode().ljust(32)) for name in ("energy-a", "energy-b", "water-n")}
POWER = {"name": "power", "measure": "electricity", "kind": "interval", "unit": "Wh", "net": False}
WATER = {"name": "water", "measure": "water", "kind": "register", "unit": "mL"}
PARTNERS: dict[str, dict[str, Any]] = {
    "energy-a": {"holding": "holding-a", "streams": [POWER]},
    "energy-b": {"holding": "holding-b", "streams": [POWER]},
    "water-n": {"holding": "water-holding", "streams": [WATER]},
}


def text(product: str, *changes: tuple[str, Any]) -> str:
    digest = f"sha256:{sha256(COLD.encode()).hexdigest()}"
    return changed(("product", product), ("references.cold-days.sha256", digest), *changes)


def activation(product: str, *changes: tuple[str, Any]) -> dict[str, Any]:
    policy = load(text(product, *changes), product)
    notes = {partner: sign_agreement(policy, SIGNERS[partner]) for partner in partners_of(policy)}
    return {
        "policy": text(product, *changes),
        "agreements": notes,
        "active_from": 1000,
        "references": {"cold-days": COLD},
    }


def state(**activations: dict[str, Any]) -> ControlState:
    control = ControlState()
    for name, partner in PARTNERS.items():
        body = {**partner, "agreement_key": SIGNERS[name].verifier.vkey}
        assert control.apply("partner", name, json.dumps(body))
    for name, body in activations.items():
        assert control.apply("activation", f"{name}@1", json.dumps(body))
    return control


def running(control: ControlState) -> tuple[list[str], dict[str, list[str]]]:
    plan, left_out = control.plan(AREAS, "Europe/Paris")
    return sorted(plan.products()), left_out


def test_a_product_that_everybody_signed_runs_from_its_start() -> None:
    plan, left_out = state(alpha=activation("alpha")).plan(AREAS, "Europe/Paris")
    assert left_out == {}
    (domain,) = plan.domains.values()
    (product,) = domain.products
    assert product.active_from == 1000
    assert product.references == {"cold-days": frozenset({"2026-01-03"})}
    assert [stream.topic for stream in domain.streams] == [
        "in.energy-a.power",
        "in.energy-b.power",
        "in.water-n.water",
    ]


def unsigned() -> dict[str, Any]:
    return activation("alpha") | {"agreements": {}}


def one_missing() -> dict[str, Any]:
    body = activation("alpha")
    del body["agreements"]["water-n"]
    return body


def wrongly_signed() -> dict[str, Any]:
    body = activation("alpha")
    stranger = make_signer("energy-b", b"another key".ljust(32))
    body["agreements"]["energy-b"] = sign_agreement(load(body["policy"], "alpha"), stranger)
    return body


def signed_for_another() -> dict[str, Any]:
    body = activation("alpha")
    body["agreements"]["energy-a"] = body["agreements"]["energy-b"]
    return body


def altered() -> dict[str, Any]:
    return activation("alpha") | {"policy": text("alpha", ("disclosure.min_contributors", 3))}


def bad_reference() -> dict[str, Any]:
    return activation("alpha") | {"references": {"cold-days": COLD + "2026-01-04\n"}}


def no_reference() -> dict[str, Any]:
    return activation("alpha") | {"references": {}}


def garbage() -> dict[str, Any]:
    return activation("alpha") | {"policy": "product: [alpha"}


def unknown_field() -> dict[str, Any]:
    return activation("alpha") | {"policy": text("alpha") + "\nspecial: yes\n"}


def empty_rule() -> dict[str, Any]:
    return activation("alpha") | {"policy": text("alpha", ("disclosure.min_holdings", ...))}


def disagreeing() -> dict[str, Any]:
    return activation("zulu", ("window.lateness", "P2D"))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (unsigned, "energy-a"),
        (one_missing, "water-n"),
        (wrongly_signed, "energy-b"),
        (signed_for_another, "energy-a"),
        (altered, "min_contributors"),
        (bad_reference, "wrong_reference"),
        (no_reference, "bad_reference"),
        (garbage, "alpha"),
        (unknown_field, "special"),
        (empty_rule, "empty_rule"),
        (disagreeing, "domain_disagrees"),
    ],
)
def test_a_product_that_may_not_run_is_left_out_with_its_reason_and_the_others_run(
    body: Any, named: str
) -> None:
    wrong = body()
    name = "zulu" if body is disagreeing else "alpha"
    products, left_out = running(state(**{name: wrong, "beta": activation("beta")}))
    assert products == ["beta"]
    assert list(left_out) == [f"{name}@1"]
    said = " ".join(left_out[f"{name}@1"])
    if body is altered:  # the digests differ: each of the three signed another one
        assert len(left_out[f"{name}@1"]) == 3
    else:
        assert named in said


def test_of_two_that_cannot_run_side_by_side_the_one_that_is_active_first_runs() -> None:
    """Also in two domains, and whatever their names: a newcomer stops nobody."""
    levels = [("areas.levels", ["iris", "commune"]), ("areas.group", "commune")]
    newcomer = activation("alpha", ("domain", "grid"), *levels) | {"active_from": 2000}
    products, left_out = running(state(alpha=newcomer, beta=activation("beta"), gamma=activation("gamma")))
    assert products == ["beta", "gamma"]
    assert "alpha has commune, beta has epci" in left_out["alpha@1"][0]


def spans(control: ControlState) -> dict[str, tuple[int, int]]:
    plan, _ = control.plan(AREAS, "Europe/Paris")
    return {p.key: (p.active_from, p.active_until) for p in plan.domains["housing"].products}


def versions(*starts: int, first: int = 1) -> dict[str, str]:
    """Bodies of alpha's versions, by key, that start at these moments."""
    return {
        f"alpha@{version}": json.dumps(activation("alpha", ("version", version)) | {"active_from": start})
        for version, start in enumerate(starts, first)
    }


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ((1000, 2000, 3000), {1: (1000, 2000), 2: (2000, 3000), 3: (3000, LAST)}),
        ((1000, 3000, 2000), {1: (1000, 2000), 2: (3000, 2000), 3: (2000, LAST)}),
        ((2000, 1000), {1: (2000, 1000), 2: (1000, LAST)}),
    ],
)
def test_each_version_runs_for_the_windows_that_start_before_a_later_one_does(
    starts: tuple[int, ...], expected: dict[int, tuple[int, int]]
) -> None:
    control = state()
    for key, body in versions(*starts).items():
        assert control.apply("activation", key, body)
    assert spans(control) == {f"alpha@{version}": span for version, span in expected.items()}


MARCH, APRIL, MAY = (
    int(datetime(2026, month, 1, tzinfo=ZoneInfo("Europe/Paris")).timestamp() * 1000) for month in (3, 4, 5)
)


def of_alpha(*starts: int, first: int = 1) -> ControlState:
    control = state()
    for key, body in versions(*starts, first=first).items():
        assert control.apply("activation", key, body)
    return control


@pytest.mark.parametrize(
    ("until", "end"),
    [(APRIL, APRIL), (APRIL + 1000, MAY), (MARCH, FIRST), (MARCH - 1, FIRST)],
    ids=["at its last window's end", "within a window that had begun", "before it ran", "long before"],
)
def test_a_version_that_a_later_one_ends_may_go_when_its_last_window_has_closed(until: int, end: int) -> None:
    assert of_alpha(MARCH, until, first=2).ended("alpha@2") == ("housing", end)


def test_a_version_that_runs_on_or_whose_end_another_needs_does_not_go() -> None:
    control = of_alpha(MARCH, APRIL, MAY)
    for key, reason in (
        ("alpha@3", "earlier_version"),
        ("alpha@2", "earlier_version"),
        ("alpha@4", "unknown_version"),
    ):
        with pytest.raises(BrokerError, match=rf"\[{reason}\]"):
            control.ended(key)
    for version in (1, 2):
        control.ended(f"alpha@{version}")
        before = spans(control)
        assert control.apply("activation", f"alpha@{version}", None)
        assert spans(control) == {key: span for key, span in before.items() if key != f"alpha@{version}"}
    with pytest.raises(Refused, match=r"\[still_runs\]"):
        control.ended("alpha@3")


def test_a_version_that_may_not_run_yet_still_ends_the_one_before_it() -> None:
    """Nobody meant that to go on."""
    control = state(alpha=activation("alpha"))
    body = activation("alpha", ("version", 2)) | {"agreements": {}, "active_from": 2000}
    assert control.apply("activation", "alpha@2", json.dumps(body))
    assert spans(control) == {"alpha@1": (1000, 2000)}


@pytest.mark.parametrize("name", ["alpha", "alpha@", "alpha@0", "alpha@one", "@1", "alpha@1@2", "Alpha@1"])
def test_an_activation_names_its_version(name: str) -> None:
    control = ControlState()
    assert not control.apply("activation", name, json.dumps(activation("alpha")))
    assert control == ControlState()


@pytest.mark.parametrize("key", ["alpha@2", "beta@1"])
def test_a_record_that_holds_the_policy_of_another_is_left_out(key: str) -> None:
    control = state()
    assert control.apply("activation", key, json.dumps(activation("alpha")))
    products, left_out = running(control)
    assert products == []
    assert "alpha@1" in left_out[key][0]


def test_a_product_whose_partner_has_gone_stops_and_starts_again_with_it() -> None:
    control = state(alpha=activation("alpha"))
    body = json.dumps(control.partners["water-n"])
    control.apply("partner", "water-n", None)
    assert running(control)[0] == []
    control.apply("partner", "water-n", body)
    assert running(control) == (["alpha"], {})


def test_a_changed_agreement_key_stops_what_the_old_one_signed() -> None:
    control = state(alpha=activation("alpha"))
    other = make_signer("energy-a", b"new".ljust(32)).verifier.vkey
    control.apply("partner", "energy-a", json.dumps({**control.partners["energy-a"], "agreement_key": other}))
    products, left_out = running(control)
    assert products == []
    assert "energy-a" in left_out["alpha@1"][0]


def test_an_activation_is_removed_and_one_that_is_unknown_need_not_be() -> None:
    control = state(alpha=activation("alpha"), beta=activation("beta"))
    control.apply("activation", "alpha@1", None)
    control.apply("activation", "never@1", None)
    assert running(control)[0] == ["beta"]


def test_a_kind_of_a_later_version_is_said_not_to_be_known() -> None:
    control = ControlState()
    assert not control.apply("key-event", "2026", "{}")
    assert control == ControlState()


def test_the_state_travels_whole_and_its_bytes_do_not_depend_on_the_order_of_records() -> None:
    one = state(alpha=activation("alpha"), beta=activation("beta"))
    other = ControlState()
    for name in sorted(one.activations, reverse=True):
        other.apply("activation", name, json.dumps(one.activations[name]))
    for name in sorted(one.partners, reverse=True):
        other.apply("partner", name, json.dumps(one.partners[name]))
    assert one.dump() == other.dump()
    again = ControlState.load(one.dump())
    assert again == one
    assert again.dump() == one.dump()
    assert again.plan(AREAS, "Europe/Paris") == one.plan(AREAS, "Europe/Paris")


def test_an_empty_state_has_an_empty_plan() -> None:
    plan, left_out = ControlState().plan(AREAS, "Europe/Paris")
    assert (plan.domains, left_out) == ({}, {})


def partner_with(**changes: Any) -> dict[str, Any]:
    return {**PARTNERS["energy-a"], "agreement_key": SIGNERS["energy-a"].verifier.vkey} | changes


def stream_with(**changes: Any) -> dict[str, Any]:
    return partner_with(streams=[POWER | changes])


BAD_PARTNERS = [
    *({k: v for k, v in partner_with().items() if k != gone} for gone in partner_with()),
    *(
        partner_with(streams=[{k: v for k, v in POWER.items() if k != gone}])
        for gone in POWER
        if gone != "net"
    ),
    partner_with(holding=1),
    partner_with(agreement_key=None),
    partner_with(streams={}),
    partner_with(streams=[[]]),
    partner_with(streams=[POWER, POWER]),
    stream_with(name=1),
    stream_with(measure=None),
    stream_with(kind="sometimes"),
    stream_with(unit="kWh"),
    stream_with(net="no"),
    partner_with(consent={}),
    partner_with(consent={"heartbeat": "often"}),
]
GOOD = {"policy": "x", "agreements": {}, "active_from": 0, "references": {}}
BAD_ACTIVATIONS = [
    *({k: v for k, v in GOOD.items() if k != gone} for gone in GOOD if gone != "references"),
    *(GOOD | {"active_from": at} for at in ("soon", 1.5, True, None, -1, 10**16)),
    *(GOOD | {"policy": policy} for policy in (None, {})),
    *(GOOD | {"agreements": notes} for notes in (None, [], {"energy-a": 1})),
    *(GOOD | {"references": texts} for texts in (None, [], {"cold-days": 1})),
]
BROKEN = [
    "",
    "{",
    "[]",
    "1",
    "null",
    "[" * 10_000,
    '{"policy": "\\ud800", "agreements": {}, "active_from": 0}',
]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *(("partner", json.dumps(body)) for body in BAD_PARTNERS),
        *(("activation", json.dumps(body)) for body in BAD_ACTIVATIONS),
        *((kind, body) for kind in ("partner", "activation") for body in BROKEN),
    ],
)
def test_a_body_that_is_no_whole_record_changes_nothing(kind: str, body: str) -> None:
    """Neither what was said before of the name, nor the plan."""
    control = state(alpha=activation("alpha"))
    before = control.dump()
    assert not control.apply(kind, "energy-a" if kind == "partner" else "alpha@1", body)
    assert control.dump() == before
    assert running(control) == (["alpha"], {})


def test_fields_of_a_later_version_are_passed_over() -> None:
    control = state(alpha=activation("alpha"))
    before = control.dump()
    later = partner_with(colour=float("nan"), streams=[POWER | {"size": 2**70}])
    assert control.apply("partner", "energy-a", json.dumps(later).replace("NaN", "1e999"))
    assert control.dump() == before
