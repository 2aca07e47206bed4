"""For any batch: each reading has one outcome, and cutting the batch anywhere changes nothing that counts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

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
    energy,
    ms,
    product,
    site_table,
    water,
    water_product,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.admission import NO_MARK, OPENING, Admission
from broker.core.plan import Stream
from broker.core.reasons import outcome

START = ms("2026-12-30 00:00")  # an epoch ends within the days drawn
DAYS = 4
BOTH = ["measured", "estimated"]
DOMAINS = {
    ELECTRICITY: domain_of(
        product("a", lawful_basis=CONSENT),
        product("b", inputs={"energy": energy(qualities=BOTH)}, purpose="heating"),
        product("c", lawful_basis=CONSENT, window=BY_MONTH),
    ),
    WATER: domain_of(
        water_product("a", lawful_basis=CONSENT),
        water_product("b", inputs={"water": water(qualities=BOTH)}, purpose="heating"),
    ),
}
SITES = site_table(
    ("p", None, None, "home-p", "C1", "flat", None),
    ("q", None, START + DAY, "home-q", "C1", "flat", None),
    ("q", START + DAY, START + 3 * DAY, "home-r", "C3", "flat", None),
    ("r", START + DAY, None, "home-r", "C2", "house", None),
    ("s", None, None, "home-s", "C2", "house", None),
    ("twice", None, None, "home-t", "C2", "", None),
    ("twice", None, None, "home-u", "C2", "", None),
)

instants = st.integers(0, DAYS * 8).map(lambda n: START + n * 3 * HOUR) | st.integers(
    START, START + DAYS * DAY
)
maybe = st.none() | instants
states = st.tuples(
    st.sampled_from("pqrs"),
    st.sampled_from(["planning", "heating"]),
    maybe,
    maybe,
    st.none() | st.just(START),
)
readings = st.tuples(
    st.sampled_from(["p", "p", "q", "r", "s", "twice", "unknown", None]),
    instants,
    st.integers(1, 9) | st.just(24),
    st.sampled_from([*BOTH, "guessed"]),
)


@dataclass(frozen=True)
class Case:
    stream: Stream
    rows: pl.DataFrame
    states: list[tuple[object, ...]]
    marks: list[tuple[int, int]]

    def admit(self, rows: pl.DataFrame, mark: int) -> Admission:
        first, last = (rows["offset"][0], rows["offset"][-1]) if rows.height else (0, -1)
        inside = [m for m in self.marks if first <= m[0] <= last]
        return admitted(
            rows,
            DOMAINS[self.stream],
            SITES,
            consent_table(*self.states),
            self.stream,
            mark=mark,
            marks=inside,
            partition_of=lambda points: pl.Series([1] * len(points)),
            partition=0,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    stream = draw(st.sampled_from([ELECTRICITY, WATER]))
    drawn = draw(st.lists(readings, min_size=1, max_size=25))
    length = 0 if stream is WATER else HOUR
    rows = batch(*((p, at, at + n * length, i, quality) for i, (p, at, n, quality) in enumerate(drawn)))
    # readings at even offsets, marks between them
    rows = rows.with_columns(pl.col("offset") * 2)
    marks = draw(st.dictionaries(st.integers(0, len(drawn)).map(lambda n: 2 * n + 1), instants, max_size=4))
    return Case(stream, rows, draw(st.lists(states, max_size=8)), sorted(marks.items()))


@given(cases())
@settings(max_examples=80, deadline=None)
def test_every_reading_has_exactly_one_outcome(case: Case) -> None:
    admission = case.admit(case.rows, NO_MARK)
    refused, quarantined = admission.refused, admission.quarantined
    assert case.rows.height == admission.admitted + refused.height + quarantined.height
    others = refused["offset"].to_list() + quarantined["offset"].to_list()
    assert len(set(others)) == len(others)
    assert set(admission.contributions["order"]).isdisjoint(others)
    assert {outcome(code) for code in refused["reason"]} <= {"refused"}
    assert {outcome(code) for code in quarantined["reason"]} <= {"quarantined"}
    used = set(admission.contributions["order"])
    assert (
        len(used)
        <= admission.admitted
        <= len(used)
        + int(admission.late["count"].sum())
        + (
            case.rows.height
            if case.stream is WATER
            else 0  # admitted, but a later one of the batch opens the window
        )
    )


@given(cases(), st.data())
@settings(max_examples=120, deadline=None)
def test_a_batch_may_be_cut_anywhere(case: Case, data: st.DataObject) -> None:
    whole = case.admit(case.rows, NO_MARK)
    cuts = data.draw(st.sets(st.integers(0, case.rows.height)))
    bounds = [0, *sorted(cuts), case.rows.height]
    parts, mark = [], NO_MARK
    for begin, end in pairwise(bounds):
        rows = case.rows[begin:end]
        if rows.height:
            mark = max([mark, *(until for at, until in case.marks if at < rows["offset"][0])])
            parts.append(case.admit(rows, mark))
    assert whole.admitted == sum(part.admitted for part in parts)
    for name in ("refused", "quarantined"):
        assert getattr(whole, name).equals(pl.concat(getattr(part, name) for part in parts))
    counts = pl.concat(part.late for part in parts).group_by("window", "group").agg(pl.col("count").sum())
    assert whole.late.sort("window", "group").equals(counts.sort("window", "group").cast(whole.late.schema))
    cut = pl.concat(part.contributions for part in parts)
    assert own(whole.contributions).equals(own(cut))
    assert opened(whole.contributions) == opened(cut)


def own(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("role") != OPENING).sort("order")


def opened(rows: pl.DataFrame) -> dict[tuple[bytes, int, int], tuple[object, ...]]:
    """What opens a window for a product: the last value per point, window and bit."""
    last: dict[tuple[bytes, int, int], tuple[object, ...]] = {}
    for row in rows.filter(pl.col("role") == OPENING).sort("start", "order").iter_rows(named=True):
        for bit in range(3):
            if row["mask"] >> bit & 1:
                last[row["point"], row["window"], bit] = tuple(v for k, v in row.items() if k != "mask")
    return last
