"""Areas, premises, sites and objections of a synthetic territory.

Invariants
- Codes have the form of the French ones (IRIS: commune + 4 digits; EPCI: 9 digits) in a department 99 that
  does not exist.
- Every premises has one water point and, at any time, one energy point; a switch of supplier closes one site
  at a local midnight and opens another at the new supplier from then on.
- Delivery points are each partner's own keyed digest, premises tokens another one: neither says where a home
  is, and no two points of the territory share a name.
- One water operator serves a commune alone. The northern half of the EPCIs is `water[0]`'s, the southern half
  `water[1]`'s; where there is one EPCI, or four and more, the one at the border is divided between them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core.calendar import Edges
from broker.sim.spec import PURPOSES, SEGMENTS, TerritorySpec

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

KINDS: Final = ("occupied", "vacant", "leaking", "frost", "underheats")
REGISTER_SIZE: Final = 100_000_000_000  # mL: five digits of m³


@dataclass(frozen=True)
class Places:
    """Premises by index, and the tables of areas.

    areas: DataFrame[area, parent, level]; tree: DataFrame[iris, commune, epci, commune_index, epci_index], a
    row per IRIS. iris, segment, kind: Int64 [premises], indices in `tree`, SEGMENTS, KINDS; water: index of
    the water operator; supplier, later: index of the energy supplier before and from `switch_day` on (`days`
    if the home never switches). tokens: premises token of each.
    """

    areas: pl.DataFrame
    tree: pl.DataFrame
    iris: Ints
    segment: Ints
    kind: Ints
    water: Ints
    supplier: Ints
    later: Ints
    switch_day: Ints
    tokens: list[str]


def make_places(spec: TerritorySpec, seed: int, rng: np.random.Generator) -> Places:
    """Draw who lives where, served by whom."""
    tree = _tree(spec)
    iris = _premises_per_iris(spec, rng)
    house_share = rng.uniform(0.42, 0.58, spec.iris)
    segment = (rng.random(spec.premises) >= house_share[iris]).astype(np.int64)
    shares = (spec.vacant, spec.leaking, spec.frost, spec.underheats)
    kind = np.searchsorted(np.cumsum(shares), rng.random(spec.premises), side="right") + 1
    kind = np.where(kind > len(shares), 0, kind).astype(np.int64)
    cuts = np.cumsum([s.share for s in spec.suppliers])[:-1]
    supplier = np.searchsorted(cuts, rng.random(spec.premises), side="right").astype(np.int64)
    others = len(spec.suppliers) - 1
    later = (supplier + 1 + rng.integers(0, max(others, 1), spec.premises)) % len(spec.suppliers)
    switches = (rng.random(spec.premises) < spec.switches) & (kind == 0) & (others > 0)
    day = rng.integers(1, max(spec.days, 2), spec.premises)
    tokens = _digests(f"{seed}/premises", "p", spec.premises)
    return Places(
        areas=_areas(tree),
        tree=tree,
        iris=iris,
        segment=segment,
        kind=kind,
        water=_operator(spec, tree)[iris],
        supplier=supplier,
        later=np.where(switches, later, supplier),
        switch_day=np.where(switches, day, spec.days),
        tokens=tokens,
    )


def points(places: Places, spec: TerritorySpec, seed: int) -> tuple[Ints, Ints, list[str]]:
    """Energy points as (premises, supplier, name): one per premises and, after them, one per switch."""
    switched = np.flatnonzero(places.switch_day < spec.days)
    premises = np.concatenate([np.arange(spec.premises), switched])
    supplier = np.concatenate([places.supplier, places.later[switched]])
    names = np.empty(len(premises), dtype=object)
    for index, one in enumerate(spec.suppliers):
        mine = np.flatnonzero(supplier == index)
        names[mine] = _digests(f"{seed}/{one.name}", "e", len(premises), mine)
    return premises, supplier, names.tolist()


def water_points(places: Places, spec: TerritorySpec, seed: int) -> list[str]:
    """The name of each premises' water point, by its operator's own digest."""
    names = np.empty(spec.premises, dtype=object)
    for index, operator in enumerate(spec.water):
        mine = np.flatnonzero(places.water == index)
        names[mine] = _digests(f"{seed}/{operator}", "w", spec.premises, mine)
    return names.tolist()


def sites(
    places: Places, spec: TerritorySpec, energy: tuple[Ints, Ints, list[str]], water: list[str], edges: Edges
) -> dict[str, pl.DataFrame]:
    """Site rows of each partner (SPEC form): DataFrame[delivery_point, valid_from, valid_to, premises, area,
    segment, register_size]; instants in ms, null = open."""
    premises, supplier, names = energy
    switch = places.switch_day[premises]
    at = np.where(switch < spec.days, edges[np.minimum(switch, spec.days)], -1)
    newer = np.arange(len(premises)) >= spec.premises
    iris = places.tree["iris"].to_numpy()
    segments = np.array(SEGMENTS)
    frame = pl.DataFrame(
        {
            "supplier": supplier,
            "delivery_point": names,
            "valid_from": np.where(newer, at, -1),
            "valid_to": np.where(newer, -1, at),
            "premises": np.array(places.tokens)[premises],
            "area": iris[places.iris[premises]],
            "segment": segments[places.segment[premises]],
        }
    ).with_columns(pl.when(pl.col(c) >= 0).then(pl.col(c)).alias(c) for c in ("valid_from", "valid_to"))
    tables = {
        one.name: frame.filter(pl.col("supplier") == index)
        .drop("supplier")
        .with_columns(register_size=pl.lit(None, pl.Int64))
        for index, one in enumerate(spec.suppliers)
    }
    wet = frame.head(spec.premises).with_columns(
        delivery_point=pl.Series(water),
        valid_from=pl.lit(None, pl.Int64),
        valid_to=pl.lit(None, pl.Int64),
        register_size=pl.lit(REGISTER_SIZE, pl.Int64),
        operator=pl.Series(places.water),
    )
    for index, operator in enumerate(spec.water):
        tables[operator] = wet.filter(pl.col("operator") == index).drop("supplier", "operator")
    return tables


def objections(
    places: Places,
    spec: TerritorySpec,
    energy: tuple[Ints, Ints, list[str]],
    water: list[str],
    *,
    first_ms: int,
    rng: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """Consent rows of each partner: a home's objection stands at all its points, from before the first day.

    Half of those who object do so to one purpose only."""
    who = np.flatnonzero(rng.random(spec.premises) < spec.objections)
    only = rng.integers(0, 2 * len(PURPOSES), len(who))
    pairs = [
        (person, purpose)
        for person, one in zip(who.tolist(), only.tolist(), strict=True)
        for purpose in (PURPOSES[one : one + 1] or PURPOSES)
    ]
    said = pl.DataFrame(pairs, schema={"at": pl.Int64, "purpose": pl.String}, orient="row")
    premises, supplier, names = energy
    partners = [s.name for s in spec.suppliers]
    all_points = pl.concat(
        [
            pl.DataFrame({"at": premises, "partner": np.array(partners)[supplier], "delivery_point": names}),
            pl.DataFrame(
                {
                    "at": np.arange(spec.premises),
                    "partner": np.array(spec.water)[places.water],
                    "delivery_point": water,
                }
            ),
        ]
    )
    rows = said.join(all_points, on="at").select(
        "partner",
        "delivery_point",
        "purpose",
        granted_from=pl.lit(None, pl.Int64),
        expires_at=pl.lit(None, pl.Int64),
        withdrawn_at=pl.lit(first_ms - 30 * 86_400_000, pl.Int64),
    )
    return {
        partner: rows.filter(pl.col("partner") == partner).drop("partner").sort("delivery_point", "purpose")
        for partner in (*partners, *spec.water)
    }


def _tree(spec: TerritorySpec) -> pl.DataFrame:
    commune = np.arange(spec.iris) * spec.communes // spec.iris
    epci = (np.arange(spec.communes) * spec.epcis // spec.communes)[commune]
    first = np.searchsorted(commune, commune)
    return pl.DataFrame(
        {"commune_index": commune, "epci_index": epci, "n": np.arange(spec.iris) - first + 1}
    ).select(
        iris=pl.format("99{}{}", _digits("commune_index", 3), pl.format("{}01", _digits_of(pl.col("n"), 2))),
        commune=pl.format("99{}", _digits("commune_index", 3)),
        epci=pl.format("20099{}", _digits("epci_index", 4)),
        commune_index="commune_index",
        epci_index="epci_index",
    )


def _digits(column: str, width: int) -> pl.Expr:
    return _digits_of(pl.col(column) + 1, width)


def _digits_of(number: pl.Expr, width: int) -> pl.Expr:
    return number.cast(pl.String).str.zfill(width)


def _areas(tree: pl.DataFrame) -> pl.DataFrame:
    tables = [
        tree.select(area="epci", parent=pl.lit(None, pl.String), level=pl.lit("epci")),
        tree.select(area="commune", parent="epci", level=pl.lit("commune")),
        tree.select(area="iris", parent="commune", level=pl.lit("iris")),
    ]
    return pl.concat([table.unique(maintain_order=True) for table in tables])


def _premises_per_iris(spec: TerritorySpec, rng: np.random.Generator) -> Ints:
    """The IRIS of each premises: sizes vary by a fifth, and no IRIS is empty."""
    weight = rng.lognormal(0, 0.2, spec.iris)
    exact = weight / weight.sum() * (spec.premises - spec.iris)
    size = np.floor(exact).astype(np.int64) + 1
    short = spec.premises - int(size.sum())
    size[np.argsort(size - 1 - exact, kind="stable")[:short]] += 1
    return np.repeat(np.arange(spec.iris), size)


def _operator(spec: TerritorySpec, tree: pl.DataFrame) -> Ints:
    """Index of the water operator of each IRIS."""
    epci, commune = tree["epci_index"].to_numpy(), tree["commune_index"].to_numpy()
    south = epci >= max(spec.epcis // 2, 1)
    if spec.epcis == 1 or spec.epcis >= 4:
        south |= (epci == max(spec.epcis // 2 - 1, 0)) & (commune % 2 == 1)
    return south.astype(np.int64)


def _digests(key: str, kind: str, count: int, which: Ints | None = None) -> list[str]:
    """20 hex digits for each number: what a keyed digest of a real identifier looks like."""
    secret = hashlib.sha256(key.encode()).digest()
    numbers = range(count) if which is None else which.tolist()
    return [hashlib.blake2b(f"{kind}{n}".encode(), key=secret, digest_size=10).hexdigest() for n in numbers]
