"""Apache Kafka as a child process (KRaft, one node), with TLS, SCRAM and ACLs from the first day.

    with EmbeddedKafka(Path(".broker/kafka")) as kafka:
        kafka.bootstrap, kafka.ca_pem, kafka.admin_password

Invariants: data, logs, keys and passwords stay in one folder of mode 0700; the same folder starts again with
its data and, where it can, its ports; on exit, on Ctrl-C and when this process dies in any way, the Java
process ends and its ports are free; certificates near their end are renewed before the start, as Kafka
refuses to start with an expired one; the first administrator's password is made once and never stands on a
command line.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.core.errors import OperatorError, ProgrammerError
from broker.edge.kafka import jvm
from broker.edge.kafka.admin import wait_until_ready
from broker.edge.kafka.home import Home, State
from broker.edge.kafka.pki import ensure_pki, write_private
from broker.edge.kafka.properties import ADMIN, Ports, render, server_properties
from broker.edge.kafka.settings import KafkaSettings

START_TIMEOUT = 90.0
STOP_TIMEOUT = 20.0
_LOG_LIMIT = 16 * 1024 * 1024
_SCRAM_ITERATIONS = 8192
# Below the range from which Linux takes ports for outgoing connections, so that none slips in before the
# broker.
_PORT_RANGE = range(20_000, 32_000)
_PORT_ATTEMPTS = 3
# How Java ends on SIGTERM: by its own handler, or, very early, by the signal itself.
_STOPPED = {128 + signal.SIGTERM, -signal.SIGTERM}


class EmbeddedKafka:
    """One Kafka in `home`. `port` is the clients' port; without one, the home's last port or a free one.
    `jvm_flags` come after the defaults, which are those of a quick start on a small machine."""

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        libs: Path | None = None,
        jvm_flags: tuple[str, ...] = (),
    ) -> None:
        self.home = Home(home.absolute())
        self._wanted_port = port
        self._libs = libs or jvm.default_libs()
        self._jvm_flags = jvm_flags
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._state: State | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        return self._running().bootstrap

    @property
    def pid(self) -> int:
        """The Java process."""
        pid = self._running().pid
        assert pid is not None
        return pid

    @property
    def ca_pem(self) -> Path:
        """The certificate that clients must trust."""
        return self.home.tls / "ca.pem"

    @property
    def admin_password(self) -> str:
        return (self.home.secrets / ADMIN).read_text()

    @property
    def admin(self) -> KafkaSettings:
        """How the administrator logs in."""
        return self.settings(ADMIN)

    def settings(self, principal: str) -> KafkaSettings:
        """How a principal whose password lies in `secrets/` logs in."""
        return KafkaSettings(
            bootstrap_servers=self.bootstrap,
            ca_file=self.ca_pem,
            username=principal,
            password_file=self.home.secrets / principal,
        )

    def start(self) -> None:
        """Start and wait until the administrator can log in. Raises OperatorError with the cause."""
        if threading.current_thread() is not threading.main_thread():
            # The kernel's parent-death signal follows the thread: from a short-lived one the broker would
            # end early.
            raise ProgrammerError("wrong_thread", "the embedded Kafka must be started from the main thread")
        jvm.find_java()
        jvm.class_path(self._libs)
        self.home.prepare()
        self._lock = self.home.lock(STOP_TIMEOUT)
        try:
            self._start_on_free_ports()
        except BaseException:  # Ctrl-C too: no process and no lock may stay behind
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker if it runs, and free the home. Harmless when repeated."""
        try:
            if self._process is not None:
                _end(self._process)
                self._process = None
            if self._lock is not None and self._state is not None:
                self._note(owner=None, pid=None, ready=False)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def watch(self) -> None:
        """Return once somebody stops the broker; raise OperatorError if it ends by itself."""
        assert self._process is not None
        begin = self.home.log.stat().st_size
        if self._process.wait() not in _STOPPED:
            raise jvm.explain(self.home.log, begin)

    def _start_on_free_ports(self) -> None:
        """Another program may take a port between its choice and its use: then choose again."""
        for _ in range(_PORT_ATTEMPTS - 1):
            try:
                self._start_locked()
            except OperatorError as error:
                if error.reason != "port_taken":
                    raise
            else:
                return
        self._start_locked()

    def _start_locked(self) -> None:
        pki = ensure_pki(self.home.tls, dt.datetime.now(dt.UTC))
        ports = self._choose_ports(self.home.read_state())
        self._state = State(os.getpid(), None, ports.client, ports.node, ports.controller, ready=False)
        self.home.write_state(self._state)
        write_private(self.home.properties, render(server_properties(self.home.data, pki, ports)).encode())
        self._rotate_log()
        self._format()
        arguments = self.home.folder / "run.args"
        jvm.write_arguments(
            arguments, self._libs, "kafka.Kafka", [str(self.home.properties)], self._jvm_flags
        )
        begin = self.home.log.stat().st_size
        assert self._lock is not None
        self._process = jvm.launch(arguments, self.home.log, self._lock)
        self._note(owner=os.getpid(), pid=self._process.pid, ready=False)
        self._wait_ready(self._process, begin)
        self._note(owner=os.getpid(), pid=self._process.pid, ready=True)

    def _format(self) -> None:
        """Give the data folder its identity and first administrator, once; a half-done attempt is begun
        anew."""
        done = self.home.folder / "formatted"
        password = self.home.secrets / ADMIN
        if done.exists():
            if not password.exists():
                raise OperatorError(
                    "admin_password_missing", "the administrator's password is gone", where=str(password)
                )
            return
        shutil.rmtree(self.home.data)
        self.home.data.mkdir(mode=0o700)
        if not password.exists():
            write_private(password, secrets.token_urlsafe(24).encode())
        arguments = self.home.folder / "format.args"
        # `=`: an identifier may begin with a dash.
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        options = ["--config", str(self.home.properties), f"--cluster-id={cluster}", "--ignore-formatted"]
        options += ["--add-scram", _scram_credential(ADMIN, password.read_text())]
        begin = self.home.log.stat().st_size
        try:
            jvm.write_arguments(arguments, self._libs, "kafka.tools.StorageTool", ["format", *options])
            status = jvm.run_to_end(arguments, self.home.log, START_TIMEOUT)
        finally:
            arguments.unlink(missing_ok=True)
        if status != 0:
            raise jvm.explain(self.home.log, begin)
        done.touch(mode=0o600)

    def _wait_ready(self, process: subprocess.Popen[bytes], begin: int) -> None:
        def ended() -> None:
            status = process.poll()
            if status in _STOPPED:
                raise OperatorError(
                    "kafka_stopped", "Kafka was stopped while it started", where=str(self.home.folder)
                )
            if status is not None:
                raise jvm.explain(self.home.log, begin)

        deadline = time.monotonic() + START_TIMEOUT
        port = self._running().port
        while True:
            ended()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > deadline:
                raise OperatorError(
                    "kafka_slow",
                    f"Kafka did not open its port within {START_TIMEOUT:.0f} s",
                    where=str(self.home.log),
                )
            time.sleep(0.05)
        wait_until_ready(self.admin, max(5.0, deadline - time.monotonic()), ended)

    def _choose_ports(self, last: State | None) -> Ports:
        taken: set[int] = set()

        def choose(wanted: int | None) -> int:
            candidates = ([wanted] if wanted else []) + random.sample(_PORT_RANGE, 200)
            port = next((p for p in candidates if p not in taken and port_is_free(p)), None)
            if port is None:
                raise OperatorError("port_taken", "no free port found on 127.0.0.1")
            taken.add(port)
            return port

        if self._wanted_port is not None:
            if not port_is_free(self._wanted_port):
                raise OperatorError(
                    "port_taken",
                    "another program listens on it: give another with --port",
                    where=f"port {self._wanted_port}",
                )
            taken.add(self._wanted_port)
        client = self._wanted_port or choose(last.port if last else None)
        return Ports(
            client, choose(last.node_port if last else None), choose(last.controller_port if last else None)
        )

    def _rotate_log(self) -> None:
        log = self.home.log
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        log.touch(mode=0o600)

    def _note(self, *, owner: int | None, pid: int | None, ready: bool) -> None:
        self._state = replace(self._running(), owner=owner, pid=pid, ready=ready)
        self.home.write_state(self._state)

    def _running(self) -> State:
        if self._state is None:
            raise ProgrammerError("not_started", "the embedded Kafka was not started")
        return self._state


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then, after STOP_TIMEOUT or a second Ctrl-C, SIGKILL; never leaves a zombie."""
    try:
        process.terminate()
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def port_is_free(port: int) -> bool:
    """Whether nothing listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # As Java does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _scram_credential(name: str, password: str) -> str:
    """The first administrator as the format tool takes it: salted and hashed (RFC 5802, Hi), never in
    clear."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _SCRAM_ITERATIONS)
    encoded = [base64.b64encode(value).decode() for value in (salt, salted)]
    return (
        f"SCRAM-SHA-512=[name={name},iterations={_SCRAM_ITERATIONS},"
        f'salt="{encoded[0]}",saltedpassword="{encoded[1]}"]'
    )
