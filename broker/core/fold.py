"""The fold of one base window: contributions in, one total per metered line and set of products out.

Sources: design, *Values* and *What is retracted*. A *line* is what one stream says of one delivery point:
(point, measure, kind, net). A *claim* is (premises, measure, kind).

Invariants
- Every rule holds per product bit. The fold of bit i is the fold of the rows that have it, as if no other
  product existed; so a product's figures never depend on which other products the domain has.
- Last write wins: of the rows of one line and interval the one with the highest `order` counts.
- Intervals of one line that overlap without being the same contradict each other: neither counts.
- Two partners that claim the same premises, measure, kind and time: neither counts. Points of *one* partner
  at one premises add up. This rule and the one before judge the same rows (those that last write wins
  leaves), so neither shields a row from the other.
- Registers: see `registers`.
- `covered` of a line is the time (ms) that its intervals fill; where an interval may cross the border (`assign:
  start`) see `_covered`. A register's line is there without a value, too, where nothing is known of the window.
- Area and segment of a line are those of its earliest row that counts.
- The result does not depend on the order of the rows or on how they are cut into chunks, and for each bit
  has at most one row per (line, premises).
- Integers only. `order` is unique within a line and moment (`Domain.order`).

Most claims are plain: one partner, one look per line, nothing that overlaps. They are folded in
one pass; the odd ones (`_odd_claims`) once for each class of bits that always occur together. Both ways
give the same figures.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from broker.core import registers
from broker.core.admission import OPENING
from broker.core.calendar import HOUR, Window
from broker.core.fold_frames import CLAIM, LINE, LOOK, ROLLUP, TOTALS
from broker.core.plan import Domain

_LOW: Final = pl.lit(-(2**62), pl.Int64)
_HIGH: Final = pl.lit(2**62, pl.Int64)
_OPTIONAL: Final = {"premises": pl.Binary(), "to_ms": pl.Int64(), "granted_ms": pl.Int64()}
"""Columns of retractions that may be absent; null: without that bound."""


def roll_up(rows: pl.DataFrame, domain: Domain, window: Window, closed: int | None = None) -> pl.DataFrame:
    """Fold the rows (frame ROWS) of one base window, retractions already applied, into its roll-up (frame
    ROLLUP).

    value: in the stream's smallest unit; covered: ms, or LOST; sorted by premises, measure, kind, net, point, mask.
    Rows of other windows are ignored. closed: the place of the record that closed the window, which `seq`
    then holds; without it, `seq` is the highest place of the line's rows.
    """
    live = _live(rows, window)
    intervals, *shares = _intervals(live.filter(pl.col("kind") == "interval"), domain, window)
    consumption, *more = _registers(live.filter(pl.col("kind") == "register"), domain, window)
    totals = [part.select(TOTALS) for part in (intervals, consumption, *_merge(shares + more))]
    return (
        pl.concat(totals)
        .with_columns(
            window=pl.lit(window.start, pl.Int64),
            end=pl.lit(window.end, pl.Int64),
            seq=pl.col("seq") if closed is None else pl.lit(closed, pl.Int64),
        )
        .select(list(ROLLUP))
        .sort("premises", "measure", "kind", "net", "point", "mask")
    )


def rivals(rows: pl.DataFrame, domain: Domain, window: Window) -> pl.DataFrame:
    """Whose claims to one premises, measure and time contradict each other, so that `roll_up` takes neither:
    DataFrame[premises, measure, partner], each once, sorted. rows, domain, window: as for `roll_up`."""
    live = _live(rows, window)
    several = live.group_by(CLAIM).agg(pl.col("partner").n_unique()).filter(pl.col("partner") > 1)
    shared = live.join(several, on=CLAIM, how="semi")
    intervals = [_last_written(share) for share in _shares(shared.filter(pl.col("kind") == "interval"))]
    readings = _shares(shared.filter(pl.col("kind") == "register"))
    found = [
        *(last.filter(_rivalled(last)) for last in intervals),
        *(registers.rivals(registers.consumption(share, domain, window)) for share in readings),
    ]
    names = ["premises", "measure", "partner"]
    return pl.concat([part.select(names) for part in (live.clear(), *found)]).unique().sort(names)


def retract(rows: pl.DataFrame, retractions: pl.DataFrame) -> pl.DataFrame:
    """Rows (frame ROWS) without the bits that retractions take away.

    retractions: DataFrame[point, bits: UInt64, seq: Int64, from_ms: Int64 or null, and to_ms, granted_ms: Int64 or
    null, premises: Binary or null (these columns may be absent)]. One reaches rows of its point with row.seq < seq
    and, where they are given, of that premises, with row.start >= from_ms, and with row.window < to_ms or row.start
    < granted_ms (an opening value that a later window was given). To from_ms the moment of an opening value is its
    window's start, for which it was given: a site that closed before it opens nothing.
    Rows keep their order; a row whose mask becomes 0 stays and counts for nothing.
    """
    opens = pl.col("role") == OPENING
    moment = pl.when(opens).then(pl.max_horizontal("start", "window")).otherwise("start")
    return _retract(rows, retractions, moment, pl.col("start"))


def retract_rollups(rollups: pl.DataFrame, retractions: pl.DataFrame) -> pl.DataFrame:
    """The same for roll-ups (frame ROLLUP): a base window that holds from_ms is emptied as a whole.

    Where the roll-ups were made with `closed`, a retraction that `retract` had applied before the window
    closed changes nothing, so a replay may apply all of them again.
    """
    return _retract(rollups, retractions, pl.col("end") - 1, pl.col("window"))


def _retract(rows: pl.DataFrame, retractions: pl.DataFrame, latest: pl.Expr, read: pl.Expr) -> pl.DataFrame:
    """latest: the row's last moment, read: its first; from_ms reaches rows that are not wholly before it."""
    if rows.is_empty() or retractions.is_empty():
        return rows
    absent = [pl.lit(None, kind).alias(n) for n, kind in _OPTIONAL.items() if n not in retractions.columns]
    rules = (
        retractions.with_columns(absent)
        .rename({"premises": "whose"})
        .group_by("point", "whose", "bits", "from_ms", "to_ms", "granted_ms")
        .agg(pl.col("seq").max().alias("before"))
    )
    numbered = rows.with_row_index("_row")
    reached = (
        numbered.select(
            "_row", "point", "premises", "seq", "window", latest.alias("latest"), read.alias("read")
        )
        .join(rules, on="point")
        .filter(
            (pl.col("seq") < pl.col("before"))
            & (pl.col("whose").is_null() | (pl.col("premises") == pl.col("whose")))
            & (pl.col("from_ms").is_null() | (pl.col("latest") >= pl.col("from_ms")))
            & (
                pl.col("to_ms").is_null()
                | (pl.col("window") < pl.col("to_ms"))
                | (pl.col("read") < pl.col("granted_ms"))
            )
        )
        .group_by("_row")
        .agg(pl.col("bits").bitwise_or().alias("_bits"))
    )
    if reached.is_empty():
        return rows
    gone = pl.col("mask") & pl.col("_bits").fill_null(0)
    return (
        numbered.join(reached, on="_row", how="left", maintain_order="left")
        .with_columns(mask=pl.col("mask") ^ gone)
        .drop("_row", "_bits")
    )


def bit_classes(masks: pl.Series) -> list[int]:
    """The bits that occur, in classes: two bits are together where every mask has both or neither.
    Ascending."""
    distinct: list[int] = masks.unique().to_list()
    classes: dict[tuple[bool, ...], int] = {}
    for bit in range(64):
        has = tuple(bool(mask >> bit & 1) for mask in distinct)
        if any(has):
            classes[has] = classes.get(has, 0) | 1 << bit
    return sorted(classes.values())


def _live(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    return rows.filter((pl.col("window") == window.start) & (pl.col("mask") != 0))


def _shares(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows that have each class of bits: within a share all rows have one mask, as if for one product."""
    return [
        rows.filter((pl.col("mask") & bits) != 0).with_columns(mask=pl.lit(bits, pl.UInt64))
        for bits in (bit_classes(rows["mask"]) if rows.height else [])
    ]


def _intervals(rows: pl.DataFrame, domain: Domain, window: Window) -> list[pl.DataFrame]:
    lines = _sums(rows, window)
    plain, odd = _apart(lines, rows, _odd_claims(lines, _overlapping(rows)))
    settled = [_sums(_settle(share), window) for share in _shares(odd)]
    return [_covered(part, domain, window) for part in [plain, *settled]]


def _registers(rows: pl.DataFrame, domain: Domain, window: Window) -> list[pl.DataFrame]:
    looks = rows.select(LOOK).unique()
    plain, odd = _apart(rows, rows, _odd_claims(looks, looks.select(LINE).clear()))
    settled = [registers.one_partner(registers.consumption(share, domain, window)) for share in _shares(odd)]
    return [registers.consumption(plain, domain, window), *settled]


def _apart(
    lines: pl.DataFrame, rows: pl.DataFrame, claims: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The `lines` outside of the claims, and the rows within."""
    if claims.is_empty():
        return lines, rows.clear()
    return lines.join(claims, on=CLAIM, how="anti"), rows.join(claims, on=CLAIM, how="semi")


def _odd_claims(looks: pl.DataFrame, overlapping: pl.DataFrame) -> pl.DataFrame:
    """The claims that are not plain (columns CLAIM).

    looks: each LOOK once; overlapping: lines with duplicates or overlaps. A claim is odd with several
    partners, or a line that is overlapping or has several looks (products included). Lines of one partner do
    not judge each other, and a line of several premises has several looks, hence all its claims are odd: no
    rule reaches from an odd claim to a plain one.
    """
    # Equal keys have equal hashes. Different ones may too: then a plain claim is called odd, and the odd
    # way is exact.
    changed = looks.filter(pl.struct(LINE).hash().is_duplicated()).select(CLAIM)
    shared = looks.filter(pl.struct(CLAIM).hash().is_duplicated())
    rivalled = (
        shared.group_by(CLAIM).agg((pl.col("partner") != pl.col("partner").first()).any()).filter("partner")
    )
    clashing = looks.join(overlapping, on=LINE, how="semi") if overlapping.height else looks.clear()
    return pl.concat([changed, rivalled.select(CLAIM), clashing.select(CLAIM)]).unique()


def _overlapping(rows: pl.DataFrame) -> pl.DataFrame:
    """The lines that have duplicates or overlaps (columns LINE), and perhaps others.

    Intervals that are disjoint from their neighbours in time are disjoint from all, also where a collision
    of hashes mixes the intervals of two lines: a collision can call a line overlapping, never hide that it
    is.
    """
    times = rows.select(pl.struct(LINE).hash().alias("line"), "start", "end").with_row_index("row")
    times = times.sort("line", "start")
    same = pl.col("line") == pl.col("line").shift()
    found = times.filter(same & (pl.col("start") < pl.col("end").shift()))
    if found.is_empty():
        return rows.select(LINE).clear()
    touched = times.filter(pl.col("line").is_in(found["line"].unique().implode()))
    return rows[touched["row"]].select(LINE).unique()


def _settle(rows: pl.DataFrame) -> pl.DataFrame:
    """The intervals that count, of rows with one mask: last write wins, then contradictions and rival
    claims go.

    Area and segment become those of the line's earliest interval.
    """
    last = _last_written(rows)
    bad = _reached(pl.col("end"), pl.col("start"), LINE) | _rivalled(last)
    return last.filter(~bad).with_columns(pl.col("area", "segment").first().over([*LINE, "premises"]))


def _last_written(rows: pl.DataFrame) -> pl.DataFrame:
    """Each line's intervals as they were last written, by start."""
    return (
        rows.sort("order", "seq")
        .unique([*LINE, "start", "end"], keep="last", maintain_order=True)
        .sort("start", "end", maintain_order=True)
    )


def _rivalled(last: pl.DataFrame) -> pl.Expr:
    """Whether another partner claims the premises for some of the interval's time; rows by start."""
    bad = pl.lit(value=False)
    for partner in last["partner"].unique().to_list():
        rival = pl.col("partner") != partner
        ends, starts = (
            pl.when(rival).then("end").otherwise(_LOW),
            pl.when(rival).then("start").otherwise(_HIGH),
        )
        bad = bad | (~rival & _reached(ends, starts, CLAIM))
    return bad


def _reached(ends: pl.Expr, starts: pl.Expr, group: list[str]) -> pl.Expr:
    """Whether another interval of the group, as given by `ends` and `starts`, overlaps this one; rows by
    start."""
    before = ends.cum_max().shift().over(group) > pl.col("start")
    after = starts.cum_min(reverse=True).shift(-1).over(group) < pl.col("end")
    return before.fill_null(value=False) | after.fill_null(value=False)


def _sums(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Intervals summed per LOOK: value, seq, and first, last (ms) and inside (ms before the window's end)."""
    return rows.group_by(LOOK).agg(
        pl.col("value").sum(),
        pl.col("seq").max(),
        pl.col("start").min().alias("first"),
        pl.col("end").max().alias("last"),
        (pl.col("end").clip(upper_bound=window.end) - pl.col("start")).sum().alias("inside"),
    )


def _covered(lines: pl.DataFrame, domain: Domain, window: Window) -> pl.DataFrame:
    """`lines` (from `_sums`) with `covered`, ms of the window.

    Where a measure is assigned by start, the window's last interval reaches over its end as the one before
    the first reached over its start (a gas day from 06:00 to 06:00): that time, the head, counts as
    covered, but no more of it than the last interval reaches over. Between midnight and 06:00 clocks may
    change, which makes the two differ by an hour; then the head counts whole.
    """
    head = pl.col("first") - window.start
    tail = (pl.col("last") - window.end).clip(lower_bound=0)
    slack = HOUR if domain.base == "P1D" else 0
    borrowed = pl.when((tail > 0) & (head <= tail + slack)).then(head).otherwise(tail)
    by_start = pl.col("measure").is_in(sorted(domain.assign_start))
    return lines.with_columns(covered=pl.col("inside") + pl.when(by_start).then(borrowed).otherwise(0))


def _merge(shares: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """The shares as one frame (columns TOTALS); rows that differ in nothing but their masks are one."""
    if not shares:
        return []
    same = [name for name in TOTALS if name != "mask"]
    rows = pl.concat([share.select(TOTALS) for share in shares])
    return [rows.group_by(same).agg(pl.col("mask").bitwise_or())]
