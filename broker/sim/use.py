"""What homes use: daily energy (Wh, net of feed-in) and water (mL) from weather and from who lives there.

Invariants
- The weather does not depend on the seed: one synthetic winter, so that the shipped reference of cold days
  (`policies/references`) fits every world. It is simulated, and the reference says so.
- All values are whole numbers of the smallest unit; only feed-in makes energy negative; water never is.
- The classes of `places.KINDS` are apart from each other by what the shipped policies ask: a vacant home uses
  less than 20 kWh and 300 L a month, one that under-heats less than 9 kWh a day, however cold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.sim.places import KINDS, Flags, Ints, Places
from broker.sim.spec import TerritorySpec

Floats = npt.NDArray[np.float64]

COLD: Final = 3.0  # °C: a day whose mean is below is a cold day of the reference
HEATING_FROM: Final = 17.0  # °C: French degree days count below 17 or 18
_WEATHER_SEED: Final = 2026


@dataclass(frozen=True)
class Use:
    """energy (Wh, net), water (mL): Int64 [premises, days]; away: [premises, days]; feed_in: [premises]."""

    energy: Ints
    water: Ints
    away: Flags
    feed_in: Flags


def weather(first: date, days: int) -> Floats:
    """Mean temperature of each day, °C: a seasonal curve and a day's weather that the next one remembers."""
    state, kept = 0.0, []
    for push in np.random.default_rng(_WEATHER_SEED).normal(0, 1.9, 400):
        state = 0.75 * state + float(push)
        kept.append(state)
    ordinal = first.toordinal() + np.arange(days)
    coldest = date(2026, 1, 16).toordinal()
    season = 10.5 - 8.0 * np.cos(2 * np.pi * (ordinal - coldest) / 365.25)
    mean: Floats = np.round(season + np.array(kept)[ordinal % len(kept)], 1)
    return mean


def cold_days(first: date, days: int) -> list[date]:
    """The days whose mean temperature is below `COLD`."""
    return [first + timedelta(days=n) for n in np.flatnonzero(weather(first, days) < COLD).tolist()]


def make_use(spec: TerritorySpec, places: Places, rng: np.random.Generator) -> Use:
    """Draw every home's days."""
    n, days = spec.premises, spec.days
    missing = np.maximum(HEATING_FROM - weather(spec.start, days), 0)
    house = places.segment == 0
    feed_in = house & (places.kind == 0) & (rng.random(n) < spec.feed_in)
    away = _holidays(spec, places, rng)
    energy = _energy(spec, places, missing, away=away, feed_in=feed_in, rng=rng)
    return Use(energy=energy, water=_water(places, away, days, rng), away=away, feed_in=feed_in)


def _holidays(spec: TerritorySpec, places: Places, rng: np.random.Generator) -> Flags:
    """One absence of 3 to 8 days for some of the occupied homes, half of them over the first days."""
    n = spec.premises
    goes = (rng.random(n) < spec.holidays) & (places.kind == 0)
    begins = np.where(rng.random(n) < 0.5, -2, rng.integers(0, max(spec.days, 1), n))
    lasts = rng.integers(3, 9, n)
    day = np.arange(spec.days)
    away: Flags = goes[:, None] & (day >= begins[:, None]) & (day < (begins + lasts)[:, None])
    return away


def _energy(
    spec: TerritorySpec,
    places: Places,
    missing: Floats,
    *,
    away: Flags,
    feed_in: Flags,
    rng: np.random.Generator,
) -> Ints:
    n, days, kind = spec.premises, spec.days, places.kind
    house = places.segment == 0
    base = np.where(house, 7000.0, 4500.0) * rng.lognormal(0, 0.25, n)
    per_kelvin = np.where(house, rng.uniform(1000, 2200, n), rng.uniform(650, 1200, n))
    per_kelvin[feed_in] = rng.uniform(
        500, 900, int(feed_in.sum())
    )  # who puts a plant on the roof insulates first
    load = base[:, None] + per_kelvin[:, None] * missing
    load[away] = (0.2 * base[:, None] + 0.35 * per_kelvin[:, None] * missing)[away]
    for name, low, high in (
        ("vacant", 80, 420),
        ("leaking", 80, 420),
        ("frost", 3000, 8000),
        ("underheats", 2500, 6500),
    ):
        which = kind == KINDS.index(name)
        load[which] = rng.uniform(low, high, int(which.sum()))[:, None]
    load *= rng.normal(1, 0.08, (n, days)).clip(0.7, 1.3)
    sun = rng.uniform(0.2, 3.4, days)  # kWh per kWp
    size = rng.uniform(3, 9, n) * feed_in
    net = load - 1000 * size[:, None] * sun
    whole: Ints = np.rint(net).astype(np.int64)
    return whole


def _water(places: Places, away: Flags, days: int, rng: np.random.Generator) -> Ints:
    kind, n = places.kind, len(places.kind)
    people = np.where(places.segment == 0, rng.integers(2, 6, n), rng.integers(1, 4, n))
    litres = people * rng.uniform(95, 150, n)
    use = litres[:, None] * rng.normal(1, 0.2, (n, days)).clip(0.4, 1.8)
    use[away] = 0
    for name, low, high in (("vacant", 0, 3), ("frost", 0, 4), ("leaking", 18, 55)):
        which = kind == KINDS.index(name)
        use[which] = rng.uniform(low, high, int(which.sum()))[:, None]
    whole: Ints = np.rint(use * 1000).astype(np.int64)
    return whole
