"""Protect one static table of microdata: suppress what would give someone away."""

from __future__ import annotations

import json
from pathlib import Path

import click

from broker.commands.dry_run import FILE, progress

max_memory = click.option(
    "--max-memory",
    metavar="MB",
    type=click.IntRange(min=1),
    default=4000,
    show_default=True,
    help="Refuse rather than take more.",
)
max_iterations = click.option(
    "--max-iterations",
    type=click.IntRange(min=1),
    default=50_000_000,
    show_default=True,
    help="Of the simplex method, in all: refuse rather than take more.",
)


@click.command()
@click.argument("microdata", type=FILE)
@click.option("--spec", required=True, type=FILE, help="YAML: dimensions, rules, protection.")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file for the table; a linked table goes beside it, to OUT.<name>.csv.",
)
@click.option(
    "--public", is_flag=True, help="As everybody may see it: nothing about a suppressed cell but its name."
)
@max_memory
@max_iterations
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    microdata: Path,
    spec: Path,
    out: Path,
    public: bool,
    max_memory: int,
    max_iterations: int,
    as_json: bool,
) -> None:
    """Protect the table that SPEC describes of MICRODATA, and the tables linked to it.

    MICRODATA (CSV or Parquet) has a column for each dimension and, optionally, contributor, holding, weight and
    value. A cell that a rule of SPEC finds unsafe is suppressed (primary), and others with it (secondary), so that
    nobody can compute it, nor bound it closer than its level: no reader, no contributor that is alone in a cell, no
    holding that knows its own part, no two holdings together. Without --public, OUT holds the truth: it is for you
    alone.

    A rule that SPEC leaves out is not applied; a protection that it leaves out is. Hierarchies are CSV files
    child,parent whose root is Total, with paths relative to SPEC.

    Exit status: 0 done, 2 bad input, 3 refused: no rule, a limit, or figures that cannot be protected.

    \b
    Example:
      broker protect companies.csv --spec table.yaml --out table.csv --public

    \b
    with table.yaml:
      dimensions:
        region: {hierarchy: regions.csv}
        sector: {}
      value: turnover
      contributor: company
      holding: group
      rules: {min_contributors: 3, p_percent: 15, dominance: [[1, 85]]}
      protect: {singletons: true, insiders: true, intervals: true, prior: 50}
      linked:
        - {name: zones, dimensions: {zone: {hierarchy: zones.csv}}}
    """
    from broker.core.disclosure.problem import Limits
    from broker.static_table import run_protect

    limits = Limits(iterations=max_iterations, memory=max_memory * 2**20)
    with progress() as begins:
        summary = run_protect(microdata, spec, out, public=public, limits=limits, begins=begins)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for file, table in summary["tables"].items():
        cells, mass = table["cells"], table["mass_percent"]
        click.echo(
            f"{cells['published']} cells published, {cells['primary']} primary and {cells['secondary']} secondary "
            f"suppressed ({mass['primary']} % and {mass['secondary']} % of the mass) → {file}"
        )
