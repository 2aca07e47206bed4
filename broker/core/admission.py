"""Admission: which readings may count, for which products, in which base windows, and under which pseudonyms.

The order of decisions about one reading (the first that holds is its reason):
1. its delivery point has a site at the reading's moment (else unknown_delivery_point, no_site_then,
   contested_site; an unknown point whose key belongs to another partition is quarantined: wrong_partition);
2. an interval lies in one base window, unless its measure is assigned by start (crosses_window);
3. at least one product admits it. Per product: it takes this stream and was active when its own window
   began (no_product), it accepts the quality (quality), its lawful basis holds (`consent`). A refused
   reading carries the reason of the first active product, in the order of bits.

Invariants
- Every reading has exactly one outcome: rows in = admitted + refused + quarantined. Late readings are
  admitted.
- A reading is late for a base window iff `Domain.shut` of the window's end (end + lateness, and more where intervals
  reach over the end) <= the completeness mark in force at the reading's offset (the highest of those before it).
  Late rows are counted, never contributed, also not as opening values of later windows: the window of the next
  reading takes the whole difference, and what windows take still adds up to what the meter turned. No key is asked
  for on their behalf, since theirs may be gone.
- An interval belongs to the base window that holds its start. A register value at t belongs to the window
  with start < t <= end, and goes out as opening value to windows with t <= start <= t + max_gap: of each
  batch only the last per (point, window, mask), for which the site must be the same premises at the
  window's start.
- Bits are independent: what bit i says does not depend on which other products the domain has.
- So cutting a batch anywhere (marks carried over) changes neither the contributions nor the late counts; it
  may only add opening rows that an equal or later one makes redundant. Nothing here depends on a clock or
  hash order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.core import entitlement
from broker.core import sites as sites_module
from broker.core.consent import ConsentTable
from broker.core.entitlement import entitle
from broker.core.plan import Domain, Stream
from broker.core.readings import REASONS_SCHEMA
from broker.core.sites import SiteTable

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint64]
EpochKeys = Callable[[str, str], bytes]
"""(domain, epoch) -> the epoch's key of at least 32 bytes."""
PartitionOf = Callable[[pl.Series], pl.Series]
"""Delivery points -> the partition that the partitioner gives them."""

NO_MARK: Final = -(2**63)
"""The watermark of a stream that has not sent a completeness mark yet."""

INTERVAL: Final = 0
REGISTER: Final = 1
OPENING: Final = 2

CONTRIBUTIONS: Final = pl.Schema(
    {
        "window": pl.Int64,
        "group": pl.UInt32,
        "point": pl.Binary,
        "premises": pl.Binary,
        "area": pl.String,
        "segment": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "value": pl.Int64,
        "order": pl.Int64,
        "mask": pl.UInt64,
        "role": pl.UInt8,
        "register_size": pl.Int64,
    }
)
LATE: Final = pl.Schema({"window": pl.Int64, "group": pl.UInt32, "count": pl.UInt32})

_CODES: Final = (*sites_module.OUTCOMES, "crosses_window", "wrong_partition", *entitlement.OUTCOMES[1:])
"""A code in an array is an index into this; those of sites keep their numbers."""
_UNKNOWN, _CROSSES, _WRONG_PARTITION = (
    np.uint8(_CODES.index(code)) for code in (sites_module.UNKNOWN, "crosses_window", "wrong_partition")
)
_ADMITTED: Final = np.uint8(0)
_SAID: Final = np.array([_CODES.index(code) for code in entitlement.OUTCOMES], np.uint8)
_REASONS: Final = pl.Series(_CODES)


@dataclass(frozen=True)
class Admission:
    """What became of a batch.

    contributions: CONTRIBUTIONS (one row per reading and base window; openings last); late: LATE, readings
    per base window start and release group; quarantined, refused: (offset, reason); admitted: readings,
    late ones included.
    """

    contributions: pl.DataFrame
    late: pl.DataFrame
    quarantined: pl.DataFrame
    refused: pl.DataFrame
    admitted: int


@dataclass(frozen=True)
class _Pairs:
    """Readings paired with base windows: row = index of the reading, window = index of the base window's
    start."""

    row: Ints
    window: Ints
    role: int


def admit(
    readings: pl.DataFrame,
    stream: Stream,
    domain: Domain,
    sites: SiteTable,
    consent: ConsentTable,
    *,
    keys: EpochKeys,
    mark: int,
    marks: Sequence[tuple[int, int]] = (),
    partition_of: PartitionOf | None = None,
    partition: int = 0,
) -> Admission:
    """Decide about readings (readings frame, checked by `readings.check`) of one stream and partition.

    mark: the stream's watermark of this partition before the batch (ms, or NO_MARK); marks: (offset, until
    ms) of the completeness marks inside the batch, by offset. partition_of, partition: where given, unknown
    points whose key belongs to another partition than `partition` are quarantined.
    """
    if readings.is_empty():
        return _outcome(readings, np.empty(0, np.uint8), _empty(CONTRIBUTIONS), _empty(LATE))
    start, end = readings["start"].to_numpy(), readings["end"].to_numpy()
    found = sites.locate(readings["delivery_point"], start)
    code = found.outcome.copy()
    edges = _edges(stream, domain, start)
    within = _within(stream, start, edges)
    if stream.kind == "interval" and stream.measure not in domain.assign_start:
        code[(code == _ADMITTED) & (end > edges[within.window + 1])] = _CROSSES
    within = _only(within, code == _ADMITTED)
    in_force = _in_force(readings["offset"].to_numpy(), mark, marks)
    late = domain.shut(edges[within.window + 1], stream) <= in_force[within.row]
    opening = _openings(stream, domain, start, edges, within.row[~late])

    products = entitle(
        readings,
        found.point,
        stream,
        domain,
        states=lambda purpose: consent.states(sites.names, purpose),
        edges=edges,
    )
    mask, said = products.decide(within.row, within.window)
    opening_mask, _ = products.decide(opening.row, opening.window)
    code[within.row] = _SAID[said]
    opens = opening_mask > 0
    code[opening.row[opens]] = _ADMITTED  # it serves the next window, though not its own

    rows = _Rows(readings, stream, sites, domain, keys, edges)
    on_time = (mask > 0) & ~late
    own = rows.frame(_only(within, on_time), found.site[within.row[on_time]], mask[on_time])
    last, last_mask = _last(_only(opening, opens), opening_mask[opens], readings, found.point)
    there = sites.locate_points(found.point[last.row], edges[last.window]).site
    stays = sites.same_premises(there, found.site[last.row])
    opened = rows.frame(_only(last, stays), there[stays], last_mask[stays])

    if partition_of is not None:
        _set_misplaced(code, readings["delivery_point"], partition_of, partition)
    late_counts = _late_counts(_only(within, (mask > 0) & late), found.site, sites, edges)
    return _outcome(readings, code, pl.concat([own, opened]), late_counts)


def _edges(stream: Stream, domain: Domain, start: Ints) -> Ints:
    """Starts of all base windows that the readings may touch, and the last one's end."""
    first, last = int(start.min()), int(start.max())
    if stream.kind == "register":
        first, last = first - 1, last + domain.max_gap.get(stream.measure, 0)
    return domain.calendar.edges(domain.base, first, last)


def _within(stream: Stream, start: Ints, edges: Ints) -> _Pairs:
    """Each reading with the base window to which its own value belongs."""
    row = np.arange(len(start))
    if stream.kind == "interval":
        return _Pairs(row, np.searchsorted(edges, start, side="right") - 1, INTERVAL)
    return _Pairs(row, np.searchsorted(edges, start, side="left") - 1, REGISTER)


def _openings(stream: Stream, domain: Domain, start: Ints, edges: Ints, rows: Ints) -> _Pairs:
    """Register values (of readings `rows`) with the base windows that start at or within max_gap after
    them."""
    if stream.kind != "register":
        return _Pairs(np.empty(0, np.int64), np.empty(0, np.int64), OPENING)
    at = start[rows]
    first = np.searchsorted(edges[:-1], at, side="left")
    count = np.searchsorted(edges[:-1], at + domain.max_gap.get(stream.measure, 0), side="right") - first
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return _Pairs(np.repeat(rows, count), np.repeat(first, count) + nth, OPENING)


def _only(pairs: _Pairs, keep: Bools) -> _Pairs:
    return pairs if keep.all() else _Pairs(pairs.row[keep], pairs.window[keep], pairs.role)


def _in_force(offset: Ints, mark: int, marks: Sequence[tuple[int, int]]) -> Ints:
    """Per reading the highest mark before its offset (ms)."""
    if not marks:
        return np.full(len(offset), mark)
    at = np.array([place for place, _ in marks])
    until = np.maximum.accumulate(np.array([mark, *(until for _, until in marks)]))
    return until[np.searchsorted(at, offset, side="left")]


def _last(pairs: _Pairs, mask: Masks, readings: pl.DataFrame, point: Ints) -> tuple[_Pairs, Masks]:
    """Of openings the last (by moment, then by order) per (point, base window, mask), sorted by these."""
    if not pairs.row.size:
        return pairs, mask
    masks, which = np.unique(mask, return_inverse=True)
    key = (point[pairs.row] * (pairs.window.max() + 1) + pairs.window) * len(masks) + which
    order = np.argsort(key, kind="stable")
    if (np.diff(key[order]) == 0).any():
        moment, offset = (readings[name].to_numpy()[pairs.row] for name in ("start", "offset"))
        order = np.lexsort((offset, moment, key))
    last = order[np.diff(key[order], append=-1) != 0]
    return _Pairs(pairs.row[last], pairs.window[last], OPENING), mask[last]


@dataclass(frozen=True)
class _Rows:
    """Makes contributions out of pairs: the only place that asks for keys."""

    readings: pl.DataFrame
    stream: Stream
    sites: SiteTable
    domain: Domain
    keys: EpochKeys
    edges: Ints

    def frame(self, pairs: _Pairs, site: Ints, mask: Masks) -> pl.DataFrame:
        """CONTRIBUTIONS; site: row of the site table per pair."""
        if not pairs.row.size:
            return _empty(CONTRIBUTIONS)
        premises, point = self._pseudonyms(pairs.window, site)
        row, at = pl.Series(pairs.row), pl.Series(site)
        columns = {name: self.readings[name].gather(row) for name in ("start", "end", "value")}
        columns |= {
            name: self.sites.rows[name].gather(at) for name in ("group", "area", "segment", "register_size")
        }
        columns["order"] = pl.Series(
            self.domain.order(self.readings["offset"].to_numpy()[pairs.row], self.stream)
        )
        columns["window"] = pl.Series(self.edges[pairs.window])
        columns |= {"point": point, "premises": premises, "mask": pl.Series(mask)}
        columns["role"] = pl.Series(np.full(len(row), pairs.role, np.uint8))
        return pl.DataFrame({name: columns[name] for name in CONTRIBUTIONS})

    def _pseudonyms(self, window: Ints, site: Ints) -> tuple[pl.Series, pl.Series]:
        """Of each site, under the key of the epoch that holds its window's start."""
        used, which = np.unique(window, return_inverse=True)
        epochs = [self.domain.calendar.epoch(int(self.edges[index])) for index in used]
        names = sorted(set(epochs))
        tables = [
            self.sites.pseudonyms(self.domain.name, self.keys(self.domain.name, name)) for name in names
        ]
        table = np.array([names.index(epoch) for epoch in epochs])[which]
        index = pl.Series(table * self.sites.rows.height + site)
        return (
            pl.concat([premises for premises, _ in tables]).gather(index),
            pl.concat([point for _, point in tables]).gather(index),
        )


def _late_counts(late: _Pairs, site: Ints, sites: SiteTable, edges: Ints) -> pl.DataFrame:
    if not late.row.size:
        return _empty(LATE)
    groups = sites.rows["group"].gather(site[late.row])
    frame = pl.DataFrame({"window": edges[late.window], "group": groups})
    return (
        frame.group_by("window", "group")
        .agg(count=pl.len())
        .sort("window", "group")
        .cast({"count": pl.UInt32})
    )


def _set_misplaced(code: Codes, points: pl.Series, partition_of: PartitionOf, partition: int) -> None:
    """Among unknown points, quarantine those that another partition's lane would know."""
    unknown = np.flatnonzero(code == _UNKNOWN)
    if unknown.size:
        elsewhere = (partition_of(points.gather(unknown)) != partition).fill_null(False).to_numpy()
        code[unknown[elsewhere]] = _WRONG_PARTITION


def _outcome(
    readings: pl.DataFrame, code: Codes, contributions: pl.DataFrame, late: pl.DataFrame
) -> Admission:
    out = np.flatnonzero(code != _ADMITTED)
    if not out.size:
        return Admission(contributions, late, _empty(REASONS_SCHEMA), _empty(REASONS_SCHEMA), readings.height)
    reasons = readings.select("offset")[out].with_columns(reason=_REASONS.gather(code[out]))
    malformed = code[out] == _WRONG_PARTITION
    return Admission(
        contributions=contributions,
        late=late,
        quarantined=reasons.filter(malformed),
        refused=reasons.filter(~malformed),
        admitted=readings.height - len(out),
    )


def _empty(schema: pl.Schema) -> pl.DataFrame:
    return schema.to_frame()
