"""A demo that cannot go on says so early and plainly, and never harms another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.core.errors import InputError, OperatorError
from broker.demo.run import MARKER, clear
from broker.edge.kafka.home import Home


def test_a_second_demo_never_touches_the_one_that_runs(tmp_path: Path) -> None:
    clear(tmp_path)
    running = Home(tmp_path / "kafka")
    running.prepare()
    (running.data / "topic").touch()
    lock = running.lock(0)
    try:
        with pytest.raises(OperatorError, match=r"Ctrl-C.*--home.*demo_running") as refused:
            clear(tmp_path)
    finally:
        os.close(lock)
    assert refused.value.where == str(tmp_path)
    assert (running.data / "topic").exists()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_a_folder_of_other_things_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="not_a_demo"):
        clear(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
