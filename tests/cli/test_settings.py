"""What the environment says wrongly is told variable by variable; what it says rightly counts everywhere alike."""

from __future__ import annotations

import os

import pytest

from broker import cli
from broker.config import worker_settings
from broker.core.errors import OperatorError

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
