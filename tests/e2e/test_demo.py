"""The demo as a newcomer or a script runs it: one JSON object, and files with which anybody decides it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from run import dry_run

PREMISES = 600
DAYS = 31  # the shortest in which the monthly products have a window
EPCIS = 2
PRODUCTS = {"energy-water-daily": EPCIS * DAYS, "underheating-monthly": EPCIS, "vacancy-monthly": EPCIS}
# A contract with whatever program reads it: these keys, these types, no others.
KEYS = {
    "readings": int,
    "admitted": int,
    "quarantined": int,
    "refused": int,
    "releases": int,
    "cells_published": int,
    "cells_suppressed": int,
    "seconds": float,
    "readings_per_second": int,
}


def of_product(table: bytes, product: str) -> bytes:
    """The header and the rows of one product."""
    header, *rows = table.splitlines(keepends=True)
    return b"".join([header, *(row for row in rows if row.startswith(f"{product},".encode()))])


def test_the_demo_prints_one_object_and_keeps_what_a_dry_run_decides_alike(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    sizes = {"premises": PREMISES, "epcis": EPCIS, "communes": 4, "iris": 8, "days": DAYS, "web-port": 0}
    options = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    program = [sys.executable, "-m", "broker", "demo", "--once", "--json", *options]
    done = subprocess.run(
        [*program, "--home", str(tmp_path / "home"), "--keep", str(kept)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {key: type(value) for key, value in told.items()} == KEYS
    assert told["readings"] == told["admitted"] + told["quarantined"] + told["refused"]
    assert told["readings"] > 2 * PREMISES * (DAYS - 1)
    assert told["releases"] == sum(PRODUCTS.values())

    releases, decisions = ((kept / name).read_bytes() for name in ("releases.csv", "decisions.csv"))
    statuses = [line.rsplit(b",", 1)[1] for line in releases.splitlines()[1:]]
    assert statuses.count(b"published") == told["cells_published"] > 0
    assert statuses.count(b"suppressed") == told["cells_suppressed"] > 0
    assert {file.name for file in kept.iterdir()} == {"releases.csv", "decisions.csv", "input"}
    for product in PRODUCTS:
        policy = kept / "input" / "policies" / f"{product}.yaml"
        again = dry_run(policy, kept / "input", tmp_path / product, key_file=None)
        assert of_product(releases, product) == (again / "releases.csv").read_bytes(), product
        assert of_product(decisions, product) == (again / "decisions.csv").read_bytes(), product
