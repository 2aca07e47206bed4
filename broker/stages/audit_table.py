"""The attacker's program on a published table: what everybody can compute of what was suppressed.

With microdata every attacker is known, and every set that must stay unknown: unsafe cells, parts, intersections,
differences, and the remainders of the lines as they were published, each with its level. An unsafe cell that was
published falls short, of course.

Without, there is the outsider who has the files and knows that nothing is negative. What a suppressed cell needs is
then unknown: it falls short if it can be computed exactly, or, where the file tells the value of a primary one, closer
than 10 % of it, which the rules demand of every unsafe cell. A cell that the file calls secondary needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import sparse

from broker.core.disclosure.attack import attack, bounds
from broker.core.disclosure.problem import UNBOUNDED, Attacker, Interval, Limits, Rows, Targets
from broker.core.errors import InputError
from broker.core.static.beyond import describe, remainders
from broker.core.static.cells import Tables
from broker.core.static.findings import Finding
from broker.core.static.judge import Contributions
from broker.core.static.microdata import Hierarchies, Microdata, amount_text
from broker.core.static.program import as_rows
from broker.core.static.published import PRIMARY, PUBLISHED, SECONDARY, PublishedTable
from broker.core.static.published_cells import Laid, from_outside, lay
from broker.core.static.spec import Spec
from broker.stages.static_table import PAIR_BYTES, Stated, state_problem

Step = Callable[[str], None]
Files = Mapping[str, PublishedTable]
Where = Mapping[str, str]
"""Table → its file's name, for messages."""


@dataclass(frozen=True)
class _Figure:
    """A target. level: in the problem's unit, None: nothing is asked of it."""

    kind: str
    name: str
    status: str
    level: int | None


def audit_with_microdata(
    files: Files,
    where: Where,
    microdata: Microdata,
    hierarchies: Hierarchies,
    spec: Spec,
    limits: Limits,
    begins: Step = lambda _: None,
) -> list[Finding]:
    """What every attacker knows of every unsafe or suppressed figure. Raises InputError (`unknown_cell`,
    `contradiction`) where table and microdata do not fit each other, Refused where limits are reached."""
    stated = state_problem(microdata, hierarchies, spec, limits, begins)
    laid = lay(files, stated.tables, where)
    _check_totals(laid, stated, where)
    problem = stated.program.problem
    rows, figures = _targets(stated, laid, spec)
    begins(f"attacking {len(figures):,} figures")
    level = np.array([figure.level or 0 for figure in figures], dtype=np.int64)
    truth = (rows @ problem.values).tolist()
    scale = stated.program.unit * 10**stated.contributions.places
    return [
        _known(each, figures[each.target], truth[each.target], scale, stated.contributions)
        for each in attack(problem, laid.published, Targets(rows, level), limits)
    ]


def audit_from_outside(
    files: Files, where: Where, hierarchies: Hierarchies, limits: Limits, begins: Step = lambda _: None
) -> list[Finding]:
    """What the files alone give away of every cell that they suppress. Raises InputError (`contradiction`) where no
    microdata can have these totals, Refused where limits are reached."""
    begins("laying out the tables")
    tables = from_outside(files, hierarchies, limits.memory // PAIR_BYTES)
    laid = lay(files, tables, where)
    published = np.flatnonzero(laid.published)
    totals = np.array([laid.value[number] for number in published.tolist()], dtype=np.int64)
    hidden = [number for number, status in enumerate(laid.status) if status != PUBLISHED]
    atoms = tables.atoms.height
    least = -UNBOUNDED if any(value < 0 for value in laid.value.values()) else 0
    lower, upper = (np.full(atoms, bound, dtype=np.int64) for bound in (least, UNBOUNDED))
    begins(f"attacking {len(hidden):,} figures")
    rows = tables.incidence
    found = bounds(rows[published], totals, lower, upper, rows[hidden], limits)
    return [
        _computed(tables, laid, number, low, high) for number, (low, high) in zip(hidden, found, strict=True)
    ]


def _check_totals(laid: Laid, stated: Stated, where: Where) -> None:
    """A figure in the files is the microdata's."""
    places = stated.contributions.places
    for number, value in laid.value.items():
        total = int(stated.judged.total[number])
        if value * 10**places != total * 10**laid.places:
            said, true = amount_text(value, laid.places), amount_text(total, places)
            raise InputError(
                "contradiction",
                f"{describe('cell', stated.tables.name_of(number), {})} is {said} in the table and {true} in the "
                "microdata: give the microdata and the SPEC that the table was made from, and exact figures",
                where=where[""],
            )


def _targets(stated: Stated, laid: Laid, spec: Spec) -> tuple[Rows, list[_Figure]]:
    """Sets of atoms: all unsafe cells, all suppressed ones, and what is unsafe beyond."""
    verdicts, program, tables = stated.judged.verdicts, stated.program, stated.tables
    cells = [n for n, status in enumerate(laid.status) if n in verdicts or status != PUBLISHED]
    others = [*stated.beyond, *remainders(tables, laid.published, stated.contributions, spec.rules)]
    figures = [
        _Figure(
            "cell",
            describe("cell", tables.name_of(number), {}),
            laid.status[number],
            program.level(verdicts[number]) if number in verdicts else None,
        )
        for number in cells
    ]
    figures += [
        _Figure(each.kind, describe(each.kind, each.of, each.without), "", program.level(each.verdict))
        for each in others
    ]
    beyond = as_rows([each.members for each in others], tables.atoms.height)
    return sparse.vstack([tables.incidence[cells], beyond], format="csr"), figures


def _known(each: Interval, figure: _Figure, truth: int, scale: int, contributions: Contributions) -> Finding:
    asked = figure.level is not None
    return Finding(
        kind=figure.kind,
        figure=figure.name,
        status=figure.status,
        attacker=_who(each.attacker, contributions),
        low=None if each.down is None else (truth + each.down) / scale,
        high=None if each.up is None else (truth + each.up) / scale,
        level=Fraction(max(each.need), scale) if asked else None,
        short=asked and each.short,
    )


def _computed(
    tables: Tables, laid: Laid, number: int, low: Fraction | None, high: Fraction | None
) -> Finding:
    scale, status, value = 10**laid.places, laid.status[number], laid.value.get(number)
    level = None if status != PRIMARY or value is None else Fraction(abs(value), 10)
    close = low is not None and low == high
    if level is not None and value is not None:
        close |= low is not None and low > value - level
        close |= high is not None and high < value + level
    return Finding(
        kind="cell",
        figure=describe("cell", tables.name_of(number), {}),
        status=status,
        attacker="outsider",
        low=None if low is None else low / scale,
        high=None if high is None else high / scale,
        level=None if level is None else level / scale,
        short=status != SECONDARY and close,
    )


def _who(attacker: Attacker, contributions: Contributions) -> str:
    if attacker.alone >= 0:
        return f"{contributions.contributors[attacker.alone]} (alone in a part)"
    return " and ".join(contributions.holdings[holding] for holding in attacker.holdings) or "outsider"
