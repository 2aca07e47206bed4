"""A demo that cannot go on says so early and plainly, and never harms another one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker import cli
from broker.commands.demo import folder_of_run
from broker.core.errors import InputError, OperatorError
from broker.demo.health import check_alive, web_ports
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


def test_a_taken_web_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=rf"port {port}: .*release worker.*--web-port.*port_taken"):
            web_ports(port - 1, ["ingest", "release"])
        home = tmp_path / "home"
        arguments = ["demo", "--once", "--home", str(home), "--web-port", str(port)]
        assert cli.run(arguments) == 1
    assert not home.exists()
    assert web_ports(0, ["ingest", "release"]) == {"ingest": 0, "release": 0}


def test_results_that_nobody_can_keep_are_told_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "home"
    assert cli.run(["demo", "--once", "--home", str(home), "--keep", str(tmp_path / "file" / "kept")]) == 2
    assert "unwritable_folder" in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            '{"event": "starting", "level": "info"}\n'
            '{"event": "lane 0 fails", "level": "error", "exception": "Traceback\\n  File x\\nKeyError: 7"}\n'
            '{"event": "lane 1 fails", "level": "error"}\n{"event": "Closing event loop", "level": "info"}\n',
            "lane 0 fails ← KeyError: 7",
        ),
        ("broker: keys: no key file [no_key_file]\n", "keys: no key file [no_key_file]"),
        ("Traceback (most recent call last):\n  File x\nImportError: y\n", "ImportError: y"),
        ("", "it said nothing"),
    ],
)
def test_a_worker_that_ended_is_quoted_by_its_first_error(tmp_path: Path, log: str, told: str) -> None:
    (tmp_path / "worker-ingest.log").write_text(log)
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    ended.wait()
    with pytest.raises(OperatorError) as failed:
        check_alive([("ingest", ended)], tmp_path)
    assert failed.value.what == f"the ingest worker ended with status 3: {told}"
    assert failed.value.where == str(tmp_path / "worker-ingest.log")


def test_the_folder_of_a_demo_stays_only_where_the_demo_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with folder_of_run(None, once=True) as done:
        done.mkdir()
    assert not done.parent.exists()
    with pytest.raises(KeyboardInterrupt), folder_of_run(None, once=True) as interrupted:
        interrupted.mkdir()
        raise KeyboardInterrupt
    assert not interrupted.parent.exists()
    with pytest.raises(OperatorError), folder_of_run(None, once=True) as failed:
        failed.mkdir()
        raise OperatorError("worker_ended", "it ended")
    assert failed.exists()
    assert f"stay in {failed.parent}" in capsys.readouterr().err
    shutil.rmtree(failed.parent)
