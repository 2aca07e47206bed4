"""The Java side of the embedded Kafka: which java, which jars, which arguments, and why it failed.

Nothing secret is ever on a command line: main class and arguments stand in an argument file (JEP 293) of mode
0600, so the process list shows `java @file`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from broker.core.errors import OperatorError
from broker.edge.kafka import die_with_parent
from broker.edge.kafka.pki import write_private

# Measured: the client compiler and the serial collector start fastest; the broker then takes 160-215 MiB.
JVM_FLAGS = (
    "-Xms64m",
    "-Xmx512m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)
_LOG_TAIL = 64 * 1024
_EXPLANATIONS = (
    (
        "UnsupportedClassVersionError",
        "java_too_old",
        "the Java found is too old for Kafka: install a JDK 17 or newer",
    ),
    (
        "Unrecognized VM option",
        "java_too_old",
        "the Java found does not know a needed option: install a JDK 17 or newer",
    ),
    (
        "Address already in use",
        "port_taken",
        "one of its ports is taken: give another with --port, or free it",
    ),
    ("No space left on device", "disk_full", "the disk is full: make room and start again"),
    ("OutOfMemoryError", "out_of_memory", "the Java process ran out of memory: give the machine more"),
    (
        "Unable to create native thread",
        "out_of_memory",
        "the machine gives Java no more threads: raise the limit",
    ),
)


def default_libs() -> Path:
    """Where `make setup` puts the jars of deploy/kafka/pom.xml."""
    return Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "target" / "libs"


def find_java() -> str:
    """The java of JAVA_HOME, else the one on the path. Raises OperatorError where there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise OperatorError(
            "java_missing", "no Java found: install a JDK 17 or newer (Debian: openjdk-17-jre-headless)"
        )
    return found


def class_path(libs: Path) -> str:
    """All jars of the folder, sorted. Raises OperatorError where Kafka is not among them."""
    jars = sorted(str(jar) for jar in libs.glob("*.jar"))
    if not any(Path(jar).name.startswith("kafka_") for jar in jars):
        raise OperatorError("kafka_jars_missing", "no Kafka jars here: run `make setup`", where=str(libs))
    return ":".join(jars)


def archive(libs: Path) -> Path:
    """Where the class archive of these jars lies, if `make setup` made it: it saves a third of the start."""
    return libs.parent / "kafka.jsa"


def write_arguments(
    file: Path, libs: Path, main: str, arguments: list[str], flags: tuple[str, ...] = ()
) -> None:
    """Write an argument file for java, each argument on a line of its own and quoted; `flags` come after the
    defaults and so win."""
    # Java ignores an archive that is not of its version and class path, and says so: not in our log.
    shared = [f"-XX:SharedArchiveFile={archive(libs)}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    defaults = [*JVM_FLAGS, *(shared if archive(libs).exists() else [])]
    lines = ["-cp", class_path(libs), *defaults, *flags, main, *arguments]
    write_private(file, "".join(f"{_quote(line)}\n" for line in lines).encode())


def run_to_end(arguments: Path, log: Path, timeout: float) -> int:
    """Run java with an argument file, output appended to `log`; its exit status."""
    with log.open("ab") as output:
        done = subprocess.run(  # noqa: S603 - the operator's own java, no shell
            [find_java(), f"@{arguments}"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout, check=False,
        )  # fmt: skip
    return done.returncode


def launch(arguments: Path, log: Path, keep_open: int) -> subprocess.Popen[bytes]:
    """Start java as a child that ends with this process.

    It stands in a session of its own, so that Ctrl-C in a terminal reaches this process only, which then
    stops it in order. `keep_open` is a file descriptor that the child inherits (the lock on its home). The
    kernel ties the child to the *thread* that starts it: that must be one which lasts.
    """
    guard = [sys.executable, "-I", "-S", die_with_parent.__file__]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the operator's own java, no shell
            [*guard, str(os.getpid()), find_java(), f"@{arguments}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[keep_open],
            start_new_session=True,
        )


def explain(log: Path, since: int) -> OperatorError:
    """The error that the log, from byte `since` on, shows: its known cause, else its last error line."""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - _LOG_TAIL))
        text = file.read().decode(errors="replace")
    for mark, reason, advice in _EXPLANATIONS:
        if mark in text:
            return OperatorError(reason, f"Kafka did not start: {advice}", where=str(log))
    lines = text.splitlines()
    errors = [line for line in lines if " ERROR " in line] or [line for line in lines if "Exception" in line]
    last = errors[-1].strip()[:300] if errors else "it wrote no reason"
    return OperatorError(
        "kafka_failed", f"Kafka did not start: {last}; the whole log is in this file", where=str(log)
    )


def _quote(argument: str) -> str:
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
