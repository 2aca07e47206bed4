"""Primary rules of a static table: which sets of atoms are unsafe by themselves, why, and at which level.

The rules, reasons and levels are those of `core.disclosure.primary`, whose table says them; here contributors take
the place of premises. What differs:
- A contributor may have rows in many atoms: its contribution x to a set is summed over the set first, then |x|.
- n is the weight of a set's contributors (see `microdata`), so that a rule on numbers asks how many units stand behind
  a figure, not how many rows.
- Contributors and holdings are as many as there are rows, so that pairs (set, holding) are kept, and no matrix.
- A rule that the SPEC leaves out has the value that no set can break.
- Of the holdings without which a set is unsafe the first five are named for each rule, and the others counted: the set
  that one giant dominates would otherwise name all its rivals.

Any set of atoms can be judged, not only cells: remainders, intersections and differences are sets too.

Invariants: integers and rationals decide; all rules are evaluated; the order of rows decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.disclosure.figures import place_in_run
from broker.core.disclosure.primary import Finding, Verdict, exceeds, percent
from broker.core.disclosure.table import BoolArray, IntArray
from broker.core.static.cells import Sets
from broker.core.static.microdata import Microdata, amount_text
from broker.core.static.spec import Rules

_TOLD: Final = 5


@dataclass(frozen=True)
class Contributions:
    """parts: DataFrame[atom, contributor, holding, value, weight], all Int64, one row per atom and contributor, whose
    weight is positive; units as in `Microdata`; contributors, holdings: names by index."""

    parts: pl.DataFrame
    contributors: list[str]
    holdings: list[str]
    places: int
    weight_places: int

    @classmethod
    def of(cls, microdata: Microdata, atom: IntArray) -> Contributions:
        """atom: of each row of the microdata."""
        parts = (
            microdata.rows.select("contributor", "holding", "value", "weight", atom=atom)
            .filter(pl.col("weight") > 0)
            .group_by("atom", "contributor")
            .agg(pl.col("holding").first(), pl.col("value").sum(), pl.col("weight").max())
            .sort("atom", "contributor")
        )
        return cls(
            parts, microdata.contributors, microdata.holdings, microdata.places, microdata.weight_places
        )


@dataclass(frozen=True)
class Judged:
    """Per set: total (Σ of values with their sign), n (weight of its contributors), size (Σ|x| over contributors),
    units (how many contributors); verdicts: of the unsafe sets, ascending."""

    total: IntArray
    n: IntArray
    size: IntArray
    units: IntArray
    verdicts: dict[int, Verdict]


@dataclass(frozen=True)
class Profile:
    """Per set what bounds every part of it. n, size: as in `Judged`; tops: for each rule of dominance the sum of the
    largest contributors; holdings: how many; largest, second: the parts of the largest two; heaviest, widest: the
    largest n and size of any holding."""

    n: IntArray
    size: IntArray
    tops: list[IntArray]
    holdings: IntArray
    largest: IntArray
    second: IntArray
    heaviest: IntArray
    widest: IntArray


@dataclass(frozen=True)
class _Sums:
    """units: DataFrame[set, contributor, holding, value, weight, size], the largest of each set first; holdings:
    DataFrame[set, holding, part, n, size], likewise."""

    units: pl.DataFrame
    holdings: pl.DataFrame


@dataclass(frozen=True)
class _Crowds:
    """Some contributors of a set each: which set, their weight, their Σ|x|, and for each rule of dominance the sum of
    the largest."""

    set: IntArray
    n: IntArray
    size: IntArray
    largest: list[IntArray]


def judge(sets: Sets, contributions: Contributions, rules: Rules) -> Judged:
    """Judge all sets by all rules. Sets without a verdict are safe."""
    sums = _sums(sets, contributions.parts)
    everyone = _everyone(sums, rules, len(sets))
    found: dict[int, list[tuple[str, Fraction]]] = defaultdict(list)
    for number, reason, level in _findings(sums, everyone, contributions, rules):
        found[number].append((reason, level))
    return Judged(
        total=_add(sums.units["set"], sums.units["value"], len(sets)),
        n=everyone.n,
        size=everyone.size,
        units=np.bincount(sums.units["set"].to_numpy(), minlength=len(sets)),
        verdicts={number: _verdict(why, int(everyone.size[number])) for number, why in sorted(found.items())},
    )


def profile(sets: Sets, contributions: Contributions, rules: Rules) -> Profile:
    """What bounds the parts of every set."""
    sums = _sums(sets, contributions.parts)
    everyone = _everyone(sums, rules, len(sets))
    number = sums.holdings["set"].to_numpy()
    place = place_in_run(number)
    part = sums.holdings["part"].to_numpy()
    largest, second = (_add(sums.holdings["set"], part * (place == rank), len(sets)) for rank in (0, 1))
    heaviest, widest = (np.zeros(len(sets), dtype=np.int64) for _ in range(2))
    np.maximum.at(heaviest, number, sums.holdings["n"].to_numpy())
    np.maximum.at(widest, number, sums.holdings["size"].to_numpy())
    holdings = np.bincount(number, minlength=len(sets)).astype(np.int64)
    return Profile(everyone.n, everyone.size, everyone.largest, holdings, largest, second, heaviest, widest)


def _verdict(findings: list[tuple[str, Fraction]], size: int) -> Verdict:
    level = max(Fraction(size, 10), *(level for _, level in findings)) if size else Fraction(0)
    return Verdict(tuple(reason for reason, _ in findings), level)


def _findings(
    sums: _Sums, everyone: _Crowds, contributions: Contributions, rules: Rules
) -> Iterator[Finding]:
    """Of each set in the order of the table of rules."""
    for broken in _broken(everyone, contributions, rules):
        for number in broken.crowds.tolist():
            yield number, *broken.tell(number)
    yield from _holding_rules(sums.holdings, contributions, rules)
    if rules.without_each_holding:
        yield from _without_findings(sums, everyone, contributions, rules)
    if rules.zero_is_sensitive:
        for number in np.flatnonzero(everyone.size == 0).tolist():
            yield number, "zero_is_sensitive:0", Fraction(0)


@dataclass(frozen=True)
class _Broken:
    """One rule and the crowds that break it: by how much, in a unit of its own, and the reason and level of each."""

    crowds: IntArray
    excess: NDArray[Any]
    tell: Callable[[int], tuple[str, Fraction]]


def _broken(crowds: _Crowds, contributions: Contributions, rules: Rules) -> Iterator[_Broken]:
    """Frequency and dominance."""
    few = np.flatnonzero(
        (crowds.n > 0) & (crowds.n < rules.min_contributors * 10**contributions.weight_places)
    )

    def tell_few(crowd: int) -> tuple[str, Fraction]:
        n = amount_text(int(crowds.n[crowd]), contributions.weight_places)
        return f"min_contributors:{n}<{rules.min_contributors}", Fraction(0)

    yield _Broken(few, np.zeros(len(few), dtype=np.int64), tell_few)
    for (count, k), largest in zip(rules.dominance, crowds.largest, strict=True):
        found = np.flatnonzero(exceeds(largest, 100 * k.denominator, crowds.size, k.numerator))
        excess = largest[found].astype(object) * (100 * k.denominator) - crowds.size[found] * k.numerator

        def tell(
            crowd: int, count: int = count, k: Fraction = k, largest: IntArray = largest
        ) -> tuple[str, Fraction]:
            top, size = int(largest[crowd]), int(crowds.size[crowd])
            shown, of = (amount_text(each, contributions.places) for each in (top, size))
            level = 100 / k * top - size if k else Fraction(size)
            return f"dominance:{count} largest {shown}>{percent(k)} of {of}", level

        yield _Broken(found, excess, tell)


def _without_findings(
    sums: _Sums, everyone: _Crowds, contributions: Contributions, rules: Rules
) -> Iterator[Finding]:
    """Of each set and rule the first holdings without which it is broken; of more of them only how many, and the
    highest level."""
    rest, holding = _without_each(sums, everyone, rules)
    told: list[tuple[int, int, str, Fraction]] = []
    for broken in _broken(rest, contributions, rules):
        crowds, sets = broken.crowds, rest.set[broken.crowds]
        order = np.lexsort((holding[crowds], sets))
        for start, size in zip(*_runs(sets[order])[1:], strict=True):
            run = order[start : start + size]
            for i in run[:_TOLD].tolist():
                reason, level = broken.tell(int(crowds[i]))
                name = contributions.holdings[holding[crowds[i]]]
                told.append((int(sets[i]), int(holding[crowds[i]]), f"{name}:{reason}", level))
            if size > _TOLD:
                worst = int(crowds[max(run.tolist(), key=lambda i: broken.excess[i])])
                reason, level = broken.tell(worst)
                more = f"{size - _TOLD} more:{reason.partition(':')[0]}"
                told.append((int(rest.set[worst]), len(contributions.holdings), more, level))
    for number, _, reason, level in sorted(told, key=lambda each: each[:2]):
        yield number, f"without_each_holding:{reason}", level


def _holding_rules(holdings: pl.DataFrame, contributions: Contributions, rules: Rules) -> Iterator[Finding]:
    """Minimum holdings and p %."""
    numbers, start, count = (each.astype(np.int64) for each in _runs(holdings["set"].to_numpy()))
    part, p = holdings["part"].to_numpy(), rules.p_percent
    largest = part[start]
    for i in np.flatnonzero(count < rules.min_holdings).tolist():
        yield int(numbers[i]), f"min_holdings:{count[i]}<{rules.min_holdings}", p / 100 * int(largest[i])
    if not p:
        return
    second = np.where(count > 1, part[np.minimum(start + 1, len(part) - 1)], 0)
    rest = (np.add.reduceat(part, start) if len(start) else largest) - largest - second
    for i in np.flatnonzero(exceeds(largest, p.numerator, rest, 100 * p.denominator)).tolist():
        left, own = (amount_text(int(each[i]), contributions.places) for each in (rest, largest))
        reason = f"p_percent:{left}<{percent(p)} of {own}"
        yield int(numbers[i]), reason, p / 100 * int(largest[i]) - int(rest[i])


def _sums(sets: Sets, parts: pl.DataFrame) -> _Sums:
    units = (
        sets.pairs.join(parts, on="atom")
        .group_by("set", "contributor")
        .agg(pl.col("holding").first(), pl.col("value").sum(), pl.col("weight").max())
        .with_columns(size=pl.col("value").abs())
        .sort(["set", "size", "contributor"], descending=[False, True, False])
    )
    holdings = (
        units.group_by("set", "holding")
        .agg(part=pl.col("value").sum().abs(), n=pl.col("weight").sum(), size=pl.col("size").sum())
        .sort(["set", "part", "holding"], descending=[False, True, False])
    )
    return _Sums(units, holdings)


def _everyone(sums: _Sums, rules: Rules, sets: int) -> _Crowds:
    number, size = sums.units["set"], sums.units["size"].to_numpy()
    place = place_in_run(number.to_numpy())
    return _Crowds(
        set=np.arange(sets),
        n=_add(number, sums.units["weight"], sets),
        size=_add(number, sums.units["size"], sets),
        largest=[_add(number, size * (place < count), sets) for count, _ in rules.dominance],
    )


def _without_each(sums: _Sums, everyone: _Crowds, rules: Rules) -> tuple[_Crowds, IntArray]:
    """What is left of each set without each of its holdings, and which holding that is."""
    number, holding = (sums.holdings[name].to_numpy() for name in ("set", "holding"))
    rest = _Crowds(
        set=number,
        n=everyone.n[number] - sums.holdings["n"].to_numpy(),
        size=everyone.size[number] - sums.holdings["size"].to_numpy(),
        largest=[_largest_of_others(sums, count) for count, _ in rules.dominance],
    )
    return rest, holding


def _largest_of_others(sums: _Sums, count: int) -> IntArray:
    """For each set and each of its holdings the sum of the `count` largest contributors of other holdings.

    Of the largest of a set, `count` of each holding are kept, of them twice `count`: at most half of these are one
    holding's, so that the others' largest are among them."""
    own = _place_in_run_of(sums.units, ["set", "holding"]) < count
    kept = sums.units.filter(own).select("set", "holding", "size")
    leading = kept.filter(place_in_run(kept["set"].to_numpy()) < 2 * count)
    pairs = sums.holdings.select("set", without="holding").with_row_index("pair")
    others = pairs.join(leading, on="set", maintain_order="left_right").filter(
        pl.col("holding") != pl.col("without")
    )
    counted = others.filter(place_in_run(others["pair"].to_numpy()) < count)
    return _add(counted["pair"], counted["size"], pairs.height)


def _place_in_run_of(frame: pl.DataFrame, keys: list[str]) -> BoolArray | IntArray:
    """Of each row how many rows before it have the same keys."""
    return frame.select(pl.int_range(pl.len()).over(keys)).to_series().to_numpy()


def _runs(values: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Of each run of equal numbers: the number, where it begins, how long it is."""
    start = np.flatnonzero(np.diff(values, prepend=-1))
    return values[start], start, np.diff([*start, len(values)])


def _add(index: pl.Series, values: pl.Series | IntArray, n: int) -> IntArray:
    """Σ of the values of each index below n, exactly."""
    result = np.zeros(n, dtype=np.int64)
    np.add.at(result, index.to_numpy(), values.to_numpy() if isinstance(values, pl.Series) else values)
    return result
