"""A partner's side: make a signing key, send an export to Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.core.errors import InputError

if TYPE_CHECKING:
    from broker.core.plan import Stream
    from broker.edge.kafka.settings import KafkaSettings
    from broker.partner.mapping import Mapped, Mapping

_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False)


@click.group()
def command() -> None:
    """What a partner runs: make its signing key; send readings, sites and consent to the broker's Kafka.

    \b
    Example:
      broker partner send --partner water-n --stream water --mapping export.yaml export.csv
    """


@command.command()
@click.argument("csv", type=_file)
@click.option("--partner", required=True, help="Your name in the territory.")
@click.option("--stream", help="The stream's name; for --kind readings.")
@click.option("--mapping", "mapping_file", type=_file, help="YAML file that says what the columns mean.")
@click.option(
    "--kind",
    type=click.Choice(["readings", "sites", "consent"]),
    default="readings",
    show_default=True,
    help="Sites and consent are CSV files in the form of a dry run.",
)
@click.option("--until", help="All up to this time (ISO 8601) is sent; default: the end of the last reading.")
@click.option("--no-mark", is_flag=True, help="More files of this stream follow: send no completeness mark.")
@click.option("--mark-anyway", is_flag=True, help="Send the mark although rows could not be read.")
@click.option("--territory", type=_folder, help="Territory's folder: checks that the stream is as declared.")
@click.option("--bootstrap", help="Kafka's host:port. [BROKER_KAFKA__BOOTSTRAP_SERVERS]")
@click.option("--ca", type=_file, help="PEM file of certificates to trust. [BROKER_KAFKA__CA_FILE]")
@click.option("--password-file", type=_file, help="File with your password. [BROKER_KAFKA__PASSWORD_FILE]")
@click.option(
    "--kafka-home",
    type=_folder,
    help="Folder of the embedded Kafka, which is asked where no other is named. [.broker/kafka]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was sent as one JSON object.")
@click.pass_context
def send(
    context: click.Context,
    *,
    csv: Path,
    partner: str,
    stream: str | None,
    mapping_file: Path | None,
    kind: str,
    until: str | None,
    no_mark: bool,
    mark_anyway: bool,
    territory: Path | None,
    bootstrap: str | None,
    ca: Path | None,
    password_file: Path | None,
    kafka_home: Path | None,
    as_json: bool,
) -> None:
    """Send the export CSV: one record per row, then a completeness mark to every partition.

    Rows that cannot be read are not sent; they are counted by reason, with their first lines. Then no mark is sent
    either, so that no window closes without them, and the exit status is 1, unless --mark-anyway is given.

    \b
    Example:
      broker partner send --partner energy-a --stream electricity --mapping enedis.yaml january.csv
      broker partner send --partner energy-a --kind sites sites.csv
    """
    from broker.config import KafkaOptions
    from broker.config import login as log_in

    login = log_in(partner, KafkaOptions(bootstrap, ca, password_file, kafka_home))
    if kind != "readings":
        _check_login(login)
        count = _send_table(csv, partner, kind, login)
        facts = {"topic": f"{kind}.{partner}", "delivery_points": count}
        click.echo(json.dumps(facts) if as_json else f"{facts['topic']}: {count} delivery points sent")
        return
    if stream is None or mapping_file is None:
        raise click.UsageError("readings need --stream and --mapping")
    if no_mark and mark_anyway:
        raise click.UsageError("--no-mark and --mark-anyway: give one of them")
    from broker.edge.clock import SystemClock
    from broker.partner.mapping import apply_mapping, load_mapping

    now = SystemClock().now()
    mapping = load_mapping(mapping_file)
    target = _stream(partner, stream, mapping, territory)
    _check_login(login)
    end = _until(until, now)
    mapped = apply_mapping(csv, mapping, now=now)
    whole = mapped.bad.is_empty() or mark_anyway
    marked = None if no_mark or not whole else end or mapped.until
    _send_readings(mapped, target, marked, login)
    facts = _facts(mapped, target.topic, marked)
    click.echo(json.dumps(facts) if as_json else _summary(facts))
    if not whole:
        click.echo(
            f"broker: {target.topic}: {len(mapped.bad)} of {mapped.read} rows could not be read and were not sent, so "
            "no completeness mark was: correct them and send the file again, or close without them by --mark-anyway "
            "[bad_rows]",
            err=True,
        )
        context.exit(1)


@command.command()
@click.option("--partner", required=True, help="Your name in the territory.")
@click.option("--out", required=True, type=_file, help="File for the secret key; it must not exist yet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def key(partner: str, out: Path, as_json: bool) -> None:
    """Make your signing key: the secret goes to the file, the line printed to the operator, as `agreement_key`.

    \b
    Example:
      broker partner key --partner water-n --out water-n.key
    """
    from broker.partner.keys import make_key

    public = make_key(partner, out).vkey
    facts = {"partner": partner, "agreement_key": public, "file": str(out)}
    click.echo(json.dumps(facts) if as_json else public)


def _send_readings(mapped: Mapped, target: Stream, mark: int | None, login: KafkaSettings) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from broker.edge.data import data_folder
    from broker.edge.kafka.clients import bulk_producer
    from broker.edge.schemas import SchemaFolder
    from broker.partner.send import StreamSender

    sender = StreamSender(bulk_producer(login), target, SchemaFolder.load(data_folder("schemas")))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(target.topic, total=len(mapped.readings))
        sender.readings(mapped.readings, lambda n: bar.advance(task, n))
        # Confirmed first: a mark never speaks of a reading that Kafka has not taken.
        sender.outbox.close()
    if mark is not None:
        sender.mark(mark)
        sender.outbox.close()


def _send_table(csv: Path, partner: str, kind: str, login: KafkaSettings) -> int:
    """Returns how many delivery points were sent."""
    from broker.edge.data import data_folder
    from broker.edge.files import read_consent, read_sites
    from broker.edge.kafka.clients import bulk_producer
    from broker.edge.schemas import SchemaFolder
    from broker.partner.send import send_consent, send_sites

    schemas = SchemaFolder.load(data_folder("schemas"))
    if kind == "sites":
        rows = read_sites(csv).rows.get(partner)
        if rows is None:
            raise InputError("no_rows", f"no row of partner {partner}: is it the right file?", where=str(csv))
        return send_sites(bulk_producer(login), partner, rows, schemas)
    return send_consent(bulk_producer(login), partner, read_consent(csv), schemas)


def _stream(partner: str, name: str, mapping: Mapping, territory: Path | None) -> Stream:
    """The stream as the mapping has it; as the territory declares it, where that is given."""
    from broker.core.plan import Stream
    from broker.edge.text_columns import UNITS

    said = Stream(partner, "", name, mapping.measure, mapping.kind, UNITS[mapping.unit][0])
    if territory is None:
        return said
    from broker.edge.territory import load_territory

    declared = {s.topic: s for s in load_territory(territory).territory.streams}
    found = declared.get(said.topic)
    if found is None:
        raise InputError("unknown_stream", f"the territory has no stream {said.topic}: {', '.join(declared)}")
    if (found.measure, found.kind, found.unit) != (said.measure, said.kind, said.unit):
        raise InputError(
            "wrong_stream",
            f"{said.topic} is a {found.kind} of {found.measure} in {found.unit}; the mapping says a "
            f"{said.kind} of {said.measure} in {mapping.unit}",
        )
    return found


def _check_login(login: KafkaSettings) -> None:
    """Say at once why Kafka does not let us in: librdkafka would only run out of time."""
    import asyncio

    from broker.edge.kafka.clients import check_login

    asyncio.run(check_login(login))


def _until(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    from broker.core.readings import AHEAD
    from broker.edge.text_columns import instant

    found = instant(text)
    if found is None:
        raise click.UsageError(
            f"--until {text}: write ISO 8601 with an offset, e.g. 2026-02-01T00:00:00+01:00"
        )
    if found > now + AHEAD:
        raise InputError(
            "far_future",
            f"{text} is more than a day ahead: nobody has sent all up to then, and windows would close without what "
            "is still to come",
            where="--until",
        )
    return found


def _facts(mapped: Mapped, topic: str, mark: int | None) -> dict[str, Any]:
    """What was sent of an export: the object of --json. mark: ISO 8601, or null where none was sent."""
    moment = None if mark is None else datetime.fromtimestamp(mark / 1000, UTC)
    return {
        "topic": topic,
        "read": mapped.read,
        "sent": len(mapped.readings),
        "left_out": mapped.skipped,
        "ambiguous_times": mapped.ambiguous,
        "not_sent": {
            reason: {"rows": count, "first_lines": lines}
            for reason, (count, lines) in mapped.not_read.items()
        },
        "mark": moment and moment.isoformat(),
    }


def _summary(facts: dict[str, Any]) -> str:
    lines = [f"{facts['topic']}: {facts['sent']} of {facts['read']} rows sent"]
    if facts["left_out"]:
        lines.append(f"  {facts['left_out']} left out by `where`")
    if facts["ambiguous_times"]:
        lines.append(f"  {facts['ambiguous_times']} at a local time that happened twice (clocks went back)")
    lines += [
        f"  {bad['rows']} not sent: {reason}, first in line {', '.join(map(str, bad['first_lines']))}"
        for reason, bad in facts["not_sent"].items()
    ]
    if facts["mark"]:
        lines.append(f"  complete up to {facts['mark']}")
    return "\n".join(lines)
