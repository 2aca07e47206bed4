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


class Unreadable(OperatorError):
    """Kafka does not hand out a partition: it may not be read, is damaged, or lost records before they were read."""

    def __init__(self, topic: str, partition: int, cause: str) -> None:
        self.topic = topic
        self.partition = partition
        super().__init__(
            "unreadable",
            f"Kafka does not hand out this partition ({cause}): look at the topic's access rules and health; where "
            "records were deleted before they were read (OffsetOutOfRange), let their sender send them again, then "
            "reset the offset of the group",
            where=f"{topic}/{partition}",
        )


class ProgrammerError(BrokerError):
    """An invariant of the code is broken; nothing is released."""

    exit_code = 1
