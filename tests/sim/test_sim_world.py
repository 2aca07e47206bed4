"""A synthetic territory has the promised shape, follows from its seed, and its partners keep their word."""

from __future__ import annotations

import dataclasses
from datetime import date

import numpy as np
import polars as pl
import pytest

from broker.core.errors import InputError
from broker.core.readings import SCHEMA, check
from broker.sim import TerritorySpec, World, generate
from broker.sim.sending import HALF_HOUR, PHASES
from broker.sim.spec import Faults

DAY = 86_400_000
SMALL = TerritorySpec(epcis=2, communes=4, iris=8, premises=400, days=3, half_hourly=(1, 1, 1))
BUSY = Faults(
    duplicates=0.05,
    corrections=0.05,
    late=0.05,
    missing=0.02,
    stopped=0.05,
    roll_over=0.1,
    resets=0.05,
    drift=0.05,
    malformed=0.002,
)


@pytest.fixture(scope="module")
def default_world() -> World:
    return generate()


@pytest.fixture(scope="module")
def busy() -> World:
    spec = TerritorySpec(
        epcis=4, communes=8, iris=16, premises=1200, days=14, half_hourly=(1, 3, 2), switches=0.1, faults=BUSY
    )
    return generate(spec, seed=7)


def sent(world: World, partner: str) -> pl.DataFrame:
    """All that a partner sends as readings, in order, with its step and the mark in force before it."""
    (steps,) = world.readings[partner].values()
    marks = [-1, *(step.until for step in steps)]
    frames = [
        step.frame.with_columns(step=pl.lit(n), before=pl.lit(marks[n], pl.Int64), until=pl.lit(step.until))
        for n, step in enumerate(steps)
    ]
    return pl.concat(frames)


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    one, same, other = generate(SMALL, 5), generate(SMALL, 5), generate(SMALL, 6)
    for stream in one.streams:
        assert sent(one, stream.partner).equals(sent(same, stream.partner))
        raws = [[s.raw for s in w.readings[stream.partner][stream.name]] for w in (one, same)]
        assert raws[0] == raws[1]
        assert one.sites[stream.partner].equals(same.sites[stream.partner])
        assert one.consent[stream.partner].equals(same.consent[stream.partner])
    assert one.truth.daily.equals(same.truth.daily)
    assert one.truth.premises.equals(same.truth.premises)
    assert not one.truth.daily["energy"].equals(other.truth.daily["energy"])
    assert set(one.sites["energy-a"]["delivery_point"]).isdisjoint(other.sites["energy-a"]["delivery_point"])


def test_the_default_territory_has_the_promised_size(default_world: World) -> None:
    world = default_world
    assert world.areas.group_by("level").len().sort("level").rows() == [
        ("commune", 60),
        ("epci", 8),
        ("iris", 200),
    ]
    assert len(world.truth.premises) == 20_000
    assert world.truth.daily["date"].min() == date(2026, 1, 1)
    assert world.truth.daily["date"].max() == date(2026, 2, 4)
    assert len({s.holding for s in world.streams}) == 5
    assert 1_400_000 <= world.sent() <= 1_700_000
    sizes = world.truth.premises.group_by("iris").len()["len"]
    assert len(sizes) == 200
    assert sizes.min() >= 40


def test_shares_of_homes_are_as_the_spec_says(default_world: World) -> None:
    premises, spec = default_world.truth.premises, default_world.spec
    share = {kind: n / len(premises) for kind, n in premises.group_by("kind").len().iter_rows()}
    for kind, expected in (
        ("vacant", spec.vacant),
        ("leaking", spec.leaking),
        ("frost", spec.frost),
        ("underheats", spec.underheats),
    ):
        assert abs(share[kind] - expected) < 0.01, kind
    assert premises["vacant"].mean() == share["vacant"]
    houses = premises.filter(pl.col("segment") == "house")
    assert 0.05 < float(str(houses["feed_in"].mean())) < spec.feed_in + 0.01
    for supplier in spec.suppliers:
        assert abs((premises["energy"] == supplier.name).mean() - supplier.share) < 0.015  # type: ignore[operator]


def test_each_commune_has_one_water_operator_and_all_energy_suppliers(default_world: World) -> None:
    by_commune = default_world.truth.premises.group_by("commune").agg(
        pl.col("water").n_unique(), pl.col("energy").n_unique()
    )
    assert by_commune["water"].to_list() == [1] * 60
    assert by_commune["energy"].to_list() == [3] * 60
    by_epci = default_world.truth.premises.group_by("epci").agg(pl.col("water").n_unique())
    assert sorted(by_epci["water"]) == [1] * 7 + [2]


def test_homes_differ_as_the_shipped_policies_ask(default_world: World) -> None:
    """Otherwise the products would count something else than what the truth says."""
    daily = default_world.truth.daily.filter(pl.col("date") < date(2026, 2, 1))
    kinds = default_world.truth.premises.select("premises", "kind", "feed_in")
    month = daily.group_by("premises").agg(pl.col("energy", "water").sum(), peak=pl.col("energy").max())
    month = month.join(kinds, on="premises")

    def of(kind: str) -> pl.DataFrame:
        return month.filter((pl.col("kind") == kind) & ~pl.col("feed_in"))

    assert of("vacant").select(((pl.col("energy") < 20_000) & (pl.col("water") < 300_000)).all()).item()
    assert (
        of("leaking")
        .select(((pl.col("energy") < 20_000) & pl.col("water").is_between(300_000, 1_999_999)).all())
        .item()
    )
    assert of("frost").select(((pl.col("energy") > 20_000) & (pl.col("water") < 300_000)).all()).item()
    assert of("underheats").select(((pl.col("peak") < 9_000) & (pl.col("water") >= 2_000_000)).all()).item()
    assert of("occupied").select((pl.col("energy") > 100_000).all()).item()


def test_feed_in_makes_some_days_negative_and_water_never_is(default_world: World) -> None:
    negative = default_world.truth.daily.filter(pl.col("energy") < 0)["premises"].unique()
    assert 50 < len(negative) < 2000
    feeding = default_world.truth.premises.filter("feed_in")["premises"]
    assert set(negative) <= set(feeding)
    assert default_world.truth.daily["water"].min() == 0


def test_readings_have_the_frames_form_and_only_marked_ones_are_malformed(busy: World) -> None:
    for stream in busy.streams:
        frame = sent(busy, stream.partner).with_columns(offset=pl.int_range(pl.len(), dtype=pl.Int64))
        assert dict(frame.select(SCHEMA.names()).schema) == dict(SCHEMA)
        good, bad = check(frame.select(SCHEMA.names()), stream, 1_798_761_600_000)
        malformed = frame.filter(pl.col("phase") == "malformed")["offset"]
        assert sorted(bad["offset"]) == sorted(malformed)
        assert len(good) + len(bad) == len(frame)
        assert {"far_future"} < set(bad["reason"])


def test_every_fault_happens_in_every_stream(busy: World) -> None:
    for stream in busy.streams:
        frame = sent(busy, stream.partner)
        assert set(frame["phase"]) == set(PHASES)
        assert sum(len(step.raw) for step in busy.readings[stream.partner][stream.name]) >= 4


def test_a_partner_sends_what_a_window_needs_before_the_mark_that_closes_it(busy: World) -> None:
    for stream in busy.streams:
        frame = sent(busy, stream.partner).filter(pl.col("phase").is_in(["normal", "duplicate"]))
        assert frame.select((pl.col("end") <= pl.col("until")).all()).item()
        # interval: of the step's own day; register: read up to it
        assert frame.select((pl.col("end") > pl.col("before")).all()).item()


def test_late_readings_come_when_no_window_can_use_them_any_more(busy: World) -> None:
    """A register opens windows up to two days after it; the last of them ends a day later."""
    for stream in busy.streams:
        late = sent(busy, stream.partner).filter(pl.col("phase") == "late")
        last_use = pl.col("end") + (3 * DAY if stream.kind == "register" else 0)
        assert len(late) > 0
        assert late.select((pl.col("before") >= last_use).all()).item(), stream.partner


def test_marks_rise_and_end_with_the_last_day(busy: World) -> None:
    for stream in busy.streams:
        marks = [step.until for step in busy.readings[stream.partner][stream.name]]
        assert marks == sorted(set(marks))
        assert marks[-1] == busy.edges[-1]


def test_half_hours_stand_for_the_day_and_sum_to_it(busy: World) -> None:
    home = pl.concat([busy.sites[s.name].select("delivery_point", "premises") for s in busy.spec.suppliers])
    epci = busy.truth.premises.select("premises", "epci")
    frames = [sent(busy, s.name).filter(pl.col("phase") == "normal") for s in busy.spec.suppliers]
    frame = pl.concat(frames).join(home, on="delivery_point").join(epci, on="premises")
    half = frame.filter(pl.col("end") - pl.col("start") == HALF_HOUR)
    assert set(half["epci"]) == {sorted(set(busy.tree["epci"]))[1]}
    first, end = int(busy.edges[3]), int(busy.edges[5])
    assert half.select(pl.col("start").is_between(first, end - 1).all()).item()
    assert frame.filter(
        (pl.col("epci") == half["epci"][0]) & pl.col("start").is_between(first, end - 1)
    ).equals(half)
    # Corrected and drifting ones aside, 48 of them are the day's true value.
    days = half.with_columns(day=(pl.col("start") - first) // DAY).group_by("delivery_point", "day")
    whole = days.agg(pl.col("value").sum(), n=pl.len(), premises=pl.col("premises").first()).filter(n=48)
    truth = busy.truth.daily.with_columns(
        day=(pl.col("date").cast(pl.Datetime("ms")).dt.epoch("ms") - first) // DAY
    )
    joined = whole.join(truth, on=["premises", "day"])
    assert len(joined) > 100
    assert (joined["value"] == joined["energy"]).mean() > 0.9  # type: ignore[operator]


def test_registers_add_up_to_the_water_used(busy: World) -> None:
    """Last less first state of a meter that neither rolls over nor is exchanged nor stops."""
    operator = busy.spec.water[0]
    frame = (
        sent(busy, operator)
        .filter(pl.col("phase") == "normal")
        .unique(["delivery_point", "start"], keep="last", maintain_order=True)
    )
    states = (
        frame.sort("start")
        .group_by("delivery_point")
        .agg(
            pl.col("value").first().alias("first"),
            pl.col("value").last().alias("last"),
            end=pl.col("start").max(),
        )
    )
    used = states.filter(pl.col("end") > int(busy.edges[-1]) - DAY // 2).filter(
        pl.col("last") >= pl.col("first")
    )
    home = busy.sites[operator].select("delivery_point", "premises")
    truth = busy.truth.daily.group_by("premises").agg(pl.col("water").sum())
    joined = used.join(home, on="delivery_point").join(truth, on="premises")
    right = joined.select((pl.col("last") - pl.col("first") == pl.col("water")).mean()).item()
    assert len(joined) > 300
    assert right > 0.85


def test_some_registers_roll_over_and_some_begin_again(busy: World) -> None:
    size = busy.sites["water-n"]["register_size"][0]
    drops = pl.concat([sent(busy, p).filter(pl.col("phase") == "normal") for p in busy.spec.water])
    drops = (
        drops.sort("delivery_point", "start", "offset")
        .with_columns(change=pl.col("value").diff().over("delivery_point"))
        .filter(pl.col("change") < -1_000_000_00)
    )
    rolled = drops.filter(pl.col("change") + size < size // 2)
    assert len(rolled) > 10
    assert len(drops) > len(rolled)


def test_a_switch_closes_one_site_and_opens_another_at_the_same_midnight(busy: World) -> None:
    sites = pl.concat([busy.sites[s.name].with_columns(partner=pl.lit(s.name)) for s in busy.spec.suppliers])
    closed = sites.filter(pl.col("valid_to").is_not_null())
    opened = sites.filter(pl.col("valid_from").is_not_null())
    both = closed.join(opened, on="premises", suffix="_new")
    assert len(closed) == len(opened) == len(both) > 50
    assert both.select((pl.col("valid_to") == pl.col("valid_from_new")).all()).item()
    assert both.select((pl.col("partner") != pl.col("partner_new")).all()).item()
    assert set(both["valid_to"]) <= set(busy.edges.tolist())
    frames = pl.concat([sent(busy, s.name) for s in busy.spec.suppliers]).filter(pl.col("phase") == "normal")
    spans = frames.join(sites, on="delivery_point")
    assert spans.select(
        (
            (pl.col("start") >= pl.col("valid_from").fill_null(0))
            & (pl.col("end") <= pl.col("valid_to").fill_null(2**62))
        ).all()
    ).item()


def test_no_two_points_of_the_territory_share_a_name(default_world: World) -> None:
    names = pl.concat([rows["delivery_point"] for rows in default_world.sites.values()])
    assert names.n_unique() == len(names)
    tokens = set(default_world.truth.premises["premises"])
    assert tokens.isdisjoint(names)
    assert len(tokens) == 20_000


def test_an_objection_stands_at_all_points_of_a_home_from_before_the_first_day(default_world: World) -> None:
    home = pl.concat([rows.select("delivery_point", "premises") for rows in default_world.sites.values()])
    said = pl.concat(list(default_world.consent.values()))
    assert said.select((pl.col("withdrawn_at") < int(default_world.edges[0])).all()).item()
    joined = said.join(home, on="delivery_point")
    assert len(joined) == len(said)
    points = (
        joined.group_by("premises", "purpose")
        .len()
        .join(home.group_by("premises").len(name="points"), on="premises")
    )
    assert points.select((pl.col("len") == pl.col("points")).all()).item()
    assert 40 < points["premises"].n_unique() < 150


def test_days_are_local_days_also_where_clocks_change() -> None:
    spec = dataclasses.replace(SMALL, start=date(2026, 3, 28), days=3, half_hourly=(1, 1, 1))
    world = generate(spec, 3)
    assert np.diff(world.edges).tolist() == [DAY, DAY - 3_600_000, DAY]
    half = sent(world, "energy-a").filter(
        (pl.col("end") - pl.col("start") == HALF_HOUR) & (pl.col("phase") == "normal")
    )
    counts = half.unique(["delivery_point", "start"]).group_by("delivery_point").len()["len"]
    assert set(counts) <= {46, 45, 44} and 46 in set(counts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iris": 3},
        {"premises": 7},
        {"days": 0},
        {"vacant": 0.9},
        {"half_hourly": (2, 0, 1)},
        {"half_hourly": (1, 2, 2)},
    ],
)
def test_a_territory_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    spec = dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bad_spec"):
        generate(spec)
