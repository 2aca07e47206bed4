"""One error tree, divided by who must act.

Every message says what was wrong, where, and what to do. `reason` is a stable code (see `reasons`) that
scripts and tests may rely on; the text is for people. No message ever holds a payload, a delivery point
in clear or a premises token. Exit codes of the command line follow the class.
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of all errors that the broker raises on purpose.

    reason: stable code; what: the sentence for people; where: file, topic/partition/offset or field.
    """

    exit_code = 1

    def __init__(self, reason: str, what: str, *, where: str = "") -> None:
        self.reason = reason
        self.what = what
        self.where = where
        super().__init__(f"{where}: {what} [{reason}]" if where else f"{what} [{reason}]")


class PartnerError(BrokerError):
    """A partner must correct what it sends: a record, a site table, a mapping."""

    exit_code = 2


class InputError(BrokerError):
    """Whoever calls the command must correct a file or an argument."""

    exit_code = 2


class Refused(BrokerError):
    """The broker understood and will not: the policy, its signatures or a limit forbid it."""

    exit_code = 3


class OperatorError(BrokerError):
    """The operator of the broker must act: settings, Kafka, keys, disk."""

    exit_code = 1


class ProgrammerError(BrokerError):
    """An invariant of the code is broken; nothing is released."""

    exit_code = 1
