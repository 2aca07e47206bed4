"""Primary rules: which figures are unsafe by themselves, why, and by how much they must stay uncertain.

x1 ≥ x2 ≥ … are contributions summed per unit over the whole figure, X their total, |x| where a column can be
negative. All rules are evaluated, so that an auditor sees every reason; integers and rationals decide, no
float.

| rule (its field in the policy) | unit | unsafe if | level |
|---|---|---|---|
| min_contributors k | premises | 0 < n < k | 0 |
| dominance (n, k) | premises | x1+…+xn > k/100·X | 100/k·(x1+…+xn) − X |
| min_holdings h | holding | fewer than h | p/100·x1 |
| p_percent (0: off) | holding | X − xs − xr < p/100·xs | p/100·xs − (X − xs − xr) |
| without_each_holding | premises | the rest is neither empty nor safe by the first two rules | the rest's |
| zero_is_sensitive | – | X = 0 although premises contribute, or are eligible to | exempt |

The level of an unsafe cell is the largest of its rules' levels and 10 % of X; lower and upper level are
equal.

Which rule applies to which kind of measure
- **sum of an input**: all; holdings are those of that input.
- **count of one input** (`join: none`): all. Units are premises of weight 1, a holding's part is the number
  of its customers, so that p% protects market shares. X is the published count: a customer of two holdings
  is in it once, which is what a rival subtracts from.
- **count over joined inputs** (`join: premises`): all but p%. A water monopoly serves every home of its
  territory, and that its part of the count equals the count is public knowledge, not a market share.
  `min_holdings` counts the holdings of all inputs together. What rivals must not learn here, the attribute,
  is guarded by the joint rule.
- **mean, ratio**: functions of published figures, published iff both parts are (see `release`).

A waiver (a local monopoly, with its legal basis) takes its holding out of the protected: s is the largest
holding without waiver, r the largest other than s. Where only waived holdings contribute nobody's rival
figure is left to protect: `min_holdings` and p% pass. Where others contribute too, `min_holdings` applies in
full. Rules on premises are never waived: they protect households.

*Without each holding* is judged twice where customers switched between suppliers: less all of one holding's
customers (fake homes), and less just its own part of every value (what it can subtract). Both must hold. A
partner that may read the release, and whose holding has other partners in it, is judged likewise on its own
points: what it subtracts leaves its sisters' homes, who are households too.

Sources: Hundepool et al., Handbook on Statistical Disclosure Control, 4.2.1-4.2.2 (rules and upper protection
levels, table 4.2); τ-ARGUS manual, holding level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from broker.core.disclosure.figures import Figures, Largest
from broker.core.disclosure.table import BoolArray, IntArray

Finding = tuple[int, str, Fraction]  # cell, reason, level
_NONE: Final = Fraction(0)


@dataclass(frozen=True)
class Rules:
    """The rules of a policy, exact. dominance: (n, k in percent) pairs; p: percent."""

    min_contributors: int
    min_holdings: int
    p: Fraction
    dominance: tuple[tuple[int, Fraction], ...]
    without_each_holding: bool
    zero_is_sensitive: bool

    @property
    def depth(self) -> int:
        """How many of the largest premises the rules look at."""
        return max((n for n, _ in self.dominance), default=1)


@dataclass(frozen=True)
class Verdict:
    """Why a cell is unsafe, and by how much its figure must stay uncertain, up and down, in its own unit."""

    reasons: tuple[str, ...]
    level: Fraction


@dataclass(frozen=True)
class _Crowd:
    """Of every cell some of its premises: how many, their Σ|x|, the largest of them."""

    n: IntArray
    weight: IntArray
    largest: Largest

    def within(self, cells: BoolArray) -> _Crowd:
        """The same without premises in the other cells."""
        return _Crowd(self.n * cells, self.weight * cells, self.largest.where(cells[self.largest.cell]))


def judge(
    figures: Figures,
    rules: Rules,
    *,
    market: bool,
    waived: BoolArray | None = None,
    readers: Figures | None = None,
) -> dict[int, Verdict]:
    """Judge all cells by all rules. The cells that are not in the result are safe.

    market: whether p% applies (see the module's table); waived: cells × holdings, those with a waiver.
    readers: the same figures where some partners, who may read them, are split off their holdings under names
    of their own.
    """
    found: dict[int, list[tuple[str, Fraction]]] = defaultdict(list)
    for cell, reason, level in _findings(figures, rules, market, waived, readers):
        found[cell].append((reason, level))
    return {cell: _verdict(findings, int(figures.weight[cell])) for cell, findings in found.items()}


def _verdict(findings: list[tuple[str, Fraction]], weight: int) -> Verdict:
    own = [level for _, level in findings if level]  # most are 0, and comparing Fractions is slow
    level = max([Fraction(weight, 10), *own]) if weight else Fraction(0)
    return Verdict(tuple(reason for reason, _ in findings), level)


def _findings(
    figures: Figures, rules: Rules, market: bool, waived: BoolArray | None, readers: Figures | None
) -> Iterator[Finding]:
    """Of each cell in the order of the module's table."""
    everyone = _Crowd(figures.n, figures.weight, figures.largest)
    yield from _premises_rules(everyone, rules)
    yield from _holding_rules(figures, rules, market, waived)
    if rules.without_each_holding:
        for holding, name in enumerate(figures.holdings):
            yield from _without(holding, name, figures, rules)
        if readers is not None:
            for reader, name in enumerate(readers.holdings):
                if name not in figures.holdings:
                    yield from _without(reader, name, readers, rules)
    if rules.zero_is_sensitive:
        for cell in np.flatnonzero(figures.weight == 0).tolist():
            yield cell, "zero_is_sensitive:0", Fraction(0)


def _premises_rules(crowd: _Crowd, rules: Rules) -> Iterator[Finding]:
    """Frequency and dominance."""
    few = np.flatnonzero((crowd.n > 0) & (crowd.n < rules.min_contributors))
    for cell, n in zip(few.tolist(), crowd.n[few].tolist(), strict=True):
        yield cell, f"min_contributors:{n}<{rules.min_contributors}", _NONE
    for count, k in rules.dominance:
        largest = crowd.largest.sums(count, len(crowd.n))
        for cell in np.flatnonzero(exceeds(largest, 100 * k.denominator, crowd.weight, k.numerator)).tolist():
            top, weight = int(largest[cell]), int(crowd.weight[cell])
            reason = f"dominance:{count} largest {top}>{percent(k)} of {weight}"
            yield cell, reason, 100 / k * top - weight if k else Fraction(weight)


def _holding_rules(
    figures: Figures, rules: Rules, market: bool, waived: BoolArray | None
) -> Iterator[Finding]:
    """Minimum holdings and p%, with waivers."""
    if not figures.holdings:
        return
    parts, present = figures.parts, figures.customers > 0
    protected = present if waived is None else present & ~waived
    judged = protected.any(axis=1)
    number = np.count_nonzero(present, axis=1)
    for cell in np.flatnonzero(judged & (number < rules.min_holdings)).tolist():
        level = rules.p / 100 * int(parts[cell].max())
        yield cell, f"min_holdings:{number[cell]}<{rules.min_holdings}", level
    if not market or not rules.p:  # 0 switches the rule off, also where the rest of a count is below nothing
        return
    s = np.where(protected, parts, -1).argmax(axis=1)[:, None]
    x_s = np.take_along_axis(parts, s, axis=1)[:, 0]
    others = parts.copy()
    np.put_along_axis(others, s, 0, axis=1)
    # A customer of two holdings is in the count once: the parts of a count may add up to more than the count.
    rest = (figures.n if figures.counting else parts.sum(axis=1)) - x_s - others.max(axis=1)
    unsafe = judged & exceeds(x_s, rules.p.numerator, rest, 100 * rules.p.denominator)
    for cell in np.flatnonzero(unsafe).tolist():
        left, own = int(rest[cell]), int(x_s[cell])
        yield cell, f"p_percent:{left}<{percent(rules.p)} of {own}", rules.p / 100 * own - left


def _without(holding: int, name: str, figures: Figures, rules: Rules) -> Iterator[Finding]:
    """Frequency and dominance of what is left without a holding, wherever it serves anybody."""
    customers, largest, shared = figures.customers[:, holding], figures.largest, figures.shared
    rest = _Crowd(
        figures.n - customers,
        figures.weight - figures.entrusted[:, holding],
        largest.where(~figures.served[largest.kind, holding]),
    )
    views = [rest.within(customers > 0)]
    if shared is not None and (own := shared.n[:, holding]).any():
        others = shared.largest.where(shared.largest.kind == holding)
        both = _Crowd(rest.n + own, rest.weight + shared.weight[:, holding], rest.largest.together(others))
        views.append(both.within(own > 0))
    found = {(cell, reason): level for view in views for cell, reason, level in _premises_rules(view, rules)}
    for (cell, reason), level in found.items():
        yield cell, f"without_each_holding:{name}:{reason}", level


def exceeds(left: IntArray, by: int, right: IntArray, times: int) -> BoolArray:
    """Whether left·by > right·times, exactly: in int64 where that holds the products, else in Python's
    integers."""
    bound = max(int(np.abs(left).max(initial=0)) * by, int(np.abs(right).max(initial=0)) * times)
    kind: type = np.int64 if bound < 2**63 else object
    return np.asarray(left.astype(kind) * by > right.astype(kind) * times, dtype=bool)


def percent(value: Fraction) -> str:
    """As a reason shows it: `15%`, `25/2%`."""
    return f"{value.numerator}%" if value.denominator == 1 else f"{value.numerator}/{value.denominator}%"
