"""What a lane knows of partners: bad records go out with reason and place, and nobody counts on their strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from kafka_memory import Rec, records
from lane_world import (
    CODEC,
    DAY,
    HOUR,
    PARTNERS,
    activation_body,
    consent,
    control,
    partner_body,
    points,
    policy,
    reading,
    site,
    tables,
)

from broker.core.reasons import REASONS
from broker.stages.books import BadRecord
from broker.stages.tables import LaneTables

PARTNER = "energy-a"
POINT, OTHER, THIRD = points(PARTNER, 0)
ELSEWHERE = points(PARTNER, 1)[0]


def running() -> LaneTables:
    found = tables()
    sent = [control("partner", name, partner_body(name)) for name in PARTNERS]
    put(
        found,
        "control",
        *((None, value) for value in [*sent, control("activation", "daily@1", activation())]),
    )
    found.refresh()
    return found


def activation() -> dict[str, Any]:
    return activation_body(policy())


def put(
    found: LaneTables, topic: str, *sent: tuple[bytes | None, bytes | None], first: int = 0
) -> list[BadRecord]:
    recs = [Rec(first + i, key, value, 1000 + first + i) for i, (key, value) in enumerate(sent)]
    return found.apply(records(topic, 0, recs))


def put_sites(found: LaneTables, *sent: tuple[str, bytes | None], first: int = 0) -> list[BadRecord]:
    return put(found, f"sites.{PARTNER}", *((point.encode(), value) for point, value in sent), first=first)


def put_consent(found: LaneTables, *sent: tuple[str, bytes | None], first: int = 0) -> list[BadRecord]:
    return put(found, f"consent.{PARTNER}", *((point.encode(), value) for point, value in sent), first=first)


def outcome(found: LaneTables, point: str, at: int = DAY) -> str:
    """Whether a reading of the point finds its site, or why not."""
    table = found.sites(PARTNER)
    assert table is not None
    located = table.locate(pl.Series([point]), np.array([at]))
    return ("", "unknown_delivery_point", "no_site_then", "contested_site")[int(located.outcome[0])]


def said(bad: list[BadRecord]) -> list[tuple[str, str, int, int]]:
    return [(each.reason, each.topic, each.partition, each.offset) for each in bad]


def test_a_good_record_makes_its_point_known() -> None:
    found = running()
    assert put_sites(found, (POINT, site(POINT)), (OTHER, site(OTHER))) == []
    assert put_consent(found, (POINT, consent(POINT, withdrawn_at=DAY))) == []
    (change,), bad, replanned = found.refresh()
    assert (bad, replanned) == ([], False)
    assert (change.sites.to_list(), change.consent.to_list()) == (sorted([POINT, OTHER]), [POINT])
    assert outcome(found, POINT) == outcome(found, OTHER) == ""
    assert outcome(found, THIRD) == "unknown_delivery_point"
    assert found.consent(PARTNER).rows["delivery_point"].to_list() == [POINT]


GOOD = site(POINT)
BAD_SITES = {
    "truncated": (POINT, GOOD[:-1]),
    "garbage": (POINT, b"\xff\x00garbage"),
    "wrong schema": (POINT, consent(POINT)),
    "a reading": (POINT, reading(POINT, 0)),
    "another point's": (POINT, site(OTHER)),
    "empty": (POINT, b""),
}


@pytest.mark.parametrize("kind", BAD_SITES)
def test_a_bad_site_record_is_named_its_point_is_in_doubt_and_the_rest_goes_on(kind: str) -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    found.refresh()
    bad = put_sites(found, BAD_SITES[kind], (OTHER, site(OTHER)), first=10)
    assert said(bad) == [("bad_site", f"sites.{PARTNER}", 0, 10)]
    assert bad[0].partner == PARTNER
    _, more, _ = found.refresh()
    assert more == []  # it is said once
    assert outcome(found, POINT) == "contested_site"
    assert outcome(found, OTHER) == ""
    put_sites(found, (POINT, GOOD), first=20)
    found.refresh()
    assert outcome(found, POINT) == ""


BAD_CONSENTS = {
    "truncated": consent(POINT, withdrawn_at=DAY)[:-1],
    "garbage": b"\xff",
    "wrong schema": site(POINT),
    "another point's": consent(OTHER),
}


@pytest.mark.parametrize("kind", BAD_CONSENTS)
def test_a_bad_consent_record_puts_its_point_in_doubt_until_a_good_one_comes(kind: str) -> None:
    """A withdrawal may be lost in it."""
    found = running()
    put_sites(found, (POINT, GOOD), (OTHER, site(OTHER)))
    put_consent(found, (OTHER, consent(OTHER, granted_from=1)))
    found.refresh()
    bad = put_consent(found, (POINT, BAD_CONSENTS[kind]), (THIRD, consent(THIRD, granted_from=1)), first=7)
    assert said(bad) == [("bad_consent", f"consent.{PARTNER}", 0, 7)]
    changes, _, _ = found.refresh()
    assert POINT in changes[0].sites.to_list()  # so that what it gave is taken back
    assert (outcome(found, POINT), outcome(found, OTHER)) == ("contested_site", "")
    put_sites(found, (POINT, GOOD), first=5)  # a good site record does not settle a doubt about consent
    found.refresh()
    assert outcome(found, POINT) == "contested_site"
    put_consent(found, (POINT, consent(POINT)), first=9)
    found.refresh()
    assert outcome(found, POINT) == ""
    assert found.consent(PARTNER).rows["delivery_point"].to_list() == sorted([OTHER, THIRD])


@pytest.mark.parametrize("put_in", [put_sites, put_consent])
def test_a_record_in_another_partition_than_its_keys_changes_nothing(put_in: Any) -> None:
    found = running()
    record = (ELSEWHERE, site(ELSEWHERE) if put_in is put_sites else consent(ELSEWHERE, withdrawn_at=1))
    bad = put_in(found, record, first=3)
    assert [each[0] for each in said(bad)] == ["wrong_partition"]
    assert bad[0].offset == 3
    found.refresh()
    assert found.consent(PARTNER).rows.is_empty()
    assert found.sites(PARTNER) is None or outcome(found, ELSEWHERE) == "unknown_delivery_point"


def test_a_record_without_a_key_belongs_to_no_partition() -> None:
    assert [each.reason for each in put(running(), f"sites.{PARTNER}", (None, GOOD))] == ["wrong_partition"]


@pytest.mark.parametrize(
    ("periods", "reason"),
    [
        ([{"area": "nowhere"}], "area_not_in_hierarchy"),
        ([{"valid_to": DAY + 1}, {"valid_from": DAY}], "overlapping_sites"),
        ([{"premises": ""}], "bad_site"),
        ([{"valid_from": DAY, "valid_to": DAY}], "bad_site"),
    ],
)
def test_sites_that_contradict_are_named_by_their_record_and_none_of_them_counts(
    periods: list[dict[str, Any]], reason: str
) -> None:
    found = running()
    assert put_sites(found, (OTHER, site(OTHER)), (POINT, site(POINT, *periods)), first=4) == []
    _, bad, _ = found.refresh()
    assert said(bad) == [(reason, f"sites.{PARTNER}", 0, 5)]
    assert outcome(found, POINT) == "contested_site"
    assert outcome(found, OTHER) == ""
    put_sites(found, (OTHER, site(OTHER)), first=6)
    _, bad, _ = found.refresh()
    assert bad == []  # said once, for the record that is wrong


def test_what_is_wrong_with_sites_is_said_also_where_they_came_before_any_product() -> None:
    found = tables()
    put_sites(found, (POINT, site(POINT, {"area": "nowhere"})))
    assert found.refresh()[1] == []
    put(found, "control", *((None, control("partner", name, partner_body(name))) for name in PARTNERS))
    put(found, "control", (None, control("activation", "daily@1", activation())))
    _, bad, replanned = found.refresh()
    assert replanned
    assert [each.reason for each in bad] == ["area_not_in_hierarchy"]


def test_a_tombstone_takes_the_site_and_the_consent_away() -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    put_consent(found, (POINT, consent(POINT, granted_from=1)))
    found.refresh()
    former = found.sites(PARTNER)
    assert put_sites(found, (POINT, None)) == put_consent(found, (POINT, None)) == []
    (change,), bad, _ = found.refresh()
    assert bad == []
    assert change.former == former
    assert outcome(found, POINT) == "unknown_delivery_point"
    assert found.consent(PARTNER).rows.is_empty()


def test_a_history_replaces_the_former_one_and_applying_it_again_changes_nothing() -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    found.refresh()
    moved = site(POINT, {"valid_to": DAY}, {"valid_from": DAY + HOUR, "area": "C3"})
    for _ in range(2):
        put_sites(found, (POINT, moved))
        found.refresh()
        table = found.sites(PARTNER)
        assert table is not None
        assert table.rows["area"].to_list() == ["C1", "C3"]
        assert [outcome(found, POINT, at) for at in (DAY - 1, DAY, DAY + HOUR)] == ["", "no_site_then", ""]


def test_only_what_changed_is_built_again() -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    found.refresh()
    before = found.sites(PARTNER)
    assert found.refresh() == ([], [], False)
    assert found.sites(PARTNER) is before


def test_a_change_of_consent_leaves_the_site_table_and_its_pseudonyms_alone() -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    found.refresh()
    before = found.sites(PARTNER)
    put_consent(found, (POINT, consent(POINT, withdrawn_at=DAY)))
    (change,), _, _ = found.refresh()
    assert change.consent.to_list() == [POINT]
    assert found.sites(PARTNER) is before
    put(found, "control", (None, control("activation", "more@1", activation_body(policy("more")))))
    assert found.refresh()[2]
    assert found.sites(PARTNER) is before
    put_consent(found, (POINT, b"garbage"))  # but not where the record puts its point in doubt
    found.refresh()
    assert outcome(found, POINT) == "contested_site"


def test_a_heartbeat_is_a_sign_of_life_and_nothing_else() -> None:
    found = running()
    assert found.heartbeat(PARTNER) is None
    beat = CODEC.encode("consent-heartbeat", {"at": DAY})
    assert put(found, f"consent.{PARTNER}", (b"heartbeat", beat), first=5) == []
    assert found.heartbeat(PARTNER) == 1005
    put_consent(found, (POINT, consent(POINT)), first=9)
    put(found, f"consent.{PARTNER}", (b"heartbeat", beat), first=8)
    assert found.heartbeat(PARTNER) == 1009
    assert found.consent(PARTNER).rows.is_empty()


def test_partners_do_not_share_points() -> None:
    found = running()
    put_sites(found, (POINT, GOOD))
    put(found, "sites.energy-b", (OTHER.encode(), site(OTHER)))
    found.refresh()
    assert outcome(found, OTHER) == "unknown_delivery_point"
    third = found.sites("energy-c")
    assert third is not None
    assert third.points.is_empty()  # known to have none


def test_a_bad_control_record_stops_nothing() -> None:
    found = running()
    bad = put(
        found,
        "control",
        (None, b"\x00garbage"),
        (None, site(POINT)),
        (None, control("key-event", "later", {})),
        (None, control("partner", "energy-b", partner_body("energy-b"))),
    )
    assert [each.offset for each in bad] == [0, 1, 2]
    assert {each.partner for each in bad} == {"broker"}
    assert found.refresh()[2] is False
    assert sorted(found.plan.products()) == ["daily"]


def test_a_product_that_may_not_run_is_left_out_with_reasons() -> None:
    found = running()
    put(found, "control", (None, control("activation", "daily@1", activation() | {"agreements": {}})))
    _, _, replanned = found.refresh()
    assert replanned
    assert found.plan.domains == {}
    assert len(found.left_out["daily@1"]) == 3


def test_every_reason_is_in_the_public_table() -> None:
    for reason in (
        "bad_site",
        "bad_consent",
        "wrong_partition",
        "area_not_in_hierarchy",
        "overlapping_sites",
    ):
        assert REASONS[reason].outcome == "quarantined"
        assert REASONS[reason].must_act == "partner"
