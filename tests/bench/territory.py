"""What is measured on: a synthetic territory, sent to an embedded Kafka once.

31 days of five utilities: daily energy and water registers, in one EPCI half-hourly energy for the last days, with
the simulation's duplicates, corrections and malformed records. At 25,000 homes 50,207 delivery points and 2 million
readings, for what is asked of so many; at 20,000 homes for what is asked of these.
All readings are sent first, the completeness marks after them, so that every window is open until then.
The daily product runs for the last three days, the monthly ones for the whole month: the month closes once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Final

from broker import operate
from broker.core.plan import Stream
from broker.demo.stream import send_tables
from broker.demo.territory import DemoTerritory, bring_up, write_files
from broker.edge.kafka.clients import bulk_producer
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.lane_client import LaneReader
from broker.partner.send import StreamSender
from broker.sim import World, generate
from broker.sim.spec import TerritorySpec

SEED: Final = 1
LARGE: Final = TerritorySpec(premises=25_000, days=31, half_hourly=(1, 27, 4))
USUAL: Final = replace(LARGE, premises=20_000)
DAILY_FROM: Final = "2026-01-29"
MONTH_FROM: Final = "2026-01-01"
CLOSINGS: Final = (28, 29, 30, 31)
"""Days (from the first) whose marks are sent together: up to the daily product's start, then one by one."""

Ends = dict[str, list[int]]


@dataclass(frozen=True)
class Sent:
    """gates: end offsets of the readings, then of each set of marks; readings: how many; world: what was sent."""

    demo: DemoTerritory
    world: World
    gates: list[Ends]
    readings: int


def send(home: Path, kafka: EmbeddedKafka, spec: TerritorySpec) -> Sent:
    """Everything that the lanes will read."""
    world = generate(spec, SEED)
    folder = write_files(world, home)
    demo = bring_up(home, folder, kafka, MONTH_FROM)
    daily = operate.activation_record(folder, "energy-water-daily", DAILY_FROM)
    operate.publish(kafka.settings("broker-control"), [daily], demo.codec)
    send_tables(demo, world, lambda _: None)
    senders = [
        (stream, StreamSender(bulk_producer(kafka.settings(stream.partner)), stream, demo.codec))
        for stream in world.streams
    ]
    for steps in zip_longest(*(world.readings[s.partner][s.name] for s, _ in senders)):
        for (_, sender), step in zip(senders, steps, strict=True):
            if step is not None:
                sender.readings(step.frame)
                sender.raw(step.raw)
    gates = [_ends(demo, senders)]
    for day in CLOSINGS:
        for _, sender in senders:
            sender.mark(int(world.edges[day]))
        gates.append(_ends(demo, senders))
    return Sent(demo, world, gates, world.sent())


def _ends(demo: DemoTerritory, senders: list[tuple[Stream, StreamSender]]) -> Ends:
    for _, sender in senders:
        sender.outbox.close()
    topics, lanes = [stream.topic for stream, _ in senders], range(demo.folder.territory.lanes)
    found = asyncio.run(_end_offsets(demo, [(topic, lane) for topic in topics for lane in lanes]))
    return {topic: [found[topic, lane] for lane in lanes] for topic in topics}


async def _end_offsets(demo: DemoTerritory, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    reader = LaneReader(demo.kafka.admin, "bench.ends")
    await reader.start()
    try:
        return await reader.end_offsets(places)
    finally:
        await reader.stop()
