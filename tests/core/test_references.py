"""Public facts count only as the very file that every partner signed."""

from __future__ import annotations

from hashlib import sha256

import pytest
from policy_samples import sample

from broker.core.errors import InputError, Refused
from broker.core.references import read_references

CSV = b'date,why\n2026-01-03,frost\n2026-01-04,"frost, and wind"\n'


def policy(content: bytes) -> object:
    return sample(("references.cold-days.sha256", f"sha256:{sha256(content).hexdigest()}"))


def test_the_signed_file_gives_its_dates() -> None:
    found = read_references(policy(CSV), {"cold-days": CSV, "another": b"not asked for"})
    assert found == {"cold-days": frozenset({"2026-01-03", "2026-01-04"})}


def test_a_list_without_days_is_a_list() -> None:
    assert read_references(policy(b"date\n"), {"cold-days": b"date\n"}) == {"cold-days": frozenset()}


def test_another_file_is_refused_even_if_it_means_the_same() -> None:
    with pytest.raises(Refused, match="wrong_reference") as caught:
        read_references(policy(CSV), {"cold-days": CSV.replace(b"\n", b"\r\n")})
    assert "cold-days" in caught.value.where
    assert sha256(CSV).hexdigest() in caught.value.what


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"the file cold-days\.csv is missing"):
        read_references(policy(CSV), {})


@pytest.mark.parametrize(
    "content",
    [b"day\n2026-01-03\n", b"date\n03/01/2026\n", b"date\n2026-02-30\n", b"date\n\xff\xfe\n", b"a,date\n1\n"],
)
def test_what_is_no_list_of_dates_is_bad_input_that_names_the_reference(content: bytes) -> None:
    with pytest.raises(InputError, match="bad_reference") as caught:
        read_references(policy(content), {"cold-days": content})
    assert "cold-days" in caught.value.where
