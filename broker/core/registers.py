"""Consumption of register lines in one base window: the difference of two readings.

Source: design, *Values*. Invariants, per product bit like everything in `fold`:
- consumption = last value at or before the window's end − last value at or before its start, each read at
  most `max_gap` before that edge; else none. Of readings of one moment the one with the highest `order`
  counts.
- So a window without a reading of its own takes 0 while its last reading is at most `max_gap` old, and the
  next reading's window takes the rest: sums over windows telescope, nothing is lost or counted twice. A
  meter that stays silent gives none from then on; it does not become a zero.
- A value that falls has rolled over if the site's register size explains it by less than half a turn; else
  it is a reset, which gives none. A net register (feed-in) may fall: its difference counts as it is.
- Both readings must be of the same premises. Area and segment are those of the opening reading, the earlier
  one.
- Of several partners with a consumption at one premises: those with a reading inside the window go before
  those without (whose customer may have left: a former supplier's last reading takes nothing from its
  successor). If that leaves more than one partner, none counts.
"""

from __future__ import annotations

import polars as pl

from broker.core.calendar import Window
from broker.core.fold_frames import CLAIM, LINE, LOOK, TOTALS
from broker.core.plan import Domain


def consumption(rows: pl.DataFrame, domain: Domain, window: Window) -> pl.DataFrame:
    """Consumption of each line (frame TOTALS and `own`: whether a reading lies inside the window).

    rows: frame ROWS, readings up to the window's end; all rows of a line have one mask.
    """
    later = ["premises", "start", "value", "register_size", "seq"]
    ordered = rows.select(*LOOK, *later[1:], "order").sort("start", "order", "seq")
    opening = ordered.filter(pl.col("start") <= window.start).unique(LINE, keep="last")
    closing = ordered.filter(pl.col("start") <= window.end).select(*LINE, *later).unique(LINE, keep="last")
    gap = pl.col("measure").replace_strict(domain.max_gap, default=0, return_dtype=pl.Int64)
    return (
        opening.join(closing, on=LINE, suffix="_to")
        .filter(
            (window.start - pl.col("start") <= gap)
            & (window.end - pl.col("start_to") <= gap)
            & (pl.col("premises") == pl.col("premises_to"))
        )
        .with_columns(
            value=_step(),
            covered=pl.lit(window.end - window.start, pl.Int64),
            seq=pl.max_horizontal("seq", "seq_to"),
            own=pl.col("start_to") > window.start,
        )
        .filter(pl.col("value").is_not_null())
        .select(*TOTALS, "own")
    )


def one_partner(totals: pl.DataFrame) -> pl.DataFrame:
    """The consumptions that stand where several partners may claim one premises; all of one class of bits."""
    claiming = pl.when(pl.col("own") | ~pl.col("own").any().over(CLAIM)).then("partner")
    first, last = claiming.min().over(CLAIM), claiming.max().over(CLAIM)
    return totals.filter((first == last) & (pl.col("partner") == first))


def _step() -> pl.Expr:
    """`value_to` − `value`, null where it is no consumption."""
    step = pl.col("value_to") - pl.col("value")
    size = pl.when(pl.col("register_size") == pl.col("register_size_to")).then(pl.col("register_size"))
    rolled = step + size
    turned = pl.when((rolled >= 0) & (rolled < size - rolled)).then(rolled)
    return pl.when(pl.col("net") | (step >= 0)).then(step).otherwise(turned)
