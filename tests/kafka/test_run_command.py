"""A worker that cannot start says why in one line, as the person who set it up must read it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker.edge.kafka.embedded import EmbeddedKafka
from broker.sim import TerritorySpec, generate, write_territory


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All settings of a worker, but for which Kafka: nothing listens there."""
    home = tmp_path_factory.mktemp("worker")
    world = generate(
        TerritorySpec(epcis=1, communes=1, iris=2, premises=20, days=1, half_hourly=None), seed=3
    )
    keys = {s.partner: f"{s.partner}+00000000+AAAA" for s in world.streams}
    (home / "secrets").mkdir()
    for role in ("ingest", "release"):
        (home / "secrets" / f"broker-{role}").write_text("word")
    (home / "keys").write_text("00" * 32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    return {
        "BROKER_TERRITORY": str(write_territory(world, home / "territory", keys)),
        "BROKER_SECRETS": str(home / "secrets"),
        "BROKER_KEY_FILE": str(home / "keys"),
        "BROKER_DATA": str(home / "data"),
        "BROKER_KAFKA__BOOTSTRAP_SERVERS": f"localhost:{closed}",
    }


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """`broker run` with these settings and no others: its exit status and what it says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    program = [sys.executable, "-m", "broker", "run", *arguments]
    done = subprocess.run(
        program, env=clean | environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def told(environment: dict[str, str], *arguments: str) -> str:
    """The one line that it says, with exit status 1."""
    status, said = run(environment, *arguments)
    assert status == 1, said
    assert said.startswith("broker: ") and said.count("\n") == 1, said
    return said


def test_a_worker_without_kafka_says_so(environment: dict[str, str]) -> None:
    said = told(environment)
    assert environment["BROKER_KAFKA__BOOTSTRAP_SERVERS"] in said
    assert "[kafka_unreachable]" in said


def test_a_worker_that_kafka_does_not_let_in_says_which_login(
    environment: dict[str, str], kafka: EmbeddedKafka
) -> None:
    here = environment | {
        "BROKER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
        "BROKER_KAFKA__CA_FILE": str(kafka.ca_pem),
    }
    for role in ("ingest", "release"):
        said = told(here, "--role", role)
        assert f"user broker-{role} " in said and "[kafka_login_refused]" in said
    del here["BROKER_KAFKA__CA_FILE"]
    assert "[kafka_not_trusted]" in told(here)


def test_a_worker_without_a_password_says_which_file(environment: dict[str, str], tmp_path: Path) -> None:
    said = told(environment | {"BROKER_SECRETS": str(tmp_path)})
    assert str(tmp_path / "broker-ingest") in said and "[password_missing]" in said
