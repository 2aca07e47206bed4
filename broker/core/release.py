"""Decide one release: all cells of one product, window and release group, together and once.

The order: figures of every cell from the premises' contributions → primary rules → joint rule (conditions) →
secondary suppression, measure by measure → values as printed → means and ratios of what is published.

Invariants
- Decided on exact values; rounding comes after and decides nothing. Rounded margins do not add up, and
  nothing is repaired.
- Deny is the default: a cell is published only if no rule, and no other cell's safety, speaks against it;
  `reasons` names every one that does. `secondary` means: safe by itself, suppressed to protect another.
- Mean and ratio are functions of published figures: published iff both parts are, computed from the parts as
  published; otherwise `part_suppressed`. `primary` is then true iff a part is primarily unsafe, so that
  published + primary + secondary = cells. A published denominator of 0 leaves no value: `zero_denominator`.
- A cell exists iff at least one eligible premises lies in it; that of a mean or ratio iff both parts' cells
  do.
- Only columns of `report.PUBLIC_CELLS` may leave the broker; the others are for auditors.
- No clock, no randomness but the keyed hash of the premises, no dependence on the order of rows.

Printed forms (see `rounding.text`): sums in the measure's unit, exact or to the policy's significant digits;
ratios with four decimals; means to the policy's significant digits, or, without such a rule, to four
decimals."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

import numpy as np
import polars as pl

from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.disclosure import joint, primary, rounding, secondary
from broker.core.disclosure.figures import Figure, figures
from broker.core.disclosure.table import BoolArray, IntArray, Table, build
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Mean, Policy, Ratio, Sum, unit_divisor
from broker.core.products import Units
from broker.core.report import CELLS, PUBLISHED, SUPPRESSED, Report, in_order

CellKey = tuple[str, str]  # area, segment


@dataclass(frozen=True)
class Summary:
    """Numbers of cells, and per count and sum the mass Σ|x| over cells as (published, primary, secondary).

    The masses are exact and therefore for auditors only.
    """

    published: int
    primary: int
    secondary: int
    mass: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Decision(Report):
    """A report with all columns of CELLS, sorted; `group` is the release group's area."""

    group: str
    summary: Summary


@dataclass(frozen=True, slots=True)
class _Cell:
    """One decided cell; value and true_value are exact decimals in the measure's unit, value None =
    suppressed."""

    value: Decimal | None
    true_value: Decimal | None
    contributors: int
    holdings: int
    reasons: tuple[str, ...]
    primary: bool


_Column = dict[CellKey, _Cell]


def decide(
    product: Product,
    domain: Domain,
    areas: AreaTree,
    window: Window,
    group: str,
    *,
    units: Units,
    rounding_key: bytes,
) -> Decision:
    """Decide what of `units` is published for `group` (an area code) and `window`.

    rounding_key: the domain's for this epoch. Raises ProgrammerError, and then nothing is released, where the
    contributions contradict each other or the finished pattern fails its check.
    """
    policy = product.policy
    decider = _Decider(policy, areas, group, units, rounding_key)
    columns: dict[str, _Column] = {}
    mass: dict[str, tuple[int, int, int]] = {}
    for name, measure in policy.measures.items():
        if isinstance(measure, Count | Sum):
            columns[name], mass[name] = decider.column(name, measure)
    for name, measure in policy.measures.items():
        if isinstance(measure, Mean | Ratio):
            columns[name] = _quotients(measure, columns, policy)
    cells = _frame(policy, areas, {name: columns[name] for name in policy.measures})
    published = int((cells["status"] == PUBLISHED).sum())
    unsafe = int(cells["primary"].sum())
    return Decision(
        product=policy.product,
        start=window.start,
        window_start=domain.calendar.iso(window.start),
        window_end=domain.calendar.iso(window.end),
        levels=policy.areas.levels,
        measures=tuple(policy.measures),
        cells=cells,
        group=group,
        summary=Summary(published, unsafe, cells.height - published - unsafe, mass),
    )


class _Decider:
    """The counts and sums of one release; keeps what several measures share."""

    def __init__(
        self, policy: Policy, areas: AreaTree, group: str, units: Units, rounding_key: bytes
    ) -> None:
        self._policy = policy
        self._areas = areas
        self._group = group
        self._units = units
        self._key = rounding_key
        self._tables: dict[str | None, Table] = {}
        self._patterns: dict[tuple[int, bytes, bytes], BoolArray] = {}
        rules = policy.disclosure
        self._rules = primary.Rules(
            min_contributors=rules.min_contributors,
            min_holdings=rules.min_holdings,
            p=rules.p_percent,
            dominance=rules.dominance,
            without_each_holding=rules.without_each_holding,
            zero_is_sensitive=rules.zero_is_sensitive,
        )

    def column(self, name: str, measure: Count | Sum) -> tuple[_Column, tuple[int, int, int]]:
        """All visible cells of one measure, and its mass (published, primary, secondary)."""
        table, eligible = self._table(measure)
        contributions = self._units.contributions_of(name)
        found = figures(contributions, table, counting=isinstance(measure, Count), depth=self._rules.depth)
        reasons = self._reasons(name, measure, table, eligible, found)
        unsafe = np.array([bool(r) for r in reasons], dtype=bool)
        pattern = self._pattern(table, unsafe, np.array([f.n for f in found], dtype=np.int64))
        printed = self._values(measure, table, contributions, found)
        column: _Column = {}
        mass = [0, 0, 0]
        visible = table.cells.filter(~pl.col("hidden")).select("area", "segment")
        for i, key in enumerate(visible.iter_rows()):  # visible cells come first
            figure, (value, true_value) = found[i], printed[i]
            why = reasons[i] or (("secondary",) if pattern[i] else ())
            column[key] = _Cell(
                None if why else value, true_value, figure.n, len(figure.parts), why, bool(reasons[i])
            )
            mass[1 if reasons[i] else 2 if pattern[i] else 0] += figure.weight
        return column, (mass[0], mass[1], mass[2])

    def _table(self, measure: Count | Sum) -> tuple[Table, pl.DataFrame]:
        """The measure's table and eligible premises: joined, or of its input alone."""
        alone = measure.input if self._policy.join == "none" else None
        eligible = self._units.frames[alone] if alone else self._units.eligible
        eligible = eligible.select("premises", "area", "segment").unique()
        if alone not in self._tables:
            policy = self._policy
            self._tables[alone] = build(
                eligible,
                self._areas,
                policy.areas.levels,
                self._group,
                segmented="segment" in policy.dimensions,
            )
        return self._tables[alone], eligible

    def _reasons(
        self, name: str, measure: Count | Sum, table: Table, eligible: pl.DataFrame, found: list[Figure]
    ) -> list[tuple[str, ...]]:
        """Per cell why it is unsafe by itself: primary rules, then the rules on conditions."""
        market = measure.input is not None or len(self._policy.inputs) == 1
        places = table.cells["area"].to_list()
        waived = {area: self._waived(name, measure, area) for area in set(places)}
        margin = self._policy.disclosure.insider_margin
        extra: dict[int, list[str]] = {}
        if len(measure.where) > 1:
            extra = joint.findings(self._unknown_candidates(name, measure), table, margin)
        elif measure.where:
            _, cells = table.spread(table.locate(eligible)["atom"].to_numpy())
            everyone = np.bincount(cells, minlength=table.cells.height).tolist()
            extra = joint.single_condition(found, everyone, margin)
        return [
            (
                *primary.judge(figure, self._rules, market=market, waived=waived[area]).reasons,
                *extra.get(i, ()),
            )
            for i, (figure, area) in enumerate(zip(found, places, strict=True))
        ]

    def _unknown_candidates(self, name: str, measure: Count | Sum) -> pl.DataFrame:
        """Each partner's candidates, less the homes of which it alone has every condition's readings.

        Those it knows anyway (a municipal utility of water and energy): what it must not learn is the
        others'.
        """
        partners = (set(self._policy.inputs[condition].partners) for condition in measure.where)
        if not set.intersection(*partners):
            return self._units.candidates(name)
        alone = [
            self._units.frames[condition]
            .select("premises", "partner")
            .unique()
            .filter(~pl.col("premises").is_duplicated())
            for condition in measure.where
        ]
        known = reduce(lambda left, right: left.join(right, on=["premises", "partner"], how="semi"), alone)
        return self._units.candidates(name).join(known, on=["premises", "partner"], how="anti")

    def _waived(self, name: str, measure: Count | Sum, area: str) -> frozenset[str]:
        """Holdings with a waiver for the measure's cells of `area`.

        A waiver names levels or codes; it covers the cells of those areas and of everything below them,
        never those above. Its column is an input, that input's stream measure or a measure of this policy.
        """
        if not self._policy.disclosure.waivers:
            return frozenset()
        columns = {name}
        if measure.input is not None:
            columns |= {measure.input, self._policy.inputs[measure.input].measure}
        covered = {area, self._areas.level(area)}
        above = self._areas.parent(area)
        while above is not None:
            covered |= {above, self._areas.level(above)}
            above = self._areas.parent(above)
        return frozenset(
            waiver.holding
            for waiver in self._policy.disclosure.waivers
            if waiver.column in columns and not covered.isdisjoint(waiver.areas)
        )

    def _pattern(self, table: Table, unsafe: BoolArray, premises: IntArray) -> BoolArray:
        """Secondary suppressions; the same for measures that agree in what is unsafe and in what is dear."""
        key = (id(table), unsafe.tobytes(), premises.tobytes())
        if key not in self._patterns:
            rank = {level: i for i, level in enumerate(self._policy.areas.levels)}
            visible = table.cells.with_row_index("cell").filter(~pl.col("hidden"))
            order = sorted(
                (
                    (area != self._group, -int(premises[cell]), -rank[level], area, segment, cell)
                    for cell, area, level, segment in visible.select(
                        "cell", "area", "level", "segment"
                    ).iter_rows()
                    if not unsafe[cell]
                ),
            )
            candidates = np.array([row[-1] for row in order], dtype=np.int64)
            self._patterns[key] = secondary.suppress(table.incidence(), unsafe, candidates)
        return self._patterns[key]

    def _values(
        self, measure: Count | Sum, table: Table, contributions: pl.DataFrame, found: list[Figure]
    ) -> list[tuple[Decimal, Decimal]]:
        """(as printed, exact) per cell."""
        rule = self._policy.disclosure.rounding
        if isinstance(measure, Count):
            exact = [Decimal(figure.total) for figure in found]
            if rule is None or rule.counts is None:
                return list(zip(exact, exact, strict=True))
            people = rounding.fingerprints(contributions, table)
            return [
                (Decimal(rounding.round_count(figure.total, rule.counts, who, self._key)), value)
                for figure, who, value in zip(found, people, exact, strict=True)
            ]
        assert measure.input is not None  # validation fills it in
        divisor = unit_divisor(self._policy.inputs[measure.input].smallest, measure.unit)
        exact = [rounding.in_unit(figure.total, divisor) for figure in found]
        if rule is None or rule.magnitudes is None:
            return list(zip(exact, exact, strict=True))
        return [(rounding.significant(value, rule.magnitudes), value) for value in exact]


def _quotients(measure: Mean | Ratio, columns: dict[str, _Column], policy: Policy) -> _Column:
    """The cells of a mean or ratio from those of its parts; contributors and holdings are the
    denominator's."""
    numerators, denominators = (columns[name] for name in measure.of)
    rule = policy.disclosure.rounding
    digits = rule.magnitudes if rule is not None and isinstance(measure, Mean) else None
    column: _Column = {}
    for key in numerators.keys() & denominators.keys():
        top, bottom = numerators[key], denominators[key]
        value = _quotient(top.value, bottom.value, digits)
        true_value = _quotient(top.true_value, bottom.true_value, None)
        suppressed = top.value is None or bottom.value is None
        why = ("part_suppressed",) if suppressed else ("zero_denominator",) if value is None else ()
        unsafe = top.primary or bottom.primary or (value is None and not suppressed)
        column[key] = _Cell(value, true_value, bottom.contributors, bottom.holdings, why, unsafe)
    return column


def _quotient(top: Decimal | None, bottom: Decimal | None, digits: int | None) -> Decimal | None:
    if top is None or not bottom:
        return None
    if digits is None:
        return rounding.quotient(top, bottom)
    return rounding.quotient_significant(top, bottom, digits)


def _frame(policy: Policy, areas: AreaTree, columns: dict[str, _Column]) -> pl.DataFrame:
    """The cells as a frame with the columns of CELLS, sorted."""
    rows = [
        (
            area,
            areas.level(area),
            segment,
            name,
            _printed(cell.value, ratio),
            PUBLISHED if cell.value is not None else SUPPRESSED,
            _printed(cell.true_value, ratio),
            cell.contributors,
            cell.holdings,
            ";".join(cell.reasons),
            cell.primary,
        )
        for name, column in columns.items()
        for ratio in (isinstance(policy.measures[name], Ratio),)
        for (area, segment), cell in column.items()
    ]
    return in_order(pl.DataFrame(rows, schema=CELLS, orient="row"), policy.areas.levels, policy.measures)


def _printed(value: Decimal | None, ratio: bool) -> str | None:
    if value is None:
        return None
    return format(value, ".4f") if ratio else rounding.text(value)
