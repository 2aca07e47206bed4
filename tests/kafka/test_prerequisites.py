"""A machine that lacks something is told in one line what to install."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PYTHON_OK = "exit 0"
JAVA = "echo 'openjdk version \"{0}\"' >&2"


def check(script: str, folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a check on a machine that has only these programs, each a line of shell."""
    for name in ("bash", "sh", "sed", "head"):
        (folder / name).symlink_to(shutil.which(name) or "")
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": str(folder)}
    return subprocess.run(
        [str(DEPLOY / script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("script", "programs", "words"),
    [
        ("find-python", {}, "apt install python3 python3-venv"),
        ("find-python", {"python3": "exit 1"}, "Python 3.11"),
        ("find-python", {"python3": 'case "$*" in *venv*) exit 1;; esac'}, "apt install python3-venv"),
        ("find-java", {"mvn": "exit 0"}, "openjdk-17"),
        ("find-java", {"mvn": "exit 0", "java": JAVA.format("11.0.2")}, "too old: Java 11"),
        ("find-java", {"mvn": "exit 0", "java": JAVA.format("1.8.0_292")}, "too old: Java 1;"),
        ("find-java", {"java": JAVA.format("17.0.15")}, "apt install maven"),
    ],
)
def test_what_is_missing_is_one_line_and_status_2(
    tmp_path: Path, script: str, programs: dict[str, str], words: str
) -> None:
    done = check(script, tmp_path, programs)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea", "25.0.1"])
def test_a_new_enough_java_passes(tmp_path: Path, version: str) -> None:
    done = check("find-java", tmp_path, {"mvn": "exit 0", "java": JAVA.format(version)})
    assert (done.returncode, done.stderr) == (0, "")


def test_the_newest_usable_python_is_taken(tmp_path: Path) -> None:
    done = check(
        "find-python", tmp_path, {"python3": PYTHON_OK, "python3.12": PYTHON_OK, "python3.13": "exit 1"}
    )
    assert done.stdout == f"{tmp_path}/python3.12\n"
