"""Event time, for partners that cannot send marks: how much disorder it allows, and what silence means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from kafka_memory import Kafka, Told
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    LANES,
    PARTNERS,
    cells,
    control,
    decoded,
    expected_cells,
    ingest,
    ingest_lane,
    marks_of,
    partner_body,
    points,
    policy,
    reading,
    release,
    settle,
    territory,
    use,
)

EVENT_TIME = policy(watermark={"event_time": {"idle_after": "PT6H"}})
A, B, C = (f"in.{partner}.power" for partner in PARTNERS)
MORE = "in.energy-b.more"
OTHERS = ("energy-a", "energy-c")


def late(kafka: Kafka) -> int:
    found: Counter[str] = Counter()
    for partner in PARTNERS:
        for record in decoded(kafka, f"receipts.{partner}"):
            found["late"] += record["late"]
    return found["late"]


def send(
    kafka: Kafka,
    hours: Iterable[int],
    partners: Iterable[str] = PARTNERS,
    lanes: Iterable[int] = range(LANES),
    stream: str = "power",
) -> None:
    """Readings, hour by hour and home by home, and no mark."""
    for hour in hours:
        for partner in partners:
            for lane in lanes:
                for which, point in enumerate(points(partner, lane)):
                    value = reading(point, hour, use(partner, lane, which, hour))
                    kafka.send(f"in.{partner}.{stream}", lane, point.encode(), value)


def two_streams() -> Kafka:
    """Energy-b has another stream, `more`, of the same measure."""
    kafka = territory(EVENT_TIME)
    kafka.create(MORE)
    body = partner_body("energy-b")
    body["streams"] = [*body["streams"], body["streams"][0] | {"name": "more"}]
    kafka.send("control", 0, None, control("partner", "energy-b", body))
    return kafka


async def test_event_time_waits_for_the_other_points_of_a_partner() -> None:
    """Home by home within each hour: the first home's reading must not shut the hour for the others."""
    kafka = territory(EVENT_TIME)
    send(kafka, range(31))
    await ingest(kafka)
    await release(kafka)
    assert late(kafka) == 0
    assert cells(kafka) == expected_cells()


async def test_a_silent_stream_is_complete_up_to_idle_after_before_its_partners_newest_event() -> None:
    kafka = two_streams()
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send(kafka, range(2))
    send(kafka, range(2), ["energy-b"], stream="more")
    await settle(kafka, *lanes)
    kafka.now += 6 * HOUR
    send(kafka, range(2, 20), OTHERS)
    send(kafka, range(2, 10), ["energy-b"])
    await settle(kafka, *lanes, start=False)
    others = {(topic, lane): 14 for topic in (A, C) for lane in range(LANES)}
    own = {(B, lane): 4 for lane in range(LANES)}
    assert marks_of(kafka) == others | own | {(MORE, lane): -4 for lane in range(LANES)}
    kafka.now += 1
    await settle(kafka, *lanes, start=False)
    # up to energy-b's own newest event less six hours, however far the others are
    assert marks_of(kafka) == others | own | {(MORE, lane): 4 for lane in range(LANES)}
    await ingest(kafka)  # and so it stays
    assert marks_of(kafka) == others | own | {(MORE, lane): 4 for lane in range(LANES)}


async def test_a_partner_that_is_silent_altogether_is_waited_for() -> None:
    kafka = territory(EVENT_TIME)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send(kafka, range(10))
    await settle(kafka, *lanes)
    kafka.now += 20 * HOUR
    send(kafka, range(10, 30), OTHERS)
    await settle(kafka, *lanes, start=False)
    assert {marks_of(kafka)[B, lane] for lane in range(LANES)} == {4}


async def test_a_lane_in_which_a_partner_has_no_customer_follows_what_other_lanes_read_of_it() -> None:
    kafka = territory(EVENT_TIME)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send(kafka, range(10), OTHERS)
    send(kafka, range(10), ["energy-b"], lanes=[0])
    await settle(kafka, *lanes)
    assert (B, 1) not in marks_of(kafka)
    kafka.now += 6 * HOUR + 1
    await settle(kafka, *lanes, start=False)
    assert marks_of(kafka)[B, 1] == 4


async def test_a_stream_with_unread_records_is_not_idle() -> None:
    kafka = two_streams()
    send(kafka, range(2), ["energy-b"])
    send(kafka, [*range(2), *range(2, 30), *[29] * 100], ["energy-b"], stream="more")
    send(kafka, range(2, 30), ["energy-b"])
    lane = ingest_lane(kafka, 0, most=20)  # of which `more`, the first by name, takes all for a while
    await lane.start()
    for _ in range(2):
        await lane.step()
    assert marks_of(kafka) == {(MORE, 0): 24}
    kafka.now += 7 * HOUR
    await settle(kafka, lane, start=False)
    assert marks_of(kafka)[B, 0] == 24
    assert late(kafka) == 0


async def test_a_partner_that_was_paused_is_not_idle_when_it_goes_on() -> None:
    kafka = two_streams()
    beat = CODEC.encode("consent-heartbeat", {"at": DAY})
    body = partner_body("energy-b", consent={"heartbeat": "PT1H"})
    body["streams"] = [*body["streams"], body["streams"][0] | {"name": "more"}]
    kafka.send("control", 0, None, control("partner", "energy-b", body))
    kafka.send("consent.energy-b", 0, b"heartbeat", beat)
    told = Told()
    lane: Any = ingest_lane(kafka, 0, told)
    send(kafka, range(2), lanes=[0])
    send(kafka, range(2), ["energy-b"], lanes=[0], stream="more")
    await settle(kafka, lane)
    kafka.now += 20 * HOUR
    await settle(kafka, lane, start=False)
    kafka.send("consent.energy-b", 0, b"heartbeat", beat)
    send(kafka, range(2, 20), ["energy-b"], lanes=[0])
    await settle(kafka, lane, start=False)
    assert told.pauses == [("energy-b", "consent_silent", ""), ("energy-b", "resumed")]
    # its silence was the broker's: what is sent now is in time
    send(kafka, range(2, 20), ["energy-b"], lanes=[0], stream="more")
    await settle(kafka, lane, start=False)
    assert late(kafka) == 0


async def test_a_paused_partner_is_not_idle() -> None:
    kafka = territory(EVENT_TIME, consents=OTHERS)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send(kafka, range(2))
    await settle(kafka, *lanes)
    kafka.now += 7 * HOUR
    send(kafka, range(2, 20), OTHERS)
    await settle(kafka, *lanes, start=False)
    assert {topic for topic, _ in marks_of(kafka)} == {A, C}
