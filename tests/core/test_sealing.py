"""Sealed records: they open only where they were meant to, and no key ever meets a nonce twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import sealing
from broker.core.errors import OperatorError
from broker.core.sealing import INCARNATION_BYTES, MOST_CIPHERS, SEQUENCE_BYTES, Sealer, derive, unseal

KEY = bytes(range(32))
PLACE: dict[str, Any] = {"topic": "contributions", "partition": 3, "key": b"housing/1", "policies": "ab" * 32}


def sealer(start: int = 1) -> Sealer:
    return Sealer(bytes([start]) * INCARNATION_BYTES)


class Recorder:
    """Stands for AESGCM and keeps every (key, nonce) that was used to encrypt."""

    used: list[tuple[bytes, bytes]]

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, additional: bytes) -> bytes:
        del additional
        self.used.append((self._key, nonce))
        return data


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    Recorder.used = []
    monkeypatch.setattr(sealing, "AESGCM", Recorder)
    return Recorder.used


@given(st.binary(max_size=2000))
@settings(max_examples=25, deadline=None)
def test_what_was_sealed_opens_at_its_place(plain: bytes) -> None:
    sealed = sealer().seal(plain, KEY, **PLACE)
    assert unseal(sealed, KEY, **PLACE) == plain


@pytest.mark.parametrize(
    "other",
    [{"topic": "rollups"}, {"partition": 4}, {"key": b"housing/2"}, {"key": b""}, {"policies": "ac" * 32}],
)
def test_a_moved_record_or_one_of_other_policies_does_not_open(other: dict[str, Any]) -> None:
    sealed = sealer().seal(b"secret", KEY, **PLACE)
    with pytest.raises(OperatorError, match="bad_seal") as caught:
        unseal(sealed, KEY, **{**PLACE, **other})
    assert "secret" not in str(caught.value)


def test_another_windows_key_does_not_open() -> None:
    sealed = sealer().seal(b"secret", KEY, **PLACE)
    with pytest.raises(OperatorError, match="bad_seal"):
        unseal(sealed, KEY[::-1], **PLACE)


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    sealed = sealer().seal(b"a plain text", KEY, **PLACE)
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OperatorError, match="bad_seal"):
            unseal(bytes(altered), KEY, **PLACE)
    for length in range(len(sealed)):
        with pytest.raises(OperatorError, match="bad_seal"):
            unseal(sealed[:length], KEY, **PLACE)


def test_topic_and_key_cannot_be_cut_differently() -> None:
    sealed = sealer().seal(b"x", KEY, topic="ab", partition=0, key=b"c", policies="d")
    with pytest.raises(OperatorError, match="bad_seal"):
        unseal(sealed, KEY, topic="a", partition=0, key=b"bc", policies="d")


def test_no_key_meets_a_nonce_twice_across_places_aborts_and_forgetting(
    used: list[tuple[bytes, bytes]],
) -> None:
    lane = sealer()
    for _ in range(3):  # an aborted transaction seals the same again: the counter is never set back
        for window_key in (KEY, KEY[::-1]):
            for partition in range(3):
                for topic in ("contributions", "rollups"):
                    place = {**PLACE, "partition": partition, "topic": topic}
                    lane.seal(b"the same text", window_key, **place)
        lane.forget(KEY)
    assert len(used) == 36
    assert len(set(used)) == 36


def test_however_many_windows_it_seals_for_a_lanes_memory_is_bounded_and_no_nonce_comes_twice(
    used: list[tuple[bytes, bytes]],
) -> None:
    """Also where a cipher that was dropped is needed again."""
    lane = sealer()
    for _ in range(2):
        for hour in range(2 * MOST_CIPHERS):
            lane.seal(b"the same text", derive(KEY, f"{hour}"), **PLACE)
            assert len(lane._ciphers) <= MOST_CIPHERS
    assert len(set(used)) == len(used) == 4 * MOST_CIPHERS
    assert len({key for key, _ in used}) == 2 * MOST_CIPHERS


def test_of_the_ciphers_those_used_last_stay(used: list[tuple[bytes, bytes]]) -> None:
    del used
    lane = sealer()
    for hour in range(MOST_CIPHERS + 5):
        lane.seal(b"x", KEY, **PLACE)
        lane.seal(b"x", derive(KEY, f"{hour}"), **PLACE)
    assert (KEY, PLACE["topic"], PLACE["partition"]) in lane._ciphers


def test_a_restarted_lane_begins_its_counter_anew_under_other_keys(used: list[tuple[bytes, bytes]]) -> None:
    for start in (1, 2, 3):
        lane = sealer(start)
        for _ in range(5):
            lane.seal(b"the same text", KEY, **PLACE)
    assert len(set(used)) == 15
    assert len({nonce for _, nonce in used}) == 5
    assert len({key for key, _ in used}) == 3


def test_the_body_is_incarnation_sequence_ciphertext_and_tag() -> None:
    lane = sealer(7)
    first, second = (lane.seal(b"12345", KEY, **PLACE) for _ in range(2))
    assert first[:INCARNATION_BYTES] == bytes([7]) * INCARNATION_BYTES
    end = INCARNATION_BYTES + SEQUENCE_BYTES
    counters = [int.from_bytes(each[INCARNATION_BYTES:end], "big") for each in (first, second)]
    assert counters == [1, 2]
    assert len(first) == end + 5 + 16


def test_forgetting_drops_the_derived_keys_of_that_window_only() -> None:
    lane = sealer()
    lane.seal(b"x", KEY, **PLACE)
    lane.seal(b"x", KEY[::-1], **PLACE)
    lane.forget(KEY)
    assert {window_key for window_key, _, _ in lane._ciphers} == {KEY[::-1]}
    assert unseal(lane.seal(b"again", KEY, **PLACE), KEY, **PLACE) == b"again"


def test_an_incarnation_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(b"short")


def test_labels_cannot_be_cut_differently() -> None:
    assert derive(KEY, "ab", "c") != derive(KEY, "a", "bc")
    assert derive(KEY, "a") != derive(KEY, "a", "")
    assert derive(KEY, "a", b"b") == derive(KEY, "a", "b")
    assert len(derive(KEY)) == 32
