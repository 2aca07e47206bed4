"""What the demo shows fits what there is to show."""

from __future__ import annotations

import pytest

from broker.core.policy import load
from broker.demo.run import Outcome
from broker.demo.show import Show
from broker.edge.data import data_folder


def test_a_product_without_a_complete_window_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    path = data_folder("policies") / "vacancy-monthly.yaml"
    policy = load(path.read_text(encoding="utf-8"), path.name)
    counts = {"read": 2, "admitted": 2, "late": 0, "quarantined": {}, "refused": {}}
    Show().outcome(Outcome(counts, [], [], 1.0, 1.0), [policy])
    shown = capsys.readouterr().err
    assert "2 readings" in shown
    assert f"{policy.title.en}\nno complete window yet" in shown
