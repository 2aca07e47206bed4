"""The folder of one embedded Kafka: its lock, its state file, and what another process may do with both.

    HOME/  data/  logs/kafka.log  tls/ca.pem  secrets/<principal>  server.properties  state.json  lock

Invariants: at most one broker lives in a home, as an exclusive flock(2) on `lock` is held from before the
start until *both* the owner and the Java process (which inherits the descriptor) are gone. So a held lock
means that something runs, and a free one that nothing does, whatever `state.json` says: a stale state is
never believed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from broker.core.errors import OperatorError
from broker.edge.kafka.pki import write_private

DEFAULT_HOME = Path(".broker/kafka")

_MARKER = "lock"
_FOLDERS = ("data", "logs", "tls", "secrets")
_POLL = 0.05


@dataclass(frozen=True)
class State:
    """What the owner of a broker wrote down. `pid` is the Java process; `ready` once clients may log in;
    after an orderly stop `owner` and `pid` are None and the ports stay for the next start."""

    owner: int | None
    pid: int | None
    port: int
    node_port: int
    controller_port: int
    ready: bool

    @property
    def bootstrap(self) -> str:
        return f"localhost:{self.port}"


@dataclass(frozen=True)
class Status:
    """`state` is None where nothing was ever started here, or while the first start is just beginning."""

    condition: Literal["running", "starting", "stopped"]
    state: State | None


@dataclass(frozen=True)
class Home:
    """Paths inside the folder."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "kafka.log"

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.folder / _MARKER

    def prepare(self) -> None:
        """Make the folder and its parts, for their owner only. Refuses a folder that holds something else."""
        if "," in str(self.folder):
            raise OperatorError(
                "bad_home", "Kafka cannot use a folder with a comma in its path", where=str(self.folder)
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(self.folder.iterdir()) and not self.lock_file.exists():
                raise OperatorError(
                    "bad_home",
                    "this folder holds other things: choose a new or empty one",
                    where=str(self.folder),
                )
            self.folder.chmod(0o700)
            for name in _FOLDERS:
                (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise OperatorError(
                "bad_home", f"cannot use this folder: {error.strerror}", where=str(self.folder)
            ) from error

    def read_state(self) -> State | None:
        """The state file; None where it is missing or unreadable."""
        try:
            return State(**json.loads(self.state_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_state(self, state: State) -> None:
        write_private(self.state_file, json.dumps(asdict(state)).encode())

    def lock(self, patience: float) -> int:
        """Take the lock and return its descriptor. An owner that is gone leaves a Java process that is just
        ending: for that the lock is awaited, `patience` seconds; a living owner is an OperatorError at
        once."""
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience
        while not _try_lock(descriptor):
            state = self.read_state()
            owner = state.owner if state else None
            if (owner is not None and _alive(owner)) or time.monotonic() > deadline:
                os.close(descriptor)
                raise OperatorError(
                    "home_in_use",
                    f"another Kafka runs in this folder (process {owner if owner else 'unknown'}): "
                    f"stop it with `broker kafka down --home {self.folder}`, or choose another folder",
                    where=str(self.folder),
                )
            time.sleep(_POLL)
        return descriptor

    def status(self) -> Status:
        """Whether a broker runs here. Changes nothing."""
        state = self.read_state()
        if not self._held():
            return Status("stopped", replace(state, owner=None, pid=None, ready=False) if state else None)
        if state is None or not state.ready or not _accepts(state.port):
            return Status("starting", state)
        return Status("running", state)

    def down(self, patience: float = 30.0) -> bool:
        """Stop the broker that runs here and wait until it is gone; False where none ran."""
        if not self._held():
            return False
        deadline = time.monotonic() + patience
        asked: int | None = None
        while self._held():
            state = self.read_state()
            if state and state.pid and state.pid != asked and _alive(state.pid):
                os.kill(state.pid, signal.SIGTERM)
                asked = state.pid
            if time.monotonic() > deadline:
                raise OperatorError(
                    "kafka_stuck",
                    f"Kafka (process {asked}) did not stop within {patience:.0f} s: end that process",
                    where=str(self.folder),
                )
            time.sleep(_POLL)
        return True

    def _held(self) -> bool:
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
