"""A product that may not run for a while goes on where it was; one that is gone for good goes with all it held."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kafka_memory import Kafka
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    LANES,
    SIGNERS,
    activate,
    cells,
    consent,
    control,
    decoded,
    expected_cells,
    in_g1,
    ingest_lane,
    partner_body,
    points,
    policy,
    reading,
    release_lane,
    released,
    send_hours,
    settle,
    territory,
    use,
    without,
)

from broker.core.note import make_signer
from broker.stages.digest import CONTRIBUTIONS

TWO = ["energy-b", "energy-c"]
BY_HOUR = {"length": "PT1H", "base": "PT1H", "timezone": "Europe/Paris", "max_hold": "P2D"}


def of_two(product: str, domain: str) -> str:
    """An hourly product to which energy-a does not contribute: it runs whatever is wrong with that partner."""
    inputs = {
        "energy": {
            "measure": "electricity",
            "unit": "Wh",
            "kind": "interval",
            "partners": TWO,
            "qualities": ["measured"],
        }
    }
    return policy(product, domain=domain, controllers=TWO, inputs=inputs, window=BY_HOUR)


def announce(kafka: Kafka, key: str) -> None:
    """The record of energy-a with this agreement key."""
    kafka.send(
        "control", 0, None, control("partner", "energy-a", partner_body("energy-a", agreement_key=key))
    )


OWN = SIGNERS["energy-a"].verifier.vkey
WRONG = make_signer("energy-a", b"not the key that signed".ljust(32)).verifier.vkey


class Lanes:
    """All lanes of a territory, of which those of one role or both may begin again."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.begin("ingest", "release")

    def begin(self, *roles: str) -> None:
        if "ingest" in roles:
            self.ingesting, self._started = [ingest_lane(self.kafka, lane) for lane in range(LANES)], False
        if "release" in roles:
            self.releasing, self._released = [release_lane(self.kafka, 0)], False

    async def settle(self) -> None:
        await settle(self.kafka, *self.ingesting, start=not self._started)
        await settle(self.kafka, *self.releasing, start=not self._released)
        self._started = self._released = True


async def left_for_a_moment(
    *others: str, restart: tuple[str, ...] = (), when: str = "", gone: bool = False, ahead: bool = False
) -> Kafka:
    """Six hours, energy-a's key is wrong, hours of the others (where `others` run), the key is right, the rest.

    gone: a home of energy-a withdraws in between; ahead: hour 6 of energy-a was read before. restart:
    roles that begin again `when` the key is wrong, or right.
    """
    kafka = territory(policy(), *others)
    kafka.trims = False  # so that the whole log can be played again
    lanes = Lanes(kafka)
    send_hours(kafka, range(6))
    await lanes.settle()
    for lane in range(LANES if ahead else 0):
        for which, point in enumerate(points("energy-a", lane)):
            value = reading(point, 6, use("energy-a", lane, which, 6))
            kafka.send("in.energy-a.power", lane, point.encode(), value)
    await lanes.settle()
    announce(kafka, WRONG)
    await lanes.settle()
    send_hours(kafka, range(6, 9), TWO)
    await lanes.settle()
    if when == "wrong":
        lanes.begin(*restart)
    if gone:
        point = points("energy-a", 0)[0]
        kafka.send("consent.energy-a", 0, point.encode(), consent(point, withdrawn_at=kafka.now))
    await lanes.settle()
    if when == "still wrong":
        lanes.begin(*restart)
        await lanes.settle()
    announce(kafka, OWN)
    await lanes.settle()
    if when == "right":
        lanes.begin(*restart)
    send_hours(kafka, range(6, 9), ["energy-a"])
    send_hours(kafka, range(9, 24))
    await lanes.settle()
    return kafka


def less(found: dict[tuple[int, str, str], str], partners: list[str], hours: range) -> dict[Any, Any]:
    """`found` without what the homes of these partners used in these hours."""
    found = dict(found)
    for partner in partners:
        for lane in range(LANES):
            for which, areas in enumerate((("C1", "G1"), ("C2", "G1"), ("C3", "G2"))):
                for area in areas:
                    lost = sum(use(partner, lane, which, hour) for hour in hours)
                    found[DAY, area, "used"] = str(int(found[DAY, area, "used"]) - lost)
    return found


GRID = of_two("grid", "grid")


@pytest.mark.parametrize(
    ("others", "when"),
    [([], ""), ([], "wrong"), ([], "still wrong"), ([], "right"), ([GRID], "wrong"), ([GRID], "right")],
)
async def test_a_product_that_leaves_the_plan_for_a_moment_loses_nothing(
    others: list[str], when: str
) -> None:
    """Live, and whenever its release lane begins again."""
    kafka = await left_for_a_moment(*others, restart=("release",), when=when)
    meanwhile = TWO if others else []  # read for the others only
    assert cells(kafka) == in_g1(less(expected_cells(), meanwhile, range(6, 9)))


@pytest.mark.parametrize("when", ["", "wrong", "right"])
async def test_base_windows_that_close_while_a_product_waits_keep_what_was_read_for_it(when: str) -> None:
    """What was read meanwhile was not for it, and the others had closed those hours when energy-a was read again."""
    kafka = await left_for_a_moment(of_two("others", "housing"), restart=("release",), when=when, ahead=True)
    assert cells(kafka) == in_g1(less(less(expected_cells(), TWO, range(6, 9)), ["energy-a"], range(7, 9)))


async def test_a_replayed_log_gives_the_same_bytes_as_live_although_a_product_left() -> None:
    kafka = await left_for_a_moment(of_two("others", "housing"), GRID)
    again = Kafka(kafka.now)
    again.create(*kafka.topics)
    again.logs[CONTRIBUTIONS, 0] = kafka.logs[CONTRIBUTIONS, 0]
    again.ends[CONTRIBUTIONS, 0] = kafka.ends[CONTRIBUTIONS, 0]
    await settle(again, release_lane(again, 0, most=7))
    for product in ("daily", "others", "grid"):
        assert released(again, product) == released(kafka, product) != []


@pytest.mark.parametrize(
    ("others", "restart", "when"),
    [
        ([], (), ""),
        ([], ("ingest",), "wrong"),
        ([of_two("others", "housing")], (), ""),
        ([GRID], ("ingest", "release"), "still wrong"),
    ],
)
async def test_a_withdrawal_reaches_a_product_that_waits(
    others: list[str], restart: tuple[str, ...], when: str
) -> None:
    kafka = await left_for_a_moment(*others, restart=restart, when=when, gone=True)
    whole = await left_for_a_moment(*others)
    assert cells(kafka)[DAY, "G1", "homes"] == str(int(cells(whole)[DAY, "G1", "homes"] or 0) - 1)
    if not others:
        assert cells(kafka) == in_g1(without(points("energy-a", 0)[0]))


def remove(kafka: Kafka, product: str) -> None:
    kafka.send(
        "control",
        0,
        None,
        CODEC.encode("control", {"kind": "activation", "name": f"{product}@1", "body": ""}),
    )


async def test_a_domain_that_is_gone_for_good_does_not_hold_the_offset() -> None:
    kafka = territory(of_two("others", "housing"), policy("grid", domain="grid"))
    kafka.trims = False
    lanes = Lanes(kafka)
    send_hours(kafka, range(6))
    send_hours(kafka, [6], ["energy-b"])
    await lanes.settle()
    send_hours(kafka, [6], ["energy-c"])
    await lanes.settle()
    held = kafka.commits["release.lanes", (CONTRIBUTIONS, 0)][0]
    announce(kafka, WRONG)  # the product waits: what it had read stays
    send_hours(kafka, range(7, 12), TWO)
    await lanes.settle()
    assert kafka.commits["release.lanes", (CONTRIBUTIONS, 0)][0] == held
    remove(kafka, "grid")
    send_hours(kafka, range(12, 14), TWO)
    await lanes.settle()
    (last,) = [at for at, rec in enumerate(decoded(kafka, CONTRIBUTIONS, 0)) if rec["kind"] == "plan"][-1:]
    assert kafka.commits["release.lanes", (CONTRIBUTIONS, 0)][0] > kafka.logs[CONTRIBUTIONS, 0][last].offset


@pytest.mark.parametrize("restart", [(), ("release",), ("ingest", "release")])
async def test_a_new_version_leaves_the_day_to_the_one_before_it(restart: tuple[str, ...]) -> None:
    kafka = territory()
    lanes = Lanes(kafka)
    send_hours(kafka, range(6))
    await lanes.settle()
    activate(kafka, policy(version=2), active_from=DAY + 24 * HOUR)
    await lanes.settle()
    lanes.begin(*restart)
    send_hours(kafka, range(6, 48))
    await lanes.settle()
    assert cells(kafka) == in_g1(expected_cells() | expected_cells(range(24, 48), DAY + 24 * HOUR))
    manifests = [record for record in decoded(kafka, "out.daily", 0) if "version" in record]
    assert [(each["window_start"], each["version"]) for each in manifests] == [(DAY, 1), (DAY + 24 * HOUR, 2)]


@pytest.mark.parametrize("restart", [(), ("release",), ("ingest", "release")])
async def test_an_ended_version_that_is_retired_changes_nothing_of_the_next_one(
    restart: tuple[str, ...],
) -> None:
    kafka = territory()
    kafka.trims = False
    lanes = Lanes(kafka)
    activate(kafka, policy(version=2), active_from=DAY + 24 * HOUR)
    send_hours(kafka, range(30))
    await lanes.settle()
    remove(kafka, "daily")
    await lanes.settle()
    lanes.begin(*restart)
    send_hours(kafka, range(30, 48))
    await lanes.settle()
    assert cells(kafka) == in_g1(expected_cells() | expected_cells(range(24, 48), DAY + 24 * HOUR))
    made = [json.loads(row["header"])["products"] for row in decoded(kafka, "rollups", 0)]
    assert (made[0], made[-1]) == (["daily@1", "daily@2"], ["daily@2"])
