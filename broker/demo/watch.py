"""Waiting for the releases: the policy log says when each is out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from broker.core.errors import OperatorError
from broker.demo.territory import DemoTerritory
from broker.edge.kafka.lane_client import LaneReader

LOG = "log.policy"
PATIENCE_SECONDS = 180
"""Without any new release for so long something is wrong."""


async def releases_until(
    demo: DemoTerritory, expected: int, progress: Callable[[int], None], alive: Callable[[], None]
) -> Counter[str]:
    """Releases by product, once `expected` of them are in the log. alive: raises where a worker has ended."""
    reader = LaneReader(demo.kafka.admin, None)
    found: Counter[str] = Counter()
    await reader.start()
    try:
        await reader.assign({(LOG, 0): 0})
        latest = time.monotonic()
        while found.total() < expected:
            alive()
            for batch in await reader.poll([(LOG, 0)], most=10_000, wait_ms=200):
                leaves = [demo.codec.decode(value)[1] for value in batch.values]
                released = [leaf["product"] for leaf in leaves if leaf["kind"] == "release"]
                found.update(released)
                progress(len(released))
                latest = time.monotonic()
            if time.monotonic() - latest > PATIENCE_SECONDS:
                raise OperatorError(
                    "demo_stuck",
                    f"{found.total()} of {expected} releases, and no new one for {PATIENCE_SECONDS} s: see the "
                    "workers' logs",
                    where=str(demo.home),
                )
    finally:
        await reader.stop()
    return found


def wait_for_releases(
    demo: DemoTerritory, expected: int, progress: Callable[[int], None], alive: Callable[[], None]
) -> Counter[str]:
    """`releases_until`, from code that does not run in an event loop."""
    return asyncio.run(releases_until(demo, expected, progress, alive))
