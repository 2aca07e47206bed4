"""What the tests of the dry run share."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_files import SUPPLIERS, Trial, plain


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """Two homes of each supplier in K1 and K2, with a reading of 1000 Wh on each of two days."""
    made = Trial(tmp_path)
    for partner in SUPPLIERS:
        for area in ("K1", "K2"):
            for number in range(2):
                made.homes[f"{partner}-{area}-{number}"] = partner, area, "house"
    made.put("energy", plain(made))
    return made
