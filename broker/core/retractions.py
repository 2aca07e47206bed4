"""What must leave the open windows when a consent or site record changes.

| record  | what it says now                             | what leaves                                      |
|---------|----------------------------------------------|--------------------------------------------------|
| consent | withdrawn_at set (withdrawal, objection)     | all of the point, for products of that purpose   |
| consent | no grant (no row, or no granted_from)        | the same, for products whose basis is consent    |
| consent | granted from T on                            | of products whose basis is consent: all of their |
|         |                                              | windows that began before T, and values read     |
|         |                                              | before T (a new grant counts from the next       |
|         |                                              | window, so what an earlier one gave is void)     |
| consent | expired                                      | nothing: that bounds what is admitted later      |
| site    | another premises or group, or no site, at a  | what the point gave as the former premises, from |
|         | time when there was one                      | that time on                                     |
| site    | contested, or gone (tombstone)               | all of the point                                 |

Invariants
- A grant takes nothing away that it admits itself, so a first grant takes nothing; and a withdrawal that was
  followed by a new grant before anybody looked has the same outcome as one that was seen. (Not so an objection to
  a public task that was taken back: the state that is left does not know it.)
- The whole state decides, so that a retraction may be emitted again (after a restart): as long as no period
  of a history takes up a premises that an earlier one gave up, that takes nothing away that the present
  state admits.
- Where the former site record is unknown (compaction may have dropped it), each period of the new one that
  is not continued is retracted from its end, as the premises that it names; a point of which nothing sound
  is known is retracted wholly, from every group (fail closed).
- A lane that has never admitted anything of a partner has nothing to retract and need not ask.

RETRACTIONS frame: point Binary (under the pseudonyms of each epoch asked for), premises Binary|null (only
rows of this premises; null = any), bits UInt64 (product bits to clear), from_ms Int64|null (only rows with
start >= it; null = all), to_ms Int64|null (only rows of base windows that begin before it, and those read before
granted_ms; null = all), granted_ms Int64|null, group UInt32 (release group whose partition must hear of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from broker.core.admission import EpochKeys
from broker.core.calendar import Window
from broker.core.consent import ConsentTable
from broker.core.plan import Domain
from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms
from broker.core.sites import ALWAYS, NEVER, Ints, SiteTable

RETRACTIONS: Final = pl.Schema(
    {
        "point": pl.Binary,
        "premises": pl.Binary,
        "bits": pl.UInt64,
        "from_ms": pl.Int64,
        "to_ms": pl.Int64,
        "granted_ms": pl.Int64,
        "group": pl.UInt32,
    }
)
_NAMED: Final = pl.Schema(
    {
        "delivery_point": pl.String,
        "home": pl.String,
        "bits": pl.UInt64,
        "from_ms": pl.Int64,
        "to_ms": pl.Int64,
        "granted_ms": pl.Int64,
        "group": pl.UInt32,
    }
)
_VOIDED: Final = pl.Schema(
    {"delivery_point": pl.String, "to_ms": pl.Int64, "granted_ms": pl.Int64, "bits": pl.UInt64}
)


def consent_retractions(
    changed: pl.Series,
    sites: SiteTable,
    consent: ConsentTable,
    domain: Domain,
    *,
    span: Window,
    keys: EpochKeys,
) -> pl.DataFrame:
    """RETRACTIONS for the delivery points (String) whose consent records changed.

    sites, consent: the tables with all records applied; span: holds every reading that an open window of the domain
    may hold. A point without a site has none: what it gave left with its site record.
    """
    points = changed.unique().sort()
    voided = [_VOIDED.to_frame()]
    for product in domain.products:
        state = consent.states(points, product.policy.purpose)
        void, granted = state.withdrawn, state.granted_from
        if product.policy.lawful_basis.kind == "consent":
            void = void | (granted >= span.end)  # also NOT_GRANTED
            later = np.flatnonzero(~void & (granted > span.start))
            begins = domain.calendar.edges(product.policy.window.length, span.start, span.end)
            first = begins[np.searchsorted(begins, granted[later], side="left")]
            voided.append(_void(points.gather(later), product.bit, first, granted[later]))
        voided.append(_void(points.gather(np.flatnonzero(void)), product.bit, None, None))
    each = ["delivery_point", "to_ms", "granted_ms"]
    rows = pl.concat(voided).group_by(each).agg(pl.col("bits").bitwise_or())
    groups = sites.rows.select("delivery_point", "group").drop_nulls().unique()
    named = rows.join(groups, on="delivery_point").with_columns(home=pl.lit(None), from_ms=pl.lit(None))
    epochs = domain.calendar.epochs(span.start, span.end - 1)
    return _pseudonymised(named, sites.partner, domain, epochs, keys)


def _void(points: pl.Series, bit: int, to: Ints | None, granted: Ints | None) -> pl.DataFrame:
    """_VOIDED of these points for one product."""
    columns = {"delivery_point": points, "to_ms": to, "granted_ms": granted, "bits": None}
    frame = pl.DataFrame(columns, schema=_VOIDED)
    return frame.with_columns(bits=pl.lit(1 << bit, pl.UInt64))


def site_retractions(
    changed: pl.Series,
    former: SiteTable | None,
    sites: SiteTable,
    domain: Domain,
    *,
    epochs: Sequence[str],
    keys: EpochKeys,
) -> pl.DataFrame:
    """RETRACTIONS for the delivery points (String) whose site records changed.

    former: the table under which readings were admitted so far (None: unknown); sites: with the changed
    records; epochs: those of the domain's open windows.
    """
    points = changed.unique().sort()
    known = points.is_in((former or sites).points["delivery_point"].implode())
    named = [] if former is None else [_replaced(points.filter(known), former, sites)]
    named += _unknown_before(points if former is None else points.filter(~known), sites)
    bits = sum(1 << product.bit for product in domain.products)
    frame = pl.concat(named).with_columns(
        bits=pl.lit(bits, pl.UInt64), to_ms=pl.lit(None), granted_ms=pl.lit(None)
    )
    return _pseudonymised(frame, sites.partner, domain, epochs, keys)


def _replaced(points: pl.Series, former: SiteTable, sites: SiteTable) -> pl.DataFrame:
    """(delivery_point, home, from_ms, group) of the former table where the new one has another, or none."""
    both = pl.concat([former.rows, sites.rows]).filter(pl.col("delivery_point").is_in(points.implode()))
    each = (both.select("delivery_point", at=bound) for bound in ("valid_from", "valid_to"))
    bounds = pl.concat(each).unique()
    had, has = _homes(former, bounds), _homes(sites, bounds)
    return (
        pl.concat([bounds, had], how="horizontal")
        .filter(had["home"].is_not_null() & ~_same(had, has))
        .group_by("delivery_point", "home", "group")
        .agg(from_ms=pl.col("at").min())
        .select("delivery_point", "home", _open("from_ms"), "group")
    )


def _unknown_before(points: pl.Series, sites: SiteTable) -> list[pl.DataFrame]:
    """(delivery_point, home, from_ms, group) where nothing is known of the former record."""
    sound = sites.points.filter(~pl.col("contested"))["delivery_point"].implode()
    closed = sites.rows.filter(
        pl.col("delivery_point").is_in(points.filter(points.is_in(sound)).implode())
        & (pl.col("valid_to") != NEVER)
    ).select("delivery_point", home="premises", from_ms="valid_to", group="group")
    goes_on = _same(closed, _homes(sites, closed.select("delivery_point", at="from_ms")))
    lost = points.filter(~points.is_in(sound)).alias("delivery_point").to_frame()
    everywhere = pl.DataFrame({"group": range(sites.groups)}, schema={"group": pl.UInt32})
    nothing = {"home": pl.lit(None, pl.String), "from_ms": pl.lit(None, pl.Int64)}
    wholly = lost.join(everywhere, how="cross").with_columns(**nothing).select(closed.columns)
    return [closed.filter(~goes_on), wholly]


def _homes(table: SiteTable, bounds: pl.DataFrame) -> pl.DataFrame:
    """(home, group) of each (delivery_point, at) in the table; nulls where it has no site then."""
    site = pl.Series(table.locate(bounds["delivery_point"], bounds["at"].to_numpy()).site)
    found = site.to_frame("site").select(pl.when(pl.col("site") >= 0).then(pl.col("site"))).to_series()
    return table.rows.select(pl.col("premises").alias("home").gather(found), pl.col("group").gather(found))


def _same(had: pl.DataFrame, has: pl.DataFrame) -> pl.Series:
    return had["home"].eq_missing(has["home"]) & had["group"].eq_missing(has["group"])


def _open(name: str) -> pl.Expr:
    """A bound without its stand-in for `always`."""
    return pl.when(pl.col(name) != ALWAYS).then(pl.col(name)).alias(name)


def _pseudonymised(
    named: pl.DataFrame, partner: str, domain: Domain, epochs: Sequence[str], keys: EpochKeys
) -> pl.DataFrame:
    """RETRACTIONS, sorted, of _NAMED rows: each once under the pseudonyms of each epoch."""
    named = named.select(pl.col(name).cast(kind) for name, kind in _NAMED.items())
    parts = [RETRACTIONS.to_frame()]
    for key in (keys(domain.name, epoch) for epoch in sorted(set(epochs))):
        homes = named["home"].drop_nulls()
        premises = pl.DataFrame(
            {"home": homes, "premises": premises_pseudonyms(key, domain.name, homes)},
            schema={"home": pl.String, "premises": pl.Binary},
        ).unique()
        point = pl.Series(point_pseudonyms(key, partner, named["delivery_point"]), dtype=pl.Binary)
        parts.append(
            named.with_columns(point=point).join(premises, on="home", how="left").select(RETRACTIONS.names())
        )
    return pl.concat(parts).sort(RETRACTIONS.names())
