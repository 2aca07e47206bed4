"""What the operator does to bring a territory's files into force: sign (locally), provision, announce, activate.

Keys of partners are made and used here only where the operator holds them, as in the demo; a partner of its own
signs on its own machine and hands over the note.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from broker.core.agreement import partners_of, sign_agreement
from broker.core.areas import AreaTree
from broker.core.calendar import FIRST, Calendar
from broker.core.control import ControlState
from broker.core.errors import BrokerError, InputError, Refused
from broker.core.note import Signer, make_signer
from broker.core.policy import Policy, load
from broker.edge.kafka.clients import producer
from broker.edge.kafka.collect import read_topic
from broker.edge.kafka.lane_client import LaneReader
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.schemas import SchemaFolder
from broker.edge.territory import TerritoryFolder
from broker.stages.ledger import last_closing

CONTROL = "control"
Record = tuple[str, str, dict[str, Any]]
"""kind, name, body of a control record."""
Removal = tuple[str, str, None]
"""kind, name of what is in force no more."""


def make_signers(partners: Iterable[str]) -> dict[str, Signer]:
    """A fresh Ed25519 key for each partner."""
    return {partner: make_signer(partner, secrets.token_bytes(32)) for partner in sorted(partners)}


def sign_policies(folder: TerritoryFolder, signers: Mapping[str, Signer]) -> None:
    """Writes agreements/<product>-v<version>.<partner>.note for every policy and contributing partner."""
    target = folder.folder / "agreements"
    target.mkdir(exist_ok=True)
    for policy in policies(folder):
        for partner in partners_of(policy):
            name = note_name(policy, partner)
            (target / name).write_text(sign_agreement(policy, signers[partner]), encoding="utf-8")


def sign_one(folder: TerritoryFolder, product: str, partner: str, signer: Signer) -> Path:
    """Writes one partner's agreement; the path. Refused (`not_a_partner`) for one that does not contribute."""
    policy = _policy_of(folder, product)[0]
    if partner not in partners_of(policy):
        raise Refused(
            "not_a_partner", f"{partner} contributes nothing to {product}: its signature is not asked for"
        )
    target = folder.folder / "agreements"
    target.mkdir(exist_ok=True)
    path = target / note_name(policy, partner)
    path.write_text(sign_agreement(policy, signer), encoding="utf-8")
    return path


def check_runnable(folder: TerritoryFolder, record: Record) -> None:
    """Raises Refused where the product may not run: before it is announced, rather than in every lane after."""
    _, name, body = record
    bodies = {partner: said for _, partner, said in partner_records(folder)}
    areas = AreaTree.from_rows(folder.territory.areas.hierarchy, folder.areas)
    _, left_out = ControlState(bodies, {name: body}).plan(areas, folder.territory.timezone)
    if left_out:
        raise Refused("not_agreed", "; ".join(left_out[name]), where=name)


def policies(folder: TerritoryFolder) -> list[Policy]:
    """The territory's policies, by product."""
    return sorted((load(text, name) for name, text in folder.policies.items()), key=lambda p: p.product)


def note_name(policy: Policy, partner: str) -> str:
    return f"{policy.product}-v{policy.version}.{partner}.note"


def partner_records(folder: TerritoryFolder) -> list[Record]:
    """One control record per partner file."""
    return [
        ("partner", partner.name, partner.model_dump(mode="json", exclude={"name", "title"}))
        for partner in folder.territory.partners
    ]


def activation_record(folder: TerritoryFolder, product: str, active_from: str) -> Record:
    """The record that lets a product's version run from `active_from` (local date, or ISO 8601 with an offset); the
    version before it keeps the windows that start before."""
    policy, text = _policy_of(folder, product)
    notes = {partner: folder.agreements.get(note_name(policy, partner)) for partner in partners_of(policy)}
    body = {
        "policy": text,
        "agreements": {partner: note for partner, note in notes.items() if note is not None},
        "active_from": _start(active_from, policy),
        "references": {
            name: folder.references[reference.file].decode()
            for name, reference in policy.references.items()
            if reference.file in folder.references
        },
    }
    return "activation", f"{product}@{policy.version}", body


def _policy_of(folder: TerritoryFolder, product: str) -> tuple[Policy, str]:
    """The policy of a product and its text. InputError (`unknown_product`) where there is none."""
    for name, text in folder.policies.items():
        policy = load(text, name)
        if policy.product == product:
            return policy, text
    raise InputError(
        "unknown_product", f"no policy of the territory is for product {product}", where=str(folder.folder)
    )


def publish(settings: KafkaSettings, records: Iterable[Record | Removal], schemas: SchemaFolder) -> None:
    """Writes control records; returns when Kafka has them."""
    asyncio.run(_publish(settings, list(records), schemas))


async def _publish(settings: KafkaSettings, records: list[Record | Removal], schemas: SchemaFolder) -> None:
    client = producer(settings)
    await client.start()
    try:
        for kind, name, body in records:
            text = "" if body is None else json.dumps(body, sort_keys=True)
            value = schemas.encode("control", {"kind": kind, "name": name, "body": text})
            await client.send_and_wait(CONTROL, value, key=f"{kind}:{name}".encode(), partition=0)
    finally:
        await client.stop()


def check_ended(
    control: KafkaSettings, admin: KafkaSettings, lanes: int, key: str, schemas: SchemaFolder
) -> None:
    """Raises Refused where a version (`vacancy-monthly@1`) still has windows to come, or a lane has not closed its last
    one (`window_open`). control may read the control topic, admin the ledger."""
    asyncio.run(_check_ended(control, admin, lanes, key, schemas))


async def _check_ended(
    control: KafkaSettings, admin: KafkaSettings, lanes: int, key: str, schemas: SchemaFolder
) -> None:
    state = ControlState()
    for read in await read_topic(control, CONTROL):
        with suppress(BrokerError):  # what nobody can read changes nothing; the lanes have told of it
            _, record = schemas.decode(read.value)
            state.apply(record["kind"], record["name"], record["body"] or None)
    domain, end = state.ended(key)
    reader = LaneReader(admin, None)
    await reader.start()
    try:
        closings = [await last_closing(reader, lane, schemas) for lane in range(lanes)]
    finally:
        await reader.stop()
    behind = [
        str(lane)
        for lane, closing in enumerate(closings)
        if end > (closing["windows"]["closed_until"].get(domain, FIRST) if closing else FIRST)
    ]
    if behind:
        last = datetime.fromtimestamp(end / 1000, UTC).isoformat()
        raise Refused(
            "window_open",
            f"its last window ends at {last}, and lanes {', '.join(behind)} have not closed it: wait for its release",
            where=key,
        )


def _start(text: str, policy: Policy) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError("bad_timestamp", f"`{text}` is no date: write for example 2026-01-01") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(policy.window.timezone))
    at = int(moment.timestamp() * 1000)
    window = Calendar(policy.window.timezone).window(policy.window.length, at)
    if window.start != at:
        raise InputError(
            "bad_start", f"{policy.product} has windows of {policy.window.length}; {text} begins none of them"
        )
    return at
