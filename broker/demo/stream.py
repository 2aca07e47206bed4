"""The partners of the demo send: sites and consent first, then day after day, all partners side by side."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from broker.demo.territory import DemoTerritory
from broker.edge.kafka.clients import bulk_producer
from broker.partner.send import StreamSender, send_consent, send_sites, send_step
from broker.sim import World

Progress = Callable[[int], None]


def send_tables(demo: DemoTerritory, world: World, progress: Progress) -> None:
    """Sites and consent of every partner, confirmed by Kafka."""
    for stream in world.streams:
        client = bulk_producer(demo.kafka.settings(stream.partner))
        send_sites(client, stream.partner, world.sites[stream.partner], demo.codec)
        send_consent(client, stream.partner, world.consent[stream.partner], demo.codec)
        progress(1)


def send_readings(demo: DemoTerritory, world: World, progress: Progress, alive: Callable[[], None]) -> None:
    """All readings and completeness marks, in the order in which a territory's days pass. alive: raises where it is
    no use to go on."""
    senders = [
        StreamSender(bulk_producer(demo.kafka.settings(stream.partner)), stream, demo.codec)
        for stream in world.streams
    ]
    days = zip_longest(*(world.readings[stream.partner][stream.name] for stream in world.streams))
    for steps in days:
        alive()
        for sender, step in zip(senders, steps, strict=True):
            if step is not None:
                send_step(sender, step, progress)
    for sender in senders:
        sender.outbox.close()
