"""The command line: errors become one line and an exit status, and help costs nothing."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from broker import cli
from broker.core.errors import BrokerError, InputError, OperatorError, PartnerError, Refused


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("bad_file", "it is wrong", where="a.csv"), 2),
        (PartnerError("bad_site", "it is wrong"), 2),
        (Refused("empty_rule", "no"), 3),
        (OperatorError("kafka_unreachable", "no answer"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_broker_raises_is_one_line_and_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    monkeypatch.setattr(cli.broker, "get_command", lambda *_: failing(error))
    assert cli.run(["anything"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    text = captured.err.strip()
    assert text.startswith("broker: ")
    assert "\n" not in text
    if isinstance(error, BrokerError):
        assert str(error) in text


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.broker, "get_command", lambda *_: failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.run(["anything"])


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["--no-such-option"], ["kafka", "up", "--port", "x"]]
)
def test_a_wrong_call_is_status_2(arguments: list[str]) -> None:
    assert cli.run(arguments) == 2


def test_help_names_every_command_and_status_without_importing_them() -> None:
    loaded = (
        "import sys; from broker import cli; cli.run(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert "'broker.commands.kafka'" not in done.stderr
    assert "'confluent_kafka'" not in done.stderr
    context = click.Context(cli.broker)
    names = cli.broker.list_commands(context)
    assert "kafka" in names
    for name in names:
        assert f"  {name} " in done.stdout
    for status in ("0", "1", "2", "3", "130"):
        assert f"\n    {status} " in done.stdout


def test_every_command_shows_an_example() -> None:
    context = click.Context(cli.broker)

    def walk(command: click.Command, path: str) -> None:
        assert command.help is not None, path
        assert "Example" in command.help, path
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, f"{path} {name}")

    for name in cli.broker.list_commands(context):
        command = cli.broker.get_command(context, name)
        assert command is not None
        walk(command, name)
