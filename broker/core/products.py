"""What a product's window comes to: of each premises one total per input, and who contributed which part of
it.

Source: design, *Values*. Invariants
- Only rows that carry the product's bit are looked at: other products cannot change a figure.
- A premises counts in an input if it is *complete*: its intervals cover at least `coverage` of the input's
  time, which is that of the window's base windows, or of those on the dates of `days`. Where there are
  none, nobody counts. Covered is, per premises and input,

      Σ over partners  min over the partner's lines  Σ over base windows  covered of the line

  Points of one partner stand side by side, so each must be complete: a second meter that died makes the home
  incomplete, not frugal. Partners follow one another (a supplier switch; the fold leaves no moment to two of
  them), so their times add up. A partner that gives a home a new delivery point inside a window makes it
  incomplete in that window: from outside this cannot be told from two meters that failed in turn.
- Area and segment of a premises are those of its earliest base window in the product's window, over all
  inputs (`join: premises`) or of each input by itself (`join: none`), whether that day counts for an input
  or not. A premises with several then is *contested* and counts for nothing: one of them must be wrong.
- A premises that changes supplier is one premises with several parts; conditions judge its total.
- Integers only; results sorted by (premises, holding, partner) whatever the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Final

import polars as pl

from broker.core.calendar import Window
from broker.core.condition import Condition
from broker.core.errors import ProgrammerError
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Input, Sum

_PLACE: Final = ["area", "segment"]
_PART: Final = ["premises", "holding", "partner"]


@dataclass(frozen=True)
class Units:
    """The premises of one product's window, in all release groups that the roll-ups held.

    frames: per input DataFrame[premises, holding, partner, area, segment, value, total, peak, n], one row
    per part: value, the part's; total, peak (largest base-window total) and n (base windows with data), the
    premises'; values in the input's smallest unit. eligible: DataFrame[premises, area, segment], the
    premises complete in all inputs (`join: premises`) or in any (`join: none`, except where inputs disagree
    about the place). incomplete, contested: premises that do not count, and why; with `join: none` counted
    per input. Complete but contested is contested.
    """

    product: Product
    frames: dict[str, pl.DataFrame]
    eligible: pl.DataFrame
    incomplete: int
    contested: int

    def contributions_of(self, measure: str) -> pl.DataFrame:
        """Who contributes what to a count or sum: DataFrame[premises, holding, partner, area, segment,
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
        meets = self._meeting(rule.where)
        if isinstance(rule, Sum):
            assert rule.input is not None  # the policy's validation fills it in
            parts = self.frames[rule.input]
        else:
            names = [rule.input] if rule.input else sorted(self.frames)
            parts = pl.concat([self.frames[name] for name in names]).unique(_PART).with_columns(value=1)
            parts = _only(parts, self.eligible if rule.input is None else parts)
        return parts.pipe(_only, meets).select(*_PART, *_PLACE, pl.col("value").cast(pl.Int64)).sort(_PART)

    def candidates(self, measure: str) -> pl.DataFrame:
        """What each partner knows of a joint count: DataFrame[premises, partner, area, segment, counted].

        One row per premises and partner such that the premises meets the conditions on every input to which
        that partner contributed there (at least one); counted: whether it meets all conditions.
        """
        rule = self.product.policy.measures[measure]
        if not isinstance(rule, Count | Sum) or not rule.where:
            raise ProgrammerError("no_condition", f"{measure} has no condition, hence no candidates")
        known = pl.concat(
            self.frames[name].select(
                "premises", "partner", *_PLACE, self._meets(name, condition).alias("met")
            )
            for name, condition in sorted(rule.where.items())
        )
        counted = self._meeting(rule.where).select("premises", counted=True)
        return (
            known.group_by("premises", "partner", *_PLACE)
            .agg(pl.col("met").all())
            .filter("met")
            .drop("met")
            .join(counted, on="premises", how="left")
            .with_columns(pl.col("counted").fill_null(value=False))
            .sort("premises", "partner")
        )

    def _meets(self, name: str, condition: Condition) -> pl.Expr:
        return _meets(condition, self.product.policy.inputs[name].factor)

    def _meeting(self, where: dict[str, Condition]) -> pl.DataFrame:
        """The premises (one column) that meet every condition; without one, all that any frame has."""
        if not where:
            return pl.concat(frame.select("premises") for frame in self.frames.values()).unique()
        met = [
            self.frames[name].filter(self._meets(name, condition)).select("premises").unique()
            for name, condition in sorted(where.items())
        ]
        return reduce(_only, met)


@dataclass(frozen=True)
class _Found:
    """One input. parts: frames' columns without place, complete premises only; incomplete: premises."""

    parts: pl.DataFrame
    incomplete: pl.DataFrame


def units(rollups: pl.DataFrame, product: Product, domain: Domain, window: Window) -> Units:
    """The premises of `product` in `window`. rollups: frame ROLLUP, all base windows of the window."""
    here = pl.col("window").is_between(window.start, window.end, closed="left")
    rows = rollups.filter(here & ((pl.col("mask") & (1 << product.bit)) != 0))
    policy = product.policy
    taken = {name: _taken(rows, spec) for name, spec in sorted(policy.inputs.items())}
    found = {name: _found(taken[name], name, product, domain, window) for name in taken}
    if policy.join == "none":
        homes = {name: _homes(taken[name], window) for name in taken}
        frames = {name: _placed(found[name].parts, homes[name]) for name in found}
        places = pl.concat([frame.select("premises", *_PLACE) for frame in frames.values()]).unique()
        eligible = places.filter(~pl.col("premises").is_duplicated())
        incomplete = sum(each.incomplete.height for each in found.values())
        contested = sum(_number(found[name].parts) - _number(frames[name]) for name in found)
    else:
        home = _homes(rows, window)
        complete = reduce(_only, [each.parts.select("premises").unique() for each in found.values()])
        eligible = _placed(complete, home)
        frames = {name: _placed(each.parts, eligible) for name, each in found.items()}
        incomplete = _number(home) - complete.height
        contested = complete.height - eligible.height
    return Units(
        product,
        {name: frame.sort(_PART) for name, frame in frames.items()},
        eligible.select("premises", *_PLACE).sort("premises"),
        incomplete,
        contested,
    )


def _taken(rows: pl.DataFrame, spec: Input) -> pl.DataFrame:
    """The rows of an input's streams."""
    return rows.filter(
        (pl.col("measure") == spec.measure)
        & (pl.col("kind") == spec.kind)
        & pl.col("partner").is_in(sorted(spec.partners))
    )


def _found(rows: pl.DataFrame, name: str, product: Product, domain: Domain, window: Window) -> _Found:
    days = product.policy.inputs[name].days
    bases = domain.calendar.bases(window, domain.base)
    counted = rows
    if days is not None:
        bases = [base for base in bases if domain.calendar.date(base.start) in product.references[days]]
        counted = rows.filter(pl.col("window").is_in([base.start for base in bases]))
    time = sum(base.end - base.start for base in bases)
    share = product.policy.coverage
    need = -(-time * share.numerator // share.denominator)
    lines = counted.group_by("premises", "point", "net").agg(
        pl.col("partner", "holding").first(),
        pl.col("value", "covered").sum(),
        pl.col("value").max().alias("peak"),
        pl.len().cast(pl.Int64).alias("n"),
    )
    several = pl.col("premises").is_duplicated()
    single = lines.filter(~several).with_columns(total="value")
    parts, covered = _several_lines(lines.filter(several), counted)
    whole = pl.col("covered") >= need
    good = pl.concat([single.filter(whole).select("premises"), covered.filter(whole).select("premises")])
    seen = lines if days is None else rows
    columns = [*_PART, "value", "total", "peak", "n"]
    together = pl.concat([single.select(columns), parts.select(columns)])
    short = seen.select("premises").join(good, on="premises", how="anti").unique()
    return _Found(_only(together, good), short)


def _several_lines(lines: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Parts, and covered time (ms), of premises with several lines."""
    by_base = _only(rows, lines).group_by("premises", "window").agg(pl.col("value").sum())
    totals = by_base.group_by("premises").agg(
        pl.col("value").sum().alias("total"),
        pl.col("value").max().alias("peak"),
        pl.len().cast(pl.Int64).alias("n"),
    )
    parts = lines.group_by(_PART).agg(pl.col("value").sum(), pl.col("covered").min())
    covered = parts.group_by("premises").agg(pl.col("covered").sum())
    return parts.join(totals, on="premises"), covered


def _homes(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """(premises, area, segment) in each premises' earliest base window; a contested premises has several
    rows."""
    look = ["premises", *_PLACE]
    prompt = rows.filter(pl.col("window") == window.start).select(look).unique()
    later = rows.filter(pl.col("window") != window.start).join(prompt, on="premises", how="anti")
    first = later.filter(pl.col("window") == pl.col("window").min().over("premises"))
    return pl.concat([prompt, first.select(look).unique()])


def _placed(frame: pl.DataFrame, homes: pl.DataFrame) -> pl.DataFrame:
    """`frame` with area and segment; premises that have none, or several, are left out."""
    return frame.join(homes.filter(~pl.col("premises").is_duplicated()), on="premises")


def _only(frame: pl.DataFrame, premises: pl.DataFrame) -> pl.DataFrame:
    return frame.join(premises.select("premises"), on="premises", how="semi")


def _number(frame: pl.DataFrame) -> int:
    return frame["premises"].n_unique()


def _meets(condition: Condition, factor: int) -> pl.Expr:
    """The condition on a premises' total, peak and n, as `Condition.holds` defines it. factor: how many of
    the smallest unit, in which the frame's values are, make one of the condition's.

    A mean is not multiplied out, which could leave int64: x < k for a whole k iff floor(x) < k, x <= k iff
    ceil(x) <= k, and so their opposites.
    """
    floor, ceil = pl.col("total") // pl.col("n"), -(-pl.col("total") // pl.col("n"))
    mean = floor if condition.op in ("<", ">=") else ceil
    left = {"sum": pl.col("total"), "mean": mean, "max": pl.col("peak")}[condition.stat]
    right = condition.threshold * factor
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[condition.op]
