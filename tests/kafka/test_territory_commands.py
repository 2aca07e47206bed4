"""An operator brings a territory into force by commands, each of which tells a script what it did."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from releasing import write

from broker import cli, operate
from broker.core.note import Signer
from broker.edge.data import data_folder
from broker.edge.kafka.collect import read_topic
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.provision import CONTROL, RELEASE
from broker.edge.schemas import SchemaFolder
from broker.edge.territory import load_territory
from broker.sim import TerritorySpec, generate, write_territory
from broker.stages.ports import Out

SCHEMAS = SchemaFolder.load(data_folder("schemas"))
PARTNERS = ["energy-a", "energy-b", "energy-c", "water-n", "water-s"]


@dataclass(frozen=True)
class Place:
    """An unsigned territory's folder, a key file per partner in `keys`, what signs for them, and an empty Kafka."""

    folder: Path
    keys: Path
    signers: dict[str, Signer]
    kafka: EmbeddedKafka

    @property
    def options(self) -> list[str]:
        secrets = str(self.kafka.home.secrets)
        return ["--bootstrap", self.kafka.bootstrap, "--ca", str(self.kafka.ca_pem), "--secrets", secrets]


@pytest.fixture(scope="module")
def place(new_kafka: Callable[[], EmbeddedKafka], tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("territory")
    world = generate(
        TerritorySpec(epcis=1, communes=2, iris=4, premises=60, days=1, half_hourly=None), seed=3
    )
    signers = operate.make_signers(PARTNERS)
    for name, signer in signers.items():
        (home / f"{name}.key").write_text(signer.skey + "\n")
    keys = {name: signer.verifier.vkey for name, signer in signers.items()}
    return Place(write_territory(world, home / "territory", keys), home, signers, new_kafka())


def test_a_territory_comes_into_force_by_commands_that_tell_what_they_did(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        status = cli.run(["territory", *arguments, "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        found: dict[str, Any] = json.loads(captured.out)
        return found

    folder = str(place.folder)
    done = told("provision", folder, *place.options)
    assert "in.water-n.water" in done["new_topics"] and "out.vacancy-monthly" in done["new_topics"]
    assert {"broker-ingest", "broker-release", "city", *PARTNERS} < set(done["principals"])
    assert done["partners"] == PARTNERS
    assert told("provision", folder, *place.options)["new_topics"] == []

    active = ["activate", folder, "vacancy-monthly", "--from", "2026-01-01", *place.options]
    assert cli.run(["territory", *active]) == 3  # nobody has signed
    assert "[not_agreed]" in capsys.readouterr().err
    for partner in PARTNERS:
        key = ["--partner", partner, "--key", str(place.keys / f"{partner}.key")]
        signed = told("sign", folder, "vacancy-monthly", *key)
        assert signed == {"product": "vacancy-monthly", "partner": partner, "note": signed["note"]}
        assert Path(signed["note"]).is_file()
    within = ["2026-01-02" if word == "2026-01-01" else word for word in active]
    assert cli.run(["territory", *within]) == 2  # a month's second day begins no window
    assert "[bad_start]" in capsys.readouterr().err
    done = told(*active)
    assert done == {"product": "vacancy-monthly", "active_from": "2026-01-01", "signed_by": PARTNERS}
    records = asyncio.run(read_topic(place.kafka.settings(CONTROL), "control"))
    said = [SCHEMAS.decode(record.value)[1] for record in records]
    kinds = [record["kind"] for record in said]
    assert [record["name"] for record in said if record["kind"] == "activation"] == ["vacancy-monthly@1"]
    assert kinds.count("partner") == 2 * len(PARTNERS)


def closed_until(place: Place, lane: int, moment: str) -> None:
    """A release lane's ledger says that it has closed the domain's windows up to this local day."""
    at = int(datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo("Europe/Paris")).timestamp() * 1000)
    body = json.dumps({"windows": {"closed_until": {"housing": at}}}).encode()
    row = SCHEMAS.encode("ledger-row", {"kind": "closed", "domain": "", "body": body})
    asyncio.run(write(place.kafka.settings(RELEASE), [[Out("ledger", lane, b"closed", row)]], lane))


def test_an_ended_version_is_retired_when_all_lanes_have_closed_its_last_window(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        status = cli.run(["territory", *arguments, *place.options, "--json"])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    folder, product = str(place.folder), "vacancy-monthly"
    lanes = yaml.safe_load((place.folder / "territory.yaml").read_text())["lanes"]
    assert run("provision", folder)[0] == 0
    for version, start in ((1, "2026-01-01"), (2, "2026-03-01")):
        policy = place.folder / "policies" / f"{product}.yaml"
        policy.write_text(re.sub(r"(?m)^version: \d+", f"version: {version}", policy.read_text()))
        operate.sign_policies(load_territory(place.folder), place.signers)
        assert run("activate", folder, product, "--from", start)[0] == 0

    def retire(version: str) -> tuple[int, str]:
        return run("retire", folder, version)

    for version, status, reason in (
        ("3", 2, "unknown_version"),
        ("2", 3, "earlier_version"),
        ("1", 3, "window_open"),
    ):
        found, said = retire(f"{product}@{version}")
        assert (found, f"[{reason}]" in said) == (status, True), said
    for lane in range(lanes):
        closed_until(place, lane, "2026-03-01" if lane else "2026-02-28")
    assert "lanes 0 have not closed" in retire(f"{product}@1")[1]
    closed_until(place, 0, "2026-03-01")
    status, said = retire(f"{product}@1")
    assert (status, json.loads(said)) == (0, {"retired": f"{product}@1"})
    last = asyncio.run(read_topic(place.kafka.settings(CONTROL), "control"))[-1]
    assert SCHEMAS.decode(last.value)[1] == {"kind": "activation", "name": f"{product}@1", "body": ""}
    assert "[still_runs]" in retire(f"{product}@2")[1]
