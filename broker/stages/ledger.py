"""A release lane's ledger, and its other topics, read back up to their end now."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from broker.stages.ports import Batch, Codec, Place, Reader

LEDGER: Final = "ledger"
MOST_RECORDS: Final = 256
WAIT_MS: Final = 200
TAIL: Final = 16
"""Offsets at the ledger's end, where a row and the marker of its transaction take two."""


async def last_closing(reader: Reader, partition: int, codec: Codec) -> dict[str, Any] | None:
    """What the ledger's last row of a closing says; None where there is none.

    The ledger grows for ever, and each row holds all of control: it is read from its end, and more of it only where
    no such row is there.
    """
    place = LEDGER, partition
    first = (await reader.first_offsets([place]))[place]
    end = (await reader.end_offsets([place]))[place]
    begin, tail = end, TAIL
    while begin > first:
        begin, tail = max(first, end - tail), tail * 16
        last = None
        async for batch in records_from(reader, place, begin):
            for value in batch.values:
                _, record = codec.decode(value)
                last = record if record["kind"] == "closed" else last
        if last is not None:
            found: dict[str, Any] = json.loads(last["body"])
            return found
    return None


async def records_from(reader: Reader, place: Place, begin: int) -> AsyncIterator[Batch]:
    """The records of a partition from offset `begin` up to its end now."""
    end = (await reader.end_offsets([place]))[place]
    await reader.assign({place: begin})
    while await reader.position(place) < end:
        for batch in await reader.poll([place], most=MOST_RECORDS, wait_ms=WAIT_MS):
            yield batch
    await reader.leave(place)
