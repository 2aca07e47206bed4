"""A partner's signing key is made once, by a command, and stays its secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker import cli
from broker.core.errors import InputError
from broker.core.note import parse_vkey
from broker.partner.keys import make_key, read_key


def test_the_secret_goes_to_its_owners_file_and_the_public_key_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "water-n.key"
    arguments = ["partner", "key", "--partner", "water-n", "--out", str(file)]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr().out
    assert file.stat().st_mode & 0o777 == 0o600
    assert printed.strip() == read_key(file).verifier.vkey
    verifier = parse_vkey(printed.strip())
    assert verifier.name == "water-n"
    assert verifier.verifies(b"text", read_key(file).sign(b"text"))

    secret = file.read_text()
    assert cli.run([*arguments, "--json"]) == 2  # it may hold the key of what was signed
    assert "[key_exists]" in capsys.readouterr().err
    assert file.read_text() == secret
    assert cli.run([*arguments[:-1], str(tmp_path / "other.key"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["partner"] == "water-n" and told["file"].endswith("other.key")
    assert told["agreement_key"] == read_key(tmp_path / "other.key").verifier.vkey != printed.strip()


@pytest.mark.parametrize(
    ("name", "file", "reason"), [("Water N", "k", "bad_name"), ("w", "no/k", "unwritable_file")]
)
def test_a_key_that_cannot_be_made_is_told(tmp_path: Path, name: str, file: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make_key(name, tmp_path / file)
    assert not (tmp_path / file).exists()


def test_a_file_without_a_key_is_named_and_never_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (b"PRIVATE+KEY+water-n+beef", b"\xff\xfe"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(InputError) as refused:
            read_key(tmp_path / "key")
        assert refused.value.where == str(tmp_path / "key") and "beef" not in str(refused.value)
    sign = ["territory", "sign", str(tmp_path), "vacancy-monthly", "--partner", "water-n"]
    assert cli.run([*sign, "--key", str(tmp_path)]) == 2  # a folder
    assert "is a directory" in capsys.readouterr().err
