"""From a territory's files to its topics, principals and least-privilege access rules on Kafka.

`plan_topics` and `plan_acls` are pure; `provision` applies them and may be repeated at will. Invariants:

- nobody may do what no line here allows; ingest can never write `out.*`, no partner can read another's
  topics, and nobody but release can read `contributions`;
- every name that ends in a dot is a prefix, and names of partners and recipients hold no dot, so that no
  prefix reaches into another's;
- a partner and a recipient of one name are one principal with the rights of both.

Left out on purpose: IDEMPOTENT_WRITE on the cluster (WRITE on a topic is enough), CREATE anywhere (topics
are made here, by the administrator).
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.core.errors import OperatorError
from broker.core.territory import PartnerFile, RecipientFile, Territory
from broker.edge.kafka.admin import Acl, Admin, TopicSpec
from broker.edge.kafka.pki import write_private
from broker.edge.kafka.settings import KafkaSettings

INGEST = "broker-ingest"
RELEASE = "broker-release"
CONTROL = "broker-control"

_DAY_MS = 86_400_000
# Lateness, the longest hold of the shipped policies (10 days) and 24 hours.
INPUT_RETENTION_MS = 14 * _DAY_MS
_DEAD_LETTER_RETENTION_MS = 30 * _DAY_MS

_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# Only closed segments are compacted: close one a day.
_COMPACTED = {"cleanup.policy": "compact", "segment.ms": str(_DAY_MS)}

_Operation = Literal["read", "write", "describe", "delete"]
_USE: tuple[_Operation, ...] = ("read", "describe")
_FILL: tuple[_Operation, ...] = ("write", "describe")
_BOTH: tuple[_Operation, ...] = ("read", "write", "describe")


@dataclass(frozen=True)
class Provisioned:
    """What a run did: the topics that it made, and every principal, whose rules are in force."""

    new_topics: tuple[str, ...]
    principals: tuple[str, ...]


def products_of(territory: Territory, products: Iterable[str] = ()) -> list[str]:
    """All products with a topic: those given and those that a recipient reads."""
    return sorted(
        {*products, *(product for recipient in territory.recipients for product in recipient.products)}
    )


def plan_topics(
    territory: Territory, products: Iterable[str] = (), *, input_retention_ms: int = INPUT_RETENTION_MS
) -> dict[str, TopicSpec]:
    """Every topic of the territory; all have its number of lanes, except those that are read as one
    sequence."""
    lanes = territory.lanes
    arrival = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",  # retention must not follow the partner's clock
        "retention.ms": str(input_retention_ms),
    }
    topics = {
        "lanes": TopicSpec(lanes),
        "control": TopicSpec(1, _COMPACTED),
        "contributions": TopicSpec(lanes, _FOR_EVER),
        "rollups": TopicSpec(lanes, _FOR_EVER),
        "ledger": TopicSpec(lanes, _FOR_EVER),
        "log.policy": TopicSpec(1, _FOR_EVER),
        "evidence": TopicSpec(lanes, _COMPACTED),
    }
    for partner in territory.partners:
        topics |= {
            f"in.{partner.name}.{stream.name}": TopicSpec(lanes, arrival) for stream in partner.streams
        }
        topics[f"sites.{partner.name}"] = TopicSpec(lanes, _COMPACTED)
        topics[f"consent.{partner.name}"] = TopicSpec(lanes, _COMPACTED)
        topics[f"receipts.{partner.name}"] = TopicSpec(lanes, _FOR_EVER)
        topics[f"dlq.{partner.name}"] = TopicSpec(
            lanes, {"cleanup.policy": "delete", "retention.ms": str(_DEAD_LETTER_RETENTION_MS)}
        )
    return topics | {
        f"out.{product}": TopicSpec(lanes, _FOR_EVER) for product in products_of(territory, products)
    }


def plan_acls(territory: Territory) -> list[Acl]:
    """Every allowance, sorted and each once."""
    rules = _ingest() + _release() + _control()
    for partner in territory.partners:
        rules += _partner(partner)
    for recipient in territory.recipients:
        rules += _recipient(recipient)
    return sorted(set(rules))


def plan_principals(territory: Territory) -> list[str]:
    """Every principal that needs a password, sorted."""
    return sorted({rule.principal for rule in plan_acls(territory)})


def provision(
    admin: KafkaSettings,
    territory: Territory,
    secrets: Path | None,
    *,
    products: Iterable[str] = (),
    input_retention_ms: int = INPUT_RETENTION_MS,
) -> Provisioned:
    """Bring the cluster to the plan: topics, users, then rules, which are in force when this returns.

    Passwords are made once and kept in `secrets/<principal>`, mode 0600; without that folder none is made or set, for
    clusters that know principals otherwise, by their certificates. Raises OperatorError.
    """
    client = Admin(admin)
    new = client.ensure_topics(plan_topics(territory, products, input_retention_ms=input_retention_ms))
    principals = plan_principals(territory)
    if secrets is not None:
        client.ensure_users({name: ensure_password(secrets / name) for name in principals})
    # Users come first: the cluster applies changes in order, so rules in force mean that users can log in.
    client.ensure_acls(plan_acls(territory))
    return Provisioned(tuple(new), tuple(principals))


def ensure_password(file: Path) -> str:
    """The password in this file, made (192 random bits) if there is none yet."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            write_private(file, randomness.token_urlsafe(24).encode())
        return file.read_text().rstrip("\n")
    except OSError as error:
        raise OperatorError(
            "password_missing", f"cannot keep a password here: {error.strerror}", where=str(file)
        ) from error


def _partner(partner: PartnerFile) -> list[Acl]:
    name = partner.name
    return [
        *_allow(name, "topic", f"in.{name}.", _BOTH),
        *_allow(name, "topic", f"sites.{name}", _BOTH),
        *_allow(name, "topic", f"consent.{name}", _BOTH),
        *_allow(name, "topic", f"dlq.{name}", _USE),
        *_allow(name, "topic", f"receipts.{name}", _USE),
        *_allow(name, "group", f"{name}.", ("read",)),
    ]


def _recipient(recipient: RecipientFile) -> list[Acl]:
    rules = _allow(recipient.name, "group", f"{recipient.name}.", ("read",))
    for product in recipient.products:
        rules += _allow(recipient.name, "topic", f"out.{product}", _USE)
    return rules


def _ingest() -> list[Acl]:
    return [
        *_role(INGEST, "ingest."),
        *(rule for prefix in ("in.", "sites.", "consent.") for rule in _allow(INGEST, "topic", prefix, _USE)),
        *_allow(INGEST, "topic", "contributions", _FILL),
        *_allow(INGEST, "topic", "dlq.", _FILL),
        *_allow(INGEST, "topic", "receipts.", _FILL),
    ]


def _release() -> list[Acl]:
    return [
        *_role(RELEASE, "release."),
        # Records below the oldest open window are deleted (DeleteRecords needs DELETE on the topic).
        *_allow(RELEASE, "topic", "contributions", (*_USE, "delete")),
        *_allow(RELEASE, "topic", "rollups", (*_BOTH, "delete")),
        *_allow(RELEASE, "topic", "ledger", _BOTH),
        *_allow(RELEASE, "topic", "out.", _FILL),
        *_allow(RELEASE, "topic", "log.policy", _FILL),
        *_allow(RELEASE, "topic", "evidence", _FILL),
    ]


def _control() -> list[Acl]:
    return [
        *_allow(CONTROL, "topic", "control", _BOTH),
        *_allow(CONTROL, "topic", "log.policy", _FILL),
        *_allow(CONTROL, "topic", "evidence", _FILL),
        *_allow(CONTROL, "group", "control.", ("read",)),
        *_allow(CONTROL, "transactional_id", "control.", _FILL),
    ]


def _role(principal: str, prefix: str) -> list[Acl]:
    """What every role with lanes needs: its groups (Faust's and those that hold offsets), its transactions,
    the topic that carries the group membership, and the control records."""
    return [
        *_allow(principal, "group", prefix, ("read", "describe")),
        *_allow(principal, "transactional_id", prefix, _FILL),
        *_allow(principal, "topic", "lanes", _USE),
        *_allow(principal, "topic", "control", _USE),
    ]


def _allow(
    principal: str,
    resource: Literal["topic", "group", "transactional_id"],
    name: str,
    operations: Iterable[_Operation],
) -> list[Acl]:
    return [Acl(principal, resource, name, name.endswith("."), operation) for operation in operations]
