"""Rows cut by keys: each piece holds rows of one key, in their order, and nothing is lost."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from broker.core.chunks import MAX_BYTES, frame, pieces_by

KEYED = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), max_size=40)


@given(KEYED)
@settings(max_examples=60, deadline=None)
def test_rows_of_each_key_keep_their_order_and_keys_ascend(keys: list[tuple[int, int]]) -> None:
    sent = pl.DataFrame(
        [(window, to, f"row-{n}", n.to_bytes(16, "big")) for n, (window, to) in enumerate(keys)],
        schema={"window": pl.Int64, "to": pl.UInt32, "text": pl.String, "point": pl.Binary},
        orient="row",
    )
    counted = [(key, rows, frame(piece)) for key, rows, piece in pieces_by(sent, ["window", "to"])]
    made = [(key, got) for key, _, got in counted]
    assert all(got.height == rows for _, rows, got in counted)
    assert [key for key, _ in made] == sorted(set(keys))
    for (window, to), got in made:
        of_key = (pl.col("window") == window) & (pl.col("to") == to)
        assert_frame_equal(got, sent.filter(of_key).drop("window", "to"))


def test_a_key_with_many_rows_goes_out_in_several_pieces() -> None:
    rows = 100_000
    sent = pl.DataFrame({"to": [7] * rows, "n": range(rows)})
    made = [(key, piece) for key, _, piece in pieces_by(sent, ["to"])]
    assert len(made) > 1
    assert {key for key, _ in made} == {(7,)}
    assert all(frame(piece).estimated_size() < 1.2 * MAX_BYTES for _, piece in made)
    assert_frame_equal(pl.concat([frame(piece) for _, piece in made]), sent.drop("to"))


def test_text_of_many_different_values_is_not_repeated_in_every_piece() -> None:
    rows = 60_000
    sent = pl.DataFrame({"text": [f"value-{n:020}" for n in range(rows)]})
    made = [piece for _, _, piece in pieces_by(sent, [])]
    assert len(made) > 2
    assert all(len(piece) < MAX_BYTES for piece in made)
    assert_frame_equal(pl.concat([frame(piece) for piece in made]), sent)
