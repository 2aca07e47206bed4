"""Roll-ups as numbers say what the frames said that they were made of."""

from __future__ import annotations

import random

import polars as pl
from fold_worlds import AREAS, DAY, Row, name, rollup, rollups
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.calendar import Window
from broker.core.fold import retract_rollups
from broker.core.rollups import Looks, Rollup, Rollups


@st.composite
def days(draw: st.DrawFn) -> list[list[Row]]:
    """Some days' rows of a few points, whose place, supplier and values change from day to day."""
    chance = draw(st.randoms(use_true_random=False))
    return [[_row(day, point, chance) for point in range(6) if chance.random() < 0.7] for day in range(4)]


def _row(day: int, point: int, chance: random.Random) -> Row:
    water = {"measure": "water", "kind": "register"} if point % 2 else {}
    return rollup(
        day,
        f"p{point}",
        chance.choice([None, -3, 0, 10**12]),
        premises=f"h{chance.choice([point, 0])}",
        partner=chance.choice("ab"),
        area=chance.choice(AREAS),
        net=chance.random() < 0.2,
        mask=chance.randrange(8),
        seq=chance.randrange(20),
        **water,
    )


def held(found: list[list[Row]]) -> tuple[Looks, list[Rollup]]:
    """As a lane takes them: one window after the other."""
    looks = Looks()
    return looks, [
        Rollup.of(rollups(rows), Window(day * DAY, (day + 1) * DAY), looks) for day, rows in enumerate(found)
    ]


def plain(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return sorted(frame.rows(), key=repr)


@settings(max_examples=50, deadline=None)
@given(days())
def test_nothing_of_a_roll_up_is_lost(found: list[list[Row]]) -> None:
    looks, parts = held(found)
    for rows, part in zip(found, parts, strict=True):  # the looks of later days have come since
        assert plain(part.frame(looks)) == plain(rollups(rows))
    every = rollups(row for rows in found for row in rows)
    assert plain(Rollups(looks, tuple(parts)).frame()) == plain(every) == plain(Rollups.of(every).frame())


def test_a_look_that_stays_the_same_is_kept_once() -> None:
    looks, parts = held([[rollup(day, f"p{point}", day) for point in range(3)] for day in range(4)])
    assert looks.table.height == 3
    assert [part.rows["electricity", "interval"]["look"].to_list() for part in parts] == [[0, 1, 2]] * 4


@settings(max_examples=50, deadline=None)
@given(days(), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 20)), max_size=4))
def test_a_retraction_reaches_the_rows_that_it_reaches_in_the_frame(
    found: list[list[Row]], rules: list[tuple[int, int, int]]
) -> None:
    schema = {"point": pl.Binary, "bits": pl.UInt64, "from_ms": pl.Int64, "seq": pl.Int64}
    voids = [(name(f"p{point}"), bits, 2 * DAY, seq) for point, bits, seq in rules]
    retractions = pl.DataFrame(voids, schema=schema, orient="row")
    looks, parts = held(found)
    for rows, part in zip(found, parts, strict=True):
        without = part.retracted(looks, retractions)
        assert plain(without.frame(looks)) == plain(retract_rollups(rollups(rows), retractions))
        assert plain(part.frame(looks)) == plain(rollups(rows))  # the roll-up before is another value


def test_streams_that_were_left_out_are_no_part_of_it() -> None:
    rows = [
        rollup(0, "p1", 1),
        rollup(0, "p2", 2, partner="b"),
        rollup(1, "p3", 3, partner="b", measure="gas"),
    ]
    kept = Rollups.of(rollups(rows)).without({("b", "electricity"), ("a", "gas")})
    assert plain(kept.frame()) == plain(rollups([rows[0], rows[2]]))


def test_pieces_of_one_roll_up_go_together() -> None:
    first, second = (
        [rollup(0, "p1", 1)],
        [rollup(0, "p2", 2), rollup(0, "p3", 3, measure="water", kind="register")],
    )
    looks = Looks()
    one, other = (Rollup.of(rollups(rows), Window(0, DAY), looks) for rows in (first, second))
    for both in (one.together(other), other.together(one)):
        assert plain(both.frame(looks)) == plain(rollups(first + second))
