"""An operator brings a territory into force by commands, each of which tells a script what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker import cli, operate
from broker.edge.data import data_folder
from broker.edge.kafka.collect import read_topic
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.provision import CONTROL
from broker.edge.schemas import SchemaFolder
from broker.sim import TerritorySpec, generate, write_territory

SCHEMAS = SchemaFolder.load(data_folder("schemas"))
PARTNERS = ["energy-a", "energy-b", "energy-c", "water-n", "water-s"]


@dataclass(frozen=True)
class Place:
    """An unsigned territory's folder, a key file per partner in `keys`, and an empty Kafka."""

    folder: Path
    keys: Path
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
    return Place(write_territory(world, home / "territory", keys), home, new_kafka())


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
