"""A stream that says nothing is waited for as long as its products hold, window by window, and somebody is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka_memory import Kafka, Told
from lane_world import (
    DAY,
    HOUR,
    LANES,
    PARTNERS,
    ingest_lane,
    mark,
    marks_of,
    points,
    policy,
    reading,
    settle,
    territory,
)

from broker.stages.digest import CONTRIBUTIONS
from broker.stages.ingest import IngestLane
from broker.stages.waits import STEPS, Waits
from broker.stages.watermarks import Watermark

B = "in.energy-b.power"
OTHERS = ("energy-a", "energy-c")
B_ALONE = {(B, lane) for lane in range(LANES)}


def hold(span: str) -> dict[str, Any]:
    return {"length": "P1D", "base": "PT1H", "timezone": "Europe/Paris", "max_hold": span}


def begun(told: Told | None = None, **more: Any) -> tuple[Kafka, list[IngestLane]]:
    """Max hold is two days; the clock stands at the first window's start."""
    kafka = territory(policy(window=hold("P2D")), **more)
    kafka.now = DAY
    return kafka, [ingest_lane(kafka, lane, told) for lane in range(LANES)]


def send_marks(kafka: Kafka, hour: float, partners: Iterable[str] = PARTNERS) -> None:
    for partner in partners:
        for lane in range(LANES):
            kafka.send(f"in.{partner}.power", lane, None, mark(hour))


async def live(kafka: Kafka, lanes: list[IngestLane], hours: Iterable[int], partners: Iterable[str]) -> None:
    """Each hour's marks come when it is over."""
    for hour in hours:
        kafka.now = DAY + hour * HOUR
        send_marks(kafka, hour, partners)
        for lane in lanes:
            await lane.step()


def given_up(kafka: Kafka) -> dict[tuple[str, int], int]:
    return marks_of(kafka, "stalled")


async def started(lanes: list[IngestLane]) -> None:
    for lane in lanes:
        await lane.start()


async def test_the_longest_hold_is_held_for_every_window_however_long_a_stream_is_silent() -> None:
    kafka, lanes = begun()
    await started(lanes)
    await live(kafka, lanes, range(1, 25), PARTNERS)
    await live(kafka, lanes, range(25, 74), OTHERS)
    assert given_up(kafka) == {}  # hour 25 was complete elsewhere 48 hours ago, and not a moment longer
    kafka.now += 1
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 25)
    await live(kafka, lanes, range(74, 80), OTHERS)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 30)


async def test_the_longest_hold_of_the_domains_products_counts() -> None:
    kafka = territory(policy(), policy("longer", window=hold("P3D")))
    kafka.now = DAY
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_marks(kafka, 0, OTHERS)
    await settle(kafka, *lanes)
    kafka.now = DAY + 72 * HOUR
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == {}
    kafka.now += 1
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 0)
    said = len(kafka.values(CONTRIBUTIONS))
    await settle(kafka, *lanes, start=False)
    assert len(kafka.values(CONTRIBUTIONS)) == said


async def test_partners_that_upload_once_a_month_are_not_given_up() -> None:
    kafka, lanes = begun()
    await started(lanes)
    for month in range(1, 4):
        kafka.now = DAY + 30 * 24 * month * HOUR
        send_marks(kafka, 30 * 24 * month, OTHERS)
        await settle(kafka, *lanes, start=False)
        kafka.now += 47 * HOUR
        send_marks(kafka, 30 * 24 * month, ["energy-b"])
        await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == {}


async def test_a_partner_that_speaks_again_is_not_given_up_in_the_same_breath() -> None:
    kafka, lanes = begun()
    await started(lanes)
    await live(kafka, lanes, range(1, 3), OTHERS)
    kafka.now += 60 * HOUR
    send_marks(kafka, 2, ["energy-b"])
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == {}


async def test_a_stream_with_unread_records_is_never_given_up() -> None:
    kafka, lanes = begun()
    await started(lanes)
    await live(kafka, lanes, range(1, 3), OTHERS)
    kafka.now += 300 * HOUR
    point = points("energy-b", 0)[0]
    for hour in range(60):
        kafka.send(B, 0, point.encode(), reading(point, hour))
    slow = ingest_lane(kafka, 0, most=5)
    await slow.start()
    for _ in range(2):
        await slow.step()
    assert given_up(kafka) == {}
    await settle(kafka, slow, start=False)
    assert given_up(kafka) == {(B, 0): 2}


async def test_a_paused_partner_is_given_up_when_it_was_paused_for_the_longest_hold() -> None:
    """Its records lie there unread, and nobody can say when they may be read."""
    told = Told()
    kafka, lanes = begun(told, consents=OTHERS)
    send_marks(kafka, 1)
    await settle(kafka, *lanes)
    await live(kafka, lanes, range(2, 49), OTHERS)
    assert given_up(kafka) == {}
    kafka.now += 1
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 1)


async def test_a_stream_whose_topic_is_absent_is_given_up_after_the_longest_hold() -> None:
    kafka, lanes = begun()
    kafka.topics.remove(B)
    await settle(kafka, *lanes)
    await live(kafka, lanes, range(1, 50), OTHERS)
    assert given_up(kafka) == {}
    kafka.now += 1
    await settle(kafka, *lanes, start=False)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 1)


async def test_a_lane_that_begins_again_holds_longer_and_never_shorter() -> None:
    kafka, lanes = begun(consents=OTHERS)
    await settle(kafka, *lanes)
    await live(kafka, lanes, range(1, 40), OTHERS)
    again = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await started(again)
    await live(kafka, again, range(40, 88), OTHERS)
    assert given_up(kafka) == {}  # paused since hour 40, as far as these lanes know
    await live(kafka, again, range(88, 91), OTHERS)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 41)


async def test_the_mark_that_a_predecessor_committed_begins_the_history() -> None:
    kafka, lanes = begun()
    await started(lanes)
    await live(kafka, lanes, range(1, 40), OTHERS)
    again = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await started(again)
    await live(kafka, again, range(40, 89), OTHERS)
    assert given_up(kafka) == dict.fromkeys(B_ALONE, 39)


async def test_a_stream_that_keeps_windows_waiting_is_told_of_once_and_again_when_it_is_given_up_or_speaks() -> (
    None
):
    told = Told()
    kafka, lanes = begun(told)
    lane = lanes[0]
    await started([lane])
    await live(kafka, [lane], range(1, 3), PARTNERS)
    await live(kafka, [lane], range(3, 16), OTHERS)  # hour 3 is complete elsewhere since twelve hours
    assert told.stalls == []
    await live(kafka, [lane], range(16, 20), OTHERS)
    assert told.stalls == [(B, 0, 13 * HOUR, False)]
    await live(kafka, [lane], range(20, 53), OTHERS)
    assert told.stalls[1:] == [(B, 0, 49 * HOUR, True)]
    await live(kafka, [lane], [53], PARTNERS)
    assert told.stalls[2:] == [(B, 0, 0, False)]


async def test_an_empty_topic_is_told_of() -> None:
    told = Told()
    kafka, lanes = begun(told)
    await started(lanes)
    await live(kafka, lanes, range(1, 20), OTHERS)
    assert {(topic, up) for topic, _, _, up in told.stalls} == {(B, False)}


async def test_the_history_is_bounded_and_forgetting_never_shortens_the_hold() -> None:
    kafka, lanes = begun()
    await settle(kafka, lanes[0])
    plan = lanes[0]._tables.plan
    reader: Any = lanes[0]._reader
    waits = Waits(0, reader)
    place, span = ("in.energy-a.power", 0), 48 * HOUR
    given = 0
    for minute in range(5, 4 * 24 * 60, 5):
        now = DAY + minute * 60_000
        waits.take({place: Watermark(now, now)})
        for wait in await waits.look(plan, {(B, 0), place}, (), now):
            if wait.until is not None and wait.place == (B, 0):
                given = wait.until
                assert DAY < given < now - span
        assert len(waits._history[place].at) <= STEPS + 4
    assert given >= now - span - 2 * span // STEPS
