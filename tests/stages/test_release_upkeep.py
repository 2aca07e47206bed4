"""What a release lane lets go of when nothing needs it any more: keys, and what lies in Kafka."""

from __future__ import annotations

from lane_world import (
    DAY,
    HOUR,
    KEYS,
    LANES,
    ingest_lane,
    release_lane,
    send_hours,
    settle,
    territory,
)


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
