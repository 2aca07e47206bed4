"""The condition that a premises meets or not in one input: `sum < 20000`, never free code.

Invariants
- A condition is one statistic of a premises' base-window totals, one comparison and one decimal number in the
  input's unit. Nothing else parses, so that what each partner could know alone stays computable (design,
  *Policies*).
- Exact: the threshold is a `Fraction`, and `mean` never divides (sum < threshold · n is decided instead).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, cast

from broker.core.errors import InputError

Stat = Literal["sum", "mean", "max"]
Op = Literal["<", "<=", ">", ">="]

_FORM = re.compile(r"\s*(sum|mean|max)\s*(<=|>=|<|>)\s*(-?[0-9]{1,18}(?:\.[0-9]{1,12})?)\s*", re.ASCII)
DECIMALS: Final = 12  # of a threshold, at most


@dataclass(frozen=True, slots=True)
class Condition:
    """`stat op threshold`; `threshold` in the input's unit, per window for `sum`, else per base window."""

    stat: Stat
    op: Op
    threshold: Fraction

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read `sum < 20000`; raises InputError (`bad_condition`) for anything else."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(
                "bad_condition",
                f"`{text[:80]}` is not a condition: write sum, mean or max, then <, <=, > or >=, then one "
                "number in the input's unit, for example `sum < 20000` or `mean >= 0.5`",
            )
        stat, op, threshold = found.groups()
        return cls(cast("Stat", stat), cast("Op", op), Fraction(threshold))

    def __str__(self) -> str:
        """The canonical text: one space on each side of the operator, no zeros that say nothing."""
        whole, rest = divmod(abs(self.threshold), 1)
        decimals = f"{int(rest * 10**DECIMALS):0{DECIMALS}d}".rstrip("0")
        number = f"{whole}.{decimals}" if decimals else f"{whole}"
        return f"{self.stat} {self.op} {'-' if self.threshold < 0 else ''}{number}"

    def holds(self, total: int, peak: int, n: int) -> bool:
        """Whether one premises meets it: `total` and `peak` (largest base-window total) in the unit, `n` base
        windows.

        The columnar code in `products` states the same per column; this is its definition.
        """
        left = peak if self.stat == "max" else total
        right = self.threshold * n if self.stat == "mean" else self.threshold
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[self.op]
