"""Agreements: a policy runs only when every contributing partner has signed exactly its digest, by its own
key.

The text that a partner signs, as a signed note (`note`), five lines:

    broker/agreement/v1
    agree
    <product>
    <version>
    <sha256:… of the canonical policy>

Invariants
- Deny is the default. All partners are judged, so that every reason is seen; there is no quorum.
- The first line types the text, so that no signature made for another purpose can pass for an agreement.
- A partner speaks for itself only: two partners with one key are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.core.errors import InputError
from broker.core.note import Signer, Verifier, open_note, parse_vkey, sign_note
from broker.core.policy import Policy, digest

HEADER: Final = "broker/agreement/v1"


@dataclass(frozen=True, slots=True)
class Decision:
    """allowed, and if not, every reason in words; `reasons` is empty exactly when allowed."""

    allowed: bool
    reasons: list[str]


def partners_of(policy: Policy) -> list[str]:
    """Every contributing partner, sorted: those who must sign."""
    return sorted({partner for spec in policy.inputs.values() for partner in spec.partners})


def agreement_text(policy: Policy) -> str:
    """The text to sign."""
    return f"{HEADER}\nagree\n{policy.product}\n{policy.version}\n{digest(policy)}\n"


def sign_agreement(policy: Policy, signer: Signer) -> str:
    """The partner's signed note."""
    return sign_note(agreement_text(policy), signer)


def check_agreements(policy: Policy, notes: Mapping[str, str], keys: Mapping[str, str]) -> Decision:
    """Whether the policy may run: `notes` by partner, `keys` the vkey on file by partner."""
    partners = partners_of(policy)
    verifiers: dict[str, Verifier] = {}
    reasons: list[str] = []
    for partner in partners:
        try:
            verifiers[partner] = parse_vkey(keys[partner])
        except KeyError:
            reasons.append(f"{partner}: no agreement key on file")
        except InputError as error:
            reasons.append(f"{partner}: agreement key: {error.what}")
    for partner, verifier in verifiers.items():
        shared = [other for other, v in verifiers.items() if other != partner and v.public == verifier.public]
        if shared:
            reasons.append(f"{partner}: its key is also that of {', '.join(shared)}: each needs its own")
        reasons += _objections(policy, partner, notes.get(partner), verifier)
    return Decision(allowed=bool(partners) and not reasons, reasons=reasons)


def _objections(policy: Policy, partner: str, note: str | None, verifier: Verifier) -> list[str]:
    if note is None:
        return [f"{partner}: has not signed {policy.product} version {policy.version}"]
    try:
        text = open_note(note, [verifier]).text
    except InputError as error:
        return [f"{partner}: {error.what}"]
    if text == agreement_text(policy):
        return []
    signed = text.split("\n")
    if signed[0] != HEADER or len(signed) != 6 or signed[1] != "agree":
        return [f"{partner}: signed a text that is no agreement"]
    return [
        f"{partner}: signed {signed[2]:.63} version {signed[3]:.10} as {signed[4]:.71}, "
        f"but this policy is {policy.product} version {policy.version}, {digest(policy)}"
    ]
