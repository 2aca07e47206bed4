"""A product policy: who may learn what, from which streams, for which purpose, under which rules.

Invariants
- A policy says everything that decides a figure. It is read strictly (`strict_yaml`): an unknown field, a
  missing rule or a contradiction is an error that names the field, never a guess. An empty or missing rule
  means no release.
- `resolve` fills in every default and the engine's version; `canonical` is its RFC 8785 form; `digest` is
  `sha256:` and the SHA-256 of that. Two texts that mean the same have the same digest, whatever their key
  order, comments or spelling of numbers (0.9 and 0.90); any change of meaning changes it.
- No floats. Exact numbers are `Fraction` in the model; in the resolved form a whole number is a JSON integer
  and any other its shortest decimal text ("0.9"), so that no reader's float printing can differ.
- What a line means stands in `lines`, signed like the rest, and only for fields that exist.

Amounts are in the input's unit (Wh, mL); durations and lengths ISO 8601 (see `calendar`).
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import rfc8785
from pydantic import ValidationError

from broker.core.condition import Condition
from broker.core.errors import InputError
from broker.core.policy_checks import contradictions, empty_rules, paths, refusal, refused_as_empty
from broker.core.policy_fields import unit_divisor
from broker.core.policy_model import (
    AreaRule,
    Count,
    Disclosure,
    EventTime,
    Input,
    LawfulBasis,
    Mean,
    Measure,
    Policy,
    Ratio,
    Reference,
    Retention,
    Rounding,
    Sum,
    Text,
    Waiver,
    Watermark,
    WindowRule,
)
from broker.core.strict_yaml import read_mapping

__all__ = [
    "ENGINE",
    "AreaRule",
    "Condition",
    "Count",
    "Disclosure",
    "EventTime",
    "Input",
    "LawfulBasis",
    "Mean",
    "Measure",
    "Policy",
    "Ratio",
    "Reference",
    "Retention",
    "Rounding",
    "Sum",
    "Text",
    "Waiver",
    "Watermark",
    "WindowRule",
    "canonical",
    "digest",
    "from_canonical",
    "load",
    "paths",
    "resolve",
    "unit_divisor",
]

ENGINE: Final = "1"  # raised whenever the same policy and readings would give another release


@lru_cache(maxsize=256)
def load(text: str, name: str) -> Policy:
    """Read a policy from YAML text; `name` is its file name for messages.

    Raises InputError (`bad_yaml`, `unknown_field`, `bad_policy`) or Refused (`empty_rule`); the message lists
    every offending field with its dotted path, what is wrong and what to write. Remembers what it read: every lane
    of a worker reads the same policies whenever the control state changes.
    """
    values = read_mapping(text, name)
    empty = empty_rules(values)
    policy = _validated(values, name, empty)
    if empty:
        raise refused_as_empty(empty, name)
    return policy


def resolve(policy: Policy) -> dict[str, Any]:
    """The policy with all defaults and the engine's version: JSON values, without floats."""
    return {"engine": ENGINE, **policy.model_dump(mode="json")}


def canonical(policy: Policy) -> bytes:
    """RFC 8785 form of the resolved policy: what partners sign the SHA-256 of."""
    return rfc8785.dumps(resolve(policy))


def digest(policy: Policy) -> str:
    """`sha256:<hex>`, the policy's name everywhere."""
    return "sha256:" + sha256(canonical(policy)).hexdigest()


def from_canonical(data: bytes, name: str) -> Policy:
    """The policy of its canonical bytes; InputError (`bad_policy`) unless they are exactly what `canonical`
    gives.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("bad_policy", "not JSON: take the bytes that were signed", where=name) from None
    if not isinstance(value, dict) or value.pop("engine", None) != ENGINE:
        raise InputError("bad_policy", f"not a resolved policy of engine {ENGINE}: sign it again", where=name)
    policy = _validated(value, name)
    if canonical(policy) != data:
        raise InputError(
            "bad_policy", "not in canonical form (RFC 8785): take the bytes that were signed", where=name
        )
    return policy


def _validated(value: dict[str, Any], name: str, empty: list[str] | None = None) -> Policy:
    try:
        policy = Policy.model_validate(value)
    except ValidationError as error:
        raise refusal(error, empty or [], name) from None
    problems = contradictions(policy)
    if problems:
        raise InputError("bad_policy", "; ".join(problems), where=name)
    return policy
