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
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from broker.core.agreement import check_agreements
from broker.core.areas import AreaTree
from broker.core.calendar import FIRST, LAST, Calendar, duration_ms
from broker.core.errors import BrokerError, InputError, Refused
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


KEY: Final = re.compile(r"[a-z0-9-]{1,63}@[1-9][0-9]{0,8}", re.ASCII)
"""The name of an activation: product and version. Each version has its own record, so that compaction keeps both."""
BODIES: Final[dict[str, type[_Body]]] = {"partner": _PartnerBody, "activation": _ActivationBody}


@dataclass
class ControlState:
    """Latest body of each control record, by name.

    partners: name → {holding, streams, agreement_key, consent?}; activations: product@version → {policy (YAML text),
    agreements {partner: note}, active_from (ms), references {name: text}}.
    """

    partners: dict[str, dict[str, Any]] = field(default_factory=dict)
    activations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def apply(self, kind: str, name: str, body: str | None) -> bool:
        """Takes one record (body: JSON object; None removes it). False, and nothing changes, for a kind that this
        version does not know, for an activation that does not name its version, and for a body that lacks a field or
        holds one of another type."""
        known = {"partner": self.partners, "activation": self.activations}.get(kind)
        if known is None:
            return False
        if kind == "activation" and not KEY.fullmatch(name):
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
        """The plan, and for each activated product (by key) that may not run the reasons why."""
        left_out: dict[str, list[str]] = {}
        running: list[Activation] = []
        waiting: list[Activation] = []
        unreadable: list[str] = []
        plan = Plan({}, areas)
        for key in sorted(self.activations, key=lambda key: (self.activations[key]["active_from"], key)):
            body = self.activations[key]
            try:
                policy = load(body["policy"], key)
            except BrokerError as error:
                left_out[key] = [str(error)]
                unreadable.append(key)
                continue
            activation = Activation(policy, body["active_from"], active_until=self._until(key))
            try:
                reasons = self._reasons(key, policy)
                if not reasons:
                    texts = {name: text.encode() for name, text in body["references"].items()}
                    activation = replace(activation, references=read_references(policy, texts))
                    plan = build_plan([*running, activation], self.streams(), areas, timezone)
                    running.append(activation)
                    continue
            except BrokerError as error:
                reasons = [str(error)]
            left_out[key] = reasons
            waiting.append(activation)
        held = waiting_domains(waiting, timezone)
        return replace(plan, waiting=held, unreadable=tuple(unreadable)), left_out

    def ended(self, key: str) -> tuple[str, int]:
        """Domain of a version that a later one ends, and when its last window ends (ms; `FIRST` without any): once all
        lanes have closed that, the activation may go.

        Raises InputError (`unknown_version`), Refused (`still_runs`; `earlier_version`: without this one an earlier
        one would go on until the next).
        """
        if key not in self.activations:
            raise InputError("unknown_version", f"{key} is not activated: write PRODUCT@VERSION", where=key)
        product, version = _parts(key)
        earlier = sorted(o for o in self.activations if _parts(o)[0] == product and _parts(o)[1] < version)
        if earlier:
            raise Refused("earlier_version", f"retire {', '.join(earlier)} before it", where=key)
        until = self._until(key)
        if until == LAST:
            raise Refused("still_runs", "no later version ends it: activate one first", where=key)
        policy = load(self.activations[key]["policy"], key)
        if self.activations[key]["active_from"] >= until:
            return policy.domain, FIRST
        return policy.domain, Calendar(policy.window.timezone).window(policy.window.length, until - 1).end

    def _until(self, key: str) -> int:
        """When a later version of the product takes over, whether that may run or not: the earliest start of one."""
        product, version = _parts(key)
        later = (
            other for other in self.activations if _parts(other)[0] == product and _parts(other)[1] > version
        )
        return min((self.activations[other]["active_from"] for other in later), default=LAST)

    def _reasons(self, key: str, policy: Policy) -> list[str]:
        """Why the policy may not run; empty where it may."""
        if _parts(key) != (policy.product, policy.version):
            return [
                f"the record of {key} holds the policy of {policy.product}@{policy.version}: activate that"
            ]
        keys = {name: partner["agreement_key"] for name, partner in self.partners.items()}
        return list(check_agreements(policy, self.activations[key]["agreements"], keys).reasons)


def _parts(key: str) -> tuple[str, int]:
    """Product and version of `vacancy-monthly@2`."""
    product, _, version = key.partition("@")
    return product, int(version)
