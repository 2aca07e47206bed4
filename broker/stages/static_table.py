"""One static table, and those linked to it, from microdata: judged, protected, proven, attacked.

Invariants
- Nothing comes out of a table that was not proven: the certificate is checked by integer arithmetic (against every
  insider and pair: see `insiders`), and then the attacker's program is run on exactly the cells that are to be
  published. A table that fails is refused, as is one whose decision would take more than the limits.
- The same microdata and SPEC give the same table, whatever the order of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from broker.core.disclosure.attack import attack
from broker.core.disclosure.certificate import verify
from broker.core.disclosure.problem import Limits, Problem, Protection
from broker.core.disclosure.secondary import PRIMES
from broker.core.disclosure.suppression import protect
from broker.core.disclosure.table import BoolArray
from broker.core.errors import Refused
from broker.core.static.beyond import Beyond, beyond_cells, describe
from broker.core.static.cells import Tables, build
from broker.core.static.insiders import FEW, protect_from_all
from broker.core.static.judge import Contributions, Judged, judge
from broker.core.static.microdata import Hierarchies, Microdata
from broker.core.static.program import Program, judge_of, state
from broker.core.static.published import PRIMARY, PUBLISHED, SECONDARY, statuses
from broker.core.static.spec import Spec

Step = Callable[[str], None]
PAIR_BYTES: Final = 100
"""What one pair of a cell and an atom takes at most while tables are built, judged and protected."""


@dataclass(frozen=True)
class Stated:
    """Tables as a problem: their cells judged, and what else must stay unknown."""

    tables: Tables
    contributions: Contributions
    judged: Judged
    beyond: list[Beyond]
    program: Program


@dataclass(frozen=True)
class Protected:
    """published: per set of the tables."""

    stated: Stated
    published: BoolArray

    @property
    def summary(self) -> dict[str, Any]:
        """Of each table: how many cells were published and suppressed, and what share (percent) of the mass Σ|x| of all
        its cells that was."""
        return {name: self._summary_of(name) for name in self.stated.tables.cells}

    def _summary_of(self, table: str) -> dict[str, Any]:
        judged, sets = self.stated.judged, self.stated.tables.cells[table]["set"].to_numpy()
        status = np.array(statuses(self.published, judged.verdicts))[sets]
        size = judged.size[sets].astype(np.float64)  # for a percentage to be read, not to be decided by
        mass = float(size.sum()) or 1.0
        return {
            "cells": {name: int((status == name).sum()) for name in (PUBLISHED, PRIMARY, SECONDARY)},
            "mass_percent": {
                name: round(100 * float(size[status == name].sum()) / mass, 2)
                for name in (PRIMARY, SECONDARY)
            },
        }


def state_problem(
    microdata: Microdata, hierarchies: Hierarchies, spec: Spec, limits: Limits, begins: Step = lambda _: None
) -> Stated:
    """All cells of all tables and the sets beyond them, judged. Raises Refused (`too_large`)."""
    begins(f"building the cells of {microdata.rows.height:,} rows")
    most_pairs = limits.memory // PAIR_BYTES
    tables, atom = build(microdata.rows, hierarchies, most_pairs=most_pairs)
    contributions = Contributions.of(microdata, atom)
    begins(f"judging {sum(cells.height for cells in tables.cells.values()):,} cells")
    judged = judge(tables.sets, contributions, spec.rules)
    beyond = beyond_cells(tables, contributions, spec.rules, most_pairs=most_pairs)
    program = state(tables, contributions, judged, beyond, spec.protect, spec.rules)
    return Stated(tables, contributions, judged, beyond, program)


def protect_tables(
    microdata: Microdata, hierarchies: Hierarchies, spec: Spec, limits: Limits, begins: Step = lambda _: None
) -> Protected:
    """Decide every cell. Raises Refused: `too_large`, LimitReached, `cannot_protect`."""
    stated = state_problem(microdata, hierarchies, spec, limits, begins)
    begins(f"protecting {len(stated.judged.verdicts):,} unsafe cells and {len(stated.beyond):,} other sets")
    judge_remainders = judge_of(stated.contributions, spec.rules, stated.program)
    problem, protection = protect_from_all(
        stated.program.problem, lambda smaller: protect(smaller, limits, judge_remainders)
    )
    if protection.exposed:
        raise Refused("cannot_protect", _exposed(stated, protection))
    begins("checking the proofs")
    verify(problem, protection, PRIMES)
    begins("attacking what is to be published")
    short = [
        each
        for each in attack(_gate(problem), protection.published, protection.targets, limits)
        if each.short
    ]
    if short:
        raise Refused(
            "attack_succeeds",
            f"the attacker's program bounds {len(short)} unsafe figures closer than their levels: nothing is written",
        )
    return Protected(stated, protection.published)


def _gate(problem: Problem) -> Problem:
    """Whom the attacker's program plays: all insiders where they are few. Where they are many it would take hours, and
    each of them has been tested against the certificate twice."""
    many = problem.insiders is not None and problem.insiders.parts.shape[0] > FEW
    return replace(problem, insiders=None) if many else problem


def _exposed(stated: Stated, protection: Protection) -> str:
    first = protection.exposed[0]
    more = f" (and {len(protection.exposed) - 1} more)" if len(protection.exposed) > 1 else ""
    return (
        f"{_target(stated, first.target)}{more} cannot be protected, whatever is suppressed: what everybody knows "
        "beforehand bounds it too closely. Loosen `prior` or the rules, or leave the figure out; nothing is written"
    )


def _target(stated: Stated, number: int) -> str:
    """A target of the problem in words."""
    cells = [*stated.judged.verdicts]
    if number < len(cells):
        return describe("cell", stated.tables.name_of(cells[number]), {})
    if number < len(cells) + len(stated.beyond):
        each = stated.beyond[number - len(cells)]
        return describe(each.kind, each.of, each.without)
    return "what the published part of a line leaves"
