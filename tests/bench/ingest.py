"""Consumption, exactly-once ingest, the whole path, memory and closing times on a real Kafka.

Kafka and this process run on one core, the lanes on another (on a machine with one core: on the same). The
kinds of measurement take turns, so that what else the machine does strikes all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from broker.edge.kafka.embedded import EmbeddedKafka
from broker.sim.spec import TerritorySpec
from tests.bench.territory import CLOSINGS, LARGE, USUAL, Sent, send

ROOT: Final = Path(__file__).parent.parent.parent
TERRITORIES: Final = {LARGE: ("consume", "ingest", "path"), USUAL: ("close",)}
KINDS: Final = tuple(kind for kinds in TERRITORIES.values() for kind in kinds)
PATIENCE: Final = 300
# Both compilers: the embedded Kafka's own flags are for a quick start.
JVM_FLAGS: Final = ("-XX:TieredStopAtLevel=4",)

Runs = dict[str, list[dict[str, Any]]]


def measure(runs: int, kinds: Sequence[str] = KINDS) -> list[dict[str, Any]]:
    """All figures of `runs` repetitions, raw: one {on: what was measured, runs: {kind: [one object a repetition]}} for
    each territory."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})  # Kafka inherits it
    try:
        asked = {spec: [kind for kind in own if kind in kinds] for spec, own in TERRITORIES.items()}
        return [_measured(spec, runs, own, cores[0]) for spec, own in asked.items() if own]
    finally:
        os.sched_setaffinity(0, set(cores))


def _measured(spec: TerritorySpec, runs: int, kinds: Sequence[str], core: int) -> dict[str, Any]:
    found: Runs = {kind: [] for kind in kinds}
    with _folder() as home, EmbeddedKafka(home / "kafka", jvm_flags=JVM_FLAGS) as kafka:
        begun = time.perf_counter()
        sent = send(home, kafka, spec)
        _say(f"{sent.readings:,} readings sent in {time.perf_counter() - begun:.0f} s")
        for run in range(runs):
            for kind in kinds:
                found[kind].append(_run(sent, kind, f"r{run}-{kind}", core))
                _say(f"run {run + 1} of {runs}, {kind}: done")
    on = {
        "readings": sent.readings,
        "delivery_points": sum(len(rows) for rows in sent.world.sites.values()),
        "premises": spec.premises,
        "lanes": spec.lanes,
        "base_windows": spec.days,
        "load": os.getloadavg()[0],
    }
    return {"on": on, "runs": found}


def _run(sent: Sent, kind: str, run: str, core: int) -> dict[str, Any]:
    """One process of its own, so that its peak memory is its own."""
    days = [CLOSINGS[0], *(after - before for before, after in pairwise(CLOSINGS))]
    lanes = sent.world.spec.lanes
    nothing = {topic: [0] * lanes for topic in sent.gates[0]}
    job = {
        "gates": sent.gates if kind == "consume" else [nothing, *sent.gates],
        "readings": sent.readings,
        "closings": [count * lanes for count in days],
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
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="broker-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
