"""A partition that Kafka does not hand out costs its partner time, and nobody anything else."""

from __future__ import annotations

import pytest
from kafka_memory import Kafka, Told
from lane_world import (
    CODEC,
    LANES,
    PARTNERS,
    decoded,
    ingest_lane,
    points,
    send_hours,
    settle,
    territory,
)

from broker.core.errors import Unreadable
from broker.stages.pauses import RETRY_MS
from broker.stages.ports import Place

BROKEN = "energy-b"


def admitted(kafka: Kafka) -> dict[str, int]:
    return {
        partner: sum(record["admitted"] for record in decoded(kafka, f"receipts.{partner}"))
        for partner in PARTNERS
    }


def whole(hours: int, *, but: str = "") -> dict[str, int]:
    return {partner: 0 if partner == but else 6 * hours for partner in PARTNERS}


@pytest.mark.parametrize("topic", [f"in.{BROKEN}.power", f"sites.{BROKEN}", f"consent.{BROKEN}"])
async def test_a_partition_that_is_not_handed_out_pauses_its_partner_only_until_it_is_there_again(
    topic: str,
) -> None:
    kafka = territory()
    for lane in range(LANES):  # so that there is something unread
        kafka.send(
            f"consent.{BROKEN}", lane, b"heartbeat", CODEC.encode("consent-heartbeat", {"at": kafka.now})
        )
    kafka.unreadable = {(topic, lane) for lane in range(LANES)}
    send_hours(kafka, range(2))
    told = Told()
    lanes = [ingest_lane(kafka, lane, told) for lane in range(LANES)]
    await settle(kafka, *lanes)
    assert admitted(kafka) == whole(2, but=BROKEN)
    assert {partner for partner, *_ in told.pauses} == {BROKEN}
    assert {code for _, code, *_ in told.pauses} == {"unreadable"}
    kafka.unreadable = set()
    await settle(kafka, *lanes, start=False)
    assert admitted(kafka) == whole(2, but=BROKEN), "it is tried again too early"
    kafka.now += RETRY_MS
    for _ in range(2):
        await settle(kafka, *lanes, start=False)
    assert admitted(kafka) == whole(2)
    assert (BROKEN, "resumed") in told.pauses


async def test_readings_are_put_back_where_what_their_partner_said_before_them_cannot_be_read() -> None:
    """They were fetched already when the table turned out to be unreadable; here, one that takes a point away."""
    kafka = territory()
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await settle(kafka, *lanes)
    lane = 0
    point = points(BROKEN, lane)[0]
    kafka.send(f"sites.{BROKEN}", lane, point.encode(), None)
    broken: set[Place] = {(f"sites.{BROKEN}", lane)}
    kafka.unreadable = broken
    send_hours(kafka, range(1))
    await settle(kafka, *lanes, start=False)
    kafka.unreadable = set()
    kafka.now += RETRY_MS
    for _ in range(2):
        await settle(kafka, *lanes, start=False)
    counted = decoded(kafka, f"receipts.{BROKEN}")
    assert sum(record["read"] for record in counted) == 6
    assert sum(record["refused"].get("unknown_delivery_point", 0) for record in counted) == 1
    assert sum(record["admitted"] for record in counted) == 5


async def test_where_the_control_topic_is_not_handed_out_the_lane_begins_again() -> None:
    kafka = territory()
    kafka.unreadable = {("control", 0)}
    with pytest.raises(Unreadable, match="control/0"):
        await settle(kafka, ingest_lane(kafka, 0))
