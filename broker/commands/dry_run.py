"""Try a policy out on recorded data, without Kafka."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click


class Named(click.ParamType):
    """NAME=FILE."""

    name = "NAME=FILE"

    def convert(
        self, value: str | tuple[str, Path], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, equals, file = value.partition("=")
        if not name or not equals or not file:
            self.fail(f"{value!r} is not NAME=FILE, NAME being an input of the policy", param, ctx)
        return name, Path(file)


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows what is being done and for how long, on stderr where that is a terminal; else nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:

        def begins(step: str) -> None:
            for task in shown.task_ids:
                shown.update(task, total=1, completed=1)
            shown.add_task(step, total=None)

        yield begins
        for task in shown.task_ids:
            shown.update(task, total=1, completed=1)


@click.command()
@click.argument("policy", type=FILE)
@click.option(
    "--readings", multiple=True, required=True, type=Named(), help="Readings of one input; once for each."
)
@click.option(
    "--sites", required=True, type=FILE, help="CSV or Parquet: which home each delivery point serves."
)
@click.option("--areas", required=True, type=FILE, help="CSV or Parquet: area,parent,level.")
@click.option("--consent", type=FILE, help="CSV or Parquet: consent and objections; default: none on record.")
@click.option("--cut", help="ISO 8601 moment; later withdrawals are not known yet. Default: the end.")
@click.option(
    "--now",
    help="ISO 8601 moment; readings that end a day later than it lie in the future and do not count. Fix it where the "
    "outcome must not depend on the day of the run. Default: the clock, or the end of most readings if that is later.",
)
@click.option(
    "--key-file", type=FILE, help="Keys of the broker whose rounding is to be repeated. Default: trial keys."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    policy: Path,
    readings: tuple[tuple[str, Path], ...],
    sites: Path,
    areas: Path,
    consent: Path | None,
    cut: str | None,
    now: str | None,
    key_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Decide what POLICY would release of recorded data.

    Writes releases.csv (what everybody would see), decisions.csv (for auditors only: it holds the truth) and
    summary.json to the folder --out. References that the policy names are looked for beside it, or in
    references/. Values may be negative (feed-in) only in inputs with `net: true`.
    Exit status: 0 done, 2 bad input, 3 the policy is refused.

    \b
    Example:
      broker dry-run vacancy.yaml --readings energy=e.csv --readings water=w.csv \\
          --sites sites.csv --areas areas.csv --out trial/
    """
    from broker.trial import run_trial

    with progress() as begins:
        summary, notes = run_trial(
            policy, dict(readings), sites, areas, consent, cut, key_file, out, now, begins
        )
    for note in notes:
        click.echo(f"broker: {note}", err=True)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        cells = summary["cells"]
        click.echo(
            f"{summary['read']} readings: {summary['admitted']} admitted, "
            f"{sum(summary['quarantined'].values())} quarantined, {sum(summary['refused'].values())} refused; "
            f"{cells['published']} cells published, {cells['primary'] + cells['secondary']} suppressed → {out}"
        )
