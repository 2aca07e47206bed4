"""Every reason why a record does not count, in one literal table.

Quarantined = malformed: the record goes to the partner's dead-letter topic. Refused = well-formed but not
allowed to count. `must_act` says who can mend it. The codes are a public contract: dead letters, receipts,
metrics and `summary.json` carry them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["quarantined", "refused"]
Actor = Literal["partner", "operator", "nobody"]


@dataclass(frozen=True)
class Reason:
    outcome: Outcome
    must_act: Actor
    text: str


REASONS: dict[str, Reason] = {
    # malformed
    "empty": Reason("quarantined", "partner", "the record has no value"),
    "oversized": Reason("quarantined", "partner", "the record is larger than the stream's limit"),
    "bad_frame": Reason(
        "quarantined",
        "partner",
        "the record does not begin with the wire format's magic byte and a schema id",
    ),
    "unknown_schema": Reason("quarantined", "partner", "the schema id is not in the schemas folder"),
    "wrong_schema": Reason(
        "quarantined", "partner", "the schema is known, but not one that this stream carries"
    ),
    "undecodable": Reason("quarantined", "partner", "the bytes do not decode with the schema that they name"),
    "not_finite": Reason("quarantined", "partner", "the value is not a finite number"),
    "bad_value": Reason("quarantined", "partner", "the value is not a number in the stream's unit"),
    "inexact_value": Reason("quarantined", "partner", "the value is not a whole number of the smallest unit"),
    "bad_timestamp": Reason(
        "quarantined", "partner", "the time is not ISO 8601 with an offset, or lies before 2000"
    ),
    "negative": Reason(
        "quarantined",
        "partner",
        "the value is negative where that is impossible: neither stream nor policy says `net: true` (feed-in)",
    ),
    "out_of_bounds": Reason(
        "quarantined", "partner", "the value is beyond what a meter of this kind can measure"
    ),
    "bad_interval": Reason(
        "quarantined", "partner", "the interval ends before it begins, or is longer than a day"
    ),
    "far_future": Reason(
        "quarantined", "partner", "the time lies in the future; instants are milliseconds since 1970, UTC"
    ),
    "wrong_partition": Reason(
        "quarantined",
        "partner",
        "the record is in another partition than its key's; set the producer's partitioner to murmur2 "
        "(librdkafka: partitioner=murmur2_random)",
    ),
    "bad_site": Reason("quarantined", "partner", "the site record is malformed"),
    "bad_consent": Reason("quarantined", "partner", "the consent record is malformed"),
    "overlapping_sites": Reason("quarantined", "partner", "the delivery point has two sites at one time"),
    "area_not_in_hierarchy": Reason(
        "quarantined", "partner", "the site's area is not in the territory's hierarchy"
    ),
    # well-formed, not allowed to count
    "unknown_delivery_point": Reason("refused", "partner", "no site record names this delivery point"),
    "no_site_then": Reason("refused", "partner", "the delivery point had no site at the reading's time"),
    "contested_site": Reason(
        "refused", "partner", "the delivery point's site at that time is contested or malformed"
    ),
    "no_basis": Reason("refused", "partner", "no consent on record for the product's purpose"),
    "withdrawn": Reason("refused", "nobody", "consent was withdrawn, or the person objected"),
    "not_yet_granted": Reason("refused", "nobody", "consent was granted after the window began"),
    "expired": Reason("refused", "nobody", "consent had expired"),
    "quality": Reason("refused", "partner", "the policy does not accept readings of this quality"),
    "crosses_window": Reason(
        "refused", "partner", "the interval crosses a window's border and the policy has no `assign: start`"
    ),
    "no_product": Reason("refused", "nobody", "no active product takes this stream at that time"),
}


def outcome(code: str) -> Outcome:
    """The outcome of a code; an unknown code is a programming error and raises KeyError."""
    return REASONS[code].outcome
