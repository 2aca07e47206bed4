"""Attack one published table: what can be computed of the figures that it suppresses."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker.commands.dry_run import FILE, progress
from broker.commands.protect import max_iterations, max_memory


@click.command()
@click.argument("table", metavar="FILE", type=FILE)
@click.option("--spec", required=True, type=FILE, help="YAML: as for `broker protect`.")
@click.option(
    "--microdata",
    type=FILE,
    help="What the table was made from: then every insider and pair is an attacker too, and levels are known.",
)
@max_memory
@max_iterations
@click.option("--json", "as_json", is_flag=True, help="Print every figure and attacker as JSON.")
def command(
    table: Path,
    spec: Path,
    microdata: Path | None,
    max_memory: int,
    max_iterations: int,
    as_json: bool,
) -> int:
    """Compute, for everybody who might try, how closely the suppressed figures of FILE can be bounded.

    FILE is a table as `broker protect` writes it, by whomever it was made: the dimensions, value and status
    (published, or suppressed, primary, secondary). Linked tables are read beside it, from FILE.<name>.csv.

    With --microdata: each unsafe or suppressed cell, and each unsafe part, intersection, difference and remainder of a
    line, for an outsider, each holding, and each pair of holdings where four or more contribute. Without: each
    suppressed cell, for an outsider; what it needs is then unknown, and it falls short if it can be computed exactly.

    Exit status: 0 nothing falls short, 1 something does, 2 bad input, 3 a limit was reached.

    \b
    Example:
      broker audit-table table.csv --spec table.yaml --microdata companies.csv
    """
    from broker.core.disclosure.problem import Limits
    from broker.core.static.findings import as_json as json_of
    from broker.core.static.findings import as_text
    from broker.static_table import run_audit

    limits = Limits(iterations=max_iterations, memory=max_memory * 2**20)
    with progress() as begins:
        findings = run_audit(table, spec, microdata, limits=limits, begins=begins)
    short = sum(finding.short for finding in findings)
    if as_json:
        click.echo(json.dumps({"short": short, "findings": json_of(findings)}, indent=2, ensure_ascii=False))
    else:
        click.echo(as_text(findings))
        click.echo(f"{short} of {len(findings)} bounds are too close")
    return 1 if short else 0
