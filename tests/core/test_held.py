"""Contributions that wait for their window to close come out as they went in."""

from __future__ import annotations

import polars as pl
import pytest

from broker.core.chunks import FEW, pieces
from broker.core.held import Held, together

SCHEMA = {"point": pl.Binary, "area": pl.String, "value": pl.Int64, "mask": pl.UInt64}


def rows(count: int, *, areas: int = 3, mask: int = 1) -> pl.DataFrame:
    found = [(bytes([i % 256]) * 16, f"area {i % areas}", i, mask) for i in range(count)]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def piece(frame: pl.DataFrame) -> bytes:
    (found,) = pieces(frame)
    return found


def text(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.with_columns(pl.col("area").cast(pl.String)).select(*SCHEMA, "seq").rows()


def test_rows_come_out_of_a_piece_as_of_a_frame_with_their_place() -> None:
    one, other = rows(5), rows(3)
    expected = [(*row, 7) for row in one.rows()] + [(*row, 9) for row in other.rows()]
    assert text(together([Held(one, ["a"], 7), Held(piece(other), ["a"], 9)], ["a"])) == expected
    assert text(together([Held(piece(one), ["a"], 7), Held(piece(other), ["a"], 9)], ["a"])) == expected


@pytest.mark.parametrize("order", [1, -1])
def test_pieces_with_few_and_with_many_different_texts_go_together(order: int) -> None:
    """The latter come without a dictionary."""
    held = [Held(piece(rows(2 * FEW, areas=areas)), ["a"], areas) for areas in (3, FEW + 1)][::order]
    found = together(held, ["a"])
    assert found["area"].n_unique() == FEW + 1
    assert found.height == 4 * FEW


def test_bits_are_those_of_the_products_that_run_when_the_window_closes() -> None:
    held = [Held(rows(1, mask=0b11), ["a", "b"], 1), Held(piece(rows(1, mask=0b01)), ["b"], 2)]
    assert together(held, ["a", "b"])["mask"].to_list() == [0b11, 0b10]
    assert together(held, ["b", "c", "a"])["mask"].to_list() == [0b101, 0b001]


def test_what_was_held_for_a_product_that_has_gone_counts_for_nothing_when_it_comes_back() -> None:
    held = Held(piece(rows(1, mask=0b11)), ["a", "b"], 1).without({"b"})
    assert together([held], ["a", "b"])["mask"].to_list() == [0b01]
