"""Primary rules: which figures are unsafe by themselves, why, and by how much they must stay uncertain.

x1 ≥ x2 ≥ … are contributions summed per unit over the whole figure, X their total, |x| where a column can be
negative. All rules are evaluated, so that an auditor sees every reason; integers and rationals decide, no
float.

| rule (its field in the policy) | unit | unsafe if | level |
|---|---|---|---|
| min_contributors k | premises | 0 < n < k | 0 |
| dominance (n, k) | premises | x1+…+xn > k/100·X | 100/k·(x1+…+xn) − X |
| min_holdings h | holding | fewer than h | p/100·x1 |
| p_percent | holding | X − xs − xr < p/100·xs | p/100·xs − (X − xs − xr) |
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
customers (fake homes), and less just its own part of every value (what it can subtract). Both must hold.

Sources: Hundepool et al., Handbook on Statistical Disclosure Control, 4.2.1-4.2.2 (rules and upper protection
levels, table 4.2); τ-ARGUS manual, holding level.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from heapq import nlargest

from broker.core.disclosure.figures import Crowd, Figure

Finding = tuple[str, Fraction]


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
    """reasons: empty = safe; level: by how much the figure must stay uncertain, up and down, in its own
    unit."""

    reasons: tuple[str, ...]
    level: Fraction

    @property
    def unsafe(self) -> bool:
        return bool(self.reasons)


def judge(figure: Figure, rules: Rules, *, market: bool, waived: frozenset[str] = frozenset()) -> Verdict:
    """Judge one cell by all rules.

    market: whether p% applies (see the module's table); waived: holdings with a waiver for this cell.
    """
    crowds = [crowd for _, crowd in figure.crowds]
    findings = list(_premises_rules(crowds, rules))
    findings += _holding_rules(figure, rules, market, waived)
    if rules.without_each_holding:
        findings += _without_each(figure, rules)
    weight = figure.weight
    if weight == 0 and rules.zero_is_sensitive:
        findings.append(("zero_is_sensitive:0", Fraction(0)))
    if not findings:
        return Verdict((), Fraction(0))
    level = max(Fraction(weight, 10), *(level for _, level in findings)) if weight else Fraction(0)
    return Verdict(tuple(reason for reason, _ in findings), level)


def _premises_rules(crowds: list[Crowd], rules: Rules) -> Iterable[Finding]:
    """Frequency and dominance over the premises of the crowds together."""
    n = sum(crowd.n for crowd in crowds)
    if 0 < n < rules.min_contributors:
        yield f"min_contributors:{n}<{rules.min_contributors}", Fraction(0)
    weight = sum(crowd.weight for crowd in crowds)
    top = nlargest(rules.depth, (x for crowd in crowds for x in crowd.top))
    for count, k in rules.dominance:
        largest = sum(top[:count])
        if largest * 100 * k.denominator > k.numerator * weight:
            reason = f"dominance:{count} largest {largest}>{_percent(k)} of {weight}"
            yield reason, 100 / k * largest - weight if k else Fraction(weight)


def _holding_rules(figure: Figure, rules: Rules, market: bool, waived: frozenset[str]) -> Iterable[Finding]:
    """Minimum holdings and p%, with waivers."""
    parts = figure.parts
    protected = [name for name in parts if name not in waived]
    if parts and not protected:
        return
    ranked = sorted(parts.values(), reverse=True)
    if parts and len(parts) < rules.min_holdings:
        yield f"min_holdings:{len(parts)}<{rules.min_holdings}", rules.p / 100 * ranked[0]
    if not market or not parts:
        return
    first = max(protected, key=lambda name: (parts[name], name))
    x_s = parts[first]
    x_r = max((x for name, x in parts.items() if name != first), default=0)
    # A customer of two holdings is in the count once: the parts of a count may add up to more than the count.
    rest = (figure.n if figure.counting else sum(ranked)) - x_s - x_r
    if rest * 100 * rules.p.denominator < rules.p.numerator * x_s:
        yield f"p_percent:{rest}<{_percent(rules.p)} of {x_s}", rules.p / 100 * x_s - rest


def _without_each(figure: Figure, rules: Rules) -> Iterable[Finding]:
    """Frequency and dominance of what is left without each holding in turn."""
    for holding in sorted(figure.parts):
        rest = [crowd for served, crowd in figure.crowds if holding not in served]
        views = [rest]
        if holding in figure.shared:
            views.append([*rest, figure.shared[holding]])
        found: dict[str, Fraction] = {}
        for view in views:
            for reason, level in _premises_rules(view, rules):
                found[f"without_each_holding:{holding}:{reason}"] = level
        yield from found.items()


def _percent(value: Fraction) -> str:
    return f"{value.numerator}%" if value.denominator == 1 else f"{value.numerator}/{value.denominator}%"
