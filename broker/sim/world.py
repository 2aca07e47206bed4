"""The synthetic world: who lives where, what everybody uses, and what each partner sends about it.

Invariants
- `generate(spec, seed)` is a pure function: the same spec and seed give the same world, on every machine.
- `readings[partner][stream]` is in sending order, step by step (see `sending`); `sites` and `consent` hold
  from before the first reading.
- `truth` knows what the meters do not: who is away, whose home is empty, what was really used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from broker.core.calendar import Calendar, Edges
from broker.core.plan import Stream
from broker.sim.places import KINDS, Ints, Places, make_places, objections, points, sites, water_points
from broker.sim.sending import Step, half_hours, intervals, registers, steps
from broker.sim.spec import SEGMENTS, TerritorySpec
from broker.sim.use import Use, make_use

__all__ = ["Step", "Truth", "World", "generate"]


@dataclass(frozen=True)
class Truth:
    """premises: DataFrame[premises, iris, commune, epci, segment, kind, vacant, underheats, feed_in, water,
    energy] (water, energy: the partners that serve it first); daily: DataFrame[premises, date, energy Wh net,
    water mL, away], one row per premises and day, sorted by premises' index and date."""

    premises: pl.DataFrame
    daily: pl.DataFrame


@dataclass(frozen=True)
class World:
    """A territory for `TerritorySpec` and `seed`.

    streams: each partner's stream; titles: of the partners; areas: DataFrame[area, parent, level]; tree:
    DataFrame[iris, commune, epci, commune_index, epci_index]; sites, consent: rows by partner;
    readings[partner][stream]: steps; edges: Int64 [days + 1], the local midnights.
    """

    spec: TerritorySpec
    seed: int
    streams: tuple[Stream, ...]
    titles: dict[str, str]
    areas: pl.DataFrame
    tree: pl.DataFrame
    sites: dict[str, pl.DataFrame]
    consent: dict[str, pl.DataFrame]
    readings: dict[str, dict[str, tuple[Step, ...]]]
    edges: Edges
    truth: Truth

    def sent(self) -> int:
        """Readings and malformed records of all partners together."""
        every = (step for streams in self.readings.values() for sent in streams.values() for step in sent)
        return sum(len(step.frame) + len(step.raw) for step in every)


def generate(spec: TerritorySpec | None = None, seed: int = 1) -> World:
    """Make the world. Raises InputError (`bad_spec`) for a spec from which none can be made."""
    spec = spec or TerritorySpec()
    spec.check()
    people, day_by_day, faults, said = np.random.default_rng(seed).spawn(4)
    edges = midnights(spec)
    places = make_places(spec, seed, people)
    use = make_use(spec, places, day_by_day)
    energy = points(places, spec, seed)
    water = water_points(places, spec, seed)
    readings = {
        **_energy_steps(spec, places, use, energy, edges=edges, rng=faults),
        **_water_steps(spec, places, use, water, edges=edges, rng=faults),
    }
    return World(
        spec=spec,
        seed=seed,
        streams=_streams(spec),
        titles={
            **{s.name: s.title for s in spec.suppliers},
            **dict(zip(spec.water, ("Eau du Nord", "Eau du Sud"), strict=True)),
        },
        areas=places.areas,
        tree=places.tree,
        sites=sites(places, spec, energy, water, edges),
        consent=objections(places, spec, energy, water, first_ms=int(edges[0]), rng=said),
        readings=readings,
        edges=edges,
        truth=_truth(spec, places, use),
    )


def midnights(spec: TerritorySpec) -> Edges:
    """Int64 [days + 1]: the local midnights from the first day to the end of the last, ms."""
    noon = [_noon_utc(spec.start + timedelta(days=n)) for n in (0, spec.days - 1)]
    return Calendar(spec.timezone).edges("P1D", noon[0], noon[1])


def _noon_utc(day: date) -> int:
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000 + 43_200_000


def _streams(spec: TerritorySpec) -> tuple[Stream, ...]:
    energy = [
        Stream(s.name, s.name, "electricity", "electricity", "interval", "Wh", net=True)
        for s in spec.suppliers
    ]
    water = [Stream(name, name, "water", "water", "register", "mL", net=False) for name in spec.water]
    return (*energy, *water)


def _energy_steps(
    spec: TerritorySpec,
    places: Places,
    use: Use,
    energy: tuple[Ints, Ints, list[str]],
    *,
    edges: Edges,
    rng: np.random.Generator,
) -> dict[str, dict[str, tuple[Step, ...]]]:
    premises, supplier, names = energy
    day = np.arange(spec.days)
    switch = places.switch_day[premises][:, None]
    newer = (np.arange(len(premises)) >= spec.premises)[:, None]
    serves = np.where(newer, day >= switch, day < switch)
    epci = places.tree["epci_index"].to_numpy()[places.iris[premises]]
    found: dict[str, dict[str, tuple[Step, ...]]] = {}
    for index, one in enumerate(spec.suppliers):
        mine = np.flatnonzero(supplier == index)
        rows = intervals(use.energy[premises[mine]], serves[mine], edges, rng, spec.faults)
        if spec.half_hourly is not None:
            where, first, count = spec.half_hourly
            at = np.searchsorted(edges, rows.start)
            rows = half_hours(rows, (epci[mine][rows.point] == where) & (at >= first) & (at < first + count))
        named = [names[n] for n in mine.tolist()]
        found[one.name] = {"electricity": steps(rows, named, edges[1:], rng, spec.faults, net=True)}
    return found


def _water_steps(
    spec: TerritorySpec,
    places: Places,
    use: Use,
    names: list[str],
    *,
    edges: Edges,
    rng: np.random.Generator,
) -> dict[str, dict[str, tuple[Step, ...]]]:
    found: dict[str, dict[str, tuple[Step, ...]]] = {}
    for index, operator in enumerate(spec.water):
        mine = np.flatnonzero(places.water == index)
        rows = registers(use.water[mine], edges, rng, spec.faults)
        named = [names[n] for n in mine.tolist()]
        found[operator] = {"water": steps(rows, named, edges, rng, spec.faults, net=False)}
    return found


def _truth(spec: TerritorySpec, places: Places, use: Use) -> Truth:
    kind = np.array(KINDS)[places.kind]
    premises = pl.DataFrame(
        {
            "premises": places.tokens,
            **{c: places.tree[c].gather(places.iris) for c in ("iris", "commune", "epci")},
            "segment": np.array(SEGMENTS)[places.segment],
            "kind": kind,
            "vacant": kind == "vacant",
            "underheats": kind == "underheats",
            "feed_in": use.feed_in,
            "water": np.array(spec.water)[places.water],
            "energy": np.array([s.name for s in spec.suppliers])[places.supplier],
        }
    )
    dates = pl.Series([spec.start + timedelta(days=n) for n in range(spec.days)], dtype=pl.Date)
    which = np.repeat(np.arange(spec.premises), spec.days)
    daily = pl.DataFrame(
        {
            "premises": premises["premises"].gather(which),
            "date": dates.gather(np.tile(np.arange(spec.days), spec.premises)),
            "energy": use.energy.ravel(),
            "water": use.water.ravel(),
            "away": use.away.ravel(),
        }
    )
    return Truth(premises, daily)
