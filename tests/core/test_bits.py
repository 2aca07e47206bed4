"""Product bits keep their meaning when products come and go."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.bits import rename_bits

NAMES = [f"product-{i:02}" for i in range(63)]


def products_of(mask: int, names: list[str]) -> set[str]:
    return {name for bit, name in enumerate(names) if mask >> bit & 1}


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_each_mask_means_the_same_products_less_those_that_are_gone(data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(NAMES), unique=True)
    written, now = data.draw(some), data.draw(some)
    masks = data.draw(st.lists(st.integers(0, 2 ** len(written) - 1), max_size=6))
    rows = pl.DataFrame({"mask": masks, "other": masks}, schema={"mask": pl.UInt64, "other": pl.UInt64})
    renamed = rename_bits(rows, "mask", written, now)
    assert renamed.schema == rows.schema
    assert renamed["other"].to_list() == masks
    for before, after in zip(masks, renamed["mask"].to_list(), strict=True):
        assert products_of(after, now) == products_of(before, written) & set(now)


def test_the_highest_bit_of_a_full_domain_moves_too() -> None:
    rows = pl.DataFrame({"mask": [1 << 62]}, schema={"mask": pl.UInt64})
    assert rename_bits(rows, "mask", NAMES, NAMES[::-1])["mask"].to_list() == [1]
    assert rename_bits(rows, "mask", NAMES, NAMES)["mask"].to_list() == [1 << 62]
