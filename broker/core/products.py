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

How it is added up stands in `homes`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, TypeVar

import numpy as np
import polars as pl

from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.coded import BoolArray, IntArray
from broker.core.condition import Condition
from broker.core.errors import ProgrammerError
from broker.core.homes import NOWHERE, Lines, Numbered, Parts, complete, lines, numbered, places, taken
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Sum
from broker.core.rollups import Looks, Rollups

T = TypeVar("T")
Who = Literal["partner", "holding"]
_WHO: Final[tuple[Who, ...]] = ("holding", "partner")
_Place = tuple[IntArray, IntArray]  # per home the codes of its area and segment
_PLACE: Final = ["area", "segment"]
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
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        parts = self._of_any if rule.input is None else self.frames[rule.input]
        if rule.where:
            parts = parts[np.flatnonzero(self._meeting(rule.where)[parts["home"].to_numpy()])]
        value = pl.col("value") if isinstance(rule, Sum) else pl.lit(1, pl.Int64).alias("value")
        return parts.select(*_PART, *_PLACE, value)

    def candidates(self, measure: str, who: Who = "partner") -> pl.DataFrame:
        """What each partner (or holding) knows of a joint count: DataFrame[home, premises, <who>, area, segment,
        counted].

        One row per premises and partner such that the premises meets the conditions on every input to which
        that partner contributed there (at least one); counted: whether it meets all conditions.
        """
        return self._candidates(measure, who)[0]

    def unknown_candidates(self, measure: str, who: Who = "partner") -> pl.DataFrame:
        """The same less the homes of which the partner (or holding) alone has every condition's readings.

        Those it knows anyway (a municipal utility of water and energy): what it must not learn is the others'.
        """
        found, pairs = self._candidates(measure, who)
        known = np.logical_and.reduce([self._alone(name, who) for name in self._where(measure)])
        return found[np.flatnonzero(~known[pairs])] if known.any() else found

    def meets(self, name: str, condition: Condition) -> pl.Expr:
        """Whether a row of the frame of input `name` meets a condition on it."""
        return _meets(condition, self.product.policy.inputs[name].factor)

    @cached_property
    def sisters(self) -> frozenset[str]:
        """The partners whose holdings have several partners."""
        partners = self._names("partner")
        holding, partner = (np.concatenate([self._codes(name, who) for name in self.frames]) for who in _WHO)
        pairs = np.unique(holding * max(1, len(partners)) + partner)
        holding, partner = pairs // max(1, len(partners)), pairs % max(1, len(partners))
        several = np.bincount(holding)[holding] > 1
        return frozenset(partners[code] for code in partner[several].tolist())

    @cached_property
    def _of_any(self) -> pl.DataFrame:
        """The parts of all inputs, of each home, holding and partner one, where the inputs place the home alike."""
        names = sorted(self.frames)
        every = pl.concat([self.frames[name] for name in names])
        if self.product.policy.join == "none":
            alike = every.drop("segment").join(self.eligible, on=["premises", "area"])
            return alike.unique(_SORTED).sort(_SORTED)
        home, holding, partner = (
            np.concatenate(each)
            for each in zip(
                *((self.frames[n]["home"].to_numpy(), *(self._codes(n, who) for who in _WHO)) for n in names),
                strict=True,
            )
        )
        parts = (home * len(self._names("holding")) + holding) * len(self._names("partner")) + partner
        return every[np.unique(parts, return_index=True)[1]]

    @cached_property
    def _size(self) -> int:
        """No home has this number, nor any beyond."""
        return 1 + max((int(frame["home"].max() or 0) for frame in self.frames.values()), default=0)  # type: ignore[arg-type]  # an Int64 column's maximum

    def _where(self, measure: str) -> dict[str, Condition]:
        """The conditions of a joint count, by input in order of name."""
        rule = self.product.policy.measures[measure]
        if not isinstance(rule, Count | Sum) or not rule.where:
            raise ProgrammerError("no_condition", f"{measure} has no condition, hence no candidates")
        return dict(sorted(rule.where.items()))

    def _candidates(self, measure: str, who: Who) -> tuple[pl.DataFrame, IntArray]:
        """See `candidates`; and of each the number of its pair."""
        where = self._where(measure)
        pairs = np.concatenate([self._pairs(name, who) for name in where])
        met = np.concatenate([self._met(name, condition) for name, condition in where.items()])
        row = np.full(self._size * len(self._names(who)), NOWHERE)
        row[pairs] = np.arange(len(pairs))
        row[pairs[~met]] = NOWHERE
        found = np.flatnonzero(row != NOWHERE)
        known = pl.concat(self.frames[name][["home", "premises", who, *_PLACE]] for name in where)[row[found]]
        counted = self._meeting(where)[known["home"].to_numpy()]
        return known.with_columns(pl.Series("counted", counted)), found

    def _meeting(self, where: Mapping[str, Condition]) -> BoolArray:
        """Per home, whether it meets every condition, of which there is at least one."""
        meeting = np.ones(self._size, dtype=bool)
        for name, condition in sorted(where.items()):
            met = np.zeros_like(meeting)
            met[self.frames[name]["home"].to_numpy()[self._met(name, condition)]] = True
            meeting &= met
        return meeting

    def _met(self, name: str, condition: Condition) -> BoolArray:
        """Per row of the frame of input `name`, whether it meets the condition."""
        rows = self.frames[name]
        return self._once(
            (name, condition), lambda: rows.select(self.meets(name, condition)).to_series().to_numpy()
        )

    def _names(self, who: Who) -> list[str]:
        """All partners (or holdings), sorted."""
        every = (frame[who].unique() for frame in self.frames.values())
        return self._once((who,), lambda: sorted({name for names in every for name in names}))

    def _codes(self, name: str, who: Who) -> IntArray:
        """Per row of the frame of input `name`, its partner (or holding) as an index of `_names`."""
        texts, names = self.frames[name][who], self._names(who)
        return self._once(
            (name, who), lambda: texts.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
        )

    def _pairs(self, name: str, who: Who) -> IntArray:
        """Per row of the frame of input `name` the number of its pair of home and partner (or holding); ascending in
        both."""
        return self.frames[name]["home"].to_numpy() * len(self._names(who)) + self._codes(name, who)

    def _alone(self, name: str, who: Who) -> BoolArray:
        """Per pair, whether nobody else contributed to its home in the input."""
        there = np.zeros((self._size, len(self._names(who))), dtype=bool)
        there.ravel()[self._pairs(name, who)] = True
        alone: BoolArray = there & (np.count_nonzero(there, axis=1) == 1)[:, None]
        return alone.ravel()

    def _once(self, what: Hashable, make: Callable[[], T]) -> T:
        """What several measures ask for, made once."""
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made


@lru_cache(maxsize=64)  # of a function without effects: a lane asks for the same groups again and again
def in_groups(areas: AreaTree, level: str, wanted: frozenset[str]) -> Mapping[str, int]:
    """Each area that lies in a wanted area of `level`, with the index of that one in `areas.groups(level)`."""
    index = {group: i for i, group in enumerate(areas.groups(level)) if group in wanted}
    return {area: index[group] for area, group in areas.group_of(level).iter_rows() if group in index}


def units(
    rollups: Rollups,
    product: Product,
    domain: Domain,
    window: Window,
    groups: Mapping[str, int] | None = None,
) -> Units:
    """The premises of `product` in `window`. rollups: all base windows of the window; groups: the index of the
    release group of each area that is looked at (see `in_groups`); without it all areas are one group."""
    looks = rollups.looks
    area, policy = looks.coded("area"), product.policy
    group_of = [0 if groups is None else groups.get(name, NOWHERE) for name in area.names]
    within = numbered(looks, np.array(group_of, dtype=np.int64)[area.codes])
    rows = {name: taken(rollups, within, name, product, domain, window) for name in sorted(policy.inputs)}
    found = {name: lines(each, within) for name, each in rows.items()}
    parts = {name: complete(found[name], each, within, looks) for name, each in rows.items()}
    if policy.join == "none":
        return _side_by_side(product, looks, within, found, parts)
    return _joined(product, looks, within, found, parts)


def _joined(
    product: Product, looks: Looks, within: Numbered, found: dict[str, Lines], parts: dict[str, Parts]
) -> Units:
    """A home counts if it is complete in every input, and has one place in all of them together."""
    home, look, first = (
        np.concatenate([getattr(each, name) for each in found.values()]) for name in ("home", "look", "first")
    )
    everywhere = np.logical_and.reduce([_those(each.home, within) for each in parts.values()])
    place = _places(home, look, first, looks, within)
    counting = everywhere & (place[0] != NOWHERE)
    disputed = everywhere & ~counting
    return Units(
        product,
        {name: _frame(each, place, everywhere, looks, within) for name, each in parts.items()},
        _eligible(place, counting, looks, within),
        int(np.count_nonzero(_those(home, within) & ~everywhere)),
        int(np.count_nonzero(disputed)),
        _partners(look[disputed[home]], looks),
    )


def _side_by_side(
    product: Product, looks: Looks, within: Numbered, found: dict[str, Lines], parts: dict[str, Parts]
) -> Units:
    """Each input by itself; a home counts in all together where the inputs place it alike."""
    own = {name: _places(each.home, each.look, each.first, looks, within) for name, each in found.items()}
    whole = {name: _those(each.home, within) for name, each in parts.items()}
    placed = {name: whole[name] & (own[name][0] != NOWHERE) for name in parts}
    disputed = {name: whole[name] & ~placed[name] for name in parts}
    home = np.concatenate([np.flatnonzero(each) for each in placed.values()])
    area, segment = (np.concatenate([own[n][i][placed[n]] for n in placed]) for i in range(2))
    unstated = looks.coded("segment").index("")
    together = places(home, np.zeros_like(home), area, segment, unstated, within.homes)
    return Units(
        product,
        {name: _frame(each, own[name], whole[name], looks, within) for name, each in parts.items()},
        _eligible(together, together[0] != NOWHERE, looks, within),
        sum(int(np.count_nonzero(_those(found[name].home, within) & ~whole[name])) for name in parts),
        sum(int(np.count_nonzero(each)) for each in disputed.values()),
        _partners(np.concatenate([each.look[disputed[n][each.home]] for n, each in parts.items()]), looks),
    )


def _those(homes: IntArray, within: Numbered) -> BoolArray:
    """Per home, whether it is one of these."""
    found = np.zeros(within.homes, dtype=bool)
    found[homes] = True
    return found


def _places(home: IntArray, look: IntArray, first: IntArray, looks: Looks, within: Numbered) -> _Place:
    """Per home the codes of its area and segment, as its lines tell them."""
    area, segment = looks.coded("area"), looks.coded("segment")
    return places(home, first, area.codes[look], segment.codes[look], segment.index(""), within.homes)


def _partners(look: IntArray, looks: Looks) -> tuple[str, ...]:
    """The partners of these looks, sorted."""
    partner = looks.coded("partner")
    return tuple(partner.names[np.unique(partner.codes[look])])


def _frame(parts: Parts, place: _Place, whole: BoolArray, looks: Looks, within: Numbered) -> pl.DataFrame:
    """The frame of an input (see `Units`): the parts of the homes that are whole and have a place."""
    kept = np.flatnonzero(whole[parts.home] & (place[0][parts.home] != NOWHERE))
    holding, partner = looks.coded("holding"), looks.coded("partner")
    look, home = parts.look[kept], parts.home[kept]
    order = np.lexsort((partner.codes[look], holding.codes[look], home))
    look, home, kept = look[order], home[order], kept[order]
    return pl.DataFrame(
        [
            pl.Series("home", home),
            within.premises[home].alias("premises"),
            holding.names[holding.codes[look]].alias("holding"),
            partner.names[partner.codes[look]].alias("partner"),
            *_placed(place, home, looks),
            *(pl.Series(n, getattr(parts, n)[kept]) for n in ("value", "total", "peak", "n")),
        ]
    )


def _eligible(place: _Place, counting: BoolArray, looks: Looks, within: Numbered) -> pl.DataFrame:
    home = np.flatnonzero(counting)
    return pl.DataFrame([within.premises[home].alias("premises"), *_placed(place, home, looks)])


def _placed(place: _Place, home: IntArray, looks: Looks) -> tuple[pl.Series, pl.Series]:
    """Area and segment of these homes."""
    area, segment = looks.coded("area"), looks.coded("segment")
    return area.names[place[0][home]].alias("area"), segment.names[place[1][home]].alias("segment")


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
