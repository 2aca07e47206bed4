"""The README keeps the form that was promised to its readers."""

from __future__ import annotations

from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("reader", ["Utility", "Municipality", "Auditor", "Operator", "Statistician"])
def test_each_reader_has_a_door_of_ten_lines(reader: str) -> None:
    """Lines that say something: neither blank nor the fence of a code block."""
    sections = README.read_text(encoding="utf-8").split("\n### ")
    (door,) = [section for section in sections if section.startswith(reader)]
    _, *lines = door.partition("\n## ")[0].splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("```")]
    assert 0 < len(said) <= 10, "\n".join(said)
