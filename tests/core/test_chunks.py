"""Frames as records: the same rows in the same order, in pieces that Kafka takes."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from broker.core.admission import CONTRIBUTIONS
from broker.core.chunks import MAX_BYTES, frame, pieces
from broker.core.fold_frames import ROLLUP
from broker.core.report import CELLS
from broker.core.retractions import RETRACTIONS

VALUES = {
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.UInt32: st.integers(0, 2**32 - 1),
    pl.UInt8: st.integers(0, 255),
    pl.Binary: st.binary(max_size=20),
    pl.String: st.text(max_size=8),
    pl.Boolean: st.booleans(),
}
SCHEMAS = [CONTRIBUTIONS, ROLLUP, RETRACTIONS, pl.Schema(CELLS)]


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    schema = draw(st.sampled_from(SCHEMAS))
    height = draw(st.integers(0, 20))
    return pl.DataFrame(
        {
            name: draw(st.lists(st.none() | VALUES[dtype.base_type()], min_size=height, max_size=height))
            for name, dtype in schema.items()
        },
        schema=schema,
    )


@given(frames())
@settings(max_examples=60, deadline=None)
def test_every_frame_that_travels_comes_back_as_it_was(sent: pl.DataFrame) -> None:
    got = [frame(piece) for piece in pieces(sent)]
    assert_frame_equal(pl.concat([sent.clear(), *got]), sent, categorical_as_str=False)


def test_an_empty_frame_makes_no_record() -> None:
    assert list(pieces(CONTRIBUTIONS.to_frame())) == []


def test_pieces_stay_within_the_limit_and_keep_the_order() -> None:
    rows = 60_000
    sent = pl.DataFrame(
        {
            "n": pl.int_range(rows, eager=True),
            "point": [i.to_bytes(16, "big") for i in range(rows)],
            "area": [f"area-{i % 7}" for i in range(rows)],
        }
    )
    made = list(pieces(sent))
    assert len(made) > 3
    for piece in made:
        assert len(piece) < 1.2 * MAX_BYTES
        assert frame(piece).estimated_size() < 1.2 * MAX_BYTES
    assert_frame_equal(pl.concat([frame(piece) for piece in made]), sent)


def test_a_row_larger_than_the_limit_goes_alone() -> None:
    sent = pl.DataFrame({"n": [1, 2, 3], "text": ["x" * MAX_BYTES * 2] * 3})
    assert [frame(piece)["n"].to_list() for piece in pieces(sent)] == [[1], [2], [3]]


def test_equal_frames_make_equal_bytes() -> None:
    sent = pl.DataFrame({"area": ["b", "a", "b"], "n": [1, 2, 3]})
    assert list(pieces(sent)) == list(pieces(sent.clone()))
