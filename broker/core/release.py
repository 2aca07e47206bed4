"""Decide one release: all cells of one product, window and release group, together and once.

The order: figures of every cell from the premises' contributions → primary rules → joint rule (conditions) →
secondary suppression, of measures that give each other away together → values as printed → means and ratios of
what is published (see `disclosure.columns`). The releases of several groups are decided in one pass, for speed:
none depends on which others are.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from broker.core.areas import AreaTree
from broker.core.calendar import Window
from broker.core.disclosure import rounding
from broker.core.disclosure.columns import Column, Decider, quotients
from broker.core.plan import Domain, Product
from broker.core.policy import Count, Mean, Policy, Ratio, Sum
from broker.core.products import Units
from broker.core.report import CELLS, PUBLISHED, SUPPRESSED, Report, in_order


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
    (decision,) = decide_groups(
        product, domain, areas, window, [group], units=units, rounding_key=rounding_key
    )
    return decision


def decide_groups(
    product: Product,
    domain: Domain,
    areas: AreaTree,
    window: Window,
    groups: Sequence[str],
    *,
    units: Units,
    rounding_key: bytes,
) -> list[Decision]:
    """The same for several groups in one pass, in their order. Raises where one of them does."""
    policy = product.policy
    decider = Decider(policy, areas, groups, units, rounding_key)
    columns = decider.columns(
        {name: measure for name, measure in policy.measures.items() if isinstance(measure, Count | Sum)}
    )
    for name, measure in policy.measures.items():
        if isinstance(measure, Mean | Ratio):
            top, bottom = (columns[part] for part in measure.of)
            columns[name] = quotients(measure, top, bottom, policy)
    cells = _frame(policy, {name: columns[name] for name in policy.measures})
    by_group = {group: part for (group,), part in cells.partition_by("group", as_dict=True).items()}
    mass = {name: _mass(column, column.mass) for name, column in columns.items() if column.mass is not None}
    return [
        Decision(
            product=policy.product,
            start=window.start,
            window_start=domain.calendar.iso(window.start),
            window_end=domain.calendar.iso(window.end),
            levels=policy.areas.levels,
            measures=tuple(policy.measures),
            cells=own.drop("group"),
            group=group,
            summary=_summary(own, {name: sums.get(group, (0, 0, 0)) for name, sums in mass.items()}),
        )
        for group in groups
        for own in (by_group.get(group, cells.clear()),)
    ]


def _summary(cells: pl.DataFrame, mass: dict[str, tuple[int, int, int]]) -> Summary:
    published = int((cells["status"] == PUBLISHED).sum())
    unsafe = int(cells["primary"].sum())
    return Summary(published, unsafe, cells.height - published - unsafe, mass)


def _mass(column: Column, sizes: Sequence[int]) -> dict[str, tuple[int, int, int]]:
    """Per group Σ of the sizes over cells that are published, primarily and secondarily suppressed."""
    mass: dict[str, tuple[int, int, int]] = {}
    for group, size, unsafe, value in zip(
        column.cells["group"], sizes, column.primary, column.value, strict=True
    ):
        published, primary, secondary = mass.get(group, (0, 0, 0))
        if unsafe:
            mass[group] = (published, primary + size, secondary)
        elif value is None:
            mass[group] = (published, primary, secondary + size)
        else:
            mass[group] = (published + size, primary, secondary)
    return mass


def _frame(policy: Policy, columns: Mapping[str, Column]) -> pl.DataFrame:
    """The cells as a frame with the columns of CELLS and `group`, sorted."""
    frames = []
    for name, column in columns.items():
        ratio = isinstance(policy.measures[name], Ratio)
        value = [_printed(value, ratio) for value in column.value]
        frames.append(
            column.cells.with_columns(
                pl.lit(name).alias("measure"),
                pl.Series("value", value, pl.String),
                pl.Series("status", [SUPPRESSED if text is None else PUBLISHED for text in value], pl.String),
                pl.Series("true_value", [_printed(exact, ratio) for exact in column.true_value], pl.String),
                pl.Series("contributors", column.contributors, pl.Int64),
                pl.Series("holdings", column.holdings, pl.Int64),
                pl.Series("reasons", [";".join(why) for why in column.reasons], pl.String),
                pl.Series("primary", column.primary, pl.Boolean),
            )
        )
    cells = in_order(pl.concat(frames), policy.areas.levels, policy.measures)
    return cells.select("group", *CELLS)


def _printed(value: Decimal | None, ratio: bool) -> str | None:
    if value is None:
        return None
    return format(value, ".4f") if ratio else rounding.text(value)
