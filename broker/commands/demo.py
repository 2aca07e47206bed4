"""Run the main job on a synthetic territory and a real Kafka."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import click


@click.command()
@click.option("--once", is_flag=True, help="End by itself after the last release.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; with --once.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for releases and inputs."
)
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run [.broker/demo]."
)
@click.option("--seed", default=1, show_default=True, help="Another seed, another territory.")
@click.option("--premises", default=20_000, show_default=True, help="How many homes.")
@click.option("--epcis", default=8, show_default=True, help="How many release groups.")
@click.option("--communes", default=60, show_default=True)
@click.option("--iris", default=200, show_default=True)
@click.option("--days", default=35, show_default=True, help="From 2026-01-01 on.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65534),
    default=6066,
    show_default=True,
    help="Metrics of the workers, on this port and the next; 0 = none.",
)
def command(
    once: bool,
    as_json: bool,
    keep: Path | None,
    home: Path | None,
    seed: int,
    premises: int,
    epcis: int,
    communes: int,
    iris: int,
    days: int,
    web_port: int,
) -> None:
    """Stream a synthetic territory of water and energy utilities through the broker, on a real Kafka.

    Starts Kafka, brings the partners and their signed policies into force, streams 35 days of readings and shows
    what a municipality would read, what is withheld and why. Stays up until Ctrl-C, unless --once is given.
    --keep leaves releases.csv, decisions.csv (for auditors: it holds the truth) and input/, with which `broker
    dry-run` gives the same releases.

    \b
    Example:
      broker demo --once --json --keep result/
    """
    from broker.demo import run
    from broker.demo.show import Show
    from broker.edge.folders import writable_folder
    from broker.sim.spec import TerritorySpec

    spec = TerritorySpec(
        epcis=epcis,
        communes=communes,
        iris=iris,
        premises=premises,
        days=days,
        start=date(2026, 1, 1),
        half_hourly=(1, 10, 2) if epcis > 1 and days >= 12 else None,
    )
    show = Show(quiet=as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: in order
    if keep is not None:
        writable_folder(keep)
    with (
        folder_of_run(home, once=once) as folder,
        run.demo(folder, spec, seed, web_port, show) as (outcome, running, _),
    ):
        if keep is not None:
            run.keep(outcome, running, keep)
        if as_json:
            click.echo(json.dumps(outcome.summary()))
        show.outcome(outcome, running.policies)
        if not once:
            show.next_steps(running, web_port)
            wait_for_ctrl_c()


@contextmanager
def folder_of_run(home: Path | None, *, once: bool) -> Iterator[Path]:
    """The folder named, else .broker/demo; with --once a temporary one, which stays only where the demo fails: what
    happened is in its logs."""
    if home is not None or not once:
        yield (home or Path(".broker/demo")) / ("run" if once else "")
        return
    folder = Path(tempfile.mkdtemp(prefix="broker-demo-"))
    failed = False
    try:
        yield folder / "run"
    except Exception:
        failed = (folder / "run").exists()
        raise
    finally:
        if failed:
            click.echo(
                f"broker: the demo failed; its logs and data stay in {folder} until you delete them", err=True
            )
        else:
            shutil.rmtree(folder)


def wait_for_ctrl_c() -> None:
    """Returns at Ctrl-C or SIGTERM."""
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return
