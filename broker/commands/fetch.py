"""Get a product's published figures: CSV, Parquet or GeoJSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.config import KafkaOptions
    from broker.core.published import Releases
    from broker.core.report import Report
    from broker.edge.kafka.settings import KafkaSettings

_file = click.Path(path_type=Path, dir_okay=False)


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
    help="Folder of the embedded Kafka, which is asked where no other is named. [.broker/kafka]",
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
    kafka_home: Path | None,
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
    from broker.config import KafkaOptions

    login = _login(recipient, KafkaOptions(bootstrap, ca, password_file, kafka_home))
    from broker.core.published import as_report, in_windows, narrowed

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


def _login(recipient: str | None, options: KafkaOptions) -> KafkaSettings:
    from broker.config import environment, login

    said = environment()
    who = recipient or said.recipient or said.kafka.get("username", "")
    if not who and said.kafka.get("security_protocol", "SASL_SSL").startswith("SASL"):
        raise click.UsageError("say who you are: --as RECIPIENT, or BROKER_RECIPIENT in the environment")
    return login(who, options)


def _read(login: KafkaSettings, product: str) -> Releases:
    import asyncio
    import logging

    from broker.edge.data import data_folder
    from broker.edge.kafka.collect import read_releases
    from broker.edge.schemas import SchemaFolder

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it comes as an error
    return asyncio.run(read_releases(login, product, SchemaFolder.load(data_folder("schemas"))))


def _geometries(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    from broker.core.formats import read_geometries

    try:
        return dict(read_geometries(file.read_text(encoding="utf-8"), str(file)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "unreadable_file", f"cannot be read as UTF-8 text ({error})", where=str(file)
        ) from error


def _rendered(reports: Sequence[Report], chosen: Releases, form: str, geometries: dict[str, Any]) -> bytes:
    from broker.core.formats import geojson, parquet
    from broker.core.report import releases_csv

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
    from broker.core.published import missing_groups
    from broker.core.report import PUBLISHED

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
