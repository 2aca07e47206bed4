"""Sites and consent by columns say what they say record by record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_memory import Rec, records
from lane_world import CODEC, DAY, HOUR, LANES, consent, points, reading, site

from broker.core.errors import PartnerError
from broker.core.partitioner import partition_for
from broker.stages.books import HEARTBEAT, Book
from broker.stages.tables import Part

PARTNER = "energy-a"
MINE = points(PARTNER, 0, 4)
ELSEWHERE = points(PARTNER, 1)[0]
# no UTF-8, but in partition 0
BROKEN = next(key for key in (b"\xff%d" % i for i in range(99)) if partition_for(key, LANES) == 0)
Sent = tuple[bytes | None, bytes | None]
Rows = dict[str, list[tuple[Any, ...]]]


def one_by_one(book: Book, batch: Part) -> tuple[Rows, dict[str, str], list[tuple[str, int]]]:
    """Rows by point, reason of each doubtful point, and (reason, offset) of the bad ones, by a loop over records."""
    rows: Rows = {}
    doubt: dict[str, str] = {}
    bad = []
    columns = [name for name in book.rows.columns if name != "delivery_point"]
    for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
        if key == HEARTBEAT:
            continue
        if key is None or partition_for(key, LANES) != batch.partition:
            bad.append(("wrong_partition", offset))
            continue
        point = key.decode(errors="replace")
        doubt.pop(point, None)
        if value is None:
            rows[point] = []
            continue
        try:
            name, record = CODEC.decode(value)
        except PartnerError:
            name, record = "", {}
        if name != book.schema or record["delivery_point"] != point:
            doubt[point] = book.reason
            bad.append((book.reason, offset))
            continue
        rows[point] = [tuple(each[column] for column in columns) for each in record[book.periods]]
    return rows, doubt, bad


def by_columns(book: Book, batch: Part, cut: int) -> list[tuple[str, int]]:
    bad = []
    for side in (slice(cut), slice(cut, None)):
        part = Part(
            batch.topic,
            batch.partition,
            batch.keys[side],
            batch.values[side],
            batch.offsets[side],
            batch.timestamps[side],
        )
        found, doubted = book.take(part, PARTNER, CODEC, LANES)
        assert doubted == {
            (batch.keys[batch.offsets.index(each.offset)] or b"").decode(errors="replace")
            for each in found
            if each.reason == book.reason
        }
        for each in found:
            assert (each.partner, each.topic, each.partition) == (PARTNER, batch.topic, batch.partition)
            assert each.value == batch.values[batch.offsets.index(each.offset)]
            bad.append((each.reason, each.offset))
    return bad


def rows_of(book: Book) -> Rows:
    found: Rows = {}
    for point, *row in book.rows.iter_rows():
        found.setdefault(point, []).append(tuple(row))
    return found


def histories(point: str) -> st.SearchStrategy[bytes | None]:
    """Records that a partner may send about a point, good and bad."""
    period = st.fixed_dictionaries(
        {"valid_from": st.sampled_from([None, DAY]), "area": st.sampled_from(["C1", "nowhere", ""])},
        optional={"valid_to": st.just(DAY + HOUR), "register_size": st.integers(-1, 10)},
    )
    sites = st.lists(period, min_size=1, max_size=3).map(lambda periods: site(point, *periods))
    none = st.just(CODEC.encode("site-history", {"delivery_point": point, "sites": []}))
    states = st.fixed_dictionaries({}, optional={"granted_from": st.just(DAY), "withdrawn_at": st.just(DAY)})
    consents = states.map(lambda state: consent(point, **state))
    bad = st.sampled_from(
        [None, b"", b"\x00garbage", reading(point, 1), site(MINE[0])[:-1], consent(MINE[1])]
    )
    return st.one_of(sites, none, consents, bad)


def sent() -> st.SearchStrategy[Sent]:
    keys = st.sampled_from([*(point.encode() for point in [*MINE, ELSEWHERE]), BROKEN, HEARTBEAT, b"", None])
    return keys.flatmap(lambda key: st.tuples(st.just(key), histories((key or b"").decode(errors="replace"))))


@pytest.mark.parametrize("make", [Book.of_sites, Book.of_consent])
@given(st.lists(sent(), max_size=25), st.integers(0, 25))
@settings(max_examples=60, deadline=None)
def test_a_fetch_taken_by_columns_says_what_its_records_say_one_by_one(
    make: Any, all_sent: list[Sent], cut: int
) -> None:
    batch: Any = records("x.energy-a", 0, [Rec(10 + 3 * i, *each, 5) for i, each in enumerate(all_sent)])
    book = make()
    bad = by_columns(book, batch, cut)
    rows, doubt, expected = one_by_one(book, batch)
    assert bad == expected
    assert book.doubtful == set(doubt)
    assert rows_of(book) == {point: periods for point, periods in rows.items() if periods}
    here = [
        (key, offset)
        for key, offset in zip(batch.keys, batch.offsets, strict=True)
        if key not in (None, HEARTBEAT) and partition_for(key, LANES) == 0
    ]
    assert book.offsets == {key.decode(errors="replace"): offset for key, offset in here}
    assert book.changed == set(book.offsets)
