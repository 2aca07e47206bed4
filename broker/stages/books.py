"""A partner's sites and consent as its records say, taken a fetch at a time and by columns.

Invariants
- Records are whole states: of several of one delivery point the last counts, so applying one twice, or a whole topic
  again, gives the same rows.
- A record in another partition than its key's changes nothing (`wrong_partition`). One that does not decode, or is
  another point's, is named too and puts its point in doubt until a good record replaces it.
- No Python loop over good records.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from broker.core.consent import SCHEMA as CONSENT_ROWS
from broker.core.partitioner import partitions_for
from broker.core.sites import SCHEMA as SITE_ROWS
from broker.stages.ports import Batch, Codec

HEARTBEAT: Final = b"heartbeat"
"""The key of a consent service's signs of life, in every partition."""
MAX_STATE_BYTES: Final = 16 << 20
"""Beyond what Kafka takes as one record: a history may be long."""


@dataclass(frozen=True)
class BadRecord:
    """A record that goes to a partner's dead letters."""

    partner: str
    reason: str
    topic: str
    partition: int
    offset: int
    schema_id: int | None
    value: bytes | None


@dataclass
class Book:
    """The latest good record of each point, as rows. schema: that of the records, `periods` their list of rows.

    doubtful: points whose latest record was no good, for which `reason` is said; offsets: of each point's latest
    record; changed: points of which a record came since the caller last cleared it.
    """

    schema: str
    periods: str
    reason: str
    rows: pl.DataFrame
    doubtful: set[str] = field(default_factory=set)
    offsets: dict[str, int] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    @classmethod
    def of_sites(cls) -> Book:
        return cls("site-history", "sites", "bad_site", SITE_ROWS.to_frame())

    @classmethod
    def of_consent(cls) -> Book:
        return cls("consent-state", "purposes", "bad_consent", CONSENT_ROWS.to_frame())

    def take(self, batch: Batch, partner: str, codec: Codec, lanes: int) -> tuple[list[BadRecord], set[str]]:
        """Takes records of one partition of `lanes`; those that are no good, and their points."""
        records = self._records(batch, codec, lanes)
        here = records.filter("here")
        bad = here.filter(~pl.col("good"))
        self._replace(here.filter("good").unique("point", keep="last"))
        last = here.unique("point", keep="last")
        points = last["point"].to_list()
        self.changed.update(points)
        self.offsets.update(zip(points, last["offset"].to_list(), strict=True))
        self.doubtful.difference_update(points)
        self.doubtful.update(last.filter(~pl.col("good"))["point"].to_list())
        named = records.filter(~pl.col("here") | ~pl.col("good")).select(
            "offset",
            pl.when("here").then(pl.lit(self.reason)).otherwise(pl.lit("wrong_partition")).alias("reason"),
            pl.lit(None, pl.Int64).alias("schema_id"),
        )
        return bad_records(batch, partner, named), set(bad["point"].to_list())

    def _records(self, batch: Batch, codec: Codec, lanes: int) -> pl.DataFrame:
        """Of all but heartbeats: offset, point, here (in its key's partition), gone (a tombstone), good, periods."""
        decoded = codec.decode_columns(
            batch.values, batch.offsets, [self.schema], max_bytes=MAX_STATE_BYTES
        ).frames[self.schema]
        found = decoded.select("offset", "delivery_point", pl.col(self.periods).alias("periods"))
        said = pl.col("delivery_point") == pl.col("point")
        return (
            pl.DataFrame(
                {
                    "offset": pl.Series(batch.offsets, dtype=pl.Int64),
                    "key": pl.Series(batch.keys, dtype=pl.Binary),
                    "here": partitions_for(batch.keys, lanes) == batch.partition,
                    "gone": pl.Series(batch.values, dtype=pl.Binary).is_null(),
                }
            )
            .filter(pl.col("key").ne_missing(HEARTBEAT))
            .with_columns(pl.col("key").map_batches(_text, return_dtype=pl.String).alias("point"))
            .join(found, on="offset", how="left", maintain_order="left")
            .with_columns(good=pl.col("gone") | said.fill_null(False))
            .drop("key", "delivery_point")
        )

    def _replace(self, latest: pl.DataFrame) -> None:
        """latest: each point's last good record."""
        if latest.is_empty():
            return
        said = (
            latest.filter(~pl.col("gone") & (pl.col("periods").list.len() > 0))
            .select("periods", delivery_point="point")
            .explode("periods")
            .unnest("periods")
            .select(pl.col(name).cast(kind) for name, kind in self.rows.schema.items())
        )
        kept = self.rows.join(latest, left_on="delivery_point", right_on="point", how="anti")
        self.rows = pl.concat([kept, said])


def _text(keys: pl.Series) -> pl.Series:
    """Keys as text; what is no UTF-8, and so nobody's delivery point, with replacement characters."""
    try:
        return keys.cast(pl.String)
    except pl.exceptions.ComputeError:  # tells only that one of them is no text: few fetches hold such a key
        texts = [key if key is None else key.decode(errors="replace") for key in keys.to_list()]
        return pl.Series(keys.name, texts, dtype=pl.String)


def bad_records(batch: Batch, partner: str, bad: pl.DataFrame) -> list[BadRecord]:
    """bad: (offset, reason, schema_id). In the order of offsets; the one loop over records, and only over bad ones."""
    return [
        BadRecord(
            partner,
            reason,
            batch.topic,
            batch.partition,
            offset,
            schema_id,
            batch.values[bisect_left(batch.offsets, offset)],
        )
        for offset, reason, schema_id in bad.sort("offset").iter_rows()
    ]
