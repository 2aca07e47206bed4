"""`broker`: the one entry point, and the one place where errors become messages and exit statuses.

Commands are found by their file in `broker.commands` and imported only when they run, so that `broker
--help` is quick and one missing file breaks one command. Whatever the broker raises on purpose is one line
on stderr.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from broker import commands
from broker.core.errors import BrokerError

INTERRUPTED = 130

_EPILOG = """\b
Exit status:
  0    done
  1    a check failed, or the operator must act (settings, Kafka, keys, disk)
  2    bad input: a file or an argument must be corrected
  3    refused: a policy, its signatures or a limit forbid it
  130  interrupted (Ctrl-C)
"""


class Commands(click.Group):
    """The files of `broker.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{commands.__name__}.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in self.list_commands(ctx)])


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="data-trust-broker")
def broker() -> None:
    """Join the streams of competing utilities; publish only figures that nobody can take apart.

    \b
    Example:
      broker demo --once
    """


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit status. Never raises what the broker raises on purpose."""
    try:
        status = broker.main(args=list(arguments), prog_name="broker", standalone_mode=False)
        sys.stdout.flush()
    except BrokerError as error:
        click.echo(f"broker: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("broker: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has had enough, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status if isinstance(status, int) else 0


def _summary(name: str) -> str:
    file = Path(commands.__path__[0]) / f"{name.replace('-', '_')}.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
