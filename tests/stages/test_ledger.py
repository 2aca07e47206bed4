"""The ledger grows for ever: a lane that begins again reads no more of it than it must."""

from __future__ import annotations

import json

import pytest
from kafka_memory import Kafka, MemoryReader
from lane_world import CODEC, DAY

from broker.stages.ledger import LEDGER, TAIL, last_closing
from broker.stages.ports import Out

LANE = 1


def closes(kafka: Kafka, position: int) -> None:
    """A closing, in a transaction of its own."""
    body = json.dumps({"position": position}).encode()
    row = CODEC.encode("ledger-row", {"kind": "closed", "domain": "", "body": body})
    kafka.transaction("release.lanes", [Out(LEDGER, LANE, b"closed", row)], {})


def ledger(closings: int, others: int) -> Kafka:
    """So many closings, whose positions count up, and then rows of another kind."""
    kafka = Kafka(DAY)
    kafka.create(LEDGER)
    for position in range(closings):
        closes(kafka, position)
    row = CODEC.encode("ledger-row", {"kind": "rows", "domain": "housing", "body": b""})
    for _ in range(others):
        kafka.send(LEDGER, LANE, b"rows", row)
    return kafka


@pytest.mark.parametrize("closings", [1, 5, 1000])
@pytest.mark.parametrize("others", [0, 1, TAIL, 20 * TAIL])
async def test_the_last_closing_is_found_however_many_rows_of_another_kind_follow(
    closings: int, others: int
) -> None:
    reader = MemoryReader(ledger(closings, others), "", most=7)
    assert await last_closing(reader, LANE, CODEC) == {"position": closings - 1}
    assert not reader.assigned


async def test_a_ledger_without_any_closing_says_so() -> None:
    for kafka in (ledger(0, 0), ledger(0, 3 * TAIL)):
        assert await last_closing(MemoryReader(kafka, ""), LANE, CODEC) is None


async def test_only_the_end_of_a_long_ledger_is_read() -> None:
    kafka = ledger(1000, 0)
    await last_closing(MemoryReader(kafka, ""), LANE, CODEC)
    assert kafka.handed <= TAIL
