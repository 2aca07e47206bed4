"""What an audit found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

from broker.core.disclosure.rounding import text

_DECIMALS = 6


@dataclass(frozen=True)
class Finding:
    """What one attacker can compute of one figure, in the microdata's unit.

    kind: cell, part, both, less or remainder; status: of a cell, what the file says; low, high: None where there is no
    bound; level: how far from the truth both must lie, None where that is unknown or nothing is asked; short: closer
    than that.
    """

    kind: str
    figure: str
    status: str
    attacker: str
    low: Fraction | None
    high: Fraction | None
    level: Fraction | None
    short: bool

    @property
    def width(self) -> Fraction | None:
        return None if self.low is None or self.high is None else self.high - self.low


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One object per finding; numbers are decimal texts of at most six places."""
    return [
        {
            "kind": each.kind,
            "figure": each.figure,
            "status": each.status,
            "attacker": each.attacker,
            "low": _shown(each.low),
            "high": _shown(each.high),
            "level": _shown(each.level),
            "short": each.short,
        }
        for each in findings
    ]


def as_text(findings: Sequence[Finding]) -> str:
    """A table: of each figure what the outsider knows, whoever else knows more than everybody before, and all that
    fall short."""
    rows = [("figure", "status", "attacker", "at least", "at most", "needs ±", "")]
    narrowest: Fraction | None = None
    before = None
    for each in findings:
        first, before = each.figure != before, each.figure
        closer = each.width is not None and (narrowest is None or each.width < narrowest)
        if first or closer:
            narrowest = each.width
        if first or closer or each.short:
            told = (_shown(each.low) or "-", _shown(each.high) or "-", _shown(each.level) or "-")
            rows.append((each.figure, each.status, each.attacker, *told, "TOO CLOSE" if each.short else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(value: Fraction | None) -> str | None:
    if value is None:
        return None
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return text(exact.quantize(Decimal(1).scaleb(-_DECIMALS), rounding=ROUND_HALF_EVEN))
