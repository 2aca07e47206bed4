"""Whether a person's consent, or the absence of an objection, lets a reading count: the rules, in words.

A product's lawful basis is one of two, never mixed. `window` is the product's window that holds the reading.

| basis       | state of (delivery point, purpose)   | outcome                                              |
|-------------|--------------------------------------|------------------------------------------------------|
| any         | withdrawn_at set (and <= cut)        | withdrawn: void wholly, whatever the reading's time  |
| public_task | anything else, also no record        | counts: there is no grant, and no expiry             |
| consent     | no record, or no granted_from        | no_basis                                             |
| consent     | granted_from > window's start        | not_yet_granted: it counts from the next window      |
| consent     | reading before granted_from          | not_yet_granted (a register's opening value)         |
| consent     | reading not wholly before expires_at | expired                                              |
| consent     | else                                 | counts                                               |

(GDPR art. 6(1)(a) and 7(3) for consent and its withdrawal; 6(1)(e) and 21(1) for public task and objection.)

Invariants
- The first line that holds decides; deny is the default for consent.
- Records are whole states. Where a table has several for one point and purpose, the strictest of each field
  holds: latest grant, earliest expiry, earliest withdrawal, and no grant where one of them has none.

Consent rows: delivery_point, purpose String; granted_from, expires_at, withdrawn_at Int64|null (ms, UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Basis = Literal["consent", "public_task"]
Ints = npt.NDArray[np.int64]

NEVER: Final = 2**63 - 1
COUNTS: Final = 0
OUTCOMES: Final = ("", "no_basis", "withdrawn", "not_yet_granted", "expired")
"""What `decide` returns is an index into this."""
_NO_BASIS, _WITHDRAWN, _NOT_YET, _EXPIRED = (np.uint8(n) for n in range(1, 5))

SCHEMA: Final = pl.Schema(
    {
        "delivery_point": pl.String,
        "purpose": pl.String,
        "granted_from": pl.Int64,
        "expires_at": pl.Int64,
        "withdrawn_at": pl.Int64,
    }
)


@dataclass(frozen=True)
class States:
    """One purpose's state per point, aligned with the points asked for (NEVER = not granted, without end).

    granted_from, expires_at: Int64 ms; withdrawn: Boolean.
    """

    granted_from: Ints
    expires_at: Ints
    withdrawn: npt.NDArray[np.bool_]

    def decide(
        self, basis: Basis, point: Ints, start: Ints, end: Ints, window: Ints
    ) -> npt.NDArray[np.uint8]:
        """Index in OUTCOMES per reading: point = its index here; [start, end) or a register's moment (start
        = end); window = start of the product's window."""
        if basis == "public_task":
            return np.where(self.withdrawn[point], _WITHDRAWN, np.uint8(COUNTS))
        granted, expires = self.granted_from[point], self.expires_at[point]
        return np.select(
            [
                self.withdrawn[point],
                granted == NEVER,
                (granted > window) | (granted > start),
                (expires <= start) | (expires < end),
            ],
            [_WITHDRAWN, _NO_BASIS, _NOT_YET, _EXPIRED],
            np.uint8(COUNTS),
        )


@dataclass(frozen=True)
class ConsentTable:
    """The consent state of one partner's delivery points (of one lane, or all): one row per point and
    purpose."""

    rows: pl.DataFrame
    _memo: dict[str, tuple[pl.Series, States]] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def build(rows: pl.DataFrame, cut: int | None = None) -> ConsentTable:
        """cut: ms; a withdrawal after it is not known yet and does not count. None = all count."""
        rows = rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        if cut is not None:
            known = pl.col("withdrawn_at") <= cut
            rows = rows.with_columns(withdrawn_at=pl.when(known).then(pl.col("withdrawn_at")))
        granted = pl.col("granted_from")
        strictest = rows.group_by("delivery_point", "purpose").agg(
            pl.when(granted.is_not_null().all()).then(granted.max()),
            pl.col("expires_at").min(),
            pl.col("withdrawn_at").min(),
        )
        return ConsentTable(strictest.sort("delivery_point", "purpose"))

    @staticmethod
    def empty() -> ConsentTable:
        """No record at all: consent lets nothing count, public task everything."""
        return ConsentTable(SCHEMA.to_frame())

    def states(self, delivery_points: pl.Series, purpose: str) -> States:
        """The states for one purpose of distinct delivery points, aligned with them; those of the same Series are
        looked up once."""
        found = self._memo.get(purpose)
        if found is None or found[0] is not delivery_points:
            found = self._memo[purpose] = delivery_points, self._states(delivery_points, purpose)
        return found[1]

    def _states(self, delivery_points: pl.Series, purpose: str) -> States:
        own = self.rows.filter(pl.col("purpose") == purpose)
        if own.is_empty():
            size = len(delivery_points)
            return States(np.full(size, NEVER), np.full(size, NEVER), np.zeros(size, np.bool_))
        aligned = (
            delivery_points.alias("delivery_point")
            .to_frame()
            .join(own, on="delivery_point", how="left", maintain_order="left")
        )
        return States(
            aligned["granted_from"].fill_null(NEVER).to_numpy(),
            aligned["expires_at"].fill_null(NEVER).to_numpy(),
            aligned["withdrawn_at"].is_not_null().to_numpy(),
        )
