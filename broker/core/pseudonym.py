"""Pseudonyms: what stands for a premises and for a delivery point inside the broker.

    premises = HMAC-SHA-256(epoch key, "premises/v1" ‖ len ‖ domain ‖ len ‖ token)[:16]
    point    = HMAC-SHA-256(epoch key, "point/v1" ‖ len ‖ partner ‖ len ‖ delivery point)[:16]

(RFC 2104 with FIPS 180-4; truncation to 128 bits per RFC 2104 §5; len = 4 bytes, big-endian, of the UTF-8
text.)

Invariants
- Lengths are part of the message, and so is what it names: no two different (what, parts) give one message.
- An epoch key belongs to one domain and one epoch: pseudonyms of two domains or two epochs cannot be linked
  by anyone who lacks both keys. The same premises token gives the same pseudonym whatever partner sent it;
  a point's holds for its partner only.
- 128 bits: among 10^9 points two collide with probability below 2^-69.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

from broker.core.errors import ProgrammerError

LENGTH: Final = 16
"""Bytes of a pseudonym."""
KEY_LENGTH: Final = 32
"""Fewest bytes of an epoch key: the output length of the hash (RFC 2104 §3)."""


def premises_pseudonyms(epoch_key: bytes, domain: str, tokens: Iterable[str]) -> list[bytes]:
    """Pseudonyms (16 bytes each) of premises tokens, in their order."""
    return _pseudonyms(epoch_key, b"premises/v1" + _part(domain), tokens)


def point_pseudonyms(epoch_key: bytes, partner: str, delivery_points: Iterable[str]) -> list[bytes]:
    """Pseudonyms (16 bytes each) of one partner's delivery points, in their order."""
    return _pseudonyms(epoch_key, b"point/v1" + _part(partner), delivery_points)


def _pseudonyms(key: bytes, prefix: bytes, names: Iterable[str]) -> list[bytes]:
    if len(key) < KEY_LENGTH:
        raise ProgrammerError(
            "weak_key", f"an epoch key has at least {KEY_LENGTH} bytes, this one {len(key)}"
        )
    return [hmac.digest(key, prefix + _part(name), "sha256")[:LENGTH] for name in names]


def _part(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(4, "big") + raw
