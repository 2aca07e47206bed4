"""Lanes without anything to do do not wait in these tests."""

from __future__ import annotations

import pytest

from broker.stages import ingest


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "WAIT_MS", 0)
