"""What an ingest lane takes back: every withdrawal and every site that goes, also while it is down."""

from __future__ import annotations

from typing import Any

import pytest
from kafka_memory import Crash, Kafka
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    LANES,
    NOW,
    PARTNERS,
    cells,
    consent,
    decoded,
    ingest,
    ingest_lane,
    mark,
    ms,
    opened,
    points,
    policy,
    reading,
    release,
    send_hours,
    settle,
    site,
    territory,
)

from broker.core.chunks import frame
from broker.stages.digest import CONTRIBUTIONS

A = "in.energy-a.power"
HOURLY = {"length": "PT1H", "base": "PT1H", "timezone": "Europe/Paris"}


def kinds(kafka: Kafka, lane: int, to: int = 0) -> list[str]:
    """What one ingest lane told one release lane, in order."""
    return [record["kind"] for record in decoded(kafka, CONTRIBUTIONS, to) if record["lane"] == lane]


def written(kafka: Kafka, kind: str) -> list[dict[str, Any]]:
    return [record for record in decoded(kafka, CONTRIBUTIONS) if record["kind"] == kind]


def send_readings(kafka: Kafka, hours: range) -> None:
    """Of every home, without marks."""
    for hour in hours:
        for partner in PARTNERS:
            for lane in range(LANES):
                for point in points(partner, lane):
                    kafka.send(f"in.{partner}.power", lane, point.encode(), reading(point, hour))


def withdrawn(kafka: Kafka, partner: str, lane: int, which: int = 0) -> None:
    point = points(partner, lane)[which]
    kafka.send(f"consent.{partner}", lane, point.encode(), consent(point, withdrawn_at=NOW))


async def test_a_withdrawal_goes_to_the_homes_release_lane_once() -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    await settle(kafka, *lanes)
    withdrawn(kafka, "energy-a", 0, which=2)  # in C3, hence group 1
    await settle(kafka, *lanes, start=False)
    assert kinds(kafka, 0, 0).count("retraction") == 0
    assert kinds(kafka, 0, 1).count("retraction") == 1
    await ingest(kafka)
    assert len(written(kafka, "retraction")) == 1


async def test_a_withdrawal_that_comes_while_the_lane_is_down_is_not_lost() -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    withdrawn(kafka, "energy-b", 0)  # something stands committed
    await ingest(kafka)
    before = len(written(kafka, "retraction"))
    withdrawn(kafka, "energy-a", 0)
    withdrawn(kafka, "energy-b", 0, which=1)
    await ingest(kafka)
    assert len(written(kafka, "retraction")) == before + 2
    await ingest(kafka)
    assert len(written(kafka, "retraction")) == before + 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_withdrawal_survives_a_crash_of_its_own_transaction(when: str) -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    await ingest(kafka)
    withdrawn(kafka, "energy-a", 0)
    kafka.crash = 1, when
    with pytest.raises(Crash):
        await settle(kafka, ingest_lane(kafka, 0))
    await ingest(kafka)
    assert len(written(kafka, "retraction")) == 1


async def test_a_site_that_moves_while_the_lane_is_down_takes_its_readings_along() -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    await ingest(kafka)
    point = points("energy-a", 0)[0]
    kafka.send("sites.energy-a", 0, point.encode(), site(point, {"premises": "another home"}))
    kafka.send("sites.energy-a", 0, points("energy-a", 0)[1].encode(), None)
    await ingest(kafka)
    assert len(written(kafka, "retraction")) >= 1


async def test_a_withdrawal_before_new_year_reaches_what_was_already_sent_for_the_new_one() -> None:
    """A partner's clock is ahead: ten hours before midnight there is a reading of the first hour of the year."""
    year = ms("2027-01-01")
    kafka = territory()
    kafka.now = year - 10 * HOUR
    point = points("energy-a", 0)[0]
    hours = (year - DAY) // HOUR
    for hour in (hours - 1, hours):
        kafka.send(A, 0, point.encode(), reading(point, hour))
    kafka.send(A, 0, None, mark(hours - 20))
    lane = ingest_lane(kafka, 0)
    await settle(kafka, lane)
    rows = opened(kafka)
    assert rows["point"].n_unique() == 2  # one pseudonym for each year
    withdrawn(kafka, "energy-a", 0)
    await settle(kafka, lane, start=False)
    (said,) = written(kafka, "retraction")
    assert set(rows["point"]) <= set(frame(said["body"])["point"])


async def test_a_withdrawal_reaches_windows_that_a_stream_without_any_mark_has_held_since_last_year() -> None:
    kafka = territory()
    point = points("energy-a", 0)[0]
    kafka.send(A, 0, point.encode(), reading(point, 1))
    lane = ingest_lane(kafka, 0)
    await settle(kafka, lane)
    kafka.now = ms("2027-06-01")
    kafka.send(A, 0, None, mark((kafka.now - DAY) / HOUR))  # the other suppliers never sent any
    await settle(kafka, lane, start=False)
    withdrawn(kafka, "energy-a", 0)
    await settle(kafka, lane, start=False)
    (said,) = written(kafka, "retraction")
    assert set(opened(kafka)["point"]) <= set(frame(said["body"])["point"])


async def test_a_mark_in_another_unit_neither_delays_a_withdrawal_nor_stops_a_lane() -> None:
    kafka = territory()
    send_hours(kafka, range(2))
    for factor in (1000, 1_000_000):
        until = CODEC.encode("completeness-mark", {"stream": "power", "until": DAY * factor})
        kafka.send(A, 0, None, until)
    withdrawn(kafka, "energy-a", 0)
    kafka.trims = False  # what was written is looked at after the release
    await ingest(kafka)
    await release(kafka)
    assert {record["reason"] for record in decoded(kafka, "dlq.energy-a")} == {"far_future"}
    assert max(record["window"] for record in written(kafka, "mark")) == DAY + 2 * HOUR


BY_CONSENT = policy(lawful_basis={"kind": "consent"}, window=HOURLY)


@pytest.mark.parametrize("looks", ["live", "once"])
async def test_a_withdrawal_and_a_new_grant_have_the_same_outcome_whether_or_not_they_were_seen_apart(
    looks: str,
) -> None:
    kafka = territory(BY_CONSENT)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    homes = [
        (partner, lane, point)
        for partner in PARTNERS
        for lane in range(LANES)
        for point in points(partner, lane)
    ]
    for partner, lane, point in homes:
        kafka.send(f"consent.{partner}", lane, point.encode(), consent(point, granted_from=DAY))
    send_readings(kafka, range(4))
    await settle(kafka, *lanes)
    for partner, lane, point in homes[:1]:
        withdrawal = consent(point, granted_from=DAY, withdrawn_at=DAY + 4 * HOUR)
        again = consent(point, granted_from=DAY + 5 * HOUR + 1)
        kafka.send(f"consent.{partner}", lane, point.encode(), withdrawal)
        if looks == "live":
            await settle(kafka, *lanes, start=False)
        kafka.send(f"consent.{partner}", lane, point.encode(), again)
    send_readings(kafka, range(4, 8))
    await settle(kafka, *lanes, start=False)
    for partner in PARTNERS:
        for lane in range(LANES):
            kafka.send(f"in.{partner}.power", lane, None, mark(8))
    await settle(kafka, *lanes, start=False)
    await release(kafka)
    counted = [int(cells(kafka)[DAY + hour * HOUR, "G1", "homes"] or 0) for hour in range(8)]
    every = len(PARTNERS) * LANES * 2
    assert counted == [every - 1] * 6 + [every] * 2  # from the first hour that began after the new grant
