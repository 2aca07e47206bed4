"""What a partner sends arrives whole, in its point's partition, marks after their readings; or it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import polars as pl
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

from broker.commands.partner import command
from broker.core.errors import InputError, OperatorError, PartnerError
from broker.core.partitioner import partition_for
from broker.core.plan import Stream
from broker.edge.data import data_folder
from broker.edge.kafka.admin import Admin, TopicSpec, librdkafka
from broker.edge.kafka.clients import bulk_producer
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.schemas import SchemaFolder
from broker.partner.send import Outbox, StreamSender, send_consent, send_sites, send_step, send_steps
from broker.sim import TerritorySpec, World, generate

LANES = 3
SCHEMAS = SchemaFolder.load(data_folder("schemas"))
GOOD = [("m1", 12_500_000), ("m1", 12_750_000), ("m2", 7_000_000)]
"""The rows of the fixture `export` that can be read, in mL."""


@pytest.fixture(scope="module")
def settings(kafka: EmbeddedKafka) -> KafkaSettings:
    return kafka.admin


@pytest.fixture(scope="module")
def world() -> World:
    return generate(
        TerritorySpec(epcis=1, communes=2, iris=4, premises=120, days=3, half_hourly=None), seed=3
    )


@dataclass(frozen=True)
class Topics:
    settings: KafkaSettings

    def make(self, *names: str) -> None:
        Admin(self.settings).ensure_topics({name: TopicSpec(LANES) for name in names})

    def read(self, topic: str) -> list[list[tuple[bytes | None, bytes]]]:
        """(key, value) of every record, by partition."""
        consumer = Consumer(
            librdkafka(self.settings) | {"group.id": f"reader-{topic}", "enable.auto.commit": False}
        )
        found: list[list[tuple[bytes | None, bytes]]] = []
        for partition in range(LANES):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=15)
            consumer.assign([TopicPartition(topic, partition, low)])
            records: list[tuple[bytes | None, bytes]] = []
            while len(records) < high - low:
                message = consumer.poll(15)
                assert message is not None and message.error() is None
                records.append((message.key(), message.value() or b""))
            found.append(records)
        consumer.close()
        return found


@pytest.fixture(scope="module")
def topics(settings: KafkaSettings) -> Iterator[Topics]:
    yield Topics(settings)


def named(partner: str, world: World, prefix: str) -> tuple[Stream, str]:
    """The stream of a partner under a name that no other test uses."""
    (stream,) = [s for s in world.streams if s.partner == partner]
    return Stream(
        f"{prefix}-{partner}", stream.holding, stream.name, stream.measure, stream.kind, stream.unit
    ), partner


def test_steps_arrive_whole_in_order_and_marks_follow_their_readings(
    settings: KafkaSettings, topics: Topics, world: World
) -> None:
    for partner in ("energy-a", "water-n"):
        stream, _ = named(partner, world, "steps")
        topics.make(stream.topic)
        steps = world.readings[partner][stream.name]
        moved: list[int] = []
        sender = StreamSender(bulk_producer(settings), stream, SCHEMAS)
        sent = send_steps(sender, steps, moved.append)
        raw = sum(len(step.raw) for step in steps)
        readings = sum(len(step.frame) for step in steps)
        assert sent == readings + raw + LANES * len(steps)
        assert sum(moved) == readings + raw
        arrived = topics.read(stream.topic)
        assert sum(map(len, arrived)) == sent
        for partition, records in enumerate(arrived):
            expected: list[tuple[bytes | None, bytes]] = []
            for step in steps:
                values = SCHEMAS.encode_readings(step.frame, f"{stream.measure}-{stream.kind}")
                for point, value in zip(step.frame["delivery_point"], values, strict=True):
                    if partition_for(point.encode(), LANES) == partition:
                        expected.append((point.encode(), value))
                for number, record in enumerate(step.raw):
                    if partition_for(b"raw-%d" % number, LANES) == partition:
                        expected.append((b"raw-%d" % number, record))
                expected.append(
                    (None, SCHEMAS.encode("completeness-mark", {"stream": stream.name, "until": step.until}))
                )
            assert records == expected


def test_partners_can_be_interleaved_step_by_step(
    settings: KafkaSettings, topics: Topics, world: World
) -> None:
    producer = bulk_producer(settings)
    senders = {}
    for partner in ("energy-b", "water-s"):
        stream, _ = named(partner, world, "inter")
        topics.make(stream.topic)
        senders[partner] = (StreamSender(producer, stream, SCHEMAS), world.readings[partner][stream.name])
    for number in range(3):
        for sender, steps in senders.values():
            send_step(sender, steps[number])
    for sender, steps in senders.values():
        sender.outbox.close()
        assert sum(map(len, topics.read(sender.outbox.topic))) == sum(
            len(step.frame) + len(step.raw) + LANES for step in steps[:3]
        )


def test_a_point_has_one_site_history_and_one_consent_state(settings: KafkaSettings, topics: Topics) -> None:
    topics.make("sites.tables-a", "consent.tables-a")
    sites = pl.DataFrame(
        {
            "delivery_point": ["p1", "p2", "p1"],
            "valid_from": [None, None, 5],
            "valid_to": [5, None, None],
            "premises": ["t1", "t2", "t3"],
            "area": ["i1", "i2", "i1"],
            "segment": ["flat", "house", "flat"],
            "register_size": [None, 1000, None],
        }
    )
    assert send_sites(bulk_producer(settings), "tables-a", sites, SCHEMAS) == 2
    found = {
        key: SCHEMAS.decode(value) for records in topics.read("sites.tables-a") for key, value in records
    }
    assert {key: name for key, (name, _) in found.items()} == {b"p1": "site-history", b"p2": "site-history"}
    p1 = found[b"p1"][1]
    assert p1["delivery_point"] == "p1"
    assert [(s["valid_from"], s["valid_to"], s["premises"]) for s in p1["sites"]] == [
        (None, 5, "t1"),
        (5, None, "t3"),
    ]
    assert found[b"p2"][1]["sites"][0]["register_size"] == 1000

    said = pl.DataFrame(
        {
            "delivery_point": ["p1", "p1"],
            "purpose": ["housing", "planning"],
            "granted_from": [1, None],
            "expires_at": [9, None],
            "withdrawn_at": [None, 3],
        }
    )
    assert send_consent(bulk_producer(settings), "tables-a", said, SCHEMAS) == 1
    ((key, value),) = [record for records in topics.read("consent.tables-a") for record in records]
    name, state = SCHEMAS.decode(value)
    assert (key, name) == (b"p1", "consent-state")
    assert [(s["purpose"], s["granted_from"], s["withdrawn_at"]) for s in state["purposes"]] == [
        ("housing", 1, None),
        ("planning", None, 3),
    ]


# -- nothing is lost silently -------------------------------------------------------------------------


def test_a_record_that_kafka_does_not_take_is_an_error(settings: KafkaSettings, topics: Topics) -> None:
    topics.make("in.big.water")
    Admin(settings).ensure_topics({"in.big.water": TopicSpec(LANES, {"max.message.bytes": "1000"})})
    outbox = Outbox(bulk_producer(settings), "in.big.water")
    outbox.put([b"k"], [Random(1).randbytes(4096)])
    with pytest.raises(PartnerError, match=r"in.big.water: 1 of 1 records were not taken"):
        outbox.close()


def test_a_topic_that_does_not_exist_is_the_operators_matter(settings: KafkaSettings) -> None:
    stream = Stream("nobody", "", "water", "water", "register", "mL")
    with pytest.raises(OperatorError, match=r"in.nobody.water.*no_topic"):
        StreamSender(bulk_producer(settings), stream, SCHEMAS).mark(1)


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(
        "columns: {delivery_point: meter, timestamp: at, value: index}\n"
        "time: {format: '%d/%m/%Y %H:%M', zone: Europe/Paris}\n"
        "measure: water\nkind: register\nunit: m3\n"
    )
    (tmp_path / "e.csv").write_text(
        "meter,at,index\nm1,01/01/2026 00:00,12.5\nm2,01/01/2026 00:00,7\nm1,02/01/2026 00:00,12.75\n"
        "m2,soon,8\n"
    )
    return tmp_path


UNTIL = 1_767_308_400_000  # 2026-01-02T00:00:00+01:00


def run_send(kafka: EmbeddedKafka, stream: str, export: Path, *more: str) -> Result:
    """`broker partner send` of the export, as the administrator, who may write everywhere."""
    options = ["--partner", "admin", "--stream", stream, "--kafka-home", str(kafka.home.folder)]
    files = ["--mapping", str(export / "m.yaml"), str(export / "e.csv")]
    return CliRunner().invoke(command, ["send", *options, *files, *more], catch_exceptions=False)


def values_and_marks(topics: Topics, topic: str) -> tuple[list[tuple[str, int]], list[int]]:
    """Every reading's point and value, and every mark, sorted."""
    found = [SCHEMAS.decode(value) for records in topics.read(topic) for _, value in records]
    readings = sorted((r["delivery_point"], r["value"]) for name, r in found if name == "water-register")
    return readings, sorted(r["until"] for name, r in found if name == "completeness-mark")


def test_the_command_sends_an_export_and_then_a_mark_to_every_partition(
    kafka: EmbeddedKafka, topics: Topics, export: Path
) -> None:
    topics.make("in.admin.water")
    (export / "e.csv").write_text((export / "e.csv").read_text().replace("m2,soon,8\n", ""))
    done = run_send(kafka, "water", export)
    assert done.exit_code == 0, done.output
    assert "in.admin.water: 3 of 3 rows sent" in done.output
    found = topics.read("in.admin.water")
    marks = [SCHEMAS.decode(records[-1][1]) for records in found]
    assert marks == [("completeness-mark", {"stream": "water", "until": UNTIL})] * LANES
    readings = [SCHEMAS.decode(value)[1] for records in found for _, value in records[:-1]]
    assert sorted((r["delivery_point"], r["value"]) for r in readings) == GOOD


def test_rows_that_cannot_be_read_are_told_and_no_window_closes_without_them(
    kafka: EmbeddedKafka, topics: Topics, export: Path
) -> None:
    topics.make("in.admin.partly")
    done = run_send(kafka, "partly", export)
    assert done.exit_code == 1, done.output
    assert "in.admin.partly: 3 of 4 rows sent" in done.output
    assert "1 not sent: bad_timestamp, first in line 5" in done.output
    assert "no completeness mark" in done.stderr and "--mark-anyway" in done.stderr
    assert values_and_marks(topics, "in.admin.partly") == (GOOD, [])

    assert run_send(kafka, "partly", export, "--mark-anyway").exit_code == 0
    assert values_and_marks(topics, "in.admin.partly") == (sorted(GOOD * 2), [UNTIL] * LANES)


def test_what_was_sent_is_told_to_a_script_as_one_object(
    kafka: EmbeddedKafka, topics: Topics, export: Path
) -> None:
    topics.make("in.admin.told", "sites.admin")
    done = run_send(kafka, "told", export, "--json")
    assert json.loads(done.stdout) == {
        "topic": "in.admin.told",
        "read": 4,
        "sent": 3,
        "left_out": 0,
        "ambiguous_times": 0,
        "not_sent": {"bad_timestamp": {"rows": 1, "first_lines": [5]}},
        "mark": None,
    }
    marked = json.loads(run_send(kafka, "told", export, "--json", "--mark-anyway").stdout)
    assert marked["mark"] == "2026-01-01T23:00:00+00:00"

    table = export / "sites.csv"
    table.write_text(
        "partner,holding,delivery_point,premises,area,segment\nadmin,h,p1,t1,i1,\nadmin,h,p2,t2,i1,\n"
    )
    arguments = ["send", "--partner", "admin", "--kind", "sites", "--kafka-home", str(kafka.home.folder)]
    sites = CliRunner().invoke(command, [*arguments, "--json", str(table)], catch_exceptions=False)
    assert json.loads(sites.stdout) == {"topic": "sites.admin", "delivery_points": 2}


def test_nobody_declares_a_future_that_is_still_to_come(
    kafka: EmbeddedKafka, topics: Topics, export: Path
) -> None:
    topics.make("in.admin.future")
    with pytest.raises(InputError, match=r"--until: .*more than a day ahead.*far_future"):
        run_send(kafka, "future", export, "--until", "2099-01-01T00:00:00Z")
    (export / "e.csv").write_text("meter,at,index\nm1,01/01/2026 00:00,12.5\nm1,01/01/2099 00:00,13\n")
    done = run_send(kafka, "future", export)
    assert done.exit_code == 1
    assert "1 not sent: far_future, first in line 3" in done.output
    assert values_and_marks(topics, "in.admin.future") == ([("m1", 12_500_000)], [])


def test_a_stranger_is_told_that_its_login_is_refused(kafka: EmbeddedKafka, export: Path) -> None:
    (export / "password").write_text("wrong")
    arguments = [
        *("send", "--partner", "stranger", "--stream", "water", "--bootstrap", kafka.bootstrap),
        *("--ca", str(kafka.ca_pem), "--password-file", str(export / "password")),
        *("--mapping", str(export / "m.yaml"), str(export / "e.csv")),
    ]
    with pytest.raises(OperatorError, match=r"user stranger.*kafka_login_refused"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_command_says_where_no_kafka_runs(export: Path, tmp_path: Path) -> None:
    options = ["--partner", "a", "--stream", "water", "--kafka-home", str(tmp_path / "nowhere")]
    with pytest.raises(OperatorError, match="kafka_stopped"):
        CliRunner().invoke(
            command,
            ["send", *options, "--mapping", str(export / "m.yaml"), str(export / "e.csv")],
            catch_exceptions=False,
        )


def test_the_command_checks_the_stream_against_the_territory(
    kafka: EmbeddedKafka, export: Path, world: World
) -> None:
    from broker.sim import write_territory

    keys = {s.partner: f"{s.partner}+00000000+AAAA" for s in world.streams}
    folder = write_territory(world, export / "territory", keys)
    for partner, stream, said in (
        ("energy-a", "electricity", "wrong_stream"),
        ("water-n", "gas", "unknown_stream"),
    ):
        arguments = [
            *("send", "--partner", partner, "--stream", stream, "--kafka-home", str(kafka.home.folder)),
            *("--territory", str(folder), "--mapping", str(export / "m.yaml"), str(export / "e.csv")),
        ]
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(command, arguments, catch_exceptions=False)
