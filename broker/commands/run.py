"""Run a worker: all roles, or one."""

from __future__ import annotations

import os

import click


@click.command()
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["ingest", "release"]),
    help="Run this role only; may be given twice. Default: all roles in this process.",
)
def command(roles: tuple[str, ...]) -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    Settings come from the environment: BROKER_TERRITORY (folder), BROKER_SECRETS (folder with a password file per
    principal), BROKER_KEY_FILE, BROKER_DATA (folder that the worker may write), BROKER_KAFKA__BOOTSTRAP_SERVERS,
    BROKER_KAFKA__CA_FILE, BROKER_WEB_PORT (health and /metrics; 0 = none), BROKER_LOG_FORMAT (json, console).
    More workers of a role share its lanes.

    \b
    Example:
      BROKER_KAFKA__BOOTSTRAP_SERVERS=kafka:9094 broker run --role ingest
    """
    from broker.config import worker_settings
    from broker.edge.logs import set_up_logs
    from broker.wiring import ROLES, run_worker

    settings = worker_settings()
    set_up_logs(settings.log_format)
    code = run_worker(settings, roles or ROLES)
    if code:
        os._exit(code)  # a crashed lane may leave threads that no longer end
