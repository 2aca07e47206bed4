"""The columns of a release, one per measure: every visible cell of all its release groups, decided.

For counts and sums, in this order: figures from the premises' contributions → primary rules → joint rule
(conditions) → secondary suppression, group by group, of linked measures together (see `linked`) → values as
printed. Means and ratios are functions of two decided columns. What a release promises stands in `release`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np
import polars as pl

from broker.core.areas import AreaTree
from broker.core.disclosure import joint, linked, primary, rounding, secondary
from broker.core.disclosure.figures import Figures, figures
from broker.core.disclosure.table import BoolArray, IntArray, Table, build
from broker.core.policy import Count, Mean, Policy, Ratio, Sum, unit_divisor
from broker.core.products import Units

Reasons = dict[int, tuple[str, ...]]  # by cell; those without are safe by themselves


@dataclass(frozen=True)
class Column:
    """One measure's cells. cells: DataFrame[group, area, level, segment]; the lists have an entry for each.

    value, true_value: exact decimals in the measure's unit; value None = suppressed. primary: unsafe by
    itself. mass: Σ|x| in the smallest unit, of counts and sums only.
    """

    cells: pl.DataFrame
    value: list[Decimal | None]
    true_value: list[Decimal | None]
    contributors: list[int]
    holdings: list[int]
    reasons: list[tuple[str, ...]]
    primary: list[bool]
    mass: list[int] | None


@dataclass
class _Judged:
    """A measure's cells by themselves, hidden ones included; `given_up` is what secondary suppression adds.

    column: the input that it adds up, or that its premises are counted of (None: see `_alone`).
    """

    measure: Count | Sum
    column: str | None
    table: Table
    contributions: pl.DataFrame
    found: Figures
    unsafe: Reasons
    is_unsafe: BoolArray = field(init=False)
    given_up: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        self.is_unsafe = np.zeros(self.table.cells.height, dtype=bool)
        self.is_unsafe[[*self.unsafe]] = True
        self.given_up = np.zeros_like(self.is_unsafe)


_ALONE: Final = np.ones((1, 1), dtype=np.int8)  # the membership of a measure that is decided by itself


class Decider:
    """The counts and sums of one release; keeps what several measures share."""

    def __init__(
        self, policy: Policy, areas: AreaTree, groups: Sequence[str], units: Units, rounding_key: bytes
    ) -> None:
        self._policy = policy
        self._areas = areas
        self._groups = groups
        self._units = units
        self._key = rounding_key
        self._tables: dict[str | None, Table] = {}
        self._patterns: dict[tuple[int, str, bytes, bytes, bytes], BoolArray] = {}
        rules = policy.disclosure
        self._rules = primary.Rules(
            min_contributors=rules.min_contributors,
            min_holdings=rules.min_holdings,
            p=rules.p_percent,
            dominance=rules.dominance,
            without_each_holding=rules.without_each_holding,
            zero_is_sensitive=rules.zero_is_sensitive,
        )

    def columns(self, measures: Mapping[str, Count | Sum]) -> dict[str, Column]:
        """All visible cells of the release's counts and sums, by measure."""
        judged = {name: self._judged(name, measure) for name, measure in measures.items()}
        alike: dict[tuple[str, str | None], list[_Judged]] = defaultdict(list)
        for each in judged.values():
            alike[each.measure.kind, each.column].append(each)
        for together in alike.values():
            self._secondary(together)
        return {name: self._decided(each) for name, each in judged.items()}

    def _judged(self, name: str, measure: Count | Sum) -> _Judged:
        alone = self._alone(measure)
        table = self._table(alone)
        contributions = self._units.contributions_of(name)
        found = figures(contributions, table, counting=isinstance(measure, Count), depth=self._rules.depth)
        unsafe = self._unsafe(name, measure, table, contributions, found)
        column = measure.input if isinstance(measure, Sum) else alone
        return _Judged(measure, column, table, contributions, found, unsafe)

    def _decided(self, judged: _Judged) -> Column:
        table, found, unsafe = judged.table, judged.found, judged.unsafe
        cells = range(table.visible.height)  # visible cells come first
        why = [unsafe.get(cell, ("secondary",) if judged.given_up[cell] else ()) for cell in cells]
        exact = self._exact(judged.measure, found.total[: len(cells)])
        return Column(
            cells=table.visible,
            value=self._printed(judged.measure, table, judged.contributions, exact, why),
            true_value=[*exact],
            contributors=found.n[: len(cells)].tolist(),
            holdings=np.count_nonzero(found.customers[: len(cells)], axis=1).tolist(),
            reasons=why,
            primary=[cell in unsafe for cell in cells],
            mass=found.weight[: len(cells)].tolist(),
        )

    def _alone(self, measure: Count | Sum) -> str | None:
        """The input whose premises the measure can count whatever the other inputs have; None: of all inputs,
        joined, or of any."""
        if self._policy.join == "premises":
            return None
        only = next(iter(self._policy.inputs)) if len(self._policy.inputs) == 1 else None
        return measure.input or only

    def _table(self, alone: str | None) -> Table:
        if alone not in self._tables:
            levels, segmented = self._policy.areas.levels, "segment" in self._policy.dimensions
            eligible = self._units.eligible if alone is None else self._units.frames[alone]
            self._tables[alone] = build(eligible, self._areas, levels, self._groups, segmented=segmented)
        return self._tables[alone]

    def _unsafe(
        self, name: str, measure: Count | Sum, table: Table, contributions: pl.DataFrame, found: Figures
    ) -> Reasons:
        """Why cells are unsafe by themselves: primary rules, then the rules on conditions."""
        market = measure.input is not None or len(self._policy.inputs) == 1
        waived = self._waived(name, measure, table, found.holdings)
        split = self._readers(contributions)
        readers = (
            None if split is None else figures(split, table, counting=found.counting, depth=self._rules.depth)
        )
        verdicts = primary.judge(found, self._rules, market=market, waived=waived, readers=readers)
        reasons: Reasons = {cell: verdict.reasons for cell, verdict in verdicts.items()}
        for more in self._about_conditions(name, measure, table, contributions):
            for cell, why in more.items():
                reasons[cell] = (*reasons.get(cell, ()), *why)
        return reasons

    def _readers(self, contributions: pl.DataFrame) -> pl.DataFrame | None:
        """The contributions with the partners that may read the release in the place of their holdings, None
        where that changes nothing: a holding's only partner is the holding."""
        if not self._units.sisters:
            return None
        pairs = contributions.select("partner", "holding").unique().cast(pl.String)
        sisters = pairs.filter(pairs["holding"].is_duplicated())["partner"].unique()
        if "public" not in self._policy.recipients:
            sisters = sisters.filter(sisters.is_in(self._policy.recipients))
        if sisters.is_empty():
            return None
        own = pl.format("reader {}", "partner")  # no holding's name has a space
        reads = pl.col("partner").is_in(sisters.implode())
        return contributions.with_columns(holding=pl.when(reads).then(own).otherwise("holding"))

    def _about_conditions(
        self, name: str, measure: Count | Sum, table: Table, contributions: pl.DataFrame
    ) -> Iterator[dict[int, list[str]]]:
        margin = self._policy.disclosure.insider_margin
        if len(measure.where) > 1:
            yield joint.findings(self._units.unknown_candidates(name), table, margin)
            if self._units.sisters:  # a holding with one partner knows what that one knows
                together = self._units.unknown_candidates(name, "holding")
                yield joint.findings(self._of_several(measure, together), table, margin, "holding")
        elif measure.where:
            (condition,) = measure.where
            parts = self._units.frames[condition]
            yield joint.single_condition(parts, contributions["home"], table, margin)

    def _of_several(self, measure: Count | Sum, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates of holdings that have several partners in the measure's conditions."""
        frames = [self._units.frames[condition] for condition in measure.where]
        pairs = pl.concat([frame.select("holding", "partner") for frame in frames]).unique()
        several = pairs.filter(pairs["holding"].is_duplicated())["holding"]
        return candidates.filter(pl.col("holding").is_in(several.implode()))

    def _waived(self, name: str, measure: Count | Sum, table: Table, holdings: list[str]) -> BoolArray | None:
        """Cells × holdings: where a waiver covers the measure's cells.

        A waiver names levels or codes of areas, and covers the cells of those levels and areas only: figures
        that are finer than what was signed stay protected. What an area's own premises are besides those
        further down (a hidden cell) is of the level below. Its column is an input, that input's stream measure
        or a measure of this policy.
        """
        columns = {name}
        if measure.input is not None:
            columns |= {measure.input, self._policy.inputs[measure.input].measure}
        levels = self._policy.areas.levels
        below = dict(zip(levels[1:], levels, strict=False))
        waived = np.zeros((table.cells.height, len(holdings)), dtype=bool)
        for waiver in self._policy.disclosure.waivers:
            if waiver.column in columns and waiver.holding in holdings:
                covered = [
                    below.get(level, level) in waiver.areas
                    if hidden
                    else area in waiver.areas or level in waiver.areas
                    for area, level, _, hidden in table.names
                ]
                waived[covered, holdings.index(waiver.holding)] = True
        return waived

    def _secondary(self, together: list[_Judged]) -> None:
        """Give up cells of measures of one value column for the unsafe ones' sake: each group by itself, and in
        it measures that are not linked each by itself."""
        table = together[0].table
        unsafe = np.logical_or.reduce([each.is_unsafe for each in together])
        unsafe_in = set(table.cells["group"].filter(pl.Series(unsafe)))
        if not unsafe_in:
            return
        measures = [each.measure for each in together]
        several = linked.memberships(measures, self._policy, self._units, table) if len(measures) > 1 else {}
        for group in sorted(unsafe_in):
            cells = table.of_group(group)
            membership = several.get(group)
            chosen = [] if membership is None else linked.linked(membership)
            blocks = [([i], _ALONE) for i in range(len(together)) if i not in chosen]
            if membership is not None and chosen:
                blocks.append((chosen, membership[chosen]))
            for block, rows in blocks:
                given_up = self._pattern(table, group, cells, [together[i] for i in block], rows)
                for i, pattern in zip(block, given_up, strict=True):
                    together[i].given_up[cells] = pattern

    def _pattern(
        self, table: Table, group: str, cells: IntArray, block: list[_Judged], membership: linked.Membership
    ) -> BoolArray:
        """Of one group's cells, measures × cells; the same for blocks that agree in what is unsafe and in what
        is dear."""
        unsafe = np.array([each.is_unsafe[cells] for each in block])
        premises = np.array([each.found.n[cells] for each in block])
        key = (id(table), group, membership.tobytes(), unsafe.tobytes(), premises.tobytes())
        if key not in self._patterns:
            rank = {level: i for i, level in enumerate(self._policy.areas.levels)}
            names = [table.names[cell] for cell in cells.tolist()]
            order = sorted(
                (area != group, -n, rank[level], area, segment, m * len(cells) + i)
                for m, counts in enumerate(premises.tolist())
                for i, ((area, level, segment, hidden), n) in enumerate(zip(names, counts, strict=True))
                if not hidden and not unsafe[m, i]
            )
            candidates = np.array([row[-1] for row in order], dtype=np.int64)
            rows = np.kron(membership, table.incidence(cells))
            self._patterns[key] = secondary.suppress(rows, unsafe.ravel(), candidates).reshape(unsafe.shape)
        return self._patterns[key]

    def _exact(self, measure: Count | Sum, totals: IntArray) -> list[Decimal]:
        if isinstance(measure, Count):
            return [Decimal(total) for total in totals.tolist()]
        assert measure.input is not None  # validation fills it in
        divisor = unit_divisor(self._policy.inputs[measure.input].smallest, measure.unit)
        return [rounding.in_unit(total, divisor) for total in totals.tolist()]

    def _printed(
        self,
        measure: Count | Sum,
        table: Table,
        contributions: pl.DataFrame,
        exact: list[Decimal],
        why: list[tuple[str, ...]],
    ) -> list[Decimal | None]:
        """The values as printed, None where there is a reason against it."""
        rule = self._policy.disclosure.rounding
        if isinstance(measure, Count) and rule is not None and rule.counts is not None:
            people = rounding.fingerprints(contributions, table)
            base, key = rule.counts, self._key
            return [
                None if reasons else Decimal(rounding.round_count(int(value), base, who, key))
                for value, who, reasons in zip(exact, people, why, strict=False)  # hidden cells come last
            ]
        if isinstance(measure, Sum) and rule is not None and rule.magnitudes is not None:
            digits = rule.magnitudes
            return [
                None if reasons else rounding.significant(value, digits)
                for value, reasons in zip(exact, why, strict=True)
            ]
        return [None if reasons else value for value, reasons in zip(exact, why, strict=True)]


def quotients(measure: Mean | Ratio, top: Column, bottom: Column, policy: Policy) -> Column:
    """A mean or ratio from its parts; contributors and holdings are the denominator's."""
    rule = policy.disclosure.rounding
    digits = rule.magnitudes if rule is not None and isinstance(measure, Mean) else None
    tops, bottoms = _same_cells(top, bottom)
    value: list[Decimal | None] = []
    why: list[tuple[str, ...]] = []
    for t, b in zip(tops, bottoms, strict=True):
        found = _quotient(top.value[t], bottom.value[b], digits)
        suppressed = top.value[t] is None or bottom.value[b] is None
        value.append(found)
        why.append(("part_suppressed",) if suppressed else ("zero_denominator",) if found is None else ())
    return Column(
        cells=bottom.cells if bottoms == range(bottom.cells.height) else bottom.cells[[*bottoms]],
        value=value,
        true_value=[
            _quotient(top.true_value[t], bottom.true_value[b], None)
            for t, b in zip(tops, bottoms, strict=True)
        ],
        contributors=[bottom.contributors[b] for b in bottoms],
        holdings=[bottom.holdings[b] for b in bottoms],
        reasons=why,
        primary=[
            top.primary[t] or bottom.primary[b] or reasons == ("zero_denominator",)
            for t, b, reasons in zip(tops, bottoms, why, strict=True)
        ],
        mass=None,
    )


def _same_cells(top: Column, bottom: Column) -> tuple[Sequence[int], Sequence[int]]:
    """The places of the cells that both have, in each."""
    if top.cells is bottom.cells:
        return range(top.cells.height), range(top.cells.height)
    at = {key: i for i, key in enumerate(top.cells.select("area", "segment").iter_rows())}
    keys = enumerate(bottom.cells.select("area", "segment").iter_rows())
    both = [(at[key], i) for i, key in keys if key in at]
    return [t for t, _ in both], [b for _, b in both]


def _quotient(top: Decimal | None, bottom: Decimal | None, digits: int | None) -> Decimal | None:
    if top is None or not bottom:
        return None
    if digits is None:
        return rounding.quotient(top, bottom)
    return rounding.quotient_significant(top, bottom, digits)
