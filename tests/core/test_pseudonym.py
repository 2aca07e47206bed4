"""Pseudonyms are what their definition says, and nothing links what must not be linked."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import ProgrammerError
from broker.core.pseudonym import point_pseudonyms, premises_pseudonyms

KEY = hashlib.sha256(b"epoch").digest()


def test_a_premises_pseudonym_is_the_truncated_hmac_of_label_domain_and_token() -> None:
    message = b"premises/v1" + b"\x00\x00\x00\x07housing" + b"\x00\x00\x00\x03abc"
    expected = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    assert premises_pseudonyms(KEY, "housing", ["abc"]) == [expected]


def test_a_point_pseudonym_is_the_truncated_hmac_of_label_partner_and_point() -> None:
    message = b"point/v1" + b"\x00\x00\x00\x07water-n" + b"\x00\x00\x00\x04\xc3\xa9tx"
    expected = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    assert point_pseudonyms(KEY, "water-n", ["étx"]) == [expected]


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=2, max_size=8, unique=True))
def test_no_two_owners_and_names_share_a_pseudonym(pairs: list[tuple[str, str]]) -> None:
    made = [point_pseudonyms(KEY, owner, [name])[0] for owner, name in pairs]
    made += [premises_pseudonyms(KEY, owner, [name])[0] for owner, name in pairs]
    assert len(set(made)) == 2 * len(pairs)


def test_another_epoch_or_domain_cannot_be_linked() -> None:
    other = hashlib.sha256(b"next epoch").digest()
    here = premises_pseudonyms(KEY, "housing", ["abc"])
    assert here != premises_pseudonyms(other, "housing", ["abc"])
    assert here != premises_pseudonyms(KEY, "mobility", ["abc"])


def test_a_short_key_makes_no_pseudonym() -> None:
    with pytest.raises(ProgrammerError, match="32 bytes"):
        point_pseudonyms(b"", "water-n", ["p"])
