"""A territory of two lanes and three suppliers for the tests of the stages, and what came of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from kafka_memory import Clock, Kafka, MemoryReader, MemoryWriter, Told

from broker.core.agreement import partners_of, sign_agreement
from broker.core.areas import AreaTree
from broker.core.chunks import frame
from broker.core.note import make_signer
from broker.core.partitioner import partition_for
from broker.core.policy import load
from broker.core.sealing import Sealer, unseal
from broker.edge.keys import LocalKeys
from broker.edge.schemas import SchemaFolder
from broker.stages.digest import CONTRIBUTIONS, Digester
from broker.stages.ingest import IngestLane
from broker.stages.release import ReleaseLane
from broker.stages.tables import LaneTables

ZONE = "Europe/Paris"
HOUR = 3_600_000
LANES = 2
CODEC = SchemaFolder.load(Path(__file__).parents[2] / "schemas")
KEYS = LocalKeys(bytes(range(32)))
PARTNERS = ("energy-a", "energy-b", "energy-c")
SIGNERS = {name: make_signer(name, name.encode().ljust(32)) for name in PARTNERS}
AREAS = AreaTree.from_rows(
    "iris-2026",
    pl.DataFrame(
        {
            "area": ["G1", "G2", "C1", "C2", "C3"],
            "parent": ["", "", "G1", "G1", "G2"],
            "level": ["epci", "epci", "commune", "commune", "commune"],
        }
    ),
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


DAY = ms("2026-03-10")
NOW = ms("2026-03-12")


# -- partners and policies ------------------------------------------------------------------------------


def policy(product: str = "daily", **changes: Any) -> str:
    """Electricity of the three suppliers by commune and day on an hourly base, with hardly any protection."""
    text = {"fr": "x", "en": "x"}
    values: dict[str, Any] = {
        "product": product,
        "version": 1,
        "domain": "housing",
        "title": text,
        "meaning": text,
        "controllers": list(PARTNERS),
        "processor": "broker",
        "dpia": "sha256:" + "0" * 64,
        "purpose": "planning",
        "lawful_basis": {"kind": "public_task", "reference": "CGCT L2224-37-1"},
        "inputs": {
            "energy": {
                "measure": "electricity",
                "unit": "Wh",
                "kind": "interval",
                "partners": list(PARTNERS),
                "qualities": ["measured"],
            }
        },
        "join": "none",
        "window": {"length": "P1D", "base": "PT1H", "timezone": ZONE, "max_hold": "P2D"},
        "coverage": 0.1,
        "areas": {"hierarchy": "iris-2026", "levels": ["commune", "epci"], "group": "epci"},
        "measures": {
            "homes": {"kind": "count"},
            "used": {"kind": "sum", "input": "energy", "unit": "Wh"},
        },
        "disclosure": {
            "min_contributors": 1,
            "min_holdings": 1,
            "p_percent": 1,
            "dominance": [[1, 100]],
            "without_each_holding": False,
            "zero_is_sensitive": False,
        },
        "recipients": ["public"],
        "licence": "etalab-2.0",
        "retention": {"contributions": "until-release", "releases": "P10Y"},
    }
    return json.dumps(values | changes)


def partner_body(name: str, **changes: Any) -> dict[str, Any]:
    stream = {"name": "power", "measure": "electricity", "kind": "interval", "unit": "Wh", "net": False}
    body = {
        "holding": f"holding of {name}",
        "streams": [stream],
        "agreement_key": SIGNERS[name].verifier.vkey,
    }
    return body | changes


def activation_body(text: str, active_from: int = DAY) -> dict[str, Any]:
    loaded = load(text, "test")
    notes = {partner: sign_agreement(loaded, SIGNERS[partner]) for partner in partners_of(loaded)}
    return {"policy": text, "agreements": notes, "active_from": active_from, "references": {}}


def control(kind: str, name: str, body: dict[str, Any]) -> bytes:
    return CODEC.encode("control", {"kind": kind, "name": name, "body": json.dumps(body)})


def points(partner: str, lane: int, count: int = 3) -> list[str]:
    """Delivery points of a partner whose records belong to the lane."""
    found = (f"{partner}-point-{i}" for i in range(10_000))
    mine = (point for point in found if partition_for(point.encode(), LANES) == lane)
    return [next(mine) for _ in range(count)]


def site(point: str, *periods: dict[str, Any]) -> bytes:
    one = {"premises": f"token of {point}", "area": "C1", "segment": "home"}
    sites = [one | period for period in periods] if periods else [one]
    return CODEC.encode("site-history", {"delivery_point": point, "sites": sites})


def consent(point: str, purpose: str = "planning", **state: Any) -> bytes:
    record = {"delivery_point": point, "purposes": [{"purpose": purpose, **state}] if state else []}
    return CODEC.encode("consent-state", record)


def reading(point: str, hour: int, value: int = 1000, **changes: Any) -> bytes:
    start = DAY + hour * HOUR
    record = {"delivery_point": point, "start": start, "end": start + HOUR, "value": value}
    return CODEC.encode("electricity-interval", record | {"quality": "measured"} | changes)


def mark(hour: float, stream: str = "power") -> bytes:
    return CODEC.encode("completeness-mark", {"stream": stream, "until": DAY + int(hour * HOUR)})


# -- lanes ----------------------------------------------------------------------------------------------

_STARTS = iter(range(1, 10**9))


def sealer() -> Sealer:
    """Another incarnation at each start."""
    return Sealer(next(_STARTS).to_bytes(32, "big"))


def tables(partition: int = 0) -> LaneTables:
    return LaneTables(AREAS, ZONE, partition, LANES, CODEC)


def digester(partition: int = 0) -> Digester:
    return Digester(partition, LANES, CODEC, KEYS, sealer())


def ingest_lane(kafka: Kafka, partition: int, told: Told | None = None, most: int = 10**9) -> IngestLane:
    return IngestLane(
        partition,
        tables(partition),
        digester(partition),
        state=MemoryReader(kafka, "ingest.lanes"),
        reader=MemoryReader(kafka, "ingest.lanes", most),
        writer=MemoryWriter(kafka, "ingest.lanes"),
        keys=KEYS,
        clock=Clock(kafka),
        telemetry=told or Told(),
    )


def release_lane(kafka: Kafka, partition: int, told: Told | None = None, most: int = 10**9) -> ReleaseLane:
    return ReleaseLane(
        partition,
        LANES,
        AREAS,
        ZONE,
        reader=MemoryReader(kafka, "release.lanes", most),
        writer=MemoryWriter(kafka, "release.lanes"),
        codec=CODEC,
        keys=KEYS,
        sealer=sealer(),
        telemetry=told or Told(),
    )


def territory(*policies: str, consents: Iterable[str] = PARTNERS, active_from: int = DAY) -> Kafka:
    """A Kafka with all topics, the partners and their sites: in each lane each supplier has a home in C1, C2, C3."""
    kafka = Kafka(NOW)
    kafka.create("control", CONTRIBUTIONS, "rollups", "ledger", "log.policy", "evidence")
    for partner in PARTNERS:
        kafka.create(f"in.{partner}.power", f"sites.{partner}", f"dlq.{partner}", f"receipts.{partner}")
        kafka.send("control", 0, None, control("partner", partner, partner_body(partner)))
        for lane in range(LANES):
            for point, area in zip(points(partner, lane), ("C1", "C2", "C3"), strict=True):
                kafka.send(f"sites.{partner}", lane, point.encode(), site(point, {"area": area}))
    kafka.create(*(f"consent.{partner}" for partner in consents))
    for text in policies or (policy(),):
        activate(kafka, text, active_from)
    return kafka


def activate(kafka: Kafka, text: str, active_from: int = DAY) -> None:
    name = "{product}@{version}".format(**json.loads(text))
    kafka.send("control", 0, None, control("activation", name, activation_body(text, active_from)))


def use(partner: str, lane: int, which: int, hour: int) -> int:
    """What a home uses in an hour (Wh)."""
    return 100 + 10 * hour + 1000 * (which + 3 * lane) + len(partner) + 7 * PARTNERS.index(partner)


def send_hours(kafka: Kafka, hours: Iterable[int], partners: Iterable[str] = PARTNERS) -> None:
    """Readings of these hours, each followed by its mark."""
    for hour in hours:
        for partner in partners:
            for lane in range(LANES):
                for which, point in enumerate(points(partner, lane)):
                    value = reading(point, hour, use(partner, lane, which, hour))
                    kafka.send(f"in.{partner}.power", lane, point.encode(), value)
                kafka.send(f"in.{partner}.power", lane, None, mark(hour + 1))


async def settle(kafka: Kafka, *lanes: Any, start: bool = True) -> None:
    """Runs lanes until nothing moves any more."""
    if start:
        for lane in lanes:
            await lane.start()
    quiet = 0
    while quiet < 2:  # a lane may need a round to look before it reads
        before = kafka.transactions, kafka.handed
        for lane in lanes:
            await lane.step()
        quiet = quiet + 1 if before == (kafka.transactions, kafka.handed) else 0


async def ingest(kafka: Kafka, told: Told | None = None) -> None:
    await settle(kafka, *(ingest_lane(kafka, lane, told) for lane in range(LANES)))


async def release(kafka: Kafka, told: Told | None = None) -> None:
    await settle(kafka, *(release_lane(kafka, lane, told) for lane in range(LANES)))


def decoded(kafka: Kafka, topic: str, partition: int | None = None) -> list[dict[str, Any]]:
    """The records of a topic."""
    return [CODEC.decode(value)[1] for value in kafka.values(topic, partition)]


# -- what came of it ------------------------------------------------------------------------------------


def opened(kafka: Kafka) -> pl.DataFrame:
    """All contributions, decrypted: partition `to`, ingest lane and rows, sorted."""
    parts = []
    for (topic, to), log in sorted(kafka.logs.items()):
        for rec in log if topic == CONTRIBUTIONS else []:
            _, record = CODEC.decode(rec.value)
            if record["kind"] == "chunk":
                parts.append(open_chunk(record, rec.key or b"", to))
    return pl.concat(parts).sort("lane", "topic", "order", "window") if parts else pl.DataFrame()


def open_chunk(record: dict[str, Any], key: bytes, to: int) -> pl.DataFrame:
    secret = KEYS.window_key(record["domain"], "PT1H", record["window"])
    header = json.loads(record["header"])
    body = unseal(
        record["body"], secret, topic=CONTRIBUTIONS, partition=to, key=key, policies=header["policies"]
    )
    return frame(body).with_columns(
        lane=pl.lit(record["lane"]), to=pl.lit(to), window=pl.lit(record["window"])
    )


def marks_of(kafka: Kafka, kind: str = "mark") -> dict[tuple[str, int], int]:
    """Latest mark of each (topic, ingest lane), in hours since DAY."""
    found: dict[tuple[str, int], int] = {}
    for record in decoded(kafka, CONTRIBUTIONS, 0):
        if record["kind"] == kind:
            found[record["stream"], record["lane"]] = (record["window"] - DAY) // HOUR
    return found


def released(kafka: Kafka, product: str = "daily") -> list[tuple[Any, ...]]:
    """Public bytes of the product's topic by partition, in order."""
    return [
        (topic, partition, rec.key, rec.value)
        for (topic, partition), log in sorted(kafka.logs.items())
        if topic == f"out.{product}"
        for rec in log
    ]


def cells(kafka: Kafka, product: str = "daily") -> dict[tuple[int, str, str], str | None]:
    """Published value by (window start, area, measure)."""
    found: dict[tuple[int, str, str], str | None] = {}
    for value in kafka.values(f"out.{product}"):
        name, record = CODEC.decode(value)
        for cell in record["cells"] if name == "release-cells" else []:
            if cell["segment"] == "*":
                found[record["window_start"], cell["area"], cell["measure"]] = cell["value"]
    return found


def expected_cells(hours: Iterable[int] = range(24), start: int = DAY) -> dict[tuple[int, str, str], str]:
    """The same by a loop over what was sent."""
    used: Counter[str] = Counter()
    homes: dict[str, set[str]] = defaultdict(set)
    for partner in PARTNERS:
        for lane in range(LANES):
            for which, point in enumerate(points(partner, lane)):
                for area in (("C1", "C2", "C3")[which], ("G1", "G1", "G2")[which]):
                    used[area] += sum(use(partner, lane, which, hour) for hour in hours)
                    homes[area].add(point)
    found = {(start, area, "used"): str(value) for area, value in used.items()}
    return found | {(start, area, "homes"): str(len(them)) for area, them in homes.items()}


def in_g1(found: Mapping[tuple[int, str, str], str | None]) -> dict[tuple[int, str, str], str | None]:
    """Those of the first group, which lane 0 decides."""
    return {key: value for key, value in found.items() if key[1] in ("C1", "C2", "G1")}


def without(point: str) -> dict[tuple[int, str, str], str]:
    """expected_cells less one home in C1 of energy-a and lane 0."""
    found = expected_cells()
    gone = sum(use("energy-a", 0, 0, hour) for hour in range(24))
    for area in ("C1", "G1"):
        found[DAY, area, "used"] = str(int(found[DAY, area, "used"]) - gone)
        found[DAY, area, "homes"] = str(int(found[DAY, area, "homes"]) - 1)
    assert point == points("energy-a", 0)[0]
    return found
