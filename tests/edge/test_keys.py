"""Keys of a local file: one secret, one key for each use, and a file that only its owner reads."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from broker.core.errors import OperatorError
from broker.edge.keys import LocalKeys, load_keys

SECRET = bytes(range(32))


def all_keys(keys: LocalKeys) -> list[bytes]:
    return [
        keys.epoch_key("housing", "2026"),
        keys.epoch_key("housing", "2027"),
        keys.epoch_key("grid", "2026"),
        keys.window_key("housing", "P1D", 0),
        keys.window_key("housing", "P1D", -1),
        keys.window_key("housing", "P1D", 1),
        keys.window_key("housing", "PT1H", 0),
        keys.window_key("housing", "rollup", 0),
        keys.window_key("grid", "P1D", 0),
        keys.rounding_key("housing", "2026"),
        keys.rounding_key("housing", "2027"),
        keys.rounding_key("grid", "2026"),
        keys.audit_key(),
        keys.quarantine_key(),
    ]


def test_every_use_has_its_own_key_of_32_bytes() -> None:
    keys = all_keys(LocalKeys(SECRET))
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}
    assert SECRET not in keys


def test_the_same_secret_gives_the_same_keys_and_another_none_of_them() -> None:
    assert all_keys(LocalKeys(SECRET)) == all_keys(LocalKeys(SECRET))
    assert not set(all_keys(LocalKeys(SECRET))) & set(all_keys(LocalKeys(SECRET[::-1])))


def test_a_made_file_is_the_owners_only_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys"
    first = load_keys(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert all_keys(load_keys(path, create=True)) == all_keys(first)
    assert all_keys(load_keys(path)) == all_keys(first)
    other = load_keys(tmp_path / "other", create=True)
    assert other.audit_key() != first.audit_key()


def test_a_missing_file_is_not_made_unasked_and_the_message_names_it(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no_key_file") as caught:
        load_keys(tmp_path / "keys")
    assert caught.value.where == str(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33, "ab" * 31 + "a"])
def test_a_file_of_another_form_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(OperatorError, match="bad_key_file") as caught:
        load_keys(path)
    assert not text or text not in str(caught.value)


def test_the_secret_never_shows() -> None:
    keys = LocalKeys(SECRET)
    assert SECRET.hex() not in repr(keys)
    assert repr(SECRET) not in f"{keys} {keys!r}"
