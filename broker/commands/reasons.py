"""List why a record does not count, and who must act."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from broker.core.reasons import REASONS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, by code.")
def command(as_json: bool) -> None:
    """List the reason codes of dead letters, receipts, metrics and dry runs: what each means and who must act.

    Quarantined = malformed: the record is in the partner's dead letters. Refused = well-formed, but not allowed to
    count.

    \b
    Example:
      broker reasons --json
    """
    if as_json:
        click.echo(json.dumps({code: asdict(reason) for code, reason in REASONS.items()}, indent=2))
        return
    width = max(map(len, REASONS))
    click.echo(f"{'code':<{width}}  outcome      must act  meaning")
    for code, reason in REASONS.items():
        click.echo(f"{code:<{width}}  {reason.outcome:<11}  {reason.must_act:<8}  {reason.text}")
