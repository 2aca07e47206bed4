"""Bring a territory's files into force on a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
ADMIN = [
    click.option("--bootstrap", help="Kafka's host:port. [BROKER_KAFKA__BOOTSTRAP_SERVERS]"),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="PEM file of certificates to trust. [BROKER_KAFKA__CA_FILE]",
    ),
    click.option(
        "--secrets",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="BROKER_SECRETS",
        help="Folder with a password file per principal; `admin` must be there. Without it no passwords are made: for "
        "clusters that know principals by their certificates. [BROKER_SECRETS]",
    ),
]

JSON = click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")


@click.group()
def command() -> None:
    """Provision topics, principals and access rules; announce partners; activate signed policies.

    \b
    Example:
      broker territory provision territory/ --bootstrap kafka:9094 --ca ca.pem --secrets secrets/
    """


def _with_admin(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that acts as the administrator."""
    for option in reversed(ADMIN):
        function = option(function)
    return function


@command.command()
@FOLDER
@_with_admin
@JSON
def provision(
    folder: Path, bootstrap: str | None, ca: Path | None, secrets: Path | None, as_json: bool
) -> None:
    """Create what the files of FOLDER ask for, as often as you like: what is there already stays.

    Passwords are made once and kept in --secrets; hand each partner and recipient its own.

    \b
    Example:
      broker territory provision territory/ --bootstrap kafka:9094 --ca ca.pem --secrets secrets/
    """
    from broker import operate
    from broker.config import KafkaOptions, cluster
    from broker.edge.data import data_folder
    from broker.edge.kafka.provision import CONTROL
    from broker.edge.kafka.provision import provision as bring
    from broker.edge.schemas import SchemaFolder
    from broker.edge.territory import load_territory

    target = cluster(KafkaOptions(bootstrap, ca))
    loaded = load_territory(folder)
    products = [policy.product for policy in operate.policies(loaded)]
    done = bring(target.login("admin", secrets), loaded.territory, secrets, products=products)
    codec = SchemaFolder.load(data_folder("schemas"))
    operate.publish(target.login(CONTROL, secrets), operate.partner_records(loaded), codec)
    _tell(
        {
            "new_topics": sorted(done.new_topics),
            "principals": sorted(done.principals),
            "partners": sorted(partner.name for partner in loaded.territory.partners),
            "secrets": secrets and str(secrets),
        },
        f"{len(done.new_topics)} new topics; {len(done.principals)} principals, "
        f"{f'passwords in {secrets}' if secrets else 'no passwords'}",
        as_json=as_json,
    )


@command.command()
@FOLDER
@click.argument("product")
@click.option("--from", "active_from", required=True, help="First window: a local date, ahead of all data.")
@_with_admin
@JSON
def activate(
    folder: Path,
    product: str,
    active_from: str,
    bootstrap: str | None,
    ca: Path | None,
    secrets: Path | None,
    as_json: bool,
) -> None:
    """Let PRODUCT run from a window's start on. Every contributing partner must have signed its policy. A version
    that runs already keeps the windows that begin before: they are released as it says, the last one too. Where
    streams have been read beyond the start for other products, the first window is the next to begin.

    \b
    Example:
      broker territory activate territory/ vacancy-monthly --from 2026-01-01 --bootstrap kafka:9094 ...
    """
    from broker import operate
    from broker.config import KafkaOptions, cluster
    from broker.edge.data import data_folder
    from broker.edge.kafka.provision import CONTROL
    from broker.edge.schemas import SchemaFolder
    from broker.edge.territory import load_territory

    loaded = load_territory(folder)
    record = operate.activation_record(loaded, product, active_from)
    operate.check_runnable(loaded, record)
    login = cluster(KafkaOptions(bootstrap, ca)).login(CONTROL, secrets)
    operate.publish(login, [record], SchemaFolder.load(data_folder("schemas")))
    signed = sorted(record[2]["agreements"])
    _tell(
        {"product": product, "active_from": active_from, "signed_by": signed},
        f"{product} runs from {active_from} on; signed by {', '.join(signed)}",
        as_json=as_json,
    )


@command.command()
@FOLDER
@click.argument("version", metavar="PRODUCT@VERSION")
@_with_admin
@JSON
def retire(
    folder: Path, version: str, bootstrap: str | None, ca: Path | None, secrets: Path | None, as_json: bool
) -> None:
    """Take a version of a product out of force that a later one has ended, as soon as all lanes have closed its last
    window: it then binds the other products of its domain no more. What it released stays.

    \b
    Example:
      broker territory retire territory/ vacancy-monthly@1 --bootstrap kafka:9094 ...
    """
    from broker import operate
    from broker.config import KafkaOptions, cluster
    from broker.edge.data import data_folder
    from broker.edge.kafka.provision import CONTROL
    from broker.edge.schemas import SchemaFolder
    from broker.edge.territory import load_territory

    lanes = load_territory(folder).territory.lanes
    target, codec = cluster(KafkaOptions(bootstrap, ca)), SchemaFolder.load(data_folder("schemas"))
    control = target.login(CONTROL, secrets)
    operate.check_ended(control, target.login("admin", secrets), lanes, version, codec)
    operate.publish(control, [("activation", version, None)], codec)
    _tell({"retired": version}, f"{version} is out of force", as_json=as_json)


@command.command()
@FOLDER
@click.argument("product")
@click.option("--partner", required=True, help="The partner that agrees.")
@click.option(
    "--key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with its signing key.",
)
@JSON
def sign(folder: Path, product: str, partner: str, key: Path, as_json: bool) -> None:
    """As PARTNER, agree to the policy of PRODUCT as it stands in FOLDER: writes the signed note to agreements/.

    \b
    Example:
      broker territory sign territory/ vacancy-monthly --partner water-n --key water-n.key
    """
    from broker import operate
    from broker.edge.territory import load_territory
    from broker.partner.keys import read_key

    path = operate.sign_one(load_territory(folder), product, partner, read_key(key))
    _tell({"product": product, "partner": partner, "note": str(path)}, f"signed: {path}", as_json=as_json)


def _tell(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(facts) if as_json else text)
