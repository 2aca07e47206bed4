"""Roll-ups added up home by home, in arrays: what `products` promises is carried out here.

Rows are added into *lines* (a point and its sign at a home), lines into *parts* (what one partner contributed to a
home). A line is where its first row is. Homes, lines and looks are indices; nothing depends on which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from broker.core.calendar import Window
from broker.core.coded import BoolArray, IntArray
from broker.core.plan import Domain, Product
from broker.core.rollups import Looks, Rollups, Rows

NOWHERE: Final = -1
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1


@dataclass(frozen=True)
class Numbered:
    """Per look its home and line, NOWHERE where it lies in no wanted release group. homes, lines: how many;
    premises: of each home; homes ascend with the premises, then with the group."""

    home: IntArray
    line: IntArray
    homes: int
    lines: int
    premises: pl.Series


@dataclass(frozen=True)
class Taken:
    """The rows of one input's streams, in order of time. line: of those that the product takes; of others one that is
    none (their number). counts: whether the product takes it and its base window counts; known: whether it counts and
    has a value (value: 0 where not); covered: ms; span: base windows that the value is of.

    bases: of each base window, its place among those that count; need: ms.
    """

    look: IntArray
    base: IntArray
    line: IntArray
    value: IntArray
    covered: IntArray
    span: IntArray
    counts: BoolArray
    known: BoolArray
    bases: IntArray
    need: int


@dataclass(frozen=True)
class Lines:
    """The lines of one input that have rows. look: of the first row, which is of base window `first`; seen: rows
    that count; value, covered, peak, n: see `products`."""

    home: IntArray
    look: IntArray
    first: IntArray
    seen: IntArray
    value: IntArray
    covered: IntArray
    peak: IntArray
    n: IntArray

    def where(self, kept: BoolArray) -> Lines:
        return Lines(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Parts:
    """The parts of an input's complete homes. look: one of the part's lines', for its partner and holding."""

    home: IntArray
    look: IntArray
    value: IntArray
    total: IntArray
    peak: IntArray
    n: IntArray


def numbered(looks: Looks, group: IntArray) -> Numbered:
    """group: per look the index of its release group, or NOWHERE."""
    return looks.once(("numbered", group.tobytes()), lambda: _numbered(looks, group))


def _numbered(looks: Looks, group: IntArray) -> Numbered:
    inside, premises, point = group != NOWHERE, looks.coded("premises"), looks.coded("point")
    width = 1 + int(group.max(initial=0))
    names, homes = np.unique(premises.codes[inside] * width + group[inside], return_inverse=True)
    signs = looks.table["net"].to_numpy()[inside].astype(np.int64)
    places = (homes * len(point.names) + point.codes[inside]) * 2 + signs
    found, lines = np.unique(places, return_inverse=True)
    home, line = np.full_like(group, NOWHERE), np.full_like(group, NOWHERE)
    home[inside], line[inside] = homes, lines
    return Numbered(home, line, len(names), len(found), premises.names[names // width])


def taken(
    rollups: Rollups, within: Numbered, name: str, product: Product, domain: Domain, window: Window
) -> Taken:
    """The rows of input `name` in the product's window."""
    spec = product.policy.inputs[name]
    rows = rollups.rows(spec.measure, spec.kind)
    start, end = rollups.edges
    partners = rollups.looks.coded("partner").among(spec.partners)
    lines = np.where(partners & (within.home != NOWHERE), within.line, within.lines)
    takes = (rows.mask & np.uint64(1 << product.bit)) != 0
    takes &= ((start >= window.start) & (start < window.end))[rows.base]
    covered, span = _reach(rows, start, end, window)
    bases, counts = domain.calendar.bases(window, domain.base), takes
    if spec.days is not None:
        dates = product.references[spec.days]
        bases = [each for each in bases if domain.calendar.date(each.start) in dates]
        counts = takes & np.isin(start, [each.start for each in bases])[rows.base]
        if spec.kind == "register":  # a difference over several dates is none of them
            counts &= (covered >= 0) & (covered <= (end - start)[rows.base])
    time, share = sum(each.end - each.start for each in bases), product.policy.coverage
    return Taken(
        rows.look,
        rows.base,
        np.where(takes, lines[rows.look], within.lines),
        rows.value,
        covered,
        span,
        counts,
        rows.known & counts,
        np.searchsorted(np.array([each.start for each in bases], dtype=np.int64), start),
        -(-time * share.numerator // share.denominator),
    )


def _reach(rows: Rows, start: IntArray, end: IntArray, window: Window) -> tuple[IntArray, IntArray]:
    """Of each row what it covers of the window (ms), and how many base windows, if it has a value: its own, and those
    before it that a register's difference covers. Rounded: a day may have 23 or 25 hours."""
    covered, span = rows.covered.copy(), np.ones(len(rows.covered), dtype=np.int64)
    # The others cover no more than their own base window.
    far = np.flatnonzero(covered > (end - start).min(initial=_MOST))
    base = rows.base[far]
    length = (end - start)[base]
    covered[far] = np.minimum(covered[far], (end - window.start)[base])
    span[far] = np.maximum((covered[far] + length // 2) // length, 1)
    return covered, span


def lines(rows: Taken, within: Numbered) -> Lines:
    """What each line comes to."""
    none = within.lines
    counting = rows.line if rows.counts.all() else np.where(rows.counts, rows.line, none)
    valued = rows.line if rows.known.all() else np.where(rows.known, rows.line, none)
    earliest = np.full(none + 1, len(rows.line))
    np.minimum.at(earliest, rows.line, np.arange(len(rows.line)))
    there = np.flatnonzero(earliest[:none] < len(rows.line))
    first = earliest[there]
    look = rows.look[first]
    return Lines(
        home=within.home[look],
        look=look,
        first=rows.base[first],
        seen=np.bincount(counting, minlength=none + 1)[there],
        value=_sums(none + 1, valued, rows.value)[there],
        covered=_sums(none + 1, counting, rows.covered)[there],
        peak=_peaks(none + 1, valued, rows.value)[there],
        n=_sums(none + 1, valued, rows.span)[there],
    )


def complete(found: Lines, rows: Taken, within: Numbered, looks: Looks) -> Parts:
    """The parts of the homes that are complete in the input."""
    counted = found.where(found.seen > 0)
    several = np.bincount(counted.home, minlength=within.homes)[counted.home] > 1
    one = counted.where(~several & (counted.covered >= rows.need))
    single = Parts(one.home, one.look, one.value, one.value, one.peak, one.n)
    if not several.any():
        return single
    more = _several_lines(counted.where(several), rows, within, looks)
    pairs = ((getattr(single, name), getattr(more, name)) for name in Parts.__dataclass_fields__)
    return Parts(*(np.concatenate(pair) for pair in pairs))


def _several_lines(found: Lines, rows: Taken, within: Numbered, looks: Looks) -> Parts:
    """Of homes with several lines."""
    partner, holding = looks.coded("partner"), looks.coded("holding")
    who = holding.codes[found.look] * len(partner.names) + partner.codes[found.look]
    size = len(holding.names) * len(partner.names)
    _, look, part = np.unique(found.home * size + who, return_index=True, return_inverse=True)
    home, count = found.home[look], len(look)
    covered = np.full(count, _MOST)
    np.minimum.at(covered, part, found.covered)
    n = _sums(count, part, found.n)
    whole = _sums(within.homes, home, covered)[home] >= rows.need
    total, peak, time = _by_base(found.home, rows, within)
    kept = whole & (n > 0)
    return Parts(
        home[kept],
        found.look[look][kept],
        _sums(count, part, found.value)[kept],
        *(each[home][kept] for each in (total, peak, time)),
    )


def _by_base(homes: IntArray, rows: Taken, within: Numbered) -> tuple[IntArray, IntArray, IntArray]:
    """Total, largest base-window total and base windows with data of these homes; arrays over all homes."""
    asked = np.zeros(within.homes, dtype=bool)
    asked[homes] = True
    at = np.flatnonzero(asked[within.home[rows.look]] & rows.known & (rows.line != within.lines))
    home, base, span = within.home[rows.look[at]], rows.base[at], rows.span[at]
    width = len(rows.bases)
    moments, moment = np.unique(home * width + base, return_inverse=True)
    sums = _sums(len(moments), moment, rows.value[at])
    longest = int(span.max(initial=0))
    before = np.arange(int(span.sum())) - np.repeat(np.cumsum(span) - span, span)
    reached = np.repeat(home, span) * (width + longest) + longest + np.repeat(rows.bases[base], span) - before
    times = np.unique(reached) // (width + longest)
    return (
        _sums(within.homes, moments // width, sums),
        _peaks(within.homes, moments // width, sums),
        np.bincount(times, minlength=within.homes),
    )


def places(
    home: IntArray, first: IntArray, area: IntArray, segment: IntArray, unstated: int, homes: int
) -> tuple[IntArray, IntArray]:
    """Per home its area and segment, NOWHERE for a home that is contested or in none of the rows.

    home, first, area, segment: of the rows; unstated: the segment that contradicts none.
    """
    rows = _earliest(home, first, homes)
    placed = _same(home[rows], area[rows], homes)
    stated = np.flatnonzero(segment != unstated)
    rows = stated[_earliest(home[stated], first[stated], homes)]
    told = np.bincount(home[rows], minlength=homes) > 0
    said = _same(home[rows], segment[rows], homes)
    contested = (placed == NOWHERE) | (told & (said == NOWHERE))
    return np.where(contested, NOWHERE, placed), np.where(contested, NOWHERE, np.where(told, said, unstated))


def _earliest(home: IntArray, first: IntArray, homes: int) -> IntArray:
    """Of each home the rows that began first."""
    least = np.full(homes, _MOST)
    np.minimum.at(least, home, first)
    return np.flatnonzero(first == least[home])


def _same(home: IntArray, code: IntArray, homes: int) -> IntArray:
    """The code that all rows of a home have, or NOWHERE."""
    low, high = np.full(homes, _MOST), np.full(homes, NOWHERE)
    np.minimum.at(low, home, code)
    np.maximum.at(high, home, code)
    return np.where(low == high, low, NOWHERE)


def _sums(size: int, index: IntArray, values: IntArray) -> IntArray:
    """Σ of the values of each index, exactly."""
    result = np.zeros(size, dtype=np.int64)
    np.add.at(result, index, values)
    return result


def _peaks(size: int, index: IntArray, values: IntArray) -> IntArray:
    result = np.full(size, _LEAST)
    np.maximum.at(result, index, values)
    return result
