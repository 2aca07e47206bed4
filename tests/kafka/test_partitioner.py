"""Keys land where Kafka's Java clients put them."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.partitioner import murmur2, partition_for, partitions_for

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
KAFKA_VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), KAFKA_VECTORS.items())
def test_hash_is_that_of_kafkas_own_tests(key: str, expected: int) -> None:
    assert murmur2(key.encode()) == expected


@given(st.lists(st.one_of(st.none(), st.binary(max_size=150)), max_size=60), st.integers(1, 256))
def test_columns_and_single_keys_agree(keys: list[bytes | None], partitions: int) -> None:
    expected = [-1 if key is None else partition_for(key, partitions) for key in keys]
    assert partitions_for(keys, partitions).tolist() == expected


def test_a_series_of_text_is_hashed_as_utf8() -> None:
    keys = pl.Series(["compteur-été", None, ""])
    expected = [partition_for("compteur-été".encode(), 16), -1, partition_for(b"", 16)]
    assert partitions_for(keys, 16).tolist() == expected


def test_negative_hashes_have_a_partition_too() -> None:
    assert partition_for(b"21", 16) == (-973932308 & 0x7FFFFFFF) % 16
