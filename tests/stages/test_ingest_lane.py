"""An ingest lane: exactly once whatever fails, one partner never stops another, and marks say only what is so."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import polars as pl
import pytest
from kafka_memory import Crash, Kafka, Told
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    LANES,
    NOW,
    PARTNERS,
    activate,
    control,
    decoded,
    ingest,
    ingest_lane,
    mark,
    marks_of,
    opened,
    partner_body,
    points,
    policy,
    reading,
    send_hours,
    settle,
    site,
    territory,
)
from polars.testing import assert_frame_equal

from broker.stages import ingest as ingest_module
from broker.stages.digest import CONTRIBUTIONS
from broker.stages.ingest import MOST_READINGS

A, B, C = (f"in.{partner}.power" for partner in PARTNERS)
GATHER = 3600.0
ALL = {(topic, lane) for topic in (A, B, C) for lane in range(LANES)}


def receipts(kafka: Kafka) -> Counter[str]:
    """Readings by outcome as the partners' receipts say, over all partners."""
    found: Counter[str] = Counter()
    for partner in PARTNERS:
        for record in decoded(kafka, f"receipts.{partner}"):
            found.update({"read": record["read"], "admitted": record["admitted"], "late": record["late"]})
            found.update(record["quarantined"])
            found.update(record["refused"])
    return found


def kinds(kafka: Kafka, lane: int, to: int = 0) -> list[str]:
    """What one ingest lane told one release lane, in order."""
    return [record["kind"] for record in decoded(kafka, CONTRIBUTIONS, to) if record["lane"] == lane]


def written(kafka: Kafka, kind: str) -> list[dict[str, Any]]:
    return [record for record in decoded(kafka, CONTRIBUTIONS) if record["kind"] == kind]


# -- exactly once -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def once() -> pl.DataFrame:
    kafka = territory()
    send_hours(kafka, range(4))
    asyncio.run(ingest(kafka))
    return opened(kafka)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", [1, 2, 3])
async def test_a_lane_that_dies_before_or_after_a_transaction_persisted_loses_and_doubles_nothing(
    once: pl.DataFrame, which: int, when: str
) -> None:
    kafka = territory()
    send_hours(kafka, range(4))
    kafka.crash = which, when
    died = 0
    for lane in range(LANES):
        try:
            await settle(kafka, ingest_lane(kafka, lane, most=2))
        except Crash:
            died += 1
            await settle(kafka, ingest_lane(kafka, lane, most=3))
    assert died == 1
    assert_frame_equal(opened(kafka), once)
    assert receipts(kafka) == {"read": 72, "admitted": 72, "late": 0}
    assert marks_of(kafka) == dict.fromkeys(ALL, 4)


async def test_a_lane_that_begins_again_has_nothing_to_say() -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    await ingest(kafka)
    before = len(kafka.values(CONTRIBUTIONS)), kafka.transactions
    await ingest(kafka)
    assert (len(kafka.values(CONTRIBUTIONS)), kafka.transactions) == before


async def test_a_successor_knows_the_marks_of_its_predecessor() -> None:
    kafka = territory()
    send_hours(kafka, range(3))
    await ingest(kafka)
    point = points("energy-a", 0)[0]
    kafka.send(A, 0, point.encode(), reading(point, 1, 7))
    await ingest(kafka)
    assert receipts(kafka)["late"] == 1
    (tally,) = written(kafka, "tally")
    assert json.loads(tally["header"]) == {"group": 0, "late": 1}


async def test_a_mark_goes_out_after_what_precedes_it() -> None:
    kafka = territory()
    send_hours(kafka, range(3))
    await ingest(kafka)
    for to in range(LANES):
        said = kinds(kafka, 0, to)
        assert said[0] == "plan"
        assert said.index("mark") > max(i for i, kind in enumerate(said) if kind == "chunk")


async def test_bad_records_become_dead_letters_once_and_the_rest_goes_on() -> None:
    kafka = territory()
    point = points("energy-a", 0)[0]
    for value in (b"garbage", reading(point, 0, -1), reading(point, 1)):
        kafka.send(A, 0, point.encode(), value)
    kafka.send("sites.energy-a", 0, point.encode(), b"\xff")
    kafka.send("sites.energy-a", 0, point.encode(), site(point))
    other = points("energy-a", 0)[1]
    kafka.send("sites.energy-a", 0, other.encode(), site(other, {"area": "nowhere"}))
    await ingest(kafka)
    await ingest(kafka)
    letters = [(each["reason"], each["topic"]) for each in decoded(kafka, "dlq.energy-a")]
    assert sorted(letters) == [
        ("area_not_in_hierarchy", "sites.energy-a"),
        ("bad_frame", A),
        ("bad_site", "sites.energy-a"),
        ("negative", A),
    ]
    assert receipts(kafka) == {"read": 3, "admitted": 1, "late": 0, "bad_frame": 1, "negative": 1}


# -- one partner never stops another ------------------------------------------------------------------


async def test_a_missing_table_pauses_that_partner_only_and_its_marks_stop() -> None:
    kafka = territory(consents=("energy-a", "energy-c"))
    send_hours(kafka, range(2))
    told = Told()
    await ingest(kafka, told)
    assert {topic for topic, _ in marks_of(kafka)} == {A, C}
    assert receipts(kafka)["admitted"] == 24
    assert sorted(told.pauses) == [("energy-b", "missing_table", "consent.energy-b")] * LANES


async def test_a_partner_whose_table_comes_later_goes_on_where_it_stood() -> None:
    kafka = territory(consents=("energy-a", "energy-c"))
    send_hours(kafka, range(2))
    told = Told()
    lanes = [ingest_lane(kafka, lane, told) for lane in range(LANES)]
    await settle(kafka, *lanes)
    kafka.create("consent.energy-b")
    await settle(kafka, *lanes, start=False)
    await settle(kafka, *lanes, start=False)
    assert marks_of(kafka) == dict.fromkeys(ALL, 2)
    assert receipts(kafka) == {"read": 36, "admitted": 36, "late": 0}
    assert told.pauses.count(("energy-b", "resumed")) == LANES


async def test_readings_topics_that_come_later_are_read() -> None:
    kafka = territory()
    kafka.topics.remove(B)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await settle(kafka, *lanes)
    kafka.create(B)
    send_hours(kafka, range(1))
    await settle(kafka, *lanes, start=False)
    await settle(kafka, *lanes, start=False)
    assert marks_of(kafka) == dict.fromkeys(ALL, 1)


async def test_a_lane_in_which_a_partner_has_no_customer_does_not_wait_for_sites() -> None:
    """Its marks come all the same, and every window needs those of all lanes."""
    kafka = territory()
    kafka.logs.pop(("sites.energy-b", 1))
    kafka.ends.pop(("sites.energy-b", 1))
    for lane in range(LANES):
        kafka.send(B, lane, None, mark(3))
    await ingest(kafka)
    assert marks_of(kafka) == {(B, 0): 3, (B, 1): 3}


async def test_a_silent_consent_service_pauses_that_partner_until_it_speaks() -> None:
    kafka = territory()
    body = partner_body("energy-b", consent={"heartbeat": "PT1H"})
    kafka.send("control", 0, None, control("partner", "energy-b", body))
    beat = CODEC.encode("consent-heartbeat", {"at": NOW})
    for lane in range(LANES):
        kafka.send("consent.energy-b", lane, b"heartbeat", beat)
    told = Told()
    lanes = [ingest_lane(kafka, lane, told) for lane in range(LANES)]
    send_hours(kafka, [0])
    await settle(kafka, *lanes)
    assert marks_of(kafka) == dict.fromkeys(ALL, 1)
    kafka.now += HOUR + 1
    send_hours(kafka, [1])
    await settle(kafka, *lanes, start=False)
    assert marks_of(kafka) == dict.fromkeys(ALL, 2) | {(B, lane): 1 for lane in range(LANES)}
    assert told.pauses == [("energy-b", "consent_silent", "")] * LANES
    for lane in range(LANES):
        kafka.send("consent.energy-b", lane, b"heartbeat", beat)
    await settle(kafka, *lanes, start=False)
    assert marks_of(kafka) == dict.fromkeys(ALL, 2)
    assert told.pauses[LANES:] == [("energy-b", "resumed")] * LANES


async def test_partners_get_equal_quotas_however_much_one_sends() -> None:
    kafka = territory()
    send_hours(kafka, range(1), ["energy-b", "energy-c"])
    point = points("energy-a", 0)[0]
    for number in range(300):
        kafka.send(A, 0, point.encode(), reading(point, 0, number))
    lane = ingest_lane(kafka, 0, most=20)
    await settle(kafka, lane, start=True)
    reader: Any = lane._reader
    quotas = {(tuple(places), most) for places, most in reader.polls if len(places) == 1}
    assert {most for _, most in quotas} == {MOST_READINGS // 3}
    assert {places[0][0] for places, _ in quotas} == {A, B, C}


# -- when a transaction is written ----------------------------------------------------------------------


async def sleeps(monkeypatch: pytest.MonkeyPatch, kafka: Kafka, *sent: tuple[str, bytes]) -> int:
    """How often a lane waits for more before it writes what was sent (topic, value) to it."""
    lane = ingest_lane(kafka, 0)
    await lane.start()
    await lane.step()  # it knows the plan
    for topic, value in sent:
        kafka.send(topic, 0, None, value)
    before, slept = kafka.transactions, 0
    sleep = asyncio.sleep

    async def count(seconds: float) -> None:
        nonlocal slept
        slept += seconds == GATHER
        await sleep(0)

    monkeypatch.setattr(ingest_module, "GATHER_MS", GATHER * 1000)
    monkeypatch.setattr(asyncio, "sleep", count)
    await lane.step()
    assert kafka.transactions == before + 1
    return slept


async def test_a_completeness_mark_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = (A, reading(points("energy-a", 0)[0], 0)), (A, mark(1))
    assert await sleeps(monkeypatch, territory(), *sent) == 0


async def test_a_few_readings_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control of the test before."""
    sent = (A, mark(1)), (A, reading(points("energy-a", 0)[0], 0))
    assert await sleeps(monkeypatch, territory(), *sent) == 1


async def test_what_a_paused_partner_has_in_kafka_does_not_keep_others_from_waiting_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = (B, reading(points("energy-b", 0)[0], 0)), (A, reading(points("energy-a", 0)[0], 0))
    assert await sleeps(monkeypatch, territory(consents=["energy-a", "energy-c"]), *sent) == 1


# -- time ---------------------------------------------------------------------------------------------


async def test_without_the_opt_in_silence_says_nothing() -> None:
    kafka = territory()
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_hours(kafka, range(2), ["energy-a", "energy-c"])
    await settle(kafka, *lanes)
    kafka.now += 40 * HOUR
    await settle(kafka, *lanes, start=False)
    assert {topic for topic, _ in marks_of(kafka)} == {A, C}


# -- control ------------------------------------------------------------------------------------------


async def test_every_release_lane_hears_of_the_plan_once_and_of_every_change() -> None:
    kafka = territory()
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await settle(kafka, *lanes)
    assert [len(kinds(kafka, lane, to)) for lane in range(LANES) for to in range(LANES)] == [1] * 4
    activate(kafka, policy("another"))
    await settle(kafka, *lanes, start=False)
    await ingest(kafka)
    for to in range(LANES):
        bodies = {record["body"] for record in decoded(kafka, CONTRIBUTIONS, to) if record["kind"] == "plan"}
        assert len(bodies) == 2
    assert kinds(kafka, 0).count("plan") == 2


async def test_an_unsigned_product_is_left_out_and_said() -> None:
    kafka = territory()
    text = policy("unsigned")
    body = {"policy": text, "agreements": {}, "active_from": DAY, "references": {}}
    kafka.send("control", 0, None, control("activation", "unsigned@1", body))
    send_hours(kafka, [0])
    told = Told()
    await ingest(kafka, told)
    assert list(told.left) == ["unsigned@1"]
    headers = {record["header"] for record in written(kafka, "chunk")}
    assert {tuple(json.loads(header)["products"]) for header in headers} == {("daily@1",)}
