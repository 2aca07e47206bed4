"""Which home a delivery point serves, and when: the site histories of one partner.

Invariants
- A site holds from `valid_from` (included) to `valid_to` (excluded); empty = without bound.
- A delivery point has at most one site at a time. A point whose history has two at once, an area outside
  the territory's hierarchy or a malformed row is *contested*: none of its readings counts (fail closed),
  since which of its rows is right is not ours to guess. Each cause is listed in `problems`.
- Pseudonyms are computed once per site and epoch, never per reading.

Site rows: delivery_point String, valid_from, valid_to Int64|null (ms, UTC), premises String (token), area,
segment String (empty segment = none), register_size Int64|null (smallest unit: the register shows value mod
this).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core.areas import AreaTree
from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms

ALWAYS: Final = -(2**63)
NEVER: Final = 2**63 - 1

SCHEMA: Final = pl.Schema(
    {
        "delivery_point": pl.String,
        "valid_from": pl.Int64,
        "valid_to": pl.Int64,
        "premises": pl.String,
        "area": pl.String,
        "segment": pl.String,
        "register_size": pl.Int64,
    }
)
PROBLEMS: Final = pl.Schema({"delivery_point": pl.String, "reason": pl.String})

LARGEST_REGISTER: Final = 10**14
"""Ten times the largest indicating range of a meter (`readings.LIMITS`): beyond it no register rolls over, and what
it is compared with could overflow."""

UNKNOWN: Final = "unknown_delivery_point"
NONE_THEN: Final = "no_site_then"
CONTESTED: Final = "contested_site"
FOUND: Final = 0
OUTCOMES: Final = ("", UNKNOWN, NONE_THEN, CONTESTED)
"""`Located.outcome` is an index into this."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Located:
    """Per question: point = index in `SiteTable.points` or -1, site = row in `SiteTable.rows` or -1,
    outcome = index in OUTCOMES (0 exactly where site >= 0)."""

    point: Ints
    site: Ints
    outcome: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SiteTable:
    """One partner's sites (of one lane, or all).

    rows: site rows sorted by point and valid_from, bounds filled in (ALWAYS, NEVER), with `point` UInt32
    (index in points) and `group` UInt32|null (index of the release group; null where the area has none).
    points: delivery_point, first UInt32 (its first row), n UInt32, contested Boolean; its row number is
    `point`. groups: how many release groups the territory has.
    """

    partner: str
    rows: pl.DataFrame
    points: pl.DataFrame
    groups: int
    _memo: dict[tuple[str, bytes], tuple[pl.Series, pl.Series]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @staticmethod
    def build(
        rows: pl.DataFrame, partner: str, areas: AreaTree, group_level: str
    ) -> tuple[SiteTable, pl.DataFrame]:
        """The table, and its problems `(delivery_point|null, reason)`, one row per point and reason."""
        groups = areas.groups(group_level)
        group_of = areas.group_of(group_level).join(
            pl.DataFrame({"group": groups, "index": pl.int_range(len(groups), dtype=pl.UInt32, eager=True)}),
            on="group",
        )
        rows = (
            rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
            .with_columns(
                pl.col("valid_from").fill_null(ALWAYS),
                pl.col("valid_to").fill_null(NEVER),
                pl.col("segment").fill_null(""),
            )
            .join(group_of.select("area", group="index"), on="area", how="left")
            .sort("delivery_point", "valid_from", "valid_to", "premises", "area", "segment")
        )
        problems = _problems(rows)
        rows = rows.filter(pl.col("delivery_point").is_not_null() & (pl.col("delivery_point") != ""))
        points = (
            rows.with_row_index("first")
            .group_by("delivery_point", maintain_order=True)
            .agg(pl.col("first").first(), pl.len().alias("n"))
            .with_columns(contested=pl.col("delivery_point").is_in(problems["delivery_point"].implode()))
        )
        rows = rows.with_columns(point=(pl.col("delivery_point").rle_id()).cast(pl.UInt32))
        return SiteTable(partner, rows, points, len(groups)), problems

    def locate(self, delivery_points: pl.Series, at: Ints) -> Located:
        """The site of each delivery point at its moment (Int64 ms), or why there is none."""
        known = (
            delivery_points.alias("delivery_point")
            .to_frame()
            .join(self._index, on="delivery_point", how="left", maintain_order="left")
        )
        point = known["point"].fill_null(-1).to_numpy()
        return self.locate_points(point, at)

    def locate_points(self, point: Ints, at: Ints) -> Located:
        """As `locate`, by index in `points` (-1 = unknown)."""
        if not self.points.height:
            size = len(point)
            return Located(point, np.full(size, -1), np.full(size, OUTCOMES.index(UNKNOWN), np.uint8))
        first, n, contested, valid_from, valid_to = self._columns
        site = first[point]
        several = np.flatnonzero((n[point] > 1) & (point >= 0))
        if several.size:
            site[several] = self._latest(point[several], at[several])
        inside = (site >= 0) & (at >= valid_from[site]) & (at < valid_to[site])
        outcome = np.where(inside, np.uint8(FOUND), np.uint8(OUTCOMES.index(NONE_THEN)))
        outcome[contested[point]] = OUTCOMES.index(CONTESTED)
        outcome[point < 0] = OUTCOMES.index(UNKNOWN)
        return Located(point, np.where(outcome == FOUND, site, -1), outcome)

    def _latest(self, point: Ints, at: Ints) -> Ints:
        """Row of the latest site that began at or before the moment, or -1; for points with several."""
        asked = pl.DataFrame({"point": point, "at": at}).with_row_index().sort("at")
        begun = (
            self.rows.with_row_index("site")
            .select(pl.col("point").cast(pl.Int64), "valid_from", pl.col("site").cast(pl.Int64))
            .filter(pl.col("point").is_in(asked["point"].unique().implode()))
            .sort("valid_from")
        )
        found = asked.join_asof(
            begun,
            left_on="at",
            right_on="valid_from",
            by="point",
            strategy="backward",
            check_sortedness=False,
        )
        return found.sort("index")["site"].fill_null(-1).to_numpy()

    def same_premises(self, one: Ints, other: Ints) -> npt.NDArray[np.bool_]:
        """Per pair of rows (-1 = none) whether both exist and name the same premises."""
        same = (one >= 0) & (other >= 0)
        token = self.rows["premises"]
        same[same] = (token.gather(one[same]) == token.gather(other[same])).to_numpy()
        return same

    @cached_property
    def names(self) -> pl.Series:
        """The delivery points, as in `points`; always the same Series."""
        return self.points["delivery_point"]

    @cached_property
    def _index(self) -> pl.DataFrame:
        return self.points.select(
            "delivery_point", point=pl.int_range(self.points.height, dtype=pl.Int64, eager=True)
        )

    @cached_property
    def _columns(self) -> tuple[Ints, Ints, npt.NDArray[np.bool_], Ints, Ints]:
        return (
            self.points["first"].cast(pl.Int64).to_numpy(),
            self.points["n"].cast(pl.Int64).to_numpy(),
            self.points["contested"].to_numpy(),
            self.rows["valid_from"].to_numpy(),
            self.rows["valid_to"].to_numpy(),
        )

    def pseudonyms(self, domain: str, epoch_key: bytes) -> tuple[pl.Series, pl.Series]:
        """(premises, point): Binary of 16 bytes per row of `rows`, computed at the first call per domain
        and key."""
        name = (domain, hashlib.sha256(epoch_key).digest())
        if name not in self._memo:
            points = point_pseudonyms(epoch_key, self.partner, self.points["delivery_point"].to_list())
            self._memo[name] = (
                _binary(
                    premises_pseudonyms(epoch_key, domain, self.rows["premises"].fill_null("").to_list())
                ),
                _binary(points).gather(self.rows["point"]),
            )
        return self._memo[name]


def _binary(values: Iterable[bytes]) -> pl.Series:
    return pl.Series(values, dtype=pl.Binary)


def _problems(rows: pl.DataFrame) -> pl.DataFrame:
    """Why points are contested. rows: sorted by point and valid_from, bounds filled in, with `group`."""
    missing = pl.any_horizontal(
        (pl.col(name).is_null() | (pl.col(name) == "")) for name in ("delivery_point", "premises", "area")
    )
    malformed = (
        missing
        | (pl.col("valid_to") <= pl.col("valid_from"))
        | (pl.col("segment") == "*")  # the margin's name in every release
        | (~pl.col("register_size").is_between(1, LARGEST_REGISTER)).fill_null(False)
    )
    latest_end = pl.col("valid_to").cum_max().shift(1).over("delivery_point")
    causes = {
        "bad_site": malformed,
        "overlapping_sites": (pl.col("valid_from") < latest_end).fill_null(False),
        "area_not_in_hierarchy": pl.col("group").is_null(),
    }
    found = [
        rows.filter(holds).select("delivery_point", pl.lit(reason).alias("reason"))
        for reason, holds in causes.items()
    ]
    return pl.concat(found).unique().sort("delivery_point", "reason")
