"""Rounding and printing of published figures: exact decimals, no float, one canonical form.

Counts, to base b: a count c with remainder r = c mod b goes up with probability r/b, else down, so that its
expectation is c (unbiased random rounding; Handbook on SDC, 5.4). The draw is a keyed hash of the *set of
premises* counted: HMAC-SHA-256(key, "rounding/v1" ‖ n ‖ Σhigh ‖ Σlow), each number 8 bytes big-endian, where
Σhigh and Σlow add the two 64-bit halves of the premises' pseudonyms modulo 2^64. No window, product or cell
name is in it, so the same homes are always rounded the same way and nothing is learnt by averaging
(disclosure rules, §6). The set is hashed by sums, which need neither an order nor the list; pseudonyms are
themselves keyed hashes, so that nobody without the key can steer the sums to collide.

Magnitudes, to n significant digits, half to even.

Canonical form of all printed figures: plain decimal without exponent, no trailing zeros after the point, no
`-0`; ratios alone have always four decimals."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache
from hashlib import sha256

import numpy as np
import polars as pl
from numpy.typing import NDArray

from broker.core.disclosure.table import Table

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # int64 in any unit fits without rounding


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is hashed of a set of premises: its size and the sums of both halves of its pseudonyms mod
    2^64."""

    n: int
    high: int
    low: int


def fingerprints(premises: pl.DataFrame, table: Table) -> list[Fingerprint]:
    """The fingerprint of each cell's set of premises. premises: DataFrame[home: Int64, premises: Binary (16
    bytes), area, segment], one or more rows per home, which is the premises' number."""
    _, first = np.unique(premises["home"].to_numpy(), return_index=True)
    atom = table.locate(premises)[first]
    inside = atom >= 0
    atom, names = atom[inside], premises["premises"][first[inside]].to_list()
    halves = np.frombuffer(b"".join(names), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    n = table.add(np.bincount(atom, minlength=table.atoms))
    sums = []
    for half in halves.T:
        total: NDArray[np.uint64] = np.zeros(table.atoms, dtype=np.uint64)
        np.add.at(total, atom, half)  # wraps: modulo 2^64
        sums.append(table.add(total).tolist())
    return [Fingerprint(*each) for each in zip(n.tolist(), *sums, strict=True)]


def round_count(count: int, base: int, who: Fingerprint, key: bytes) -> int:
    """`count` to a multiple of `base`, up with probability (count mod base)/base, by the keyed hash of
    `who`."""
    remainder = count % base
    message = b"rounding/v1" + b"".join(x.to_bytes(8, "big") for x in (who.n, who.high, who.low))
    draw = int.from_bytes(hmac.digest(key, message, sha256)[:8], "big")
    up = draw * base < remainder << 64
    return count - remainder + (base if up else 0)


def in_unit(total: int, divisor: int) -> Decimal:
    """`total` of the smallest unit in the unit that `divisor` (a power of ten) of them make, exactly."""
    return _EXACT.divide(Decimal(total), Decimal(divisor))


def significant(value: Decimal, digits: int) -> Decimal:
    """`value` to so many significant digits, half to even."""
    return _to(digits).plus(value)


def quotient(numerator: Decimal, denominator: Decimal, *, decimals: int = 4) -> Decimal:
    """Exact quotient to `decimals` places, half to even. Raises ZeroDivisionError."""
    if not denominator:
        raise ZeroDivisionError("quotient of a figure and zero")
    scaled = numerator.scaleb(decimals, _EXACT)
    # The nearest multiple of the denominator, half to even; all three steps are exact.
    whole = _EXACT.divide(_EXACT.subtract(scaled, _EXACT.remainder_near(scaled, denominator)), denominator)
    return whole.scaleb(-decimals, _EXACT)


def quotient_significant(numerator: Decimal, denominator: Decimal, digits: int) -> Decimal:
    """Exact quotient to so many significant digits, half to even. Raises ZeroDivisionError."""
    if not denominator:
        raise ZeroDivisionError("quotient of a figure and zero")
    return _to(digits).divide(numerator, denominator)  # rounds once, from the exact quotient


@cache
def _to(digits: int) -> Context:
    return Context(prec=digits, rounding=ROUND_HALF_EVEN)


def text(value: Decimal) -> str:
    """The canonical form."""
    shown = format(value, "f")
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return "0" if shown == "-0" else shown
