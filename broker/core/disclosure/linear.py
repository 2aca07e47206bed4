"""Linear programs, by HiGHS: one thread, one method, fixed seed, no presolve, and a budget of iterations.

Nothing that a float says is believed: what a solution is used for is checked in integers by whoever asked. A
program that does not end with an optimal solution has none; one that ends because the budget is spent raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import highspy
import numpy as np
from numpy.typing import NDArray

from broker.core.disclosure.problem import LimitReached, Limits
from broker.core.disclosure.table import IntArray

Floats = NDArray[np.float64]

_OPTIONS: Final[dict[str, str | int | float]] = {
    "threads": 1,
    "parallel": "off",
    "random_seed": 0,
    "solver": "simplex",
    "presolve": "off",  # it costs more than it saves on programs of some hundred columns
    "simplex_scale_strategy": 0,  # programs are well scaled
    "dual_simplex_cost_perturbation_multiplier": 0.0,  # and their costs are unequal already
}
_DUAL: Final = 1  # to begin with: where all columns are bounded, or no cost is negative, all slack is a start
_PRIMAL: Final = 4  # to go on from a solution, of which only the costs have changed
_COLUMNWISE: Final = 1
_MINIMISE: Final = 1


@dataclass(frozen=True)
class Program:
    """Minimise cost · x where lower <= x <= upper and matrix · x = right; the matrix column after column: starts,
    rows, entries."""

    cost: Floats
    lower: Floats
    upper: Floats
    starts: IntArray
    rows: IntArray
    entries: Floats
    right: Floats


@dataclass(frozen=True)
class Solution:
    """An optimal solution. dual: per row; cost - dual · matrix is never negative where x could grow."""

    x: Floats
    dual: Floats


class _Silent(highspy.Highs):
    """HiGHS greets on standard output as soon as its callbacks are set up, which nobody needs here."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()
        self.setOptionValue("output_flag", False)


class Solver:
    """Solves programs one after another. unbounded: why the last one had no solution."""

    def __init__(self, limits: Limits) -> None:
        self.unbounded = False
        self._left = limits.iterations
        self._highs = _Silent()
        for name, value in _OPTIONS.items():
            self._highs.setOptionValue(name, value)

    def minimise(self, program: Program) -> Solution | None:
        """The solution, None if there is no optimal one. Raises LimitReached."""
        width = len(program.cost)
        self._highs.passModel(
            width,
            len(program.right),
            len(program.rows),
            _COLUMNWISE,
            _MINIMISE,
            0.0,
            program.cost,
            program.lower,
            program.upper,
            program.right,
            program.right,
            program.starts.astype(np.int32),
            program.rows.astype(np.int32),
            program.entries,
            np.zeros(width, dtype=np.int32),  # all columns are continuous
        )

        self._columns = np.arange(width, dtype=np.int32)
        return self._run(_DUAL)

    def again(self, cost: Floats) -> Solution | None:
        """The last program with other costs, from its last solution."""
        self._highs.changeColsCost(len(cost), self._columns, cost)
        return self._run(_PRIMAL)

    def _run(self, method: int) -> Solution | None:
        self._highs.setOptionValue("simplex_strategy", method)
        self._highs.setOptionValue("simplex_iteration_limit", min(self._left, 2**31 - 1))
        self._highs.run()
        self._left -= 1 + max(self._highs.getInfo().simplex_iteration_count, 0)
        status = self._highs.getModelStatus()
        if self._left <= 0 or status == highspy.HighsModelStatus.kIterationLimit:
            raise LimitReached(
                "too_long", "deciding takes more iterations than allowed; nothing is published"
            )
        self.unbounded = status == highspy.HighsModelStatus.kUnbounded
        if status != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._highs.getSolution()
        return Solution(np.array(solution.col_value), np.array(solution.row_dual))
