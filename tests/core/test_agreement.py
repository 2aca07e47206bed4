"""A policy runs only when every contributing partner has signed exactly its digest, by its own key."""

from __future__ import annotations

import pytest
from policy_samples import sample

from broker.core.agreement import HEADER, agreement_text, check_agreements, partners_of, sign_agreement
from broker.core.note import Signer, make_signer, sign_note
from broker.core.policy import digest

POLICY = sample()
PARTNERS = ["energy-a", "energy-b", "water-n"]
SIGNERS = {name: make_signer(f"{name}/agreement", bytes([n]) * 32) for n, name in enumerate(PARTNERS)}
KEYS = {name: signer.verifier.vkey for name, signer in SIGNERS.items()}
NOTES = {name: sign_agreement(POLICY, signer) for name, signer in SIGNERS.items()}


def test_the_text_is_typed_and_names_product_version_and_digest() -> None:
    assert agreement_text(POLICY) == f"broker/agreement/v1\nagree\nvacancy-monthly\n1\n{digest(POLICY)}\n"
    assert partners_of(POLICY) == PARTNERS


def test_a_policy_that_all_partners_signed_may_run() -> None:
    decision = check_agreements(POLICY, NOTES, KEYS)
    assert decision.allowed
    assert decision.reasons == []


def test_others_signatures_and_keys_do_not_matter() -> None:
    stranger = make_signer("stranger", bytes([9]) * 32)
    notes = {**NOTES, "stranger": sign_agreement(POLICY, stranger)}
    assert check_agreements(POLICY, notes, {**KEYS, "stranger": "garbage"}).allowed


@pytest.mark.parametrize("partner", PARTNERS)
def test_one_missing_signature_or_key_denies(partner: str) -> None:
    decision = check_agreements(POLICY, {p: n for p, n in NOTES.items() if p != partner}, KEYS)
    assert not decision.allowed
    assert decision.reasons == [f"{partner}: has not signed vacancy-monthly version 1"]
    decision = check_agreements(POLICY, NOTES, {p: k for p, k in KEYS.items() if p != partner})
    assert decision.reasons == [f"{partner}: no agreement key on file"]
    assert not check_agreements(POLICY, NOTES, {**KEYS, partner: "garbage"}).allowed


def test_nothing_signed_denies_and_every_partner_is_named() -> None:
    assert len(check_agreements(POLICY, {}, {}).reasons) == 3
    assert len(check_agreements(POLICY, {}, KEYS).reasons) == 3


def test_a_changed_policy_needs_new_signatures_and_the_message_says_what_was_signed() -> None:
    changed = sample(("disclosure.min_contributors", 3))
    decision = check_agreements(changed, NOTES, KEYS)
    assert not decision.allowed
    assert len(decision.reasons) == 3
    assert digest(POLICY) in decision.reasons[0]
    assert digest(changed) in decision.reasons[0]


def test_a_partner_cannot_sign_for_another() -> None:
    notes = {**NOTES, "water-n": NOTES["energy-a"]}
    assert check_agreements(POLICY, notes, KEYS).reasons == [
        "water-n: no signature of a key on file: sign it with the registered key"
    ]
    same = {**KEYS, "water-n": make_signer("water-n", bytes(32)).verifier.vkey}
    notes = {**NOTES, "water-n": sign_agreement(POLICY, make_signer("water-n", bytes(32)))}
    decision = check_agreements(POLICY, notes, same)
    assert not decision.allowed
    assert "its key is also that of water-n" in decision.reasons[0]


def signed(signer: Signer, text: str) -> dict[str, str]:
    return {**NOTES, "energy-a": sign_note(text, signer)}


@pytest.mark.parametrize(
    "text",
    [
        agreement_text(POLICY).replace("agree\n", "withdraw\n"),
        agreement_text(POLICY).replace(HEADER, "broker/agreement/v2"),
        agreement_text(POLICY) + "but not really\n",
        "go.sum database tree\n1\nabc\n",
        "\n",
        agreement_text(POLICY).replace("\n1\n", "\n2\n"),
        agreement_text(POLICY).replace("vacancy", "other"),
    ],
)
def test_a_signature_below_another_text_is_no_agreement(text: str) -> None:
    decision = check_agreements(POLICY, signed(SIGNERS["energy-a"], text), KEYS)
    assert not decision.allowed
    assert [reason.split(":")[0] for reason in decision.reasons] == ["energy-a"]
