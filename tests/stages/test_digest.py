"""One batch of a stream: every record has one outcome, nothing leaves in clear, and cutting changes nothing."""

from __future__ import annotations

import hmac
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_memory import Rec, records
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    KEYS,
    LANES,
    NOW,
    PARTNERS,
    activation_body,
    consent,
    control,
    digester,
    mark,
    open_chunk,
    partner_body,
    points,
    policy,
    reading,
    site,
    tables,
)
from polars.testing import assert_frame_equal

from broker.core.admission import NO_MARK
from broker.core.readings import OLDEST
from broker.core.reasons import REASONS, outcome
from broker.stages.books import BadRecord
from broker.stages.digest import Digest, Digester
from broker.stages.ports import Out
from broker.stages.tables import LaneTables
from broker.stages.watermarks import Watermark

PARTNER = "energy-a"
TOPIC = f"in.{PARTNER}.power"
KNOWN, MOVED, CONTESTED, UNKNOWN = points(PARTNER, 0, 4)
ELSEWHERE = points(PARTNER, 1)[0]
TOKEN = f"token of {KNOWN}"


def lane_tables(*policies: str) -> LaneTables:
    found = tables()
    sent = [control("partner", name, partner_body(name)) for name in PARTNERS]
    sent += [
        control("activation", json.loads(text)["product"] + "@1", activation_body(text))
        for text in policies or (policy(),)
    ]
    found.apply(records("control", 0, [Rec(i, None, value, 0) for i, value in enumerate(sent)]))
    sites = {
        KNOWN: site(KNOWN),
        MOVED: site(MOVED, {"valid_to": DAY + 6 * HOUR}, {"valid_from": DAY + 6 * HOUR, "area": "C3"}),
        CONTESTED: site(CONTESTED, {"area": "nowhere"}),
    }
    recs = [Rec(i, point.encode(), value, 0) for i, (point, value) in enumerate(sites.items())]
    found.apply(records(f"sites.{PARTNER}", 0, recs))
    found.apply(records(f"consent.{PARTNER}", 0, [Rec(0, MOVED.encode(), consent(MOVED), 0)]))
    found.refresh()
    return found


TABLES = lane_tables()
(STREAM,) = [s for s in TABLES.plan.domains["housing"].streams if s.partner == PARTNER]
NONE = Watermark()
Sent = bytes | None


def batch(sent: list[Sent], first: int = 100, gap: int = 0) -> Any:
    """Offsets with holes, so that a row number cannot pass for an offset."""
    return records(
        TOPIC, 0, [Rec(first + i * (1 + gap), None, value, NOW + i) for i, value in enumerate(sent)]
    )


def digest(sent: list[Sent], found: LaneTables = TABLES, before: Watermark = NONE, **more: Any) -> Digest:
    stream = next(s for d in found.plan.domains.values() for s in d.streams if s.partner == PARTNER)
    return digester().digest(batch(sent, **more), stream, found, before)


def opened(made: list[Out]) -> pl.DataFrame:
    """Rows of the chunks among what goes out."""
    parts = []
    for out in made:
        record = CODEC.decode(out.value)[1]
        if record["kind"] == "chunk":
            assert out.partition is not None
            parts.append(open_chunk(record, out.key or b"", out.partition))
    columns = ["topic", "order", "window", "to"]
    return pl.concat(parts).sort(columns) if parts else pl.DataFrame()


def everything(lane: Digester, found: Digest, known: LaneTables = TABLES) -> list[Out]:
    bad = [lane.dead_letter(record) for record in found.quarantined]
    return [*lane.contributions([found], known.plan), *bad, lane.receipt(found)]


# -- one outcome each ---------------------------------------------------------------------------------


def mark_at(until: int) -> bytes:
    return CODEC.encode("completeness-mark", {"stream": "power", "until": until})


KINDS: dict[str, tuple[Sent, str]] = {
    "good": (reading(KNOWN, 3), "admitted"),
    "estimated": (reading(KNOWN, 3, quality="estimated"), "quality"),
    "unknown point": (reading(UNKNOWN, 3), "unknown_delivery_point"),
    "wrong partition": (reading(ELSEWHERE, 3), "wrong_partition"),
    "contested": (reading(CONTESTED, 3), "contested_site"),
    "crossing": (reading(KNOWN, 3, end=DAY + 5 * HOUR), "crosses_window"),
    "before the product": (reading(KNOWN, -3), "no_product"),
    "negative": (reading(KNOWN, 3, -1), "negative"),
    "far future": (reading(KNOWN, 24 * 40), "far_future"),
    "ends before it begins": (reading(KNOWN, 3, end=DAY), "bad_interval"),
    "beyond any meter": (reading(KNOWN, 3, 10**15), "out_of_bounds"),
    "unset clock": (reading(KNOWN, 3, start=0, end=HOUR), "bad_timestamp"),
    "truncated": (reading(KNOWN, 3)[:-2], "undecodable"),
    "with a tail": (reading(KNOWN, 3) + b"x", "undecodable"),
    "garbage": (b"no frame at all", "bad_frame"),
    "unknown schema": (b"\x00\x7f\xff\xff\x00abc", "unknown_schema"),
    "wrong schema": (site(KNOWN), "wrong_schema"),
    "another stream's mark": (mark(9, "gas"), "wrong_schema"),
    "a mark in seconds": (mark_at(DAY // 1000), "bad_timestamp"),
    "a mark in microseconds": (mark_at(DAY * 1000), "far_future"),
    "a mark in nanoseconds": (mark_at(DAY * 1_000_000), "far_future"),
    "a mark of next year": (mark_at(DAY + 365 * 24 * HOUR), "far_future"),
    "a mark as old as can be": (mark_at(-(2**63)), "bad_timestamp"),
    "nothing": (None, "empty"),
    "oversized": (reading("x" * 5000, 3), "oversized"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_record_has_its_outcome_and_the_good_ones_beside_it_count(kind: str) -> None:
    sent, reason = KINDS[kind]
    found = digest([reading(KNOWN, 0), sent, reading(KNOWN, 1)], gap=2)
    counts = {"admitted": found.tally.admitted, **found.tally.quarantined, **found.tally.refused}
    assert counts == ({"admitted": 3} if reason == "admitted" else {"admitted": 2, reason: 1})
    if reason in REASONS:
        where = found.tally.quarantined if outcome(reason) == "quarantined" else found.tally.refused
        assert where == {reason: 1}
    bad = [(each.reason, each.topic, each.partition, each.offset) for each in found.quarantined]
    assert bad == ([(reason, TOPIC, 0, 103)] if reason in found.tally.quarantined else [])


MIXTURES = st.lists(st.sampled_from(sorted(KINDS)) | st.just("mark"), max_size=30)


@given(MIXTURES)
@settings(max_examples=25, deadline=None)
def test_counts_add_up_to_what_was_read(kinds: list[str]) -> None:
    sent = [mark(2) if kind == "mark" else KINDS[kind][0] for kind in kinds]
    if not sent:
        return
    tally = digest(sent, gap=1).tally
    expected: dict[str, int] = {}
    for kind in kinds:
        if kind != "mark":
            expected[KINDS[kind][1]] = expected.get(KINDS[kind][1], 0) + 1
    assert tally.read == len(kinds) - kinds.count("mark")
    assert tally.admitted == expected.pop("admitted", 0)
    assert {**tally.quarantined, **tally.refused} == expected
    assert all(outcome(reason) == "quarantined" for reason in tally.quarantined)
    assert all(outcome(reason) == "refused" for reason in tally.refused)


def test_a_reading_that_any_domain_admits_is_admitted_once() -> None:
    known = lane_tables(policy(), policy("grid", domain="grid", purpose="grid"))
    found = digest([reading(KNOWN, 0), reading(KNOWN, -1), reading(ELSEWHERE, 0)], known)
    assert (found.tally.admitted, found.tally.refused) == (1, {"no_product": 1})
    assert found.tally.quarantined == {"wrong_partition": 1}
    assert found.tally.read == 3
    rows = [frame.height for frame in found.contributions.values()]
    assert rows == [1, 1]


# -- marks --------------------------------------------------------------------------------------------


def test_lateness_is_decided_by_the_marks_inside_the_batch() -> None:
    found = digest([reading(KNOWN, 0), mark(1), reading(KNOWN, 0, 2000), reading(KNOWN, 1)])
    assert (found.tally.admitted, found.tally.late) == (3, 1)
    assert found.contributions["housing"]["value"].to_list() == [1000, 1000]
    assert found.late["housing"].rows() == [(DAY, 0, 1)]
    assert found.watermark == Watermark(DAY + HOUR, NOW + 1)


def test_a_mark_of_an_earlier_batch_is_in_force() -> None:
    found = digest([reading(KNOWN, 0), reading(KNOWN, 1)], before=Watermark(DAY + HOUR, NOW))
    assert (found.tally.admitted, found.tally.late) == (2, 1)
    assert found.watermark == Watermark(DAY + HOUR, NOW)


def test_a_mark_that_goes_back_is_no_mark() -> None:
    found = digest([mark(3), mark(2), reading(KNOWN, 2)], before=Watermark(DAY, 5))
    assert found.tally.late == 1
    assert found.watermark == Watermark(DAY + 3 * HOUR, NOW)
    assert digest([mark(1)], before=Watermark(DAY + 2 * HOUR, 5)).watermark == Watermark(DAY + 2 * HOUR, 5)


def test_a_batch_of_marks_only_has_no_readings() -> None:
    found = digest([mark(1), mark(4)])
    assert found.tally.read == 0
    assert found.watermark.until == DAY + 4 * HOUR


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("a mark")])
def test_a_mark_that_cannot_be_true_is_quarantined_and_ignored(kind: str) -> None:
    """Nanoseconds stopped every release lane, microseconds every ingest lane, next year all of the partner's data."""
    sent, reason = KINDS[kind]
    found = digest([mark(1), sent, reading(KNOWN, 1), mark(2)])
    assert (found.tally.read, found.tally.admitted, found.tally.late) == (2, 1, 0)
    assert found.tally.quarantined == {reason: 1}
    assert [(each.reason, each.offset, each.value) for each in found.quarantined] == [(reason, 101, sent)]
    assert found.watermark == Watermark(DAY + 2 * HOUR, NOW + 3)


def test_a_mark_may_be_as_far_ahead_as_a_reading_and_no_further() -> None:
    edge = NOW + 24 * HOUR
    assert digest([mark_at(edge)]).watermark == Watermark(edge, NOW)
    assert digest([mark_at(edge + 1)]).watermark == NONE
    assert digest([mark_at(OLDEST)]).watermark == Watermark(OLDEST, NOW)
    assert digest([mark_at(OLDEST - 1)]).watermark == NONE


EVENT_TIME = policy(watermark={"event_time": {"idle_after": "PT6H"}})


def test_event_time_runs_idle_after_behind_the_newest_reading_where_the_policy_opted_in() -> None:
    known = lane_tables(EVENT_TIME)
    sent = [
        reading(KNOWN, 11),
        reading(KNOWN, 6),
        reading(KNOWN, 12),
        reading(KNOWN, 6, 5),
        reading(KNOWN, 7),
    ]
    found = digest(sent, known)
    assert found.watermark == Watermark(DAY + 7 * HOUR, NOW + 2, event=DAY + 13 * HOUR)
    assert found.late["housing"].rows() == [(DAY + 6 * HOUR, 0, 1)]
    assert digest(sent).watermark == Watermark(NO_MARK, 0)


def test_event_time_does_not_advance_by_bad_readings_and_marks_still_count() -> None:
    known = lane_tables(EVENT_TIME)
    sent: list[Sent] = [reading(KNOWN, 24 * 40), reading(KNOWN, 0), reading(KNOWN, 5, -1)]
    assert digest(sent, known).watermark.until == DAY - 5 * HOUR
    assert digest([*sent, mark(9)], known).watermark.until == DAY + 9 * HOUR


def test_event_time_does_not_advance_by_points_that_nobody_knows() -> None:
    known = lane_tables(EVENT_TIME)
    sent: list[Sent] = [reading(point, 20) for point in (UNKNOWN, CONTESTED, ELSEWHERE)]
    assert digest([reading(KNOWN, 0), *sent], known).watermark.until == DAY - 5 * HOUR


def test_a_meter_whose_clock_is_ahead_moves_event_time_no_further_than_the_present() -> None:
    known = lane_tables(EVENT_TIME)
    ahead = reading(KNOWN, (NOW - DAY) // HOUR + 20)
    assert digest([ahead], known).watermark.until == NOW - 6 * HOUR


@pytest.mark.parametrize("watermark", [Watermark(), Watermark(0, 0), Watermark(DAY, NOW), Watermark(1, 2, 3)])
def test_a_watermark_survives_as_metadata(watermark: Watermark) -> None:
    assert Watermark.read(watermark.metadata()) == watermark
    assert Watermark.read("") == Watermark()


# -- cutting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [TABLES, lane_tables(EVENT_TIME)], ids=["marks", "event time"])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_batch_may_be_cut_anywhere(known: LaneTables, data: st.DataObject) -> None:
    hours = st.tuples(st.sampled_from([KNOWN, MOVED, UNKNOWN]), st.integers(0, 9), st.integers(0, 500))
    good = st.builds(lambda one: reading(*one), hours)
    kinds = st.sampled_from([value for value, _ in KINDS.values()])
    sent = data.draw(
        st.lists(st.one_of(good, good, st.builds(mark, st.integers(0, 6)), kinds), min_size=2, max_size=25)
    )
    cut = data.draw(st.integers(1, len(sent) - 1))
    whole = digest(sent, known)
    first = digest(sent[:cut], known)
    second = digest(sent[cut:], known, before=first.watermark, first=100 + cut)
    assert second.watermark.until == whole.watermark.until
    for part in ("quarantined", "refused"):
        together: dict[str, int] = dict(getattr(first.tally, part))
        for reason, count in getattr(second.tally, part).items():
            together[reason] = together.get(reason, 0) + count
        assert together == getattr(whole.tally, part)
    assert first.tally.admitted + second.tally.admitted == whole.tally.admitted
    assert first.tally.late + second.tally.late == whole.tally.late
    lane = digester()
    parts = [opened(list(lane.contributions([each], known.plan))) for each in (first, second)]
    once = opened(list(lane.contributions([whole], known.plan)))
    again = [part for part in parts if part.height]
    assert bool(again) == bool(once.height)
    if again:
        assert_frame_equal(pl.concat(again).sort("order", "window"), once.sort("order", "window"))


# -- what goes out ------------------------------------------------------------------------------------


def test_rows_go_to_the_lane_of_their_group_under_the_key_of_their_window() -> None:
    lane = digester()
    found = digest([reading(MOVED, 5), reading(MOVED, 6), reading(KNOWN, 6)])
    rows = opened(list(lane.contributions([found], TABLES.plan)))
    assert rows.select("order", "area", "to").rows() == [(100, "C1", 0), (101, "C3", 1), (102, "C1", 0)]
    assert rows["topic"].unique().to_list() == [TOPIC]
    made = list(lane.contributions([found], TABLES.plan))
    record = CODEC.decode(made[0].value)[1]
    with pytest.raises(Exception, match="bad_seal"):
        open_chunk(record | {"window": record["window"] + HOUR}, made[0].key or b"", 0)


def test_nothing_leaves_in_clear() -> None:
    """Neither delivery point nor token nor area of a home, whatever becomes of its record."""
    lane = digester()
    sent = [value for value, _ in KINDS.values()]
    found = digest([*sent, mark(1), reading(KNOWN, 0)])
    assert found.tally.late
    assert found.quarantined
    site_letter = lane.dead_letter(BadRecord(PARTNER, "bad_site", "sites.x", 0, 1, None, KNOWN.encode()))
    for out in [*everything(lane, found), site_letter]:
        for secret in (KNOWN, MOVED, CONTESTED, UNKNOWN, ELSEWHERE, TOKEN, "token of", "-point-"):
            assert secret.encode() not in out.value + (out.key or b"") + out.topic.encode()


def test_a_dead_letter_says_where_and_why_and_only_its_sender_can_tell_what() -> None:
    lane = digester()
    sent = reading(KNOWN, 3)[:-2]
    found = digest([reading(KNOWN, 0), sent])
    (bad,) = found.quarantined
    out = lane.dead_letter(bad)
    assert out.topic == f"dlq.{PARTNER}"
    name, record = CODEC.decode(out.value)
    assert name == "quarantine"
    assert record.pop("keyed_digest") == hmac.digest(KEYS.quarantine_key(), sent, "sha256")
    schema_id = int.from_bytes(sent[1:5], "big")
    assert record == {
        "reason": "undecodable",
        "topic": TOPIC,
        "partition": 0,
        "offset": 101,
        "schema_id": schema_id,
        "text": "the bytes do not decode with the schema that they name",
        "must_act": "partner",
    }


def test_a_receipt_holds_counts_that_add_up() -> None:
    sent = [value for value, _ in KINDS.values()]
    found = digest([*sent, mark(9), reading(KNOWN, 0)], gap=3)
    out = digester().receipt(found)
    assert out.topic == f"receipts.{PARTNER}"
    _, record = CODEC.decode(out.value)
    assert record["read"] == len(sent) + 1
    counts = sum(record["quarantined"].values()) + sum(record["refused"].values())
    assert record["read"] == record["admitted"] + counts
    assert record["late"] == 1
    assert (record["first_offset"], record["last_offset"]) == (100, 100 + 4 * (len(sent) + 1))


def test_marks_and_the_plan_go_to_every_release_lane() -> None:
    lane = digester(1)
    for made, kind in ((lane.mark("mark", TOPIC, DAY), "mark"), (lane.plan(b"{}", 5), "plan")):
        sent = list(made)
        assert [out.partition for out in sent] == list(range(LANES))
        assert {CODEC.decode(out.value)[1]["kind"] for out in sent} == {kind}
        assert {CODEC.decode(out.value)[1]["lane"] for out in sent} == {1}


def test_late_counts_go_out_by_group_without_any_row() -> None:
    found = digest([mark(9), reading(MOVED, 5), reading(MOVED, 6), reading(KNOWN, 6), reading(KNOWN, 6, 7)])
    made = list(digester().contributions([found], TABLES.plan))
    told = [(CODEC.decode(out.value)[1], out.partition) for out in made]
    assert [
        (record["kind"], (record["window"] - DAY) // HOUR, to, json.loads(record["header"]))
        for record, to in told
    ] == [
        ("tally", 5, 0, {"group": 0, "late": 1}),
        ("tally", 6, 0, {"group": 0, "late": 2}),
        ("tally", 6, 1, {"group": 1, "late": 1}),
    ]
