"""What the environment says wrongly is told variable by variable; what it says rightly counts everywhere alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker import cli
from broker.config import KafkaOptions, cluster, login, worker_settings
from broker.core.errors import OperatorError
from broker.edge.kafka.settings import KafkaSettings

WORKER = {
    "BROKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9094",
    "BROKER_TERRITORY": "territory",
    "BROKER_SECRETS": "secrets",
    "BROKER_KEY_FILE": "keys",
    "BROKER_DATA": "data",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"BROKER_WEB_PORT": "many"}, "BROKER_WEB_PORT must be a whole number"),
        ({"BROKER_LOG_FORMAT": "yaml"}, "BROKER_LOG_FORMAT must be 'json' or 'console'"),
        ({"BROKER_KAFKA__BOOTSTRAP": "x"}, "BROKER_KAFKA__BOOTSTRAP is not known here: unset it"),
        ({"BROKER_KAFKA": "kafka:9094"}, "BROKER_KAFKA must be unset"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name_and_by_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], told: str
) -> None:
    set_all(monkeypatch, WORKER | wrong)
    with pytest.raises(OperatorError) as refused:
        worker_settings()
    assert refused.value.reason == "bad_settings"
    assert told in refused.value.what
    assert "missing" not in refused.value.what


def test_settings_that_are_missing_are_told_as_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["run"]) == 1
    said = capsys.readouterr().err
    for name in WORKER:
        assert f"{name} is missing: set it" in said


def test_whoever_fetches_is_told_which_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"BROKER_KAFKA__SECURITY_PROTOCOL": "TLS", "BROKER_KAFKA__PASSWORD": "secret-word"}
    set_all(monkeypatch, {"BROKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9094"} | wrong)
    assert cli.run(["fetch", "vacancy-monthly", "--as", "city"]) == 2
    said = capsys.readouterr().err
    assert "BROKER_KAFKA__SECURITY_PROTOCOL must be 'SASL_SSL', " in said and "[bad_settings]" in said
    assert "secret-word" not in said


def test_an_embedded_kafka_that_is_named_outright_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_all(monkeypatch, {"BROKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9094", "BROKER_KAFKA__PASSWORD": "word"})
    assert login("city", KafkaOptions()).bootstrap_servers == "kafka:9094"
    with pytest.raises(OperatorError, match="kafka_stopped") as refused:
        login("city", KafkaOptions(home=tmp_path))
    assert refused.value.where == str(tmp_path)


def test_options_win_over_the_environment_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch,
        {
            "BROKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9094",
            "BROKER_KAFKA__PASSWORD": "word",
            "BROKER_KAFKA__MECHANISM": "PLAIN",
            "BROKER_KAFKA__CERT_FILE": "certs/{principal}.pem",
        },
    )
    found = login("city", KafkaOptions(ca=Path("ca.pem"), password_file=Path("city.txt")))
    assert found == KafkaSettings(
        bootstrap_servers="kafka:9094",
        ca_file=Path("ca.pem"),
        cert_file=Path("certs/city.pem"),
        username="city",
        password_file=Path("city.txt"),
        mechanism="PLAIN",
    )


def test_a_role_has_the_password_and_the_certificate_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"BROKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9094"})
    found = cluster(KafkaOptions()).login("admin", Path("secrets"))
    assert (found.username, found.password_file) == ("admin", Path("secrets/admin"))
    with pytest.raises(OperatorError, match=r"admin.*BROKER_SECRETS.*password_missing"):
        cluster(KafkaOptions()).login("admin", None)
    set_all(
        monkeypatch,
        {"BROKER_KAFKA__SECURITY_PROTOCOL": "SSL", "BROKER_KAFKA__CERT_FILE": "certs/{principal}.pem"},
    )
    assert cluster(KafkaOptions()).login("admin", None).cert_file == Path("certs/admin.pem")
