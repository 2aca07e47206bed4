"""What the shipped policies release of a synthetic territory: usable, true, deaf to what comes late."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from decided import Ingested, cells, ingest, release

from broker.core.calendar import Window
from broker.sim import TerritorySpec, World, generate
from broker.sim.sending import Step
from broker.sim.spec import Faults

NO_FAULTS = Faults(*(0.0 for _ in dataclasses.fields(Faults)))
# As dense as the default territory, a quarter of it: release groups are decided one by one.
QUARTER = TerritorySpec(epcis=2, communes=15, iris=50, premises=5000, days=31)


@pytest.fixture(scope="module")
def quarter() -> tuple[World, Ingested]:
    world = generate(QUARTER, seed=11)
    return world, ingest(world)


def month(world: World) -> Window:
    return Window(int(world.edges[0]), int(world.edges[31]))


def day(world: World, number: int) -> Window:
    return Window(int(world.edges[number]), int(world.edges[number + 1]))


def published(found: pl.DataFrame) -> float:
    return float((found["status"] == "published").mean())  # type: ignore[arg-type]


def test_most_commune_cells_of_the_daily_product_are_published(quarter: tuple[World, Ingested]) -> None:
    world, done = quarter
    for number in (4, 10):  # an ordinary day, and one with half-hours in one EPCI
        found = cells(release(done, "energy-water-daily", day(world, number)))
        communes = found.filter(pl.col("level") == "commune")
        assert len(communes) == 15 * 3 * 6
        assert published(communes) >= 0.6


@pytest.mark.parametrize(
    ("product", "measure", "kind"),
    [("vacancy-monthly", "vacant", "vacant"), ("underheating-monthly", "underheated", "underheats")],
)
def test_most_epci_cells_of_the_joint_products_are_published_and_near_the_truth(
    quarter: tuple[World, Ingested], product: str, measure: str, kind: str
) -> None:
    world, done = quarter
    found = cells(release(done, product, month(world))).filter(pl.col("level") == "epci")
    assert published(found) > 0.5
    known = world.truth.premises.filter(
        (pl.col("kind") == kind) | (pl.col("feed_in") & (kind == "underheats"))
    )
    truth = known.group_by("epci", "segment").len(name="most")
    sure = world.truth.premises.filter(pl.col("kind") == kind).group_by("epci", "segment").len(name="sure")
    joined = found.filter(pl.col("measure") == measure).join(
        truth.join(sure, on=["epci", "segment"]), left_on=["area", "segment"], right_on=["epci", "segment"]
    )
    counted = pl.col("true_value").cast(pl.Int64)
    assert len(joined) == 4
    # Some homes are incomplete or object; some that feed in look as if they did not heat.
    assert joined.select((counted <= pl.col("most")).all()).item()
    assert joined.select((counted >= pl.col("sure") * 0.85).all()).item()


def test_without_faults_every_figure_is_exactly_what_was_used() -> None:
    """Sums and counts of cells against sums over the truth, computed without any part of the broker."""
    spec = dataclasses.replace(
        TerritorySpec(epcis=2, communes=4, iris=8, premises=800, days=3, half_hourly=(1, 1, 1)),
        objections=0.0,
        switches=0.0,
        faults=NO_FAULTS,
    )
    world = generate(spec, seed=2)
    found = cells(release(ingest(world), "energy-water-daily", day(world, 1)))
    homes = world.truth.premises.join(
        world.truth.daily.filter(pl.col("date") == pl.date(2026, 1, 2)), on="premises"
    )
    expected = {}
    for level in ("iris", "commune", "epci"):
        for segment, part in [("*", homes), *((s, homes.filter(segment=s)) for s in ("house", "flat"))]:
            for area, n, energy, water in (
                part.group_by(level)
                .agg(pl.len(), pl.col("energy_right").sum(), pl.col("water_right").sum())
                .iter_rows()
            ):
                key = (area, segment)
                expected[*key, "energy_homes"] = expected[*key, "water_homes"] = n
                expected[*key, "energy"], expected[*key, "water"] = energy / 1000, water / 1_000_000
    sums = found.filter(pl.col("measure").is_in(["energy_homes", "water_homes", "energy", "water"]))
    got = {
        (a, s, m): float(v)
        for a, s, m, v in sums.select("area", "segment", "measure", "true_value").iter_rows()
    }
    assert got == pytest.approx(expected)


def test_late_unknown_and_malformed_readings_change_nothing() -> None:
    spec = TerritorySpec(
        epcis=1,
        communes=2,
        iris=4,
        premises=300,
        days=10,
        half_hourly=None,
        faults=Faults(late=0.1, malformed=0.01),
    )
    world = generate(spec, seed=4)
    clean = dataclasses.replace(
        world,
        readings={
            partner: {name: tuple(map(counting, steps)) for name, steps in streams.items()}
            for partner, streams in world.readings.items()
        },
    )
    one, other = ingest(world), ingest(clean)
    assert sum(c.late for c in one.counts.values()) > 100
    assert sum(c.late for c in other.counts.values()) == 0
    for number in range(10):
        both = [cells(release(done, "energy-water-daily", day(world, number))) for done in (one, other)]
        assert both[0].equals(both[1]), number


def counting(step: Step) -> Step:
    """The step without what can never count."""
    return dataclasses.replace(step, frame=step.frame.filter(pl.col("phase").is_in(["normal", "duplicate"])))


def test_counts_add_up_to_what_was_sent(quarter: tuple[World, Ingested]) -> None:
    _, done = quarter
    for partner, c in done.counts.items():
        assert c.admitted + c.quarantined + c.refused == c.read, partner
        assert c.admitted > 0.98 * c.read
        assert min(c.late, c.quarantined, c.refused) > 0
