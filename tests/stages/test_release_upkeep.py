"""What a release lane lets go of when nothing needs it any more: keys, and what lies in Kafka."""

from __future__ import annotations

import pytest
from kafka_memory import Kafka
from lane_world import (
    DAY,
    HOUR,
    KEYS,
    LANES,
    cells,
    consent,
    decoded,
    in_g1,
    ingest_lane,
    points,
    release_lane,
    released,
    send_hours,
    settle,
    territory,
    without,
)

from broker.stages.digest import CONTRIBUTIONS


async def test_the_keys_of_a_windows_roll_ups_are_forgotten_when_it_has_closed() -> None:
    kafka = territory()
    ingesting = [ingest_lane(kafka, lane) for lane in range(LANES)]
    releasing = release_lane(kafka, 0)
    send_hours(kafka, range(20))
    await settle(kafka, *ingesting, releasing)
    held = {key for key, topic, _ in releasing._sealer._ciphers if topic == "rollups"}
    assert held == {KEYS.window_key("housing", "rollup", DAY)}
    send_hours(kafka, range(20, 26))
    await settle(kafka, *ingesting, releasing, start=False)
    held = {key for key, topic, _ in releasing._sealer._ciphers if topic == "rollups"}
    assert held == {KEYS.window_key("housing", "rollup", DAY + 24 * HOUR)}


async def by_three_hours(*, trims: bool = True, restart: bool = False) -> Kafka:
    """Two days and three hours, a withdrawal in the first; always the same lane releases, or each time another."""
    kafka = territory()
    kafka.trims = trims
    ingesting = [ingest_lane(kafka, lane) for lane in range(LANES)]
    releasing = release_lane(kafka, 0)
    point = points("energy-a", 0)[0]
    for first in range(0, 51, 3):
        send_hours(kafka, range(first, first + 3))
        if first == 9:
            kafka.send("consent.energy-a", 0, point.encode(), consent(point, withdrawn_at=kafka.now))
        await settle(kafka, *ingesting, start=not first)
        releasing = release_lane(kafka, 0, most=10) if restart else releasing
        await settle(kafka, releasing, start=restart or not first)
    return kafka


@pytest.mark.parametrize("restart", [False, True])
async def test_what_no_window_needs_is_deleted_and_a_lane_begins_again_from_the_rest(restart: bool) -> None:
    """Whether its cluster deletes or not, the bytes are the same; the ledger stays whole."""
    kafka = await by_three_hours(restart=restart)
    kept = await by_three_hours(trims=False)
    assert released(kafka) == released(kept) != []
    assert len(cells(kafka)) == 2 * 3 * 2  # days, areas of G1, measures
    assert kafka.values("ledger", 0) == kept.values("ledger", 0)
    committed = kafka.commits["release.lanes", (CONTRIBUTIONS, 0)][0]
    assert kafka.starts[CONTRIBUTIONS, 0] == committed
    assert not kafka.logs[CONTRIBUTIONS, 0]
    held = {record["window"] for record in decoded(kafka, "rollups", 0)}
    assert held == {DAY + hour * HOUR for hour in range(48, 51)}


async def test_roll_ups_and_retractions_stay_while_a_window_needs_them() -> None:
    kafka = territory()
    ingesting = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_hours(kafka, range(6))
    await settle(kafka, *ingesting)
    await settle(kafka, release_lane(kafka, 0))
    point = points("energy-a", 0)[0]
    kafka.send("consent.energy-a", 0, point.encode(), consent(point, withdrawn_at=kafka.now))
    for hour in range(6, 24):
        send_hours(kafka, [hour])
        await settle(kafka, *ingesting, start=False)
        await settle(kafka, release_lane(kafka, 0))
        held = {record["window"] for record in decoded(kafka, "rollups", 0)}
        assert hour == 23 or held == {0, *(DAY + each * HOUR for each in range(hour + 1))}
    assert cells(kafka) == in_g1(without(point))
