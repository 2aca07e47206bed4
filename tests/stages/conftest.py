"""Lanes without anything to do do not wait in these tests."""

from __future__ import annotations

import pytest

from broker.stages import ingest


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in ("WAIT_MS", "GATHER_MS"):
        monkeypatch.setattr(ingest, wait, 0, raising=False)
    monkeypatch.setattr(ingest, "GATHER_MS", 0)
