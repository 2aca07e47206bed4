"""A release lane: the same bytes whatever fails and whenever it begins again, and nothing in clear."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import polars as pl
import pytest
from kafka_memory import Crash, Kafka, Rec, Told
from lane_world import (
    AREAS,
    CODEC,
    DAY,
    HOUR,
    KEYS,
    LANES,
    PARTNERS,
    activate,
    cells,
    consent,
    decoded,
    expected_cells,
    in_g1,
    ingest,
    ingest_lane,
    mark,
    points,
    policy,
    release,
    release_lane,
    released,
    send_hours,
    settle,
    site,
    territory,
    without,
)

from broker.core.chunks import frame
from broker.core.errors import OperatorError
from broker.core.sealing import unseal
from broker.stages.digest import CONTRIBUTIONS


def day_window(**more: Any) -> dict[str, Any]:
    return {"length": "P1D", "base": "PT1H", "timezone": "Europe/Paris", "max_hold": "P2D"} | more


async def by_four_hours() -> Kafka:
    kafka = territory()
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    for first in range(0, 24, 4):
        send_hours(kafka, range(first, first + 4))
        await settle(kafka, *lanes, start=not first)
    return kafka


@pytest.fixture(scope="module")
def contributed() -> Kafka:
    """A day of all partners, ingested by four hours: marks and rows alternate, and one mark closes several hours."""
    return asyncio.run(by_four_hours())


@pytest.fixture(scope="module")
def whole(contributed: Kafka) -> Kafka:
    """The same, released without anything in the way."""
    kafka = copy.deepcopy(contributed)
    asyncio.run(release(kafka))
    return kafka


def truth(kafka: Kafka) -> dict[tuple[str, str], str]:
    """True value by (area, measure), as an auditor with the key reads it in the evidence."""
    found = {}
    for lane in range(LANES):
        for rec in kafka.logs["evidence", lane]:
            _, record = CODEC.decode(rec.value)
            body = unseal(
                record["body"],
                KEYS.audit_key(),
                topic="evidence",
                partition=lane,
                key=rec.key or b"",
                policies=json.loads(record["header"])["policy"],
            )
            rows = frame(body).filter(pl.col("segment") == "*")
            found.update({(a, m): v for a, m, v in rows.select("area", "measure", "true_value").iter_rows()})
    return found


# -- what is released ---------------------------------------------------------------------------------


def test_what_is_released_is_what_was_sent(whole: Kafka) -> None:
    assert cells(whole) == expected_cells()


def test_each_group_has_one_manifest_behind_its_cells(whole: Kafka) -> None:
    for lane, group in enumerate(AREAS.groups("epci")):
        names = [CODEC.decode(value)[0] for value in whole.values("out.daily", lane)]
        assert names == ["release-cells", "release-manifest"]
        _, manifest = CODEC.decode(whole.values("out.daily", lane)[-1])
        assert (manifest["group"], manifest["window_start"]) == (group, DAY)
        assert (manifest["partners"], manifest["left_out"]) == (sorted(PARTNERS), [])


def test_truth_and_reasons_lie_in_the_evidence_only_and_only_encrypted(whole: Kafka) -> None:
    assert truth(whole) == {(area, measure): value for (_, area, measure), value in expected_cells().items()}
    for lane in range(LANES):
        for value in whole.values("evidence", lane):
            _, record = CODEC.decode(value)
            assert b"true_value" not in record["body"]
    assert not any(b"true_value" in value for value in whole.values("out.daily"))


def test_no_record_of_any_topic_but_the_partners_own_holds_an_identifier(whole: Kafka) -> None:
    secrets = [point for partner in PARTNERS for lane in range(LANES) for point in points(partner, lane)]
    for (topic, _), log in whole.logs.items():
        if topic.startswith(("in.", "sites.", "consent.")):
            continue
        for rec in log:
            seen = (rec.key or b"") + (rec.value or b"")
            assert not any(secret.encode() in seen for secret in secrets), topic
            assert b"token of" not in seen, topic


def test_every_release_has_its_leaf_in_the_log(whole: Kafka) -> None:
    leaves = decoded(whole, "log.policy")
    assert [leaf["kind"] for leaf in leaves] == ["release", "release"]
    assert len({leaf["release"] for leaf in leaves}) == 2


# -- exactly once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", [1, 7, 24])
async def test_a_lane_that_dies_before_or_after_a_transaction_persisted_releases_the_same_bytes(
    contributed: Kafka, whole: Kafka, which: int, when: str
) -> None:
    kafka = copy.deepcopy(contributed)
    kafka.crash = which, when
    with pytest.raises(Crash):
        await settle(kafka, release_lane(kafka, 0))
    await settle(kafka, release_lane(kafka, 0, most=5))
    expected = [each for each in released(whole) if each[1] == 0]
    assert released(kafka) == expected
    assert len(kafka.values("ledger", 0)) == len(whole.values("ledger", 0)) == 24


async def test_a_lane_that_dies_at_every_transaction_releases_the_same_bytes(
    contributed: Kafka, whole: Kafka
) -> None:
    kafka = copy.deepcopy(contributed)
    for number in range(100):
        kafka.crash = 1 + number % 2, ("before", "after")[number % 2]
        try:
            await settle(kafka, release_lane(kafka, 0, most=3 + number))
        except Crash:
            continue
        break
    assert number > 10
    assert released(kafka) == [each for each in released(whole) if each[1] == 0]
    assert len(kafka.values("ledger", 0)) == 24


async def test_a_successor_closes_what_the_last_record_still_lets_close() -> None:
    """Nothing is open that it would fold again, and no other record comes."""
    kafka = territory()
    for partner in PARTNERS:
        for lane in range(LANES):
            kafka.send(f"in.{partner}.power", lane, None, mark(24))
    await ingest(kafka)
    kafka.crash = 1, "after"
    with pytest.raises(Crash):
        await settle(kafka, release_lane(kafka, 0))
    await settle(kafka, release_lane(kafka, 0))
    assert len(kafka.values("ledger", 0)) == 24
    assert [CODEC.decode(value)[0] for value in kafka.values("out.daily", 0)] == ["release-manifest"]


async def test_the_size_of_a_fetch_changes_nothing(contributed: Kafka, whole: Kafka) -> None:
    kafka = copy.deepcopy(contributed)
    await settle(kafka, release_lane(kafka, 1, most=2))
    assert released(kafka) == [each for each in released(whole) if each[1] == 1]


async def test_a_backlog_gives_the_same_bytes_as_live(whole: Kafka) -> None:
    kafka = territory()
    send_hours(kafka, range(24))
    await ingest(kafka)
    await settle(kafka, release_lane(kafka, 0))
    assert released(kafka) == [each for each in released(whole) if each[1] == 0]


async def test_a_window_that_has_closed_is_not_decrypted_again(
    contributed: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = copy.deepcopy(contributed)
    await settle(kafka, release_lane(kafka, 0))
    kafka.commits[("release.lanes", (CONTRIBUTIONS, 0))] = 0, ""
    before = len(kafka.values("ledger", 0)), len(released(kafka))
    asked: list[int] = []
    window_key = KEYS.window_key

    def remembered(domain: str, length: str, start: int) -> bytes:
        asked.append(start if length == "PT1H" else -1)
        return window_key(domain, length, start)

    monkeypatch.setattr(type(KEYS), "window_key", lambda _, *what: remembered(*what))
    await settle(kafka, release_lane(kafka, 0))
    assert DAY not in asked
    assert (len(kafka.values("ledger", 0)), len(released(kafka))) == before


# -- retractions, stalls ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "hour", "restart"), [("consent", 0, False), ("consent", 20, True), ("site", 20, False)]
)
async def test_a_home_that_goes_during_the_day_is_gone_from_the_whole_day(
    what: str, hour: int, restart: bool
) -> None:
    kafka = territory()
    point = points("energy-a", 0)[0]
    ingesting = [ingest_lane(kafka, lane) for lane in range(LANES)]
    releasing = [release_lane(kafka, 0)]
    send_hours(kafka, range(hour or 1))
    await settle(kafka, *ingesting, *releasing)
    if what == "consent":
        kafka.send("consent.energy-a", 0, point.encode(), consent(point, withdrawn_at=kafka.now))
    else:
        kafka.send("sites.energy-a", 0, point.encode(), None)
    await settle(kafka, *ingesting, *releasing, start=False)
    if restart:
        releasing = [release_lane(kafka, 0)]
    send_hours(kafka, range(hour or 1, 24))
    await settle(kafka, *ingesting, start=False)
    await settle(kafka, *releasing, start=restart)
    assert cells(kafka) == in_g1(without(point))


async def test_a_window_held_for_too_long_is_logged_as_abandoned_and_never_published() -> None:
    kafka = await stalled_after(6)
    assert released(kafka) == []
    assert {leaf["kind"] for leaf in decoded(kafka, "log.policy")} == {"abandoned"}


async def test_release_without_says_who_is_left_out() -> None:
    kafka = await stalled_after(6, policy(window=day_window(on_stall="release_without")))
    _, manifest = CODEC.decode(kafka.values("out.daily", 0)[-1])
    assert manifest["left_out"] == ["energy-b"]
    assert manifest["partners"] == ["energy-a", "energy-c"]
    assert truth(kafka)["G1", "homes"] == "8"  # of the two others, whom two holdings would expose
    assert cells(kafka)[DAY, "G1", "homes"] is None


async def stalled_after(hours: int, *policies: str) -> Kafka:
    kafka = territory(*policies)
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_hours(kafka, range(hours))
    await settle(kafka, *lanes)
    send_hours(kafka, range(hours, 24), ["energy-a", "energy-c"])
    await settle(kafka, *lanes, start=False)
    kafka.now += 49 * HOUR
    await settle(kafka, *lanes, start=False)
    await settle(kafka, release_lane(kafka, 0))
    return kafka


async def test_late_readings_are_told_and_change_nothing(contributed: Kafka, whole: Kafka) -> None:
    kafka = copy.deepcopy(contributed)
    send_hours(kafka, [3])
    await ingest(kafka)
    told = Told()
    await settle(kafka, release_lane(kafka, 0, told))
    assert released(kafka) == [each for each in released(whole) if each[1] == 0]
    assert told.late_readings == {f"in.{partner}.power": 4 for partner in PARTNERS}  # those of G1


@pytest.mark.parametrize("when", [None, "before", "after"])
async def test_rows_that_come_after_their_stream_was_given_up_are_counted_unopened(when: str | None) -> None:
    """In telemetry, and in the ledger as of its last row, each once."""
    kafka = await stalled_after(6, policy(window=day_window(on_stall="release_without")))
    before = len(released(kafka))
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_hours(kafka, range(6, 24), ["energy-b"])
    await settle(kafka, *lanes)
    send_hours(kafka, range(24, 26))
    await settle(kafka, *lanes, start=False)
    if when:
        kafka.crash = 1, when
        with pytest.raises(Crash):
            await settle(kafka, release_lane(kafka, 0, most=3))
    await settle(kafka, release_lane(kafka, 0, told := Told()))
    assert len(released(kafka)) == before
    state = json.loads(decoded(kafka, "ledger", 0)[-1]["body"])
    assert state["windows"]["late"] == {"housing": 18 * 4}  # hours, homes of G1
    assert when or told.late_readings == {"housing": 18 * 4}


# -- plans --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
async def test_a_product_that_comes_during_the_day_changes_no_other(restart: bool) -> None:
    """`alpha` comes before `daily` in the order of bits, and keeps its roll-ups for longer; a withdrawal under the
    old plan is told with the new one."""
    kafka = territory()
    ingesting = [ingest_lane(kafka, lane) for lane in range(LANES)]
    releasing = [release_lane(kafka, 0)]
    send_hours(kafka, range(6))
    await settle(kafka, *ingesting, *releasing)
    point = points("energy-a", 0)[0]
    kafka.send("consent.energy-a", 0, point.encode(), consent(point, withdrawn_at=kafka.now))
    await settle(kafka, *ingesting, start=False)
    activate(kafka, policy("alpha", window=day_window(length="P1M")), active_from=DAY - 9 * 24 * HOUR)
    send_hours(kafka, range(6, 12))
    await settle(kafka, *ingesting, *releasing, start=False)
    if restart:
        releasing = [release_lane(kafka, 0)]
    send_hours(kafka, range(12, 24))
    await settle(kafka, *ingesting, start=False)
    await settle(kafka, *releasing, start=restart)
    assert cells(kafka) == in_g1(without(point))


async def test_a_lane_that_is_behind_brings_no_old_plan_back() -> None:
    kafka = territory()
    slow = ingest_lane(kafka, 1)
    await slow.start()
    old = copy.deepcopy(kafka)
    activate(kafka, policy("alpha"))
    send_hours(kafka, range(24))
    await settle(kafka, ingest_lane(kafka, 0))
    late = copy.deepcopy(old)
    await settle(late, ingest_lane(late, 1))
    for to in range(LANES):  # lane 1 announces what it knew before
        for rec in late.logs[CONTRIBUTIONS, to]:
            kafka.send(CONTRIBUTIONS, to, rec.key, rec.value)
    await settle(kafka, ingest_lane(kafka, 1))
    await settle(kafka, release_lane(kafka, 0))
    assert cells(kafka) == cells(kafka, "alpha") == in_g1(expected_cells())


async def test_rows_of_a_domain_that_has_gone_are_passed_over() -> None:
    kafka = territory(policy("grid-daily", domain="grid"), policy())
    lanes = [ingest_lane(kafka, lane) for lane in range(LANES)]
    send_hours(kafka, range(4))
    await settle(kafka, *lanes)
    rows = {to: list(kafka.logs[CONTRIBUTIONS, to]) for to in range(LANES)}
    gone = CODEC.encode("control", {"kind": "activation", "name": "grid-daily@1", "body": ""})
    kafka.send("control", 0, None, gone)
    await settle(kafka, *lanes, start=False)
    for to in range(LANES):  # a lane that was behind wrote them after the others had told of the change
        for rec in rows[to]:
            if CODEC.decode(rec.value)[1]["domain"] == "grid":
                kafka.send(CONTRIBUTIONS, to, rec.key, rec.value)
    send_hours(kafka, range(4, 24))
    await settle(kafka, *lanes, start=False)
    await settle(kafka, release_lane(kafka, 0))
    assert cells(kafka) == in_g1(expected_cells())
    assert released(kafka, "grid-daily") == []


async def test_rows_without_any_plan_are_the_operators_to_explain(contributed: Kafka) -> None:
    kafka = copy.deepcopy(contributed)
    log = kafka.logs[CONTRIBUTIONS, 0]
    kafka.logs[CONTRIBUTIONS, 0] = [rec for rec in log if CODEC.decode(rec.value)[1]["kind"] != "plan"]
    with pytest.raises(OperatorError, match="no_plan"):
        await settle(kafka, release_lane(kafka, 0))


async def test_an_altered_contribution_stops_the_lane_and_nothing_is_released(contributed: Kafka) -> None:
    kafka = copy.deepcopy(contributed)
    log = kafka.logs[CONTRIBUTIONS, 0]
    at = next(i for i, rec in enumerate(log) if CODEC.decode(rec.value)[1]["kind"] == "chunk")
    value = log[at].value or b""
    log[at] = Rec(log[at].offset, log[at].key, value[:-1] + bytes([value[-1] ^ 1]), log[at].timestamp)
    with pytest.raises(OperatorError, match="bad_seal"):
        await settle(kafka, release_lane(kafka, 0))
    assert released(kafka) == []


async def test_a_site_may_move_to_another_group_at_once() -> None:
    """Its readings before lie in one group, those after in the other; it counts in neither for the whole day."""
    kafka = territory()
    point = points("energy-a", 0)[0]
    moved = site(point, {"valid_to": DAY + 6 * HOUR}, {"valid_from": DAY + 6 * HOUR, "area": "C3"})
    kafka.send("sites.energy-a", 0, point.encode(), moved)
    send_hours(kafka, range(24))
    await ingest(kafka)
    await release(kafka)
    found = cells(kafka)
    total = sum(int(found[DAY, group, "used"]) for group in ("G1", "G2"))
    assert total == sum(int(expected_cells()[DAY, group, "used"]) for group in ("G1", "G2"))
