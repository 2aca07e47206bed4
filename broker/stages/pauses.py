"""Which partners' streams an ingest lane must not read now, and why; the others go on.

A partner waits while a table of its own is missing, while its consent service is silent for longer than it promised,
and, for `RETRY_MS` at a time, after Kafka did not hand out a partition of its topics. Its marks stop, so its windows
wait; nothing of it is read under tables that may be out of date.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from broker.core.calendar import duration_ms
from broker.core.errors import Unreadable
from broker.core.plan import Stream
from broker.stages.ports import Clock, Place
from broker.stages.tables import CONSENT, CONTROL, SITES, LaneTables
from broker.stages.telemetry import Telemetry

RETRY_MS = 10_000
"""After how long a partition that Kafka did not hand out is tried again."""


class Pauses:
    """Those of one ingest lane, from `begin` on. reasons: by partner that waits, `code` or `code:detail`."""

    def __init__(self, tables: LaneTables, clock: Clock, telemetry: Telemetry) -> None:
        self._tables = tables
        self._clock = clock
        self._telemetry = telemetry
        self._begun = 0
        self._unreadable: dict[str, tuple[int, str]] = {}
        self.reasons: dict[str, str] = {}

    def begin(self) -> None:
        self._begun = self._clock.now()

    def set_aside(self, error: Unreadable) -> None:
        """The partner whose partition this is waits. Raises the error again where no partner's it is."""
        if error.topic == CONTROL:
            raise error
        self._unreadable[owner(error.topic)] = self._clock.now() + RETRY_MS, f"unreadable:{error}"

    def is_aside(self, topic: str) -> bool:
        """Whether the partner of this topic waits because of a partition that Kafka did not hand out."""
        return self._clock.now() < self._unreadable.get(owner(topic), (0, ""))[0]

    def look(
        self, streams: Mapping[Place, Stream], known: Collection[str]
    ) -> tuple[dict[str, list[Place]], list[str]]:
        """Places to read by partner, and the partners that wait no more. known: topics of tables that are read."""
        places: dict[str, list[Place]] = {}
        resumed = []
        for place, stream in sorted(streams.items()):
            partner = stream.partner
            reason = self._obstacle(partner, known)
            if reason is None:
                places.setdefault(partner, []).append(place)
                if self.reasons.pop(partner, None) is not None:
                    resumed.append(partner)
                    self._telemetry.resumed(partner)
            elif reason != self.reasons.get(partner):
                self.reasons[partner] = reason
                code, _, detail = reason.partition(":")
                self._telemetry.paused(partner, code, detail)
        return places, resumed

    def _obstacle(self, partner: str, known: Collection[str]) -> str | None:
        for topic in (SITES + partner, CONSENT + partner):
            if topic not in known:
                return f"missing_table:{topic}"
        until, why = self._unreadable.get(partner, (0, ""))
        if self._clock.now() < until:
            return why
        expected = self._tables.control.partners.get(partner, {}).get("consent") or {}
        if "heartbeat" in expected:
            seen = self._tables.heartbeat(partner) or self._begun
            if self._clock.now() - seen > duration_ms(expected["heartbeat"]):
                return "consent_silent"
        return None


def owner(topic: str) -> str:
    """The partner of `in.<partner>.<stream>`, `sites.<partner>` or `consent.<partner>`; "" for other topics."""
    return (*topic.split("."), "")[1]
