"""A cluster that knows its principals by certificates: every command reaches it with the same settings.

The embedded Kafka's listener between brokers is such a place: mutual TLS, principals by the certificate's subject.
Each principal here has a file of its own with the node's certificate, which may do everything.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import cli, operate
from broker.config import KafkaOptions, login
from broker.core.errors import OperatorError
from broker.edge.kafka.clients import check_login
from broker.edge.kafka.collect import read_topic
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.pki import ensure_pki
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.territory import load_territory
from broker.sim import TerritorySpec, generate, write_territory

PATIENCE = 90.0


@pytest.fixture(scope="module")
def kafka(new_kafka: Callable[[], EmbeddedKafka]) -> EmbeddedKafka:
    return new_kafka()


@pytest.fixture(scope="module")
def settings(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """BROKER_KAFKA__… of the whole territory."""
    certificates = tmp_path_factory.mktemp("certificates")
    pem = (kafka.home.tls / "node.pem").read_text()
    at = pem.index("-----BEGIN CERTIFICATE-----")
    for name in ("admin", "broker-control", "broker-ingest", "broker-release", "water-n"):
        (certificates / f"{name}.key").write_text(pem[:at])
        (certificates / f"{name}.pem").write_text(pem[at:])
    state = kafka.home.read_state()
    assert state is not None
    return {
        "BROKER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{state.node_port}",
        "BROKER_KAFKA__SECURITY_PROTOCOL": "SSL",
        "BROKER_KAFKA__CA_FILE": str(kafka.ca_pem),
        "BROKER_KAFKA__CERT_FILE": str(certificates / "{principal}.pem"),
        "BROKER_KAFKA__KEY_FILE": str(certificates / "{principal}.key"),
    }


@pytest.fixture(autouse=True)
def in_the_environment(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def territory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small territory, every policy signed."""
    world = generate(
        TerritorySpec(epcis=1, communes=1, iris=2, premises=60, days=2, half_hourly=None), seed=3
    )
    signers = operate.make_signers(stream.partner for stream in world.streams)
    keys = {name: signer.verifier.vkey for name, signer in signers.items()}
    folder = write_territory(world, tmp_path_factory.mktemp("place") / "territory", keys)
    operate.sign_policies(load_territory(folder), signers)
    return folder


def test_operator_and_partner_work_with_certificates_instead_of_passwords(
    territory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["territory", "provision", str(territory), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert "water-n" in done["principals"] and done["secrets"] is None
    active = ["territory", "activate", str(territory), "vacancy-monthly", "--from", "2026-01-01"]
    assert cli.run(active) == 0
    table = ["--kind", "sites", str(territory / "input" / "sites.csv")]
    assert cli.run(["partner", "send", "--partner", "water-n", *table]) == 0
    mapping = tmp_path / "water.yaml"
    mapping.write_text(
        "columns: {delivery_point: delivery_point, timestamp: timestamp, value: value}\n"
        "measure: water\nkind: register\nunit: mL\nwhere: {partner: water-n}\n"
    )
    export = str(territory / "input" / "readings-water.csv")
    stream = ["--stream", "water", "--mapping", str(mapping), "--mark-anyway", "--json", export]
    capsys.readouterr()
    assert cli.run(["partner", "send", "--partner", "water-n", *stream]) == 0
    sent = json.loads(capsys.readouterr().out)["sent"]
    found = asyncio.run(read_topic(login("water-n", KafkaOptions()), "in.water-n.water"))
    assert len([record for record in found if record.key]) == sent > 0
    # a recipient is let in, and is told that there is nothing yet
    assert cli.run(["fetch", "vacancy-monthly", "--as", "water-n", "--out", str(tmp_path / "f.csv")]) == 2
    assert "kafka" not in capsys.readouterr().err


@contextmanager
def worker(territory: Path, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`broker run` with both roles, and the port of its pages; what it says is in `home/log`."""
    (home / "keys").write_text("00" * 32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own = {"TERRITORY": territory, "KEY_FILE": home / "keys", "DATA": home / "data", "WEB_PORT": port}
    values = os.environ | {f"BROKER_{name}": str(value) for name, value in own.items()}
    with (home / "log").open("wb") as log:
        program = [sys.executable, "-m", "broker", "run"]
        process = subprocess.Popen(program, env=values, stdout=log, stderr=log)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def lanes(port: int) -> list[int]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as page:
            return list(json.load(page)["lanes"])
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return []


def test_a_worker_gets_its_lanes_with_certificates_and_ends_quietly_at_ctrl_c(
    territory: Path, tmp_path: Path
) -> None:
    assert cli.run(["territory", "provision", str(territory)]) == 0
    with worker(territory, tmp_path) as (process, port):
        deadline = time.monotonic() + PATIENCE
        while not lanes(port):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert all(line.startswith("{") for line in said.splitlines()), said


# -- certificates that do not do ----------------------------------------------------------------------


async def test_who_has_no_certificate_or_a_strangers_is_told_so(tmp_path: Path) -> None:
    good = login("admin", KafkaOptions())
    await check_login(good)
    stranger = ensure_pki(tmp_path, dt.datetime.now(dt.UTC))
    for change in ({"cert_file": None, "key_file": None}, {"cert_file": stranger.node, "key_file": None}):
        with pytest.raises(OperatorError, match=r"client's certificate.*cert_file.*\[kafka_login_refused\]"):
            await check_login(good.model_copy(update=change))


@pytest.mark.parametrize("client", ["aiokafka", "librdkafka"])
def test_a_certificate_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, territory: Path, capsys: pytest.CaptureFixture[str], client: str
) -> None:
    monkeypatch.setenv("BROKER_KAFKA__CERT_FILE", "absent/{principal}.pem")
    arguments = {
        "aiokafka": ["fetch", "vacancy-monthly", "--as", "admin"],
        "librdkafka": ["territory", "provision", str(territory)],
    }
    assert cli.run(arguments[client]) == 1
    said = capsys.readouterr().err
    assert "absent/admin.pem" in said and "[bad_cert_file]" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"security_protocol": "SSL", "key_file": "k.pem"}, "key_file needs cert_file"),
        ({"security_protocol": "PLAINTEXT", "cert_file": "c.pem"}, "cert_file says nothing with PLAINTEXT"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        KafkaSettings.model_validate({"bootstrap_servers": "kafka:9094"} | values)
