"""Start, stop and look at the embedded Kafka.

Any other cluster is used through settings (BROKER_KAFKA__BOOTSTRAP_SERVERS and so on) and needs none of this.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click

from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.home import DEFAULT_HOME, Home, State
from broker.edge.kafka.properties import ADMIN

_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_HOME,
    show_default=True,
    help="Folder of data, logs, keys and passwords.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def command() -> None:
    """Start, stop and look at the embedded Kafka (TLS, SCRAM and ACLs from the first day).

    \b
    Example:
      broker kafka up --home .broker/kafka
    """


@command.command()
@_home
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Clients' port (default: the last one, else a free one)."
)
@_json
def up(home: Path, port: int | None, as_json: bool) -> None:
    """Start Kafka and stay until Ctrl-C, `broker kafka down` or SIGTERM.

    \b
    Example:
      broker kafka up --port 19092
    """
    signal.signal(signal.SIGTERM, _stop)
    if not as_json:
        click.echo(f"starting Kafka in {home} …", err=True)
    with EmbeddedKafka(home, port=port) as kafka:
        try:
            _print(_facts("running", kafka.home, kafka.home.read_state()), as_json)
            kafka.watch()
        except KeyboardInterrupt:
            click.echo("stopping Kafka …", err=True)


@command.command()
@_home
@_json
def down(home: Path, as_json: bool) -> None:
    """Stop the Kafka that runs in this folder; nothing to do where none does.

    \b
    Example:
      broker kafka down
    """
    stopped = Home(home.absolute()).down()
    if as_json:
        click.echo(json.dumps({"stopped": stopped}))
    else:
        click.echo("Kafka is stopped" if stopped else f"no Kafka runs in {home}")


@command.command()
@_home
@_json
@click.pass_context
def status(context: click.Context, home: Path, as_json: bool) -> None:
    """Say whether Kafka runs in this folder: exit status 0 if it does, 1 if not.

    \b
    Example:
      broker kafka status --json
    """
    folder = Home(home.absolute())
    found = folder.status()
    _print(_facts(found.condition, folder, found.state), as_json)
    context.exit(0 if found.condition == "running" else 1)


def _facts(condition: str, home: Home, state: State | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"status": condition, "home": str(home.folder)}
    if condition != "stopped" and state is not None:
        facts |= {
            "bootstrap": state.bootstrap,
            "ca": str(home.tls / "ca.pem"),
            "user": ADMIN,
            "password_file": str(home.secrets / ADMIN),
            "log": str(home.log),
            "pid": state.pid,
        }
    return facts


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        click.echo(f"{key.replace('_', ' '):<{width}}  {value}")


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
