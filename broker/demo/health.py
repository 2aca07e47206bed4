"""What may go wrong in a demo, told by its cause: a taken web port before the start, a worker's first error after."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from broker.core.errors import OperatorError
from broker.edge.kafka.embedded import port_is_free

MOST = 400  # characters of a worker's words


def web_ports(first: int, workers: Sequence[str]) -> dict[str, int]:
    """The web port of each worker, from `first` on (0: none has one). Raises OperatorError where one is taken."""
    ports = {name: first + number if first else 0 for number, name in enumerate(workers)}
    for name, port in ports.items():
        if port and not port_is_free(port):
            raise OperatorError(
                "port_taken",
                f"another program listens on the port for the metrics of the {name} worker: give another with "
                "--web-port (the workers take it and the next; 0: none)",
                where=f"port {port}",
            )
    return ports


def check_alive(workers: Iterable[tuple[str, subprocess.Popen[bytes]]], home: Path) -> None:
    """Raises OperatorError, with the cause from its log, where a worker has ended."""
    for name, worker in workers:
        if worker.poll() is not None:
            log = home / f"worker-{name}.log"
            raise OperatorError(
                "worker_ended",
                f"the {name} worker ended with status {worker.returncode}: "
                f"{first_error(log.read_text(errors='replace'))}",
                where=str(log),
            )


def first_error(log: str) -> str:
    """The first error that a worker's log tells, which is the cause; else its last words."""
    lines = log.strip().splitlines()
    told = (_told(line) for line in lines)
    return next((words for words in told if words), lines[-1] if lines else "it said nothing")[:MOST]


def _told(line: str) -> str:
    """The words of a line that tells an error: an event of level error, or a command's message."""
    if line.startswith("broker: "):
        return line.removeprefix("broker: ")
    event = _event(line)
    if event.get("level") not in ("error", "critical"):
        return ""
    cause = str(event.get("exception", "")).strip().splitlines()[-1:]
    return " ← ".join([str(event.get("event", "")), *cause])


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
