"""When consent records are looked at decides nothing where consent is the basis: the state that they come to does."""

from __future__ import annotations

from typing import Any

import polars as pl
from admission_world import (
    BY_MONTH,
    CONSENT,
    DAY,
    ELECTRICITY,
    HOUR,
    WATER,
    admitted,
    batch,
    consent_table,
    domain_of,
    keys,
    ms,
    product,
    site_table,
    water_product,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.calendar import Window
from broker.core.fold import retract, roll_up
from broker.core.fold_frames import ROWS
from broker.core.plan import Stream
from broker.core.retractions import consent_retractions

FIRST = ms("2026-01-29 00:00")
DAYS = 5  # over the end of a month
SPAN = Window(FIRST - 10 * DAY, FIRST + 10 * DAY)
DOMAIN = domain_of(
    product("by-day", lawful_basis=CONSENT),
    product("by-month", lawful_basis=CONSENT, window=BY_MONTH),
    water_product("water-by-day", lawful_basis=CONSENT),
    water_product("water-by-month", lawful_basis=CONSENT, window=BY_MONTH),
)
SITES = site_table(("p", None, None, "home", "C1", "flat", None))
POINT = pl.Series(["p"])
Event = tuple[str, int]
State = tuple[Any, ...]


def with_stream(rows: pl.DataFrame, stream: Stream, seq: int) -> pl.DataFrame:
    columns = {
        name: pl.lit(getattr(stream, name)) for name in ("partner", "holding", "measure", "kind", "net")
    }
    return rows.with_columns(**columns, seq=pl.lit(seq, pl.Int64)).select(list(ROWS))


def readings(at: int, order: int) -> list[tuple[Stream, pl.DataFrame]]:
    """What is sent at a moment: the last six hours' use, and the water meter as it stands."""
    used = batch(("p", at - 6 * HOUR, at, 600)).with_columns(offset=pl.lit(order, pl.Int64))
    stands = batch(("p", at, at, 1000 + (at - FIRST) // HOUR)).with_columns(offset=pl.lit(order, pl.Int64))
    return [(ELECTRICITY, used), (WATER, stands)]


def outcome(events: list[Event], looks: list[bool]) -> list[Any]:
    """Every quarter of a day something happens; looks: whether the lane looked after it. All windows are open."""
    state: State | None = None
    waiting: list[tuple[Stream, pl.DataFrame]] = []
    changed = False
    rows, retractions = [ROWS.to_frame()], []
    for number, ((kind, delay), look) in enumerate(zip(events, [*looks[:-1], True], strict=True)):
        now = FIRST + number * 6 * HOUR
        waiting += readings(now, number)
        if kind != "nothing":
            granted = now + delay * HOUR if kind == "grant" else None if state is None else state[0]
            state, changed = (granted, now if kind == "withdrawal" else None), True
        if not look:
            continue
        consent = consent_table(*([] if state is None else [("p", "planning", state[0], None, state[1])]))
        for stream, sent in waiting:
            rows.append(
                with_stream(admitted(sent, DOMAIN, SITES, consent, stream).contributions, stream, number)
            )
        if changed:
            # before the batch that was read with it, as a lane writes it
            found = consent_retractions(POINT, SITES, consent, DOMAIN, span=SPAN, keys=keys)
            retractions.append(found.with_columns(seq=pl.lit(number, pl.Int64)))
        waiting, changed = [], False
    left = pl.concat(rows)
    if retractions:
        left = retract(left, pl.concat(retractions))
    days = DOMAIN.calendar.windows("P1D", FIRST, FIRST + DAYS * DAY)
    return [roll_up(left, DOMAIN, day).drop("seq").rows() for day in days]


events = st.lists(
    st.tuples(st.sampled_from(["nothing", "nothing", "grant", "withdrawal"]), st.integers(0, 30)),
    min_size=4,
    max_size=4 * DAYS,
)


@settings(max_examples=15, deadline=None)
@given(events, st.data())
def test_windows_do_not_depend_on_when_consent_was_looked_at(
    happened: list[Event], data: st.DataObject
) -> None:
    live = outcome(happened, [True] * len(happened))
    looks = data.draw(st.lists(st.booleans(), min_size=len(happened), max_size=len(happened)))
    assert outcome(happened, looks) == live


def test_a_home_with_an_ordinary_first_grant_is_counted_from_its_first_window() -> None:
    found = outcome([("nothing", 0), ("grant", 3), *[("nothing", 0)] * 10], [True] * 12)
    masks = [sum(1 << bit for bit in range(4) if any(row[11] >> bit & 1 for row in day)) for day in found]
    by_day, water_by_day = 0b0001, 0b0100
    assert masks[:2] == [0, by_day | water_by_day]
