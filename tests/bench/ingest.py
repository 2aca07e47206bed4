"""Consumption, exactly-once ingest, the whole path, memory and closing times on a real Kafka: `python -m
tests.bench.ingest [--runs N] [--only WHAT] [--json]`.

Kafka and this process run on one core, the lanes on another (on a machine with one core: on the same). The
kinds of measurement take turns, so that what else the machine does strikes all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from broker.edge.kafka.embedded import EmbeddedKafka
from tests.bench.territory import CLOSINGS, SPEC, Sent, send

ROOT: Final = Path(__file__).parent.parent.parent
KINDS: Final = ("consume", "ingest", "path")
RUNS: Final = 3
PATIENCE: Final = 300


def measure(runs: int, kinds: tuple[str, ...] = KINDS, keep: Path | None = None) -> dict[str, Any]:
    """All figures of `runs` repetitions, raw: {kind: [one object per repetition]}, and on what they were taken."""
    cores = sorted(os.sched_getaffinity(0))
    lanes_core, kafka_core = cores[0], cores[-1]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    os.sched_setaffinity(0, {kafka_core})  # Kafka inherits it
    try:
        with _folder(keep) as home, EmbeddedKafka(home / "kafka") as kafka:
            begun = time.perf_counter()
            sent = send(home, kafka)
            _say(f"{sent.readings:,} readings sent in {time.perf_counter() - begun:.0f} s")
            for run in range(runs):
                for kind in kinds:
                    found[kind].append(_run(sent, kind, f"r{run}-{kind}", lanes_core))
                    _say(f"run {run + 1} {kind}: {json.dumps(found[kind][-1])}")
    finally:
        os.sched_setaffinity(0, set(cores))
    return {
        "on": {
            "readings": sent.readings,
            "delivery_points": sum(len(rows) for rows in sent.world.sites.values()),
            "premises": SPEC.premises,
            "lanes": SPEC.lanes,
            "base_windows": SPEC.days,
            "cores": len(cores),
            "lanes_core": lanes_core,
            "kafka_core": kafka_core,
            "load": os.getloadavg()[0],
        },
        "runs": found,
    }


def _run(sent: Sent, kind: str, run: str, core: int) -> dict[str, Any]:
    """One process of its own, so that its peak memory is its own."""
    days = [CLOSINGS[0], *(after - before for before, after in pairwise(CLOSINGS))]
    job = {
        "gates": sent.gates,
        "readings": sent.readings,
        "closings": [count * SPEC.lanes for count in days],
    }
    log = sent.demo.home / f"{run}.log"
    with log.open("wb") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.lanes", kind, run, str(core)],
            cwd=ROOT,
            env={**os.environ, **sent.demo.worker_environment(0)},
            input=json.dumps(job).encode(),
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=PATIENCE,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{kind} failed:\n{log.read_text()[-4000:]}")
    return json.loads(done.stdout)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="broker-bench-")) if keep is None else keep
    try:
        yield home
    finally:
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    result = measure(asked.runs, (asked.only,) if asked.only else KINDS, asked.keep)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
