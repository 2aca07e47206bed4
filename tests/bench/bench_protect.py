"""How long a table takes to be protected by witnesses, and what that suppresses: decided, certified, attacked.

Run: python tests/bench/bench_protect.py [--large]. One core; medians and spread, no assertion on time. Beside it
plain exact elimination, which only keeps unsafe cells from being determined: no intervals, no insiders.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

import numpy as np
from suppression_world import Rules, crossed, flat, nested, people, pose

from broker.core.disclosure import secondary
from broker.core.disclosure.attack import attack
from broker.core.disclosure.certificate import verify
from broker.core.disclosure.problem import Problem, Role
from broker.core.disclosure.secondary import PRIMES
from broker.core.disclosure.suppression import protect


class Case(NamedTuple):
    """A hierarchy of areas by segments; mean: contributors of an atom."""

    what: str
    branching: tuple[int, ...]
    segments: int
    mean: float
    runs: int
    aim: str


CASES = (
    Case("200 cells, more than a third unsafe", (40,), 4, 8, 5, ""),
    Case("3,000 cells", (3, 10, 9), 9, 40, 5, "aim <= 2 s"),
    Case("10,000 cells", (10, 10, 9), 9, 40, 3, "aim <= 8 s"),
)
LARGE = Case("100,000 cells", (10, 10, 100), 9, 40, 1, "aim <= 120 s, <= 3,000 MB")
ELIMINATED = 4_000  # cells up to which the dense elimination is run beside


def posed(case: Case) -> Problem:
    areas = int(np.prod(case.branching))
    figures = crossed([nested(*case.branching), flat(case.segments)], [areas, case.segments])
    who = people(np.random.default_rng(1), areas * case.segments, mean=case.mean)
    return pose(figures, areas * case.segments, who, Rules())


def eliminated(problem: Problem) -> np.ndarray:
    """What the plain elimination gives up."""
    order = np.lexsort((np.arange(len(problem.cost)), -problem.cost))
    order = order[problem.role[order] == Role.CANDIDATE]
    return secondary.suppress(problem.figures.toarray().astype(np.int8), problem.role == Role.PRIMARY, order)


def spread(what: str, seconds: list[float], aim: str = "") -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return (
        f"  {what:18} median {middle:7.3f} s, {low:.3f} to {high:.3f} s, {len(seconds)} runs  {aim}".rstrip()
    )


def share(problem: Problem, what: str, figures: np.ndarray) -> str:
    mass = problem.figures @ np.abs(problem.values)
    return f"  {what:18} {int(figures.sum()):>6,} cells, {100 * mass[figures].sum() / mass.sum():.2f} % of the mass"


def measure(case: Case) -> str:
    problem = posed(case)
    seconds: dict[str, list[float]] = {"decide": [], "certify": [], "attack": [], "together": []}
    for _ in range(case.runs):
        times = [time.perf_counter()]
        protection = protect(problem)
        times.append(time.perf_counter())
        verify(problem, protection, PRIMES)
        times.append(time.perf_counter())
        found = attack(problem, protection.published, protection.targets)
        times.append(time.perf_counter())
        for name, spent in zip(seconds, [*np.diff(times), times[-1] - times[0]], strict=True):
            seconds[name].append(float(spent))
    cells, short = problem.figures.shape[0], sum(each.short for each in found)
    lines = [
        f"{case.what}: {cells:,} cells, {len(problem.values):,} atoms; {len(found):,} intervals, {short} short"
    ]
    lines += [spread(name, spent, case.aim if name == "together" else "") for name, spent in seconds.items()]
    lines.append(share(problem, "unsafe", problem.role == Role.PRIMARY))
    lines.append(share(problem, "secondary", protection.secondary))
    if cells <= ELIMINATED:
        start = time.perf_counter()
        plain = eliminated(problem)
        lines.append(share(problem, "plain elimination", plain) + f", {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines.append(f"  {'peak memory so far':18} {peak:,.0f} MB")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="100,000 cells too (some minutes)")
    for case in (*CASES, *([LARGE] if parser.parse_args().large else [])):
        sys.stdout.write(measure(case) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
