"""What a product's window comes to: of each premises one total per input, and who contributed which part of
it.

Source: design, *Values*. Invariants
- Only rows that carry the product's bit are looked at: other products cannot change a figure.
- A release group is decided alone. Where the roll-ups of several are given at once, a premises that occurs in
  two of them is two *homes*; everything here is per home.
- A premises counts in an input if it is *complete*: its intervals cover at least `coverage` of the input's
  time, which is that of the window's base windows, or of those on the dates of `days`. Where there are
  none, nobody counts. Covered is, per premises and input,

      Σ over partners  min over the partner's lines  Σ over base windows  covered of the line

  A register's difference may cover base windows before its own (see `registers`), as far as they lie in the
  product's window; where only the dates of `days` count, it is of its own date or of none. A window that is
  LOST makes every sum that holds it incomplete.
  Points of one partner stand side by side, so each must be complete: a second meter that died makes the home
  incomplete, not frugal. Partners follow one another (a supplier switch; the fold leaves no moment to two of
  them), so their times add up. A partner that gives a home a new delivery point inside a window makes it
  incomplete in that window: from outside this cannot be told from two meters that failed in turn.
- Area and segment of a premises are those of its earliest base window in the product's window, over all
  inputs (`join: premises`) or of each input by itself (`join: none`), whether that day counts for an input
  or not. A premises with several then is *contested* and counts for nothing: one of them must be wrong. No
  segment contradicts none: the segment is that of the earliest of the premises' lines that states one.
- A premises that changes supplier is one premises with several parts; conditions judge its total.
- Integers only; results sorted by (premises, holding, partner) whatever the order of the rows.

The base windows' rows are grouped once, into lines; all that follows looks at lines, except for the few
premises with several.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal

import numpy as np
import polars as pl

from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.condition import Condition
from broker.core.errors import ProgrammerError
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Sum

Who = Literal["partner", "holding"]
_PLACE: Final = ["area", "segment"]
_WHO: Final = ["premises", "group"]
_PART: Final = ["home", "premises", "holding", "partner"]
_SORTED: Final = ["home", "holding", "partner"]
_LEAST: Final = -(2**63)  # of an int64
_MOST: Final = 2**63 - 1


@dataclass(frozen=True)
class Units:
    """The premises of one product's window, in all release groups that the roll-ups held.

    frames: per input DataFrame[home, premises, holding, partner, area, segment, value, total, peak, n], one
    row per part: value, the part's; total, peak (largest base-window total; a register's difference over
    several is one) and n (base windows with data), the premises'; values in the input's smallest unit.
    home: Int64, a number that rows share iff they are of the same premises and release group, ascending with
    the premises. eligible: DataFrame[premises, area, segment], the premises complete in all inputs (`join:
    premises`) or in any (`join: none`, except where inputs disagree about the place). incomplete, contested:
    premises that do not count, and why; with `join: none` counted per input. Complete but contested is
    contested. disagreeing: the partners that serve the contested, sorted.
    """

    product: Product
    frames: dict[str, pl.DataFrame]
    eligible: pl.DataFrame
    incomplete: int
    contested: int
    disagreeing: tuple[str, ...] = ()

    def contributions_of(self, measure: str) -> pl.DataFrame:
        """Who contributes what to a count or sum: DataFrame[home, premises, holding, partner, area, segment,
        value].

        A sum has each part's value. A count has 1 per premises and part (of all inputs, unless it names
        one), so that it is the number of distinct premises. Raises ProgrammerError for means and ratios,
        which are made of published figures.
        """
        rule = self.product.policy.measures[measure]
        if not isinstance(rule, Count | Sum):
            raise ProgrammerError(
                "no_contributions", f"{measure} is a {rule.kind}: it is made of published figures"
            )
        if rule.input is not None:
            parts = self.frames[rule.input]
        else:
            every = pl.concat([frame for _, frame in sorted(self.frames.items())])
            placed = every.drop("segment").join(self.eligible, on=["premises", "area"])
            parts = placed.unique(_SORTED).sort(_SORTED)
        if rule.where:
            parts = _only(parts, self._meeting(rule.where))
        value = pl.col("value") if isinstance(rule, Sum) else pl.lit(1, pl.Int64).alias("value")
        return parts.select(*_PART, *_PLACE, value)

    def candidates(self, measure: str, who: Who = "partner") -> pl.DataFrame:
        """What each partner (or holding) knows of a joint count: DataFrame[home, premises, <who>, area, segment,
        counted].

        One row per premises and partner such that the premises meets the conditions on every input to which
        that partner contributed there (at least one); counted: whether it meets all conditions.
        """
        rule = self.product.policy.measures[measure]
        if not isinstance(rule, Count | Sum) or not rule.where:
            raise ProgrammerError("no_condition", f"{measure} has no condition, hence no candidates")
        known = pl.concat(
            self.frames[name].select(
                "home", "premises", who, *_PLACE, self.meets(name, condition).alias("met")
            )
            for name, condition in sorted(rule.where.items())
        )
        counted = pl.col("home").is_in(self._meeting(rule.where)["home"].implode())
        return (
            known.group_by("home", who)
            .agg(pl.col("premises", *_PLACE).first(), pl.col("met").all())
            .filter("met")
            .select("home", "premises", who, *_PLACE, counted.alias("counted"))
            .sort("home", who)
        )

    def meets(self, name: str, condition: Condition) -> pl.Expr:
        """Whether a row of the frame of input `name` meets a condition on it."""
        return _meets(condition, self.product.policy.inputs[name].factor)

    def _meeting(self, where: dict[str, Condition]) -> pl.DataFrame:
        """The homes (one column) that meet every condition, of which there is at least one."""
        met = [
            self.frames[name].filter(self.meets(name, condition)).select("home")
            for name, condition in sorted(where.items())
        ]
        return reduce(_only, met).unique()


@dataclass(frozen=True)
class _Taken:
    """The rows of one input's streams; value and covered are null where the day does not count.

    bases: the starts of the base windows that count, ascending; need: ms.
    """

    rows: pl.DataFrame
    bases: list[int]
    need: int


def in_groups(rollups: pl.DataFrame, areas: AreaTree, level: str, wanted: Container[str]) -> pl.DataFrame:
    """Roll-ups (frame ROLLUP) of the wanted areas of `level`, with the column `group`: UInt32, the index of
    that area in `areas.groups(level)`. Rows that lie in no wanted area are left out."""
    index = {group: i for i, group in enumerate(areas.groups(level)) if group in wanted}
    group_of = dict(areas.group_of(level).iter_rows())
    numbers = [index.get(group_of.get(code, "")) for code in areas.codes]
    code = rollups["area"].cast(pl.Enum(areas.codes), strict=False).to_physical()
    group = pl.Series("group", numbers, dtype=pl.UInt32).gather(code)
    rows = rollups.with_columns(group)
    return rows.filter(group.is_not_null()) if group.has_nulls() else rows


def units(rollups: pl.DataFrame, product: Product, domain: Domain, window: Window) -> Units:
    """The premises of `product` in `window`. rollups: frame ROLLUP, all base windows of the window; those of
    several release groups with the column `group` (see `in_groups`)."""
    if "group" not in rollups.columns:
        rollups = rollups.with_columns(group=pl.lit(0, pl.UInt32))
    policy = product.policy
    taken = {name: _taken(rollups, name, product, domain, window) for name in sorted(policy.inputs)}
    lines = _numbered({name: _lines(each.rows) for name, each in taken.items()})
    found = {name: _complete(lines[name], each) for name, each in taken.items()}
    if policy.join == "none":
        frames = {name: _placed(found[name], _places(lines[name])) for name in found}
        places = pl.concat([frame.select("home", "premises", *_PLACE) for frame in frames.values()]).unique()
        eligible = _agreed(places)
        incomplete = sum(_homes(lines[name]) - _homes(found[name]) for name in found)
        disputes = [found[name].join(frames[name], on="home", how="anti") for name in found]
        contested = sum(_homes(dispute) for dispute in disputes)
    else:
        every = pl.concat(lines.values()).sort("home")
        complete = reduce(_only, [each.select("home") for each in found.values()]).unique()
        eligible = _only(_places(every), complete)
        frames = {name: _placed(each, eligible) for name, each in found.items()}
        incomplete = _homes(every) - complete.height
        disputes = [_only(every, complete).join(eligible, on="home", how="anti")]
        contested = complete.height - eligible.height
    return Units(
        product,
        {name: frame.sort(_SORTED) for name, frame in frames.items()},
        eligible.sort("home").select("premises", *_PLACE),
        incomplete,
        contested,
        tuple(sorted({partner for dispute in disputes for partner in dispute["partner"].unique()})),
    )


def _taken(rollups: pl.DataFrame, name: str, product: Product, domain: Domain, window: Window) -> _Taken:
    spec = product.policy.inputs[name]
    mine = (
        rollups.lazy()
        .filter(
            pl.col("window").is_between(window.start, window.end, closed="left"),
            (pl.col("mask") & (1 << product.bit)) != 0,
            pl.col("measure") == spec.measure,
            pl.col("kind") == spec.kind,
            pl.col("partner").is_in(sorted(spec.partners)),
        )
        .with_columns(pl.min_horizontal("covered", pl.col("end") - window.start))
        .select("window", "end", *_WHO, "point", "net", "partner", "holding", *_PLACE, "value", "covered")
        .collect()
    )
    bases = domain.calendar.bases(window, domain.base)
    if spec.days is not None:
        dates = product.references[spec.days]
        bases = [base for base in bases if domain.calendar.date(base.start) in dates]
        counts = pl.col("window").is_in([base.start for base in bases])
        if spec.kind == "register":  # a difference over several dates is none of them
            counts &= pl.col("covered").is_between(0, pl.col("end") - pl.col("window"))
        mine = mine.with_columns(pl.when(counts).then(pl.col("value", "covered")))
    time = sum(base.end - base.start for base in bases)
    share = product.policy.coverage
    return _Taken(mine, [base.start for base in bases], -(-time * share.numerator // share.denominator))


def _lines(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per metered line of an input: its totals, and where it was in its earliest base window."""
    return rows.group_by(*_WHO, "point", "net").agg(
        pl.col("partner", "holding").first(),
        pl.col("value", "covered").sum(),
        pl.col("value").max().alias("peak"),
        _spans().sum().alias("n"),
        pl.col("covered").count().alias("seen"),
        pl.col("window").min().alias("first"),
        # The fold leaves a line one row per base window, so that there is but one earliest.
        pl.col(*_PLACE).get(pl.col("window").arg_min()),
    )


def _spans() -> pl.Expr:
    """How many base windows a row's value is of: its own, and those before it that a register's difference covers;
    0 without a value. Rounded: a day may have 23 or 25 hours."""
    length = pl.col("end") - pl.col("window")
    covered = ((pl.col("covered") + length // 2) // length).clip(lower_bound=1)
    return pl.when(pl.col("value").is_not_null()).then(covered).otherwise(0)


def _numbered(lines: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The lines with the column `home`, ascending: see `Units`."""
    named = [frame.with_columns(input=pl.lit(name)) for name, frame in lines.items()]
    every = pl.concat(named).sort("premises")
    new = (every["premises"] != every["premises"].shift()).fill_null(value=True).to_numpy()
    group = every["group"].to_numpy().astype(np.int64)
    home = pl.Series("home", np.cumsum(new) * (1 + group.max(initial=0)) + group)
    every = every.with_columns(home)
    if not home.is_sorted():  # a premises in several groups
        every = every.sort("home")
    return {name: every.filter(pl.col("input") == name) for name in lines}


def _complete(lines: pl.DataFrame, taken: _Taken) -> pl.DataFrame:
    """Parts of the complete homes of one input: the columns of its frame without the place."""
    counted = lines.filter(pl.col("seen") > 0)
    several = counted["home"].is_duplicated()
    single = counted.filter(~several & (counted["covered"] >= taken.need)).with_columns(total="value")
    columns = [*_PART, "value", "total", "peak", "n"]
    if not several.any():
        return single.select(columns)
    more = _several_lines(counted.filter(several), taken)
    return pl.concat([single.select(columns), more.select(columns)])


def _several_lines(lines: pl.DataFrame, taken: _Taken) -> pl.DataFrame:
    """The same of homes with several lines."""
    homes = lines.select("home", *_WHO).unique("home")
    # Equal premises have equal hashes: what this filter leaves out belongs to none of them.
    likely = pl.col("premises").hash().is_in(homes["premises"].hash().implode())
    known = taken.rows.filter(likely & pl.col("value").is_not_null()).join(homes, on=_WHO)
    by_base = known.group_by("home", "window").agg(pl.col("value").sum())
    sizes = by_base.group_by("home").agg(
        pl.col("value").sum().alias("total"), pl.col("value").max().alias("peak")
    )
    last = pl.Series("last", taken.bases, dtype=pl.Int64).search_sorted(known["window"]).cast(pl.Int64)
    span = pl.int_ranges(last - _spans() + 1, last + 1).alias("base")
    times = known.select("home", span).explode("base").group_by("home").agg(n=pl.col("base").n_unique())
    parts = lines.group_by(_PART).agg(pl.col("value", "n").sum(), pl.col("covered").min())
    covered = parts.group_by("home").agg(pl.col("covered").sum())
    whole = covered.filter(pl.col("covered") >= taken.need)
    totals = sizes.join(times.cast({"n": pl.Int64}), on="home")
    return _only(parts.filter(pl.col("n") > 0).drop("n"), whole).join(totals, on="home")


def _places(lines: pl.DataFrame) -> pl.DataFrame:
    """(home, premises, area, segment) of each home in its earliest base window; a contested home has none.
    lines: sorted by home."""
    unstated = lines["segment"] == ""
    stated = lines.filter(~unstated)
    lines = _earliest(lines)
    if unstated.any() and stated.height:
        # A home of which several segments are stated becomes several rows: contested.
        segments = _earliest(stated).select("home", "segment").unique()
        lines = lines.drop("segment").join(segments, on="home", how="left", maintain_order="left")
        lines = lines.with_columns(pl.col("segment").fill_null(""))
    home, area, segment = (lines[name] for name in ("home", *_PLACE))
    again = (home == home.shift()).fill_null(value=False)
    contested = home.filter(again & ((area != area.shift()) | (segment != segment.shift())))
    placed = lines.filter(~again).select("home", "premises", *_PLACE)
    return placed.filter(~placed["home"].is_in(contested.implode())) if len(contested) else placed


def _earliest(lines: pl.DataFrame) -> pl.DataFrame:
    """Of each home the lines that began first."""
    if lines["first"].n_unique() < 2:
        return lines
    return lines.filter(pl.col("first") == pl.col("first").min().over("home"))


def _agreed(places: pl.DataFrame) -> pl.DataFrame:
    """One place of each home that inputs place alike. places: (home, premises, area, segment), each once."""
    areas = places.select("home", "area").unique()
    elsewhere = areas.filter(pl.col("home").is_duplicated())["home"]
    named = places.filter(pl.col("segment") != "")["home"]
    kept = places.filter((pl.col("segment") != "") | ~pl.col("home").is_in(named.implode()))
    return kept.filter(~pl.col("home").is_duplicated() & ~pl.col("home").is_in(elsewhere.implode()))


def _placed(parts: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """`parts` with area and segment; homes that have none are left out."""
    return parts.join(places.select("home", *_PLACE), on="home")


def _only(frame: pl.DataFrame, homes: pl.DataFrame) -> pl.DataFrame:
    return frame.join(homes.select("home"), on="home", how="semi", maintain_order="left")


def _homes(frame: pl.DataFrame) -> int:
    return frame["home"].n_unique()


def _meets(condition: Condition, factor: int) -> pl.Expr:
    """The condition on a premises' total, peak and n, as `Condition.holds` defines it. factor: how many of
    the smallest unit, in which the frame's values are, make one of the condition's.

    In integers: of x = left/n and the threshold q + r/d only whole parts are compared, and where those are
    equal (left − q·n)·d with r·n. Neither left·d nor q·n is ever made, which could leave int64.
    """
    threshold = condition.threshold * factor
    left = pl.col("peak" if condition.stat == "max" else "total")
    n = pl.col("n") if condition.stat == "mean" else pl.lit(1, pl.Int64)
    whole = left // n
    rest, over = (left - whole * n) * threshold.denominator, n * (threshold.numerator % threshold.denominator)
    floor = min(max(threshold.numerator // threshold.denominator, _LEAST), _MOST)
    below = (whole < floor) | ((whole == floor) & (rest < over))
    same = (whole == floor) & (rest == over)
    return {"<": below, "<=": below | same, ">": ~(below | same), ">=": ~below}[condition.op]
