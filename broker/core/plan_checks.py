"""What policies that run side by side must say alike, because what it governs is one thing for all of them.

Base window, time zone, lateness, `max_gap` and `assign` are the domain's, since a base window closes once; the release
level is the territory's. A stream has one watermark, whichever domains take it: where one product asked for
completeness marks and another for event time, the other's events would close the first one's windows before the
partner said that it had sent everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from broker.core.calendar import duration_ms
from broker.core.errors import Refused
from broker.core.policy import Policy

T = TypeVar("T")


def agree(domain: str, what: str, values: list[tuple[str, T]]) -> T:
    """The one value that all products of a domain have. values: (product, value). Raises Refused (`domain_disagrees`)
    where they differ."""
    first_product, first = values[0]
    for product, value in values[1:]:
        if value != first:
            raise Refused(
                "domain_disagrees",
                f"products of one domain need the same {what}: {first_product} has {first}, {product} has "
                f"{value}; "
                "change one policy, or put it in another domain",
                where=f"domain {domain}",
            )
    return first


def max_gap(domain: str, policies: list[Policy]) -> dict[str, int]:
    """ms, for each measure that arrives as a register."""
    said: dict[str, list[tuple[str, int]]] = {}
    for policy in policies:
        for spec in policy.inputs.values():
            if spec.max_gap is not None:
                said.setdefault(spec.measure, []).append((policy.product, duration_ms(spec.max_gap)))
    return {
        measure: agree(domain, f"max_gap of {measure}", values) for measure, values in sorted(said.items())
    }


def assign_start(domain: str, policies: list[Policy]) -> frozenset[str]:
    """The measures whose intervals belong wholly to the base window that holds their start."""
    said: dict[str, list[tuple[str, str]]] = {}
    for policy in policies:
        for spec in policy.inputs.values():
            if spec.kind == "interval":
                said.setdefault(spec.measure, []).append((policy.product, spec.assign or "inside"))
    return frozenset(m for m, values in said.items() if agree(domain, f"assign of {m}", values) == "start")


def one_level(policies: list[Policy]) -> None:
    """Raises Refused where the products of a territory have different release levels."""
    for policy in policies[1:]:
        if policy.areas.group != policies[0].areas.group:
            raise Refused(
                "domain_disagrees",
                f"products of one territory need the same areas.group: {policies[0].product} has "
                f"{policies[0].areas.group}, {policy.product} has {policy.areas.group}; change one policy",
                where=f"domain {policy.domain}",
            )


def one_watermark(products: Iterable[tuple[Policy, Sequence[str]]]) -> None:
    """Raises Refused (`watermark_disagrees`) where a stream is taken by marks and by event time. products: each with
    the topics that it takes; an ended version too, until it is gone, since its last windows may be open."""
    said: dict[str, dict[str, str]] = {}
    for policy, topics in products:
        how = "completeness marks" if policy.watermark.event_time is None else "event time"
        for topic in topics:
            said.setdefault(topic, {}).setdefault(how, f"{policy.product}@{policy.version}")
    for topic, ways in sorted(said.items()):
        if len(ways) > 1:
            (how, one), (other_how, other) = sorted(ways.items())
            raise Refused(
                "watermark_disagrees",
                f"a stream has one watermark: {one} takes it by {how}, {other} by {other_how}; change `watermark` in "
                "one policy",
                where=f"stream {topic}",
            )
