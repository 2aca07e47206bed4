"""What the control topic comes to: partners, activations, and the plan that follows from them.

Invariants
- A product is in the plan only if every contributing partner's signature of exactly its hash is there, its
  references have the signed hashes, and it can run beside those that are active before it. A product that fails is
  left out with its reasons; it never stops another. It still is activated: what was read for it is kept, and what
  is taken back while it waits is told to it, so that it goes on where it was when it may run again.
- The state is a value: `dump` and `load` carry it, whole, into the contributions partitions, so that a release
  lane learns from its own records which products run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import rfc8785

from broker.core.agreement import check_agreements
from broker.core.areas import AreaTree
from broker.core.errors import BrokerError
from broker.core.plan import Activation, Plan, Stream, build_plan, waiting_domains
from broker.core.policy import Policy, load
from broker.core.references import read_references

NEEDED = {
    "partner": {"holding", "streams", "agreement_key"},
    "activation": {"policy", "agreements", "active_from"},
}
"""What the body of each kind must hold."""


@dataclass
class ControlState:
    """Latest body of each control record, by name.

    partners: name → {holding, streams, agreement_key, consent?}; activations: product → {policy (YAML text),
    agreements {partner: note}, active_from (ms), references {name: text}}.
    """

    partners: dict[str, dict[str, Any]] = field(default_factory=dict)
    activations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def apply(self, kind: str, name: str, body: str | None) -> bool:
        """Takes one record (body: JSON object; None removes it). False, and nothing changes, for a kind that this
        version does not know and for a body that is no such object."""
        known = {"partner": self.partners, "activation": self.activations}.get(kind)
        if known is None:
            return False
        if body is None:
            known.pop(name, None)
            return True
        try:
            content = json.loads(body)
        except ValueError:
            return False
        if not isinstance(content, dict) or not NEEDED[kind] <= content.keys():
            return False
        known[name] = content
        return True

    def dump(self) -> bytes:
        """Canonical JSON (RFC 8785) of the whole state."""
        return rfc8785.dumps({"partners": self.partners, "activations": self.activations})

    @classmethod
    def load(cls, data: bytes) -> ControlState:
        state = json.loads(data)
        return cls(state["partners"], state["activations"])

    def streams(self) -> list[Stream]:
        """All streams of all partners, sorted."""
        return sorted(
            Stream(
                partner=name,
                holding=partner["holding"],
                name=stream["name"],
                measure=stream["measure"],
                kind=stream["kind"],
                unit=stream["unit"],
                net=stream.get("net", False),
            )
            for name, partner in self.partners.items()
            for stream in partner["streams"]
        )

    def plan(self, areas: AreaTree, timezone: str) -> tuple[Plan, dict[str, list[str]]]:
        """The plan, and for each activated product that may not run the reasons why."""
        left_out: dict[str, list[str]] = {}
        running: list[Activation] = []
        waiting: list[Activation] = []
        unreadable: list[str] = []
        plan = Plan({}, areas)
        for product in sorted(
            self.activations, key=lambda name: (self.activations[name]["active_from"], name)
        ):
            try:
                policy = load(self.activations[product]["policy"], product)
            except BrokerError as error:
                left_out[product] = [str(error)]
                unreadable.append(product)
                continue
            try:
                activation, reasons = self._activation(product, policy)
                if not reasons:
                    plan = build_plan([*running, activation], self.streams(), areas, timezone)
                    running.append(activation)
                    continue
            except BrokerError as error:
                reasons = [str(error)]
            left_out[product] = reasons
            waiting.append(Activation(policy, int(self.activations[product]["active_from"])))
        held = waiting_domains(waiting, timezone)
        return replace(plan, waiting=held, unreadable=tuple(unreadable)), left_out

    def _activation(self, product: str, policy: Policy) -> tuple[Activation, list[str]]:
        body = self.activations[product]
        keys = {name: partner["agreement_key"] for name, partner in self.partners.items()}
        decision = check_agreements(policy, body["agreements"], keys)
        texts = {name: text.encode() for name, text in body.get("references", {}).items()}
        activation = Activation(policy, int(body["active_from"]), read_references(policy, texts))
        return activation, [] if decision.allowed else list(decision.reasons)
