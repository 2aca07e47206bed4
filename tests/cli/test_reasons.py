"""Whoever meets a reason code finds what it means and who must act."""

from __future__ import annotations

import json

import pytest

from broker import cli
from broker.core.reasons import REASONS


def test_every_reason_is_listed_with_its_meaning_and_who_must_act(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["reasons"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(REASONS)
    for line, (code, reason) in zip(lines, REASONS.items(), strict=True):
        assert line.split()[:3] == [code, reason.outcome, reason.must_act]
        assert line.endswith(reason.text)


def test_a_script_gets_the_reasons_by_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["reasons", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == REASONS.keys()
    assert found["withdrawn"] == {
        "outcome": "refused",
        "must_act": "nobody",
        "text": "consent was withdrawn, or the person objected",
    }
