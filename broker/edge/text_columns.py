"""Text columns to exact integers: numbers by decimal arithmetic, times by ISO 8601, whole columns at a time.

Invariants
- No float is ever made: `1.5` kWh is 1500 Wh because 15 * 10^2 is, `1e-3` kWh is 1 Wh; what is no whole
  number of the smallest unit, or not in int64, gets a reason instead of a value.
- A time counts only with an offset (`Z`, `+01:00`, `+0100`, `+01`): ISO 8601-1 and RFC 3339, 5.6. Extended or basic
  form, seconds or minutes and seconds left out, a fraction only of seconds; 24:00 is the next midnight. Parts of
  a millisecond are cut off.
- Every function keeps the number and order of its rows.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import polars as pl

UNITS: Final[dict[str, tuple[str, int]]] = {
    "Wh": ("Wh", 0),
    "kWh": ("Wh", 3),
    "MWh": ("Wh", 6),
    "GWh": ("Wh", 9),
    "mL": ("mL", 0),
    "L": ("mL", 3),
    "m3": ("mL", 6),
}
"""unit -> (smallest unit, how many powers of ten of it)."""

_DIGITS: Final = 18  # of what fits an int64 whatever its digits
_TIME: Final = "%Y-%m-%dT%H:%M:%S%.f%#z"
_OFFSET: Final = r"\s*([Zz]|[+-][0-9]{2}:?(?:[0-9]{2})?)$"
_LOOSE: Final = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}(?::[0-9]{2})?|[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?)"
    + _OFFSET
)
_BASIC_DATE: Final = r"^([0-9]{4})([0-9]{2})([0-9]{2})[Tt]"
_BASIC_SECONDS: Final = r"T([0-9]{2})([0-9]{2})([0-9]{2})"
_BASIC_MINUTES: Final = r"T([0-9]{2})([0-9]{2})([Zz+-])"
_MIDNIGHT: Final = r"^24:00:00[.,]?0*$"
_DAY: Final = 86_400_000


def exact_integers(text: pl.Series, power: int, decimal: str = ".") -> pl.DataFrame:
    """Decimal texts times 10^power, exactly: DataFrame[value Int64 | null, reason String | null], row by row.

    decimal: the decimal mark. Reasons: `not_finite` (NaN, inf), `bad_value` (no number), `inexact_value` (no
    whole number), `out_of_bounds` (more digits than a meter has). A value is null exactly where one holds.
    """
    trimmed = text.cast(pl.String).str.strip_chars()
    whole = trimmed.cast(pl.Int64, strict=False)
    plain = whole.is_not_null() & whole.is_between(-(10 ** (_DIGITS - power)), 10 ** (_DIGITS - power))
    value = pl.select(pl.when(plain).then(whole * 10**power)).to_series()
    result = pl.DataFrame({"value": value, "reason": pl.Series([None] * len(text), dtype=pl.String)})
    rest = (~plain.fill_null(False)).arg_true()
    if len(rest) == 0:
        return result
    slow = _decimals(trimmed.gather(rest), power, decimal)
    return pl.DataFrame({c: result[c].scatter(rest, slow[c]) for c in result.columns})


def instants(text: pl.Series) -> pl.Series:
    """ISO 8601 texts with an offset to Int64 milliseconds since the epoch, UTC; null for anything else."""
    trimmed = text.cast(pl.String).str.strip_chars()
    found = _milliseconds(trimmed)
    rest = (found.is_null() & trimmed.is_not_null()).arg_true()
    if len(rest) == 0:
        return found
    unusual = trimmed.gather(rest)
    extended = (
        unusual.str.replace(_BASIC_DATE, "$1-$2-${3}T")
        .str.replace(_BASIC_SECONDS, "T$1:$2:$3")
        .str.replace(_BASIC_MINUTES, "T$1:$2$3")
    )
    parts = extended.str.extract_groups(_LOOSE).struct.unnest()
    day, clock, offset = (pl.col(name) for name in parts.columns)
    whole = clock + pl.lit(":00:00").str.head(8 - clock.str.len_chars().cast(pl.Int64).clip(0, 8))
    end = parts.select(whole.str.contains(_MIDNIGHT)).to_series().fill_null(False)
    begin = whole.str.replace(_MIDNIGHT, "00:00:00").str.replace(",", ".", literal=True)
    rebuilt = parts.select(pl.format("{}T{}{}", day, begin, offset.str.to_uppercase())).to_series()
    return found.scatter(rest, _milliseconds(rebuilt) + end.cast(pl.Int64) * _DAY)


def instant(text: str) -> int | None:
    """One ISO 8601 text with an offset to milliseconds; None where it is none."""
    found: int | None = instants(pl.Series([text]))[0]
    return found


def _milliseconds(text: pl.Series) -> pl.Series:
    return text.str.to_datetime(_TIME, time_unit="ms", time_zone="UTC", strict=False).dt.epoch("ms")


def _decimals(text: pl.Series, power: int, decimal: str) -> pl.DataFrame:
    """The general case: sign, digits, fraction and exponent, without leaving integers."""
    pattern = rf"^([+-]?)([0-9]*)(?:{re.escape(decimal)}([0-9]*))?(?:[eE]([+-]?[0-9]{{1,4}}))?$"
    parts = text.str.extract_groups(pattern).struct.unnest()
    sign, before, after, exponent = (pl.col(name) for name in parts.columns)
    cut = after.fill_null("").str.strip_chars_end("0")
    digits = pl.concat_str(before.fill_null(""), cut).str.strip_chars_start("0")
    significant = digits.str.strip_chars_end("0")
    dropped = digits.str.len_chars().cast(pl.Int64) - significant.str.len_chars().cast(pl.Int64)
    read = parts.select(
        negative=sign == "-",
        number=(before.fill_null("") + after.fill_null("")).str.len_chars() > 0,
        significant=significant,
        shift=power + exponent.cast(pl.Int64).fill_null(0) - cut.str.len_chars().cast(pl.Int64) + dropped,
        text=text.str.to_lowercase().str.strip_chars_start("+-"),
    )
    zero = pl.col("significant") == ""
    length = pl.col("significant").str.len_chars().cast(pl.Int64)
    reason = (
        pl.when(pl.col("text").is_in(["nan", "inf", "infinity"]))
        .then(pl.lit("not_finite"))
        .when(~pl.col("number").fill_null(False))
        .then(pl.lit("bad_value"))
        .when(~zero & (pl.col("shift") < 0))
        .then(pl.lit("inexact_value"))
        .when(~zero & (length + pl.col("shift") > _DIGITS))
        .then(pl.lit("out_of_bounds"))
    )
    judged = read.select("negative", "significant", "shift", zero=zero, reason=reason)
    scale = np.power(10, judged["shift"].clip(0, _DIGITS).fill_null(0).to_numpy(), dtype=np.int64)
    size = judged["significant"].str.slice(0, _DIGITS).cast(pl.Int64, strict=False).fill_null(0) * pl.Series(
        scale
    )
    signed = pl.when(pl.col("negative")).then(-pl.col("size")).otherwise(pl.col("size"))
    return judged.with_columns(size=size).select(
        value=pl.when(pl.col("reason").is_null()).then(signed), reason=pl.col("reason")
    )
