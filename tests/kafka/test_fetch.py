"""A recipient gets what was released to it, checked and byte for byte, and is told plainly why it gets nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from releasing import AREAS, CODEC, KEYS, LANES, PRODUCT, decision, plan, records, territory, write

from broker import cli
from broker.core.errors import InputError, OperatorError, Refused
from broker.core.published import decision_reports
from broker.core.release import Decision
from broker.core.report import decisions_csv, releases_csv
from broker.edge.kafka.clients import transactional_producer
from broker.edge.kafka.collect import (
    Read,
    _product_records,
    decisions,
    read_releases,
    read_topic,
    receipts,
    releases,
)
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.provision import INGEST, RELEASE, provision
from broker.edge.keys import LocalKeys
from broker.stages.ports import Out

DAYS = 3
RECEIPT: dict[str, Any] = {
    "topic": "in.energy-a.electricity",
    "partition": 0,
    "first_offset": 0,
    "last_offset": 9,
    "read": 0,
    "admitted": 0,
    "late": 0,
    "quarantined": {},
    "refused": {},
}


@dataclass(frozen=True)
class Released:
    """A cluster on which these decisions were released."""

    kafka: EmbeddedKafka
    decided: list[Decision]

    def login(self, who: str = "ville") -> list[str]:
        password = str(self.kafka.home.secrets / who)
        return [
            *("--as", who, "--password-file", password),
            *("--bootstrap", self.kafka.bootstrap, "--ca", str(self.kafka.ca_pem)),
        ]

    def fetch(self, *arguments: str, who: str = "ville", product: str = PRODUCT) -> int:
        return cli.run(["fetch", product, *self.login(who), *arguments])


@pytest.fixture(scope="module")
def released(new_kafka: Callable[[], EmbeddedKafka]) -> Iterator[Released]:
    kafka = new_kafka()
    whole = territory()
    provision(kafka.admin, whole, kafka.home.secrets, products=[PRODUCT])
    found = plan()
    # The last day is decided in one group only, so far.
    places = [
        (day, group) for day in range(DAYS) for group in AREAS.groups("epci")[: 1 if day == 2 else None]
    ]
    decided = [decision(group, day, found) for day, group in places]
    asyncio.run(write(kafka.settings(RELEASE), [records(one, found) for one in decided]))
    yield Released(kafka, decided)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BROKER_RECIPIENT", "BROKER_KAFKA__BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


async def test_what_was_decided_comes_back_in_the_bytes_of_a_dry_run(released: Released) -> None:
    found = await releases(released.kafka.settings("ville"), PRODUCT, CODEC)
    assert [(one.manifest.window_start, one.manifest.group) for one in found] == [
        (one.start, one.group) for one in released.decided
    ]
    for one, decided in zip(found, released.decided, strict=True):
        assert one.cells.equals(decided.cells.select(one.cells.columns))


def test_a_recipient_gets_the_csv_of_a_dry_run(released: Released, tmp_path: Path) -> None:
    assert released.fetch("--window", "all", "--out", "all.csv") == 0
    assert (tmp_path / "all.csv").read_bytes() == releases_csv(released.decided)


def test_the_latest_window_goes_to_standard_output(
    released: Released, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert released.fetch() == 0
    captured = capfdbinary.readouterr()
    assert captured.out == releases_csv(
        one for one in released.decided if one.window_start.startswith("2026-01-03")
    )
    said = captured.err.decode()
    assert "energy-water-daily, 2026-01-03T00:00:00+01:00: " in said
    assert "window 2026-01-03T00:00:00+01:00 is not released yet for E1, E2" in said


def test_windows_areas_and_levels_narrow_what_comes(
    released: Released, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--window", "2026-01-01/2026-01-02", "--area", "E0C1", "--area", "E1", "--level", "commune"]
    assert released.fetch(*arguments, "--out", "some.csv", "--json") == 0
    table = pl.read_csv(tmp_path / "some.csv")
    assert table["area"].unique().to_list() == ["E0C1"]
    assert table["window_start"].str.slice(0, 10).unique().sort().to_list() == ["2026-01-01", "2026-01-02"]
    summary = json.loads(capsys.readouterr().out)
    assert summary["cells"] == {"published": len(table), "suppressed": 0}
    assert summary["windows"] == ["2026-01-01T00:00:00+01:00", "2026-01-02T00:00:00+01:00"]


def test_parquet_and_geojson_hold_the_same_rows(released: Released, tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [2.3, 48.8]}
    areas = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {"area": "E0C0"}, "geometry": point}],
    }
    (tmp_path / "areas.geojson").write_text(json.dumps(areas))
    first = ["--window", "2026-01-01"]
    assert released.fetch(*first, "--format", "parquet", "--out", "t.parquet") == 0
    geometry = ["--geometry", "areas.geojson"]
    assert released.fetch(*first, "--format", "geojson", *geometry, "--out", "t.geojson") == 0
    text = releases_csv(one for one in released.decided if one.window_start.startswith("2026-01-01"))
    rows = pl.read_csv(text, infer_schema=False)
    table = pl.read_parquet(tmp_path / "t.parquet")
    features = json.loads((tmp_path / "t.geojson").read_text())["features"]
    for name in ("area", "level", "segment", "measure", "status"):
        assert table[name].to_list() == rows[name].to_list() == [f["properties"][name] for f in features]
    assert table["value_text"].to_list() == rows["value"].to_list()
    assert table["value"].to_list() == [f["properties"]["value"] for f in features]
    placed = {f["properties"]["area"] for f in features if f["geometry"] == point}
    assert placed == {"E0C0"}
    assert sum(f["geometry"] is None for f in features) == sum(area != "E0C0" for area in rows["area"])


def test_the_environment_says_as_much_as_the_options(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_RECIPIENT", "ville")
    monkeypatch.setenv("BROKER_KAFKA__BOOTSTRAP_SERVERS", released.kafka.bootstrap)
    monkeypatch.setenv("BROKER_KAFKA__CA_FILE", str(released.kafka.ca_pem))
    monkeypatch.setenv("BROKER_KAFKA__PASSWORD", (released.kafka.home.secrets / "ville").read_text().strip())
    assert cli.run(["fetch", PRODUCT, "--window", "all", "--out", "all.csv"]) == 0
    assert (tmp_path / "all.csv").read_bytes() == releases_csv(released.decided)


def test_the_embedded_kafka_is_asked_where_no_other_is_named(released: Released, tmp_path: Path) -> None:
    home = str(released.kafka.home.folder)
    assert cli.run(["fetch", PRODUCT, "--as", "ville", "--kafka-home", home, "--out", "latest.csv"]) == 0
    assert (tmp_path / "latest.csv").read_bytes().startswith(b"product,")


@pytest.mark.parametrize(
    ("arguments", "who", "product", "status", "words"),
    [
        (
            [],
            "other",
            PRODUCT,
            3,
            "ask the operator to add product energy-water-daily to your recipient file",
        ),
        ([], "ville", "secret", 3, "it may read energy-water-daily"),
        (["--password-file", "wrong.txt"], "ville", PRODUCT, 1, "does not accept user ville"),
        (["--bootstrap", "localhost:1"], "ville", PRODUCT, 1, "no Kafka answers"),
        (["--ca", "other.pem"], "ville", PRODUCT, 1, "bad_ca_file"),
        (["--window", "2027-01-01"], "ville", PRODUCT, 2, "begin on 2026-01-01, 2026-01-02, 2026-01-03"),
        (["--window", "soon"], "ville", PRODUCT, 2, "bad_window"),
        (["--level", "region"], "ville", PRODUCT, 2, "commune, epci, iris"),
        (["--area", "E9"], "ville", PRODUCT, 2, "no cell of area E9"),
        ([], "ville", "../secret", 2, "names no product"),
        (["--format", "geojson", "--geometry", "none.geojson"], "ville", PRODUCT, 2, "none.geojson"),
        (["--geometry", "none.geojson"], "ville", PRODUCT, 2, "for --format geojson"),
        (["--out", "nowhere/t.csv"], "ville", PRODUCT, 2, "nowhere/t.csv"),
    ],
)
def test_whoever_gets_nothing_is_told_why(
    released: Released,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    who: str,
    product: str,
    status: int,
    words: str,
) -> None:
    (tmp_path / "wrong.txt").write_text("wrong")
    (tmp_path / "other.pem").write_text("no certificate")
    assert released.fetch(*arguments, who=who, product=product) == status
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert len([line for line in captured.err.splitlines() if line.startswith("broker: ")]) <= 1
    assert "WARNING" not in captured.err
    assert "Traceback" not in captured.err


def test_without_a_name_or_a_kafka_the_command_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fetch", PRODUCT]) == 2
    assert "--as RECIPIENT" in capsys.readouterr().err
    assert cli.run(["fetch", PRODUCT, "--as", "ville"]) == 1
    assert "--bootstrap" in capsys.readouterr().err
    assert cli.run(["fetch", PRODUCT, "--as", "ville", "--bootstrap", "localhost:1"]) == 2
    assert "--password-file" in capsys.readouterr().err


async def test_records_behind_markers_and_aborted_ones_are_no_obstacle(released: Released) -> None:
    """The end of a topic is a transaction's marker, of an aborted one here; its records are never seen."""
    settings = released.kafka.settings(RELEASE)
    before = await read_topic(released.kafka.admin, "log.policy")
    client = transactional_producer(settings, "release.1")
    await client.start()
    await client.begin_transaction()
    await client.send_and_wait("log.policy", b"never", partition=0)
    await client.abort_transaction()
    await client.stop()
    assert await read_topic(released.kafka.admin, "log.policy") == before
    assert len(before) == len(released.decided)


async def test_an_empty_topic_has_no_records(released: Released) -> None:
    assert await read_topic(released.kafka.admin, "out.else") == []


async def test_what_may_be_read_but_is_not_there_is_told_from_what_is_forbidden(
    released: Released,
) -> None:
    settings = released.kafka.settings("ville")
    with pytest.raises(Refused, match="topic_not_allowed"):
        await read_topic(settings, "evidence")
    with pytest.raises(Refused, match="topic_not_allowed"):
        await read_topic(settings, "out.absent")
    with pytest.raises(InputError, match="unknown_product"):
        await read_releases(released.kafka.admin, "absent", CODEC)


@pytest.mark.parametrize("value", [None, b"", b"garbage", CODEC.encode("receipt", RECEIPT)])
def test_a_record_that_belongs_to_no_release_is_an_alarm_that_names_its_place(value: bytes | None) -> None:
    whole = [out.value for out in records(decision("E0", 0, plan()), plan()) if out.topic.startswith("out.")]
    read = [Read(b"", one, 1, offset) for offset, one in enumerate([*whole, value])]
    assert len(list(_product_records(CODEC, read[:-1], "out.p"))) == len(whole)
    with pytest.raises(OperatorError) as alarm:
        list(_product_records(CODEC, read, "out.p"))
    assert alarm.value.where == f"out.p/1/{len(whole)}"


async def test_auditors_get_the_decisions_and_nobody_without_the_key(released: Released) -> None:
    admin = released.kafka.admin
    found = await releases(admin, PRODUCT, CODEC)
    explained = decision_reports(found, await decisions(admin, CODEC, KEYS))
    assert decisions_csv(explained) == decisions_csv(released.decided)
    with pytest.raises(OperatorError, match="bad_seal"):
        await decisions(admin, CODEC, LocalKeys(bytes(32)))


async def test_receipts_add_up_over_all_partitions(released: Released) -> None:
    def receipt(partition: int, **counts: Any) -> Out:
        value = CODEC.encode("receipt", RECEIPT | {"partition": partition} | counts)
        return Out("receipts.energy-a", partition, None, value)

    sent = [
        receipt(0, read=10, admitted=7, late=2, quarantined={"negative": 1}, refused={"no_basis": 2}),
        receipt(1, read=5, admitted=2, quarantined={"negative": 1, "empty": 1}, refused={"no_basis": 1}),
    ]
    ingest = released.kafka.settings(INGEST)
    client = transactional_producer(ingest, "ingest.0")
    await client.start()
    async with client.transaction():
        for out in sent:
            await client.send_and_wait(out.topic, out.value, partition=out.partition)
    await client.stop()
    expected = {
        "read": 15,
        "admitted": 9,
        "late": 2,
        "quarantined": {"empty": 1, "negative": 2},
        "refused": {"no_basis": 3},
    }
    assert await receipts(released.kafka.settings("energy-a"), "energy-a", CODEC) == expected
    with pytest.raises(Refused):
        await receipts(released.kafka.settings("energy-b"), "energy-a", CODEC)


def test_an_altered_release_is_not_shown_and_the_others_are(
    released: Released, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Last, as it leaves its mark: someone writes a release again, with a figure that suits better."""
    found = plan()
    wrong = decision("E2", 0, found)
    better = wrong.cells.with_columns(value=pl.col("value").str.replace(r"^\d+", "99"))
    again = [out for out in records(replace(wrong, cells=better), found) if out.topic.startswith("out.")]
    assert {out.partition for out in again} == {2 % LANES}
    asyncio.run(write(released.kafka.settings(RELEASE), [again]))
    for window in ("all", "2026-01-01"):
        assert released.fetch("--window", window, "--out", "t.csv") == 1
        said = capsys.readouterr().err
        assert "energy-water-daily, window 2026-01-01T00:00:00+01:00, release group E2" in said
        assert "release_revised" in said
        assert not (tmp_path / "t.csv").exists()
    assert released.fetch("--window", "2026-01-02", "--out", "t.csv") == 0
