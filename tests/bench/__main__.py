"""`make bench`: what the lanes reach on a real Kafka, on one core, beside what they are meant to reach.

    python -m tests.bench [--runs N] [--only consume|ingest|path|close] [--json]

Medians, and the least and greatest of the runs. It judges nothing: machines are noisy, and so no test is timed.
The parts alone (decoding, admission, fold, decision) are measured by the modules `bench_*` beside this one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.bench.ingest import KINDS, measure

RUNS = 3


class Figure(NamedTuple):
    """One line of the table: what, in which kind of run, its value in it, the unit, and the aim."""

    what: str
    kind: str
    value: Callable[[dict[str, Any]], float]
    unit: str
    aim: str


FIGURES = (
    Figure("bare consumption", "consume", lambda run: run["records"] / run["seconds"], "readings/s", ""),
    Figure("its CPU", "consume", lambda run: 1e6 * run["cpu"] / run["records"], "µs a reading", ""),
    Figure("ingest, exactly once", "ingest", lambda run: run["records"] / run["ingested"], "readings/s", ">= 200,000"),
    Figure("its CPU", "ingest", lambda run: 1e6 * run["cpu"] / run["records"], "µs a reading", ""),
    Figure("loading sites and consent", "ingest", lambda run: run["loading"], "s", ""),
    Figure("ingest and release together", "path", lambda run: run["records"] / run["folded"], "readings/s", ""),
    Figure("memory, all windows open", "path", lambda run: run["folded_mb"], "MB", "<= 1,200"),
    Figure("peak memory, all windows closed", "path", lambda run: run["peak_mb"], "MB", ""),
    *(
        figure
        for kind, aim in (("path", ""), ("close", "<= 2"))
        for figure in (
            Figure("28 days closed at once", kind, lambda run: run["closings"][0], "s", ""),
            Figure("close to release, a day", kind, lambda run: statistics.median(run["closings"][1:-1]), "s", aim),
            Figure("close to release, day and month", kind, lambda run: run["closings"][-1], "s", aim),
            Figure("its CPU", kind, lambda run: run["closings_cpu"][-1], "s", ""),
        )
    ),
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    on = result["on"]
    lines = [
        f"{on['readings']:,} readings of {on['delivery_points']:,} delivery points at {on['premises']:,} premises, "
        f"{on['base_windows']} days, {on['lanes']} lanes of each role on one core; load {on['load']:.1f}",
        f"{'':34}{'median':>12}{'least':>12}{'greatest':>12}  unit            aim",
    ]
    for figure in FIGURES:
        runs = result["runs"].get(figure.kind)
        if runs:
            values = [figure.value(run) for run in runs]
            shown = (statistics.median(values), min(values), max(values))
            digits = 0 if shown[0] >= 100 else 2
            columns = "".join(f"{value:>12,.{digits}f}" for value in shown)
            lines.append(f"{figure.what:34}{columns}  {figure.unit:14}  {figure.aim}".rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"repetitions [{RUNS}]")
    parser.add_argument("--only", choices=KINDS, help="this kind of run only")
    parser.add_argument("--json", action="store_true", help="print all raw figures as one JSON object")
    asked = parser.parse_args()
    results = measure(asked.runs, (asked.only,) if asked.only else KINDS)
    shown = json.dumps(results, indent=1) if asked.json else "\n\n".join(map(table, results))
    sys.stdout.write(shown + "\n")


if __name__ == "__main__":
    main()
