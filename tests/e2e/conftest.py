"""The one setting that all end-to-end tests share."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A Kafka, some workers, a month of days: on a busy machine more than other tests are given."""
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.timeout(600))
