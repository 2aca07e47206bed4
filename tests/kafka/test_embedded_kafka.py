"""The embedded Kafka starts, keeps its data, and leaves nothing behind, whatever ends it."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run
from broker.core.errors import OperatorError
from broker.edge.kafka import jvm
from broker.edge.kafka.admin import Admin, TopicSpec
from broker.edge.kafka.clients import bulk_producer, check_login, consumer
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.home import Home
from broker.edge.kafka.pki import ensure_pki

BROKER = [str(Path(sys.executable).with_name("broker")), "kafka"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def up(home: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """`broker kafka up` as a user starts it, and what it says once it is up."""
    process = subprocess.Popen(
        [*BROKER, "up", "--home", str(home), "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it did not start; its log ends: {Home(home).log.read_text()[-2000:]}"
    return process, json.loads(line)


def gone(process: subprocess.Popen[str], facts: dict[str, Any], home: Path) -> None:
    """Nothing of it is left: no Java, no port, no lock."""
    process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    wait_for(lambda: not alive(facts["pid"]), "Java ends")
    assert free(int(facts["bootstrap"].rpartition(":")[2]))
    assert Home(home).status().condition == "stopped"


async def test_a_restart_keeps_data_and_port_and_renews_an_expired_certificate(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with EmbeddedKafka(home) as kafka:
        first, pid = kafka.bootstrap, kafka.pid
        Admin(kafka.admin).ensure_topics({"kept": TopicSpec(1)})
        producer = bulk_producer(kafka.admin)
        producer.produce("kept", b"value", key=b"key")
        assert producer.flush(30) == 0
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "secrets" / "admin").stat().st_mode & 0o777 == 0o600
        assert kafka.admin_password not in command_line(pid)
        assert kafka.admin_password not in (home / "server.properties").read_text()
    assert not alive(pid)
    assert free(int(first.rpartition(":")[2]))

    old = tmp_path / "expired"
    old.mkdir()
    ensure_pki(old, dt.datetime.now(dt.UTC) - dt.timedelta(days=500))
    shutil.copytree(old, home / "tls", dirs_exist_ok=True)
    with EmbeddedKafka(home) as kafka:
        assert kafka.bootstrap == first
        reader = consumer(kafka.admin)
        await reader.start()
        reader.subscribe(["kept"])
        record = await reader.getone()
        await reader.stop()
        assert (record.key, record.value) == (b"key", b"value")
        await check_login(kafka.admin)


def test_ctrl_c_kill_and_down_each_leave_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"

    process, facts = up(home)
    assert run(["kafka", "status", "--home", str(home)]) == 0
    with pytest.raises(OperatorError, match="home_in_use"):
        EmbeddedKafka(home).start()
    assert alive(facts["pid"])
    process.send_signal(signal.SIGINT)
    gone(process, facts, home)
    assert process.returncode == 0
    assert run(["kafka", "status", "--home", str(home)]) == 1

    process, facts = up(home)
    process.kill()
    gone(process, facts, home)

    process, facts = up(home)
    assert run(["kafka", "down", "--home", str(home)]) == 0
    gone(process, facts, home)
    assert process.returncode == 0
    assert run(["kafka", "down", "--home", str(home)]) == 0


def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen([*BROKER, "up", "--home", str(home)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (state := Home(home).read_state()) is not None and state.pid is not None, "Java starts")
    state = Home(home).read_state()
    assert state is not None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert state.pid is not None
    assert not alive(state.pid)
    assert Home(home).status().condition == "stopped"


def test_a_java_that_dies_by_itself_is_reported(tmp_path: Path) -> None:
    process, facts = up(tmp_path / "home")
    os.kill(facts["pid"], signal.SIGKILL)
    gone(process, facts, tmp_path / "home")
    assert process.returncode == 1


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port}.*--port"):
            EmbeddedKafka(tmp_path / "home", port=port).start()
    assert Home(tmp_path / "home").status().condition == "stopped"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    mode = tmp_path.stat().st_mode
    with pytest.raises(OperatorError, match="bad_home"):
        EmbeddedKafka(tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode == mode


def test_a_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(OperatorError, match=r"java_missing") as refused:
        EmbeddedKafka(tmp_path / "home").start()
    assert "install a JDK 17" in str(refused.value)


def test_an_old_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'java.lang.UnsupportedClassVersionError: kafka/Kafka' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(OperatorError, match="java_too_old"):
        EmbeddedKafka(tmp_path / "home").start()
    assert Home(tmp_path / "home").status().condition == "stopped"


def test_missing_jars_are_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="make setup"):
        EmbeddedKafka(tmp_path / "home", libs=tmp_path).start()


def test_a_stale_or_damaged_state_file_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.lock_file.touch()
    state = {
        "owner": os.getpid(),
        "pid": os.getpid(),
        "port": 1,
        "node_port": 2,
        "controller_port": 3,
        "ready": True,
    }
    home.state_file.write_text(json.dumps(state))
    assert home.status().condition == "stopped"
    assert not home.down()
    os.close(home.lock(1.0))
    home.state_file.write_text("{")
    assert home.status().condition == "stopped"


def test_the_log_explains_itself(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    before = "java.net.BindException: Address already in use\n"
    log.write_text(before + "java.io.IOException: No space left on device\n")
    assert jvm.explain(log, len(before)).reason == "disk_full"
    log.write_text("[main] INFO fine\n[main] ERROR it broke here\nat somewhere\n")
    assert "it broke here" in str(jvm.explain(log, 0))


def test_a_path_with_odd_characters_works_in_javas_files(tmp_path: Path) -> None:
    from broker.edge.kafka.properties import render

    assert render({"log.dirs": r"/tmp/é\x"}) == "log.dirs=/tmp/\\u00e9\\\\x\n"
    with pytest.raises(OperatorError, match="comma"):
        Home(tmp_path / "a,b").prepare()
