"""Get a product's published figures: CSV, Parquet or GeoJSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.core.errors import InputError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.core.published import Releases
    from broker.core.report import Report
    from broker.edge.kafka.settings import KafkaSettings

_file = click.Path(path_type=Path, dir_okay=False)


class Environment(BaseSettings):
    """What the environment says of the cluster (BROKER_KAFKA__…) and of who asks (BROKER_RECIPIENT)."""

    model_config = SettingsConfigDict(
        env_prefix="BROKER_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    kafka: dict[str, str] = {}
    recipient: str = ""


@click.command()
@click.argument("product")
@click.option(
    "--window",
    default="latest",
    show_default=True,
    metavar="WHEN",
    help="latest, all, a local date (2026-01-31) or month (2026-01) in which windows begin, or FIRST/LAST.",
)
@click.option("--area", "areas", multiple=True, metavar="CODE", help="This area only; may be repeated.")
@click.option(
    "--level", "levels", multiple=True, metavar="LEVEL", help="Areas of this level only, e.g. commune."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "geojson"]),
    default="csv",
    show_default=True,
    help="CSV as in a dry run, typed Parquet, or GeoJSON with one feature per figure.",
)
@click.option("--out", type=_file, help="File to write; default: standard output.")
@click.option("--geometry", type=_file, help="GeoJSON whose features have a property `area`; for geojson.")
@click.option("--as", "recipient", metavar="RECIPIENT", help="Your name in the territory. [BROKER_RECIPIENT]")
@click.option("--password-file", type=_file, help="File with your password. [BROKER_KAFKA__PASSWORD_FILE]")
@click.option("--bootstrap", help="Kafka's host:port. [BROKER_KAFKA__BOOTSTRAP_SERVERS]")
@click.option("--ca", type=_file, help="PEM file of certificates to trust. [BROKER_KAFKA__CA_FILE]")
@click.option(
    "--kafka-home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".broker/kafka"),
    show_default=True,
    help="Folder of the embedded Kafka, which is asked where no other is named.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Summary as JSON: on stdout with --out, else on stderr."
)
def command(
    *,
    product: str,
    window: str,
    areas: tuple[str, ...],
    levels: tuple[str, ...],
    form: str,
    out: Path | None,
    geometry: Path | None,
    recipient: str | None,
    password_file: Path | None,
    bootstrap: str | None,
    ca: Path | None,
    kafka_home: Path,
    as_json: bool,
) -> None:
    """Get the published figures of PRODUCT, with your own name and password as a recipient.

    Every release is checked against its manifest; an incomplete or altered one is an error and not shown.
    Suppressed figures are rows without a value. Exit status: 0 done, 1 a check failed, or Kafka or the password is
    refused, 2 bad input, 3 not allowed.

    \b
    Example:
      broker fetch vacancy-monthly --window 2026-01 --level commune --as ville --password-file ville.txt \\
          --bootstrap kafka.example.org:9094 --ca ca.pem --format geojson --geometry communes.geojson --out v.geojson
    """
    _check_options(product, form, out, geometry)
    login = _login(recipient, bootstrap, ca, password_file, kafka_home)
    from broker.core.published import as_report, in_windows, narrowed  # noqa: PLC0415 - Polars takes a second

    geometries = _geometries(geometry)
    released = _read(login, product)
    chosen = in_windows(released, window)
    reports = narrowed([as_report(one) for one in chosen.whole()], areas, levels)
    _write(_rendered(reports, chosen, form, geometries), out)
    _tell(_summary(reports, chosen, released, form, out), as_json=as_json, to_stderr=out is None)


def _check_options(product: str, form: str, out: Path | None, geometry: Path | None) -> None:
    if not product or not set(product) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise InputError(
            "unknown_product", f"`{product[:80]}` names no product: a-z, 0-9 and - make its name"
        )
    if geometry is not None and form != "geojson":
        raise click.UsageError("--geometry is for --format geojson")
    if form == "parquet" and out is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text: give --out FILE, or redirect the output")


def _login(
    recipient: str | None, bootstrap: str | None, ca: Path | None, password_file: Path | None, home: Path
) -> KafkaSettings:
    """Options win over the environment; where neither names a cluster, the embedded one."""
    from broker.config import problems  # noqa: PLC0415
    from broker.edge.kafka.home import Home  # noqa: PLC0415
    from broker.edge.kafka.settings import KafkaSettings  # noqa: PLC0415

    environment = Environment()
    values: dict[str, Any] = dict(environment.kafka)
    who = recipient or environment.recipient or values.get("username", "")
    if not who and values.get("security_protocol", "SASL_SSL").startswith("SASL"):
        raise click.UsageError("say who you are: --as RECIPIENT, or BROKER_RECIPIENT in the environment")
    values["username"] = who
    if password_file is not None:
        values.pop("password", None)
        values["password_file"] = password_file
    if ca is not None:
        values["ca_file"] = ca
    if bootstrap is not None:
        values["bootstrap_servers"] = bootstrap
    if "bootstrap_servers" not in values:
        folder = Home(home.absolute())
        state = folder.status().state
        if state is None or not state.ready:
            raise OperatorError(
                "kafka_stopped",
                "no Kafka runs there: give --bootstrap host:port, or `broker kafka up`",
                where=str(home),
            )
        values = {"ca_file": folder.tls / "ca.pem", "bootstrap_servers": state.bootstrap} | values
        if "password" not in values:
            values.setdefault("password_file", folder.secrets / who)
    try:
        return KafkaSettings.model_validate(values)
    except ValidationError as error:
        raise InputError(
            "bad_settings", f"how to reach Kafka: {problems(error, 'BROKER_KAFKA__')} (or by an option)"
        ) from None


def _read(login: KafkaSettings, product: str) -> Releases:
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from broker.edge.data import data_folder  # noqa: PLC0415
    from broker.edge.kafka.collect import read_releases  # noqa: PLC0415
    from broker.edge.schemas import SchemaFolder  # noqa: PLC0415

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it comes as an error
    return asyncio.run(read_releases(login, product, SchemaFolder.load(data_folder("schemas"))))


def _geometries(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    from broker.core.formats import read_geometries  # noqa: PLC0415

    try:
        return dict(read_geometries(file.read_text(encoding="utf-8"), str(file)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "unreadable_file", f"cannot be read as UTF-8 text ({error})", where=str(file)
        ) from error


def _rendered(reports: Sequence[Report], chosen: Releases, form: str, geometries: dict[str, Any]) -> bytes:
    from broker.core.formats import geojson, parquet  # noqa: PLC0415
    from broker.core.report import releases_csv  # noqa: PLC0415

    if form == "parquet":
        zones = {one.manifest.timezone for one in chosen.published}
        return parquet(reports, zones.pop() if len(zones) == 1 else "UTC")
    return geojson(reports, geometries) if form == "geojson" else releases_csv(reports)


def _write(content: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InputError("unwritable_file", f"cannot be written: {error.strerror}", where=str(out)) from error


def _summary(
    reports: Sequence[Report], chosen: Releases, released: Releases, form: str, out: Path | None
) -> dict[str, Any]:
    from broker.core.published import missing_groups  # noqa: PLC0415
    from broker.core.report import PUBLISHED  # noqa: PLC0415

    cells = sum(report.cells.height for report in reports)
    published = sum(int((report.cells["status"] == PUBLISHED).sum()) for report in reports)
    return {
        "product": chosen.product,
        "format": form,
        "out": None if out is None else str(out),
        "windows": sorted({report.window_start for report in reports}),
        "cells": {"published": published, "suppressed": cells - published},
        "policies": sorted({one.manifest.policy for one in chosen.published}),
        "left_out": sorted({partner for one in chosen.published for partner in one.manifest.left_out}),
        "missing_groups": missing_groups(chosen, released),
    }


def _tell(summary: dict[str, Any], *, as_json: bool, to_stderr: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary), err=to_stderr)
        return
    windows, cells = summary["windows"], summary["cells"]
    span = windows[0] if len(windows) == 1 else f"{len(windows)} windows from {windows[0]} to {windows[-1]}"
    click.echo(
        f"{summary['product']}, {span}: {cells['published']} figures published, {cells['suppressed']} suppressed",
        err=True,
    )
    if summary["left_out"]:
        click.echo(f"broker: decided without {', '.join(summary['left_out'])}, which had stalled", err=True)
    for window, groups in summary["missing_groups"].items():
        click.echo(f"broker: window {window} is not released yet for {', '.join(groups)}", err=True)
