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
from typing import Any, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from broker.core.agreement import check_agreements
from broker.core.areas import AreaTree
from broker.core.calendar import FIRST, LAST, duration_ms
from broker.core.errors import BrokerError
from broker.core.plan import Activation, Plan, Stream, build_plan, waiting_domains
from broker.core.policy import Policy, load
from broker.core.references import read_references


class _Body(BaseModel):
    """What a record of a kind must hold; other fields are those of a later version, and passed over."""

    model_config = ConfigDict(strict=True, frozen=True)


class _StreamBody(_Body):
    name: str
    measure: str
    kind: Literal["interval", "register"]
    unit: Literal["Wh", "mL"]
    net: bool = False


class _ConsentBody(_Body):
    heartbeat: str

    @field_validator("heartbeat")
    @classmethod
    def _duration(cls, text: str) -> str:
        try:
            duration_ms(text)
        except BrokerError as error:
            raise ValueError(error.what) from None
        return text


class _PartnerBody(_Body):
    holding: str
    streams: tuple[_StreamBody, ...]
    agreement_key: str
    consent: _ConsentBody | None = None

    @field_validator("streams")
    @classmethod
    def _once(cls, streams: tuple[_StreamBody, ...]) -> tuple[_StreamBody, ...]:
        if len({stream.name for stream in streams}) < len(streams):
            raise ValueError("two streams have the same name")
        return streams


class _ActivationBody(_Body):
    policy: str
    agreements: dict[str, str]
    active_from: int = Field(ge=FIRST, lt=LAST)
    references: dict[str, str] = {}


BODIES: Final[dict[str, type[_Body]]] = {"partner": _PartnerBody, "activation": _ActivationBody}


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
        version does not know and for a body that lacks a field or holds one of another type."""
        known = {"partner": self.partners, "activation": self.activations}.get(kind)
        if known is None:
            return False
        if body is None:
            known.pop(name, None)
            return True
        try:
            known[name] = BODIES[kind].model_validate_json(body).model_dump(mode="json")
        except ValidationError:
            return False
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
                net=stream["net"],
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
            waiting.append(Activation(policy, self.activations[product]["active_from"]))
        held = waiting_domains(waiting, timezone)
        return replace(plan, waiting=held, unreadable=tuple(unreadable)), left_out

    def _activation(self, product: str, policy: Policy) -> tuple[Activation, list[str]]:
        body = self.activations[product]
        keys = {name: partner["agreement_key"] for name, partner in self.partners.items()}
        decision = check_agreements(policy, body["agreements"], keys)
        texts = {name: text.encode() for name, text in body["references"].items()}
        activation = Activation(policy, body["active_from"], read_references(policy, texts))
        return activation, [] if decision.allowed else list(decision.reasons)
