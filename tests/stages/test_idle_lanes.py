"""A territory may have more lanes than release groups: what those do that have nothing to release."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from kafka_memory import Kafka
from lane_world import (
    AREAS,
    CODEC,
    DAY,
    KEYS,
    LANES,
    ZONE,
    decoded,
    ingest,
    policy,
    release,
    sealer,
    send_hours,
    territory,
)

from broker.core.calendar import Calendar
from broker.core.open_windows import Due
from broker.core.plan import Activation, Stream, build_plan
from broker.core.policy import load
from broker.stages.publish import Publisher

STREAMS = [
    Stream(f"energy-{name}", name, "power", "electricity", "interval", "Wh") for name in ("a", "b", "c")
]


class Untouched:
    """Raises when anything of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"somebody looked at the {name} of roll-ups that are nobody's")


def due(*, abandoned: bool = False) -> Due:
    plan = build_plan([Activation(load(policy(), "test"), DAY)], STREAMS, AREAS, ZONE)
    (domain,) = plan.domains.values()
    (product,) = domain.products
    window = Calendar(ZONE).window("P1D", DAY)
    return Due(domain, product, window, Untouched(), (), abandoned)  # type: ignore[arg-type]


def publisher(partition: int) -> Publisher:
    return Publisher(partition, 8, AREAS, CODEC, KEYS, sealer())


def test_a_lane_without_release_groups_looks_at_nothing_and_publishes_nothing() -> None:
    assert publisher(2).publish(due()) == ([], [])
    with pytest.raises(
        AssertionError, match="somebody looked"
    ):  # two groups: the first two lanes have one each
        publisher(1).publish(due())


def test_it_logs_an_abandoned_window_as_the_others_do() -> None:
    bodies = []
    for partition in (1, 2):
        ((leaf,), summaries) = publisher(partition).publish(due(abandoned=True))
        assert (leaf.topic, summaries) == ("log.policy", [])
        bodies.append(CODEC.decode(leaf.value)[1]["kind"])
    assert bodies == ["abandoned", "abandoned"]


@pytest.fixture
async def released() -> Kafka:
    kafka = territory()
    send_hours(kafka, range(24))
    await ingest(kafka)
    await release(kafka)
    return kafka


async def test_the_ledgers_rows_are_canonical_json_whoever_wrote_them(released: Kafka) -> None:
    for lane in range(LANES):
        rows = decoded(released, "ledger", lane)
        assert len(rows) == 24
        for row in rows:
            state = json.loads(row["body"])
            assert row["body"] == rfc8785.dumps(state)
            assert sorted(state) == ["control", "control_read", "position", "windows"]
            assert json.loads(state["control"])["activations"].keys() == {"daily@1"}
