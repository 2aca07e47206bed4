"""Which readings count, in which windows and for which products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from admission_world import (
    AREAS,
    BY_MONTH,
    CONSENT,
    DAY,
    ELECTRICITY,
    GAS,
    HEAT,
    HOUR,
    OTHER,
    PARTNER,
    admitted,
    batch,
    consent_table,
    domain_of,
    energy,
    keys,
    ms,
    product,
    reasons,
    site_table,
)

from broker.core.admission import CONTRIBUTIONS
from broker.core.consent import ConsentTable
from broker.core.fold import roll_up
from broker.core.fold_frames import ROWS
from broker.core.plan import Activation, Stream, build_plan
from broker.core.policy import load
from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms
from broker.core.readings import LONGEST_INTERVAL

DAY_START = ms("2026-02-03 00:00")
NOON = ms("2026-02-03 12:00")
HOME = ("p", None, None, "home", "C1", "flat", None)
SITES = site_table(HOME)
DAILY = domain_of(product())


def hours(*starts: int, point: str = "p", quality: str = "measured", length: int = HOUR) -> pl.DataFrame:
    return batch(*((point, start, start + length, 10 + n, quality) for n, start in enumerate(starts)))


def test_a_contribution_carries_all_that_the_fold_needs_and_no_identity() -> None:
    admission = admitted(hours(NOON), DAILY, site_table(("p", None, None, "home", "C3", "flat", 1000)))
    key = keys("housing", "2026")
    assert admission.admitted == 1
    assert admission.contributions.schema == CONTRIBUTIONS
    assert admission.contributions.rows(named=True) == [
        {
            "window": DAY_START,
            "group": 1,
            "point": point_pseudonyms(key, PARTNER, ["p"])[0],
            "premises": premises_pseudonyms(key, "housing", ["home"])[0],
            "area": "C3",
            "segment": "flat",
            "start": NOON,
            "end": NOON + HOUR,
            "value": 10,
            "order": 0,
            "mask": 1,
            "role": 0,
            "register_size": 1000,
        }
    ]


def test_readings_without_a_site_are_refused_with_the_reason() -> None:
    sites = site_table(
        ("p", DAY_START, DAY_START + DAY, "home", "C1", "flat", None),
        ("twice", None, None, "a", "C1", "flat", None),
        ("twice", None, None, "b", "C1", "flat", None),
        ("lost", None, None, "a", "C9", "flat", None),
    )
    rows = [("p", NOON), ("q", NOON), ("p", NOON + DAY), ("twice", NOON), ("lost", NOON)]
    admission = admitted(batch(*((p, at, at + HOUR, 1) for p, at in rows)), DAILY, sites)
    assert admission.admitted == 1
    assert reasons(admission) == {
        1: "unknown_delivery_point",
        2: "no_site_then",
        3: "contested_site",
        4: "contested_site",
    }


def test_an_unknown_point_of_another_partition_is_quarantined_not_refused() -> None:
    rows = batch(*((p, NOON, NOON + HOUR, 1) for p in ("p", "stray", "unknown")))
    places = {"p": 5, "stray": 1, "unknown": 3}

    def partition_of(points: pl.Series) -> pl.Series:
        return points.replace_strict(places, return_dtype=pl.Int64)

    admission = admitted(rows, DAILY, SITES, partition_of=partition_of, partition=3)
    assert admission.quarantined.rows() == [(1, "wrong_partition")]
    assert admission.refused.rows() == [(2, "unknown_delivery_point")]
    assert admission.admitted == 1


def test_an_interval_over_a_border_is_refused_unless_assigned_by_its_start() -> None:
    gas_day = batch(("p", ms("2026-02-03 06:00"), ms("2026-02-04 06:00"), 1))
    last_hour = batch(("p", ms("2026-02-03 23:00"), ms("2026-02-04 00:00"), 1))
    assert reasons(admitted(gas_day, DAILY, SITES)) == {0: "crosses_window"}
    assert admitted(last_hour, DAILY, SITES).admitted == 1
    by_start = domain_of(product(inputs={"energy": energy(assign="start")}))
    assert admitted(gas_day, by_start, SITES).contributions["window"].to_list() == [DAY_START]


@pytest.mark.parametrize(
    ("day", "length"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-02-03", 24)], ids=str
)
def test_a_day_has_all_its_hours_when_clocks_change(day: str, length: int) -> None:
    start = ms(f"{day} 00:00")
    admission = admitted(hours(*range(start - HOUR, start + (length + 1) * HOUR, HOUR)), DAILY, SITES)
    in_window = admission.contributions.filter(pl.col("window") == start)
    assert in_window["start"].to_list() == list(range(start, start + length * HOUR, HOUR))
    assert admission.admitted == length + 2
    whole = batch(("p", start, start + length * HOUR, 1))
    assert admitted(whole, DAILY, SITES).admitted == 1


def test_a_stream_that_no_product_takes_is_refused() -> None:
    assert reasons(admitted(hours(NOON), DAILY, SITES, stream=GAS)) == {0: "no_product"}
    only_b = domain_of(product(controllers=["energy-b"], inputs={"energy": energy(partners=["energy-b"])}))
    assert reasons(admitted(hours(NOON), only_b, SITES)) == {0: "no_product"}
    assert admitted(hours(NOON), only_b, SITES, stream=OTHER).admitted == 1


def test_a_product_counts_from_its_first_whole_window() -> None:
    later = domain_of(product(), active_from={"daily": DAY_START + DAY})
    admission = admitted(hours(NOON, DAY_START + DAY), later, SITES)
    assert reasons(admission) == {0: "no_product"}
    assert admission.admitted == 1
    monthly = domain_of(product(window=BY_MONTH), active_from={"daily": DAY_START})
    march = ms("2026-03-01 00:00")
    assert reasons(admitted(hours(NOON, march), monthly, SITES)) == {0: "no_product"}


def test_a_version_takes_nothing_for_windows_that_start_when_another_runs() -> None:
    domain = domain_of(product())
    ended = tuple(replace(one, active_until=DAY_START) for one in domain.products)
    admission = admitted(hours(NOON), replace(domain, products=ended), SITES)
    assert reasons(admission) == {0: "no_product"}
    still = tuple(replace(one, active_until=DAY_START + 1) for one in domain.products)
    assert reasons(admitted(hours(NOON), replace(domain, products=still), SITES)) == {}


def test_quality_is_judged_per_product_and_by_every_input_that_takes_the_stream() -> None:
    both = {
        "strict": energy(),
        "wide": energy(qualities=["measured", "estimated"]),
    }
    domain = domain_of(
        product("a", inputs={"energy": energy(qualities=["estimated"])}),
        product("b"),
        product("c", inputs=both, measures={"n": {"kind": "count"}}),
    )
    rows = [("p", NOON, NOON + HOUR, 1, q) for q in ("measured", "estimated", "guessed", None)]
    admission = admitted(batch(*rows), domain, SITES)
    assert dict(admission.contributions.select("order", "mask").iter_rows()) == {0: 0b110, 1: 0b001}
    assert reasons(admission) == {2: "quality", 3: "quality"}


CASES: list[tuple[tuple[Any, ...] | None, str]] = [
    (None, "no_basis"),
    ((None, None, None), "no_basis"),
    ((DAY_START, None, None), ""),
    ((DAY_START + 1, None, None), "not_yet_granted"),
    ((DAY_START, NOON + HOUR, None), ""),
    ((DAY_START, NOON + HOUR - 1, None), "expired"),
    ((DAY_START, None, NOON + DAY), "withdrawn"),
]


@pytest.mark.parametrize(("state", "expected"), CASES)
def test_consent_decides_per_product_purpose(state: tuple[Any, ...] | None, expected: str) -> None:
    domain = domain_of(product(lawful_basis=CONSENT))
    table = ConsentTable.empty() if state is None else consent_table(("p", "planning", *state))
    admission = admitted(hours(NOON), domain, SITES, table)
    assert reasons(admission) == ({0: expected} if expected else {})
    assert admission.admitted == (0 if expected else 1)


def test_a_grant_inside_a_month_counts_from_the_next_month_though_from_the_next_day_by_day() -> None:
    domain = domain_of(
        product("by-day", lawful_basis=CONSENT), product("by-month", lawful_basis=CONSENT, window=BY_MONTH)
    )
    table = consent_table(("p", "planning", NOON, None, None))
    moments = [NOON, NOON + DAY, ms("2026-03-01 12:00")]
    admission = admitted(hours(*moments), domain, SITES, table)
    assert dict(admission.contributions.select("order", "mask").iter_rows()) == {1: 0b01, 2: 0b11}
    assert reasons(admission) == {0: "not_yet_granted"}


def test_an_objection_stops_public_task_for_that_purpose_only() -> None:
    domain = domain_of(product("a"), product("b", purpose="heating"))
    objected = consent_table(("p", "planning", None, None, NOON))
    assert admitted(hours(NOON), domain, SITES, objected).contributions["mask"].to_list() == [0b10]
    alone = domain_of(product("a"))
    assert reasons(admitted(hours(NOON), alone, SITES, objected)) == {0: "withdrawn"}


def test_a_refused_reading_carries_the_reason_of_the_first_active_product() -> None:
    domain = domain_of(
        product("a", lawful_basis=CONSENT, inputs={"energy": energy(qualities=["estimated"])}),
        product("b", lawful_basis=CONSENT),
    )
    assert reasons(admitted(hours(NOON), domain, SITES)) == {0: "quality"}
    late_a = domain_of(
        product("a", inputs={"energy": energy(qualities=["estimated"])}),
        product("b", lawful_basis=CONSENT),
        active_from={"a": NOON + DAY},
    )
    assert reasons(admitted(hours(NOON), late_a, SITES)) == {0: "no_basis"}


def test_a_bit_does_not_depend_on_the_other_products() -> None:
    policies = [product("a", lawful_basis=CONSENT), product("b"), product("c", purpose="heating")]
    table = consent_table(("p", "heating", None, None, NOON))
    together = admitted(hours(NOON), domain_of(*policies), SITES, table).contributions["mask"].to_list()
    alone = [admitted(hours(NOON), domain_of(p), SITES, table).admitted for p in policies]
    assert together == [sum(one << bit for bit, one in enumerate(alone))] == [0b010]


def test_lateness_follows_the_mark_in_force_at_each_offset() -> None:
    lenient = {"length": "P1D", "base": "P1D", "timezone": "Europe/Paris", "lateness": "PT6H"}
    domain = domain_of(product(window=lenient))
    shut = DAY_START + DAY + 6 * HOUR
    rows = hours(NOON, NOON, NOON, NOON, NOON + DAY)
    # the second mark goes back: the highest stays in force
    admission = admitted(rows, domain, SITES, marks=[(0, shut - 1), (1, shut), (2, DAY_START)])
    assert admission.contributions["order"].to_list() == [0, 1, 4]
    assert admission.late.rows() == [(DAY_START, 0, 2)]
    assert admission.admitted == 5
    assert admitted(rows, domain, SITES, mark=shut).contributions["order"].to_list() == [4]
    assert admitted(rows, domain, SITES, mark=shut - 1).late.is_empty()


def test_a_gas_day_is_in_time_as_long_as_no_mark_has_passed_its_end() -> None:
    """Marks that are true every hour: the day from 06:00 ends six hours after its window."""
    gas_day = batch(("p", ms("2026-02-03 06:00"), ms("2026-02-04 06:00"), 1))
    by_start = domain_of(product(inputs={"energy": energy(assign="start")}))
    for mark in (ms("2026-02-04 00:00"), ms("2026-02-04 05:59")):
        found = admitted(gas_day, by_start, SITES, mark=mark)
        assert (found.contributions.height, found.late.height) == (1, 0)
    longest = DAY_START + DAY + LONGEST_INTERVAL
    assert admitted(gas_day, by_start, SITES, mark=longest - 1).late.is_empty()
    assert admitted(gas_day, by_start, SITES, mark=longest).late["count"].to_list() == [1]


def test_of_two_streams_that_say_the_same_of_a_point_the_last_by_topic_counts_whatever_the_offsets() -> None:
    """Offsets of different topics cannot be compared, and the order in which they were read must not decide."""
    more = replace(ELECTRICITY, name="more")
    policy = load(product(), "daily")
    domain = build_plan([Activation(policy, 0)], [ELECTRICITY, more, OTHER], AREAS, "Europe/Paris").domains[
        "housing"
    ]

    def sent(stream: Stream, value: int, offset: int, seq: int) -> pl.DataFrame:
        reading = batch(("p", NOON, NOON + HOUR, value)).with_columns(offset=pl.lit(offset, pl.Int64))
        columns = {
            name: pl.lit(getattr(stream, name)) for name in ("partner", "holding", "measure", "kind", "net")
        }
        rows = admitted(reading, domain, SITES, stream=stream).contributions
        return rows.with_columns(**columns, seq=pl.lit(seq, pl.Int64)).select(list(ROWS))

    window = domain.calendar.window("P1D", NOON)
    for first, second, seqs in ((7, 7, (1, 2)), (7, 7, (2, 1)), (10**14, 0, (1, 2)), (0, 10**14, (2, 1))):
        rows = [sent(ELECTRICITY, 100, first, seqs[0]), sent(more, 200, second, seqs[1])]
        assert roll_up(pl.concat(rows), domain, window)["value"].to_list() == [200]


def test_late_readings_ask_for_no_key() -> None:
    def gone(domain: str, epoch: str) -> bytes:
        raise AssertionError(f"{domain} {epoch}: the key of a late reading may be gone")

    admission = admitted(hours(NOON), DAILY, SITES, mark=NOON + DAY, keys=gone)
    assert (admission.admitted, admission.late.rows()) == (1, [(DAY_START, 0, 1)])


def test_a_reading_that_is_refused_is_not_counted_late() -> None:
    domain = domain_of(product(lawful_basis=CONSENT))
    admission = admitted(hours(NOON), domain, SITES, mark=NOON + DAY)
    assert (admission.late.height, reasons(admission)) == (0, {0: "no_basis"})


def test_pseudonyms_are_those_of_the_windows_epoch() -> None:
    eve, day = ms("2026-12-31 12:00"), ms("2027-01-01 12:00")
    contributions = admitted(hours(eve, day, eve), DAILY, SITES).contributions
    expected = [point_pseudonyms(keys("housing", e), PARTNER, ["p"])[0] for e in ("2026", "2027", "2026")]
    assert contributions["point"].to_list() == expected
    homes = [
        premises_pseudonyms(keys("housing", e), "housing", ["home"])[0] for e in ("2026", "2027", "2026")
    ]
    assert contributions["premises"].to_list() == homes


def test_a_supplier_switch_leaves_each_partner_its_part() -> None:
    switch = ms("2026-02-03 10:00")
    before = site_table(("p", None, switch, "home", "C1", "flat", None))
    after = site_table(("x", switch, None, "home", "C1", "flat", None), partner="energy-b")
    all_day = range(DAY_START, DAY_START + DAY, HOUR)
    old = admitted(hours(*all_day), DAILY, before)
    new = admitted(hours(*all_day, point="x"), DAILY, after, stream=OTHER)
    assert (old.contributions.height, new.contributions.height) == (10, 14)
    assert old.contributions["end"].max() == new.contributions["start"].min() == switch
    assert set(old.contributions["premises"]) == set(new.contributions["premises"])
    assert set(old.contributions["point"]).isdisjoint(new.contributions["point"])


def test_the_site_is_that_of_the_readings_moment() -> None:
    sites = site_table(
        ("p", None, NOON, "old", "C1", "flat", None), ("p", NOON, None, "new", "C3", "house", None)
    )
    found = admitted(hours(NOON - HOUR, NOON), DAILY, sites).contributions
    assert found.select("area", "segment", "group").rows() == [("C1", "flat", 0), ("C3", "house", 1)]
    assert found["premises"].n_unique() == 2
    assert found["point"].n_unique() == 1


def test_nothing_in_gives_nothing_out() -> None:
    for stream in (ELECTRICITY, HEAT):
        admission = admitted(batch(), DAILY, SITES, stream=stream)
        assert (admission.admitted, admission.refused.height, admission.quarantined.height) == (0, 0, 0)
        assert admission.contributions.schema == CONTRIBUTIONS
    assert admitted(hours(NOON), DAILY, site_table()).refused["reason"].to_list() == [
        "unknown_delivery_point"
    ]
