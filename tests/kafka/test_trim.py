"""A lane deletes what nobody reads again, and only as far as it says; where it may not, it goes on."""

from __future__ import annotations

from structlog.testing import capture_logs
from territories import territory

from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.lane_client import LaneReader, LaneWriter
from broker.edge.kafka.provision import INGEST, RELEASE, provision
from broker.stages.ports import Out

PLACE = ("rollups", 0)


async def first_and_rest(kafka: EmbeddedKafka) -> tuple[int, list[bytes | None]]:
    """The first offset that is left, and what a lane that begins again reads from there."""
    reader = LaneReader(kafka.settings(RELEASE), "release.lanes")
    await reader.start()
    try:
        first = (await reader.first_offsets([PLACE]))[PLACE]
        end = (await reader.end_offsets([PLACE]))[PLACE]
        await reader.assign({PLACE: first})
        values: list[bytes | None] = []
        while await reader.position(PLACE) < end:
            for batch in await reader.poll([PLACE], most=100, wait_ms=200):
                values += batch.values
        return first, values
    finally:
        await reader.stop()


async def test_a_lane_that_begins_again_reads_on_from_what_was_left(kafka: EmbeddedKafka) -> None:
    provision(kafka.admin, territory(), kafka.home.secrets)
    writer = LaneWriter(kafka.settings(RELEASE), "release.0", "release.lanes")
    await writer.start()
    for number in range(4):
        await writer.commit([Out(*PLACE, None, b"%d" % number)], {("contributions", 0): (number, "")})
    await writer.trim({PLACE: 4, ("contributions", 0): 0})  # each transaction ends with a marker
    assert await first_and_rest(kafka) == (4, [b"2", b"3"])
    await writer.trim({PLACE: 6})  # not within the minute
    await writer.stop()
    assert await first_and_rest(kafka) == (4, [b"2", b"3"])

    stranger = LaneWriter(kafka.settings(INGEST), "ingest.0", "ingest.lanes")
    with capture_logs() as said:
        await stranger.trim({PLACE: 8})
    assert [each["event"] for each in said] == ["not_trimmed"]
    assert await first_and_rest(kafka) == (4, [b"2", b"3"])


async def test_a_cluster_that_does_not_answer_is_said_and_stops_nothing(kafka: EmbeddedKafka) -> None:
    settings = kafka.admin.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    with capture_logs() as said:
        await LaneWriter(settings, "release.1", "release.lanes").trim({PLACE: 1})
    assert [each["event"] for each in said] == ["not_trimmed"]
