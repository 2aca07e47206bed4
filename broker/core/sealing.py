"""Encryption of what leaves a lane's memory: AES-256-GCM with nonces that cannot repeat.

Each lane start draws a 32-byte *incarnation*. The record key is derived, HKDF-SHA-256 (RFC 5869), from the
window's key with info = topic ‖ partition ‖ incarnation, and the 96-bit nonce (NIST SP 800-38D, 8.2.1,
deterministic construction) is a counter that lives in memory only and is never resumed: a restarted lane has
another incarnation, hence another key. The additional data bind a record to its topic, its key, its
incarnation, its place in the sequence and the set of policies that it was made under.

Layout of a sealed body: incarnation (32) ‖ sequence (8, big-endian) ‖ ciphertext and tag.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.core.errors import OperatorError

INCARNATION_BYTES = 32
SEQUENCE_BYTES = 8
KEY_BYTES = 32
MOST_CIPHERS = 1024
"""Of 2.7 KB each: what a lane keeps at hand."""


def derive(secret: bytes, *labels: str | bytes) -> bytes:
    """32 bytes from `secret` by HKDF-SHA-256; the labels are length-prefixed, so that no two lists collide."""
    info = b"".join(_prefixed(label) for label in labels)
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def _prefixed(label: str | bytes) -> bytes:
    data = label.encode() if isinstance(label, str) else label
    return len(data).to_bytes(4, "big") + data


class Sealer:
    """Seals records for one lane from its start to its end.

    Keeps the `MOST_CIPHERS` used last. One that was dropped is derived again when it is needed: that is safe, because
    the counter belongs to the incarnation, not to the cipher, and so no nonce is ever used twice under any key.

    incarnation: 32 fresh random bytes, drawn by the caller at lane start.
    """

    def __init__(self, incarnation: bytes) -> None:
        if len(incarnation) != INCARNATION_BYTES:
            raise ValueError(f"an incarnation has {INCARNATION_BYTES} bytes, not {len(incarnation)}")
        self._incarnation = incarnation
        self._sequence = 0
        self._ciphers: dict[tuple[bytes, str, int], AESGCM] = {}

    def seal(
        self, plain: bytes, window_key: bytes, *, topic: str, partition: int, key: bytes, policies: str
    ) -> bytes:
        """The sealed body; every call takes the next nonce, also when its transaction is aborted later."""
        place = (window_key, topic, partition)
        cipher = self._ciphers.pop(place, None) or _cipher(window_key, topic, partition, self._incarnation)
        self._ciphers[place] = cipher  # last in the order of use
        if len(self._ciphers) > MOST_CIPHERS:
            del self._ciphers[next(iter(self._ciphers))]
        self._sequence += 1
        sequence = self._sequence.to_bytes(SEQUENCE_BYTES, "big")
        data = _additional(topic, key, self._incarnation, sequence, policies)
        nonce = sequence.rjust(12, b"\0")
        return self._incarnation + sequence + cipher.encrypt(nonce, plain, data)

    def forget(self, window_key: bytes) -> None:
        """Drops the keys derived from a window key that is no longer needed."""
        self._ciphers = {place: cipher for place, cipher in self._ciphers.items() if place[0] != window_key}


def unseal(
    sealed: bytes, window_key: bytes, *, topic: str, partition: int, key: bytes, policies: str
) -> bytes:
    """The plain text; OperatorError(`bad_seal`) if one bit, the place or the policies differ."""
    incarnation = sealed[:INCARNATION_BYTES]
    sequence = sealed[INCARNATION_BYTES : INCARNATION_BYTES + SEQUENCE_BYTES]
    body = sealed[INCARNATION_BYTES + SEQUENCE_BYTES :]
    data = _additional(topic, key, incarnation, sequence, policies)
    try:
        cipher = _cipher(window_key, topic, partition, incarnation)
        return cipher.decrypt(sequence.rjust(12, b"\0"), body, data)
    except (InvalidTag, ValueError) as error:
        raise OperatorError(
            "bad_seal",
            "an encrypted record does not open: it was altered, moved, or its window's key is not this one; "
            "compare the broker's key file with the one that the ingest lanes use",
            where=f"{topic}/{partition}",
        ) from error


def _cipher(window_key: bytes, topic: str, partition: int, incarnation: bytes) -> AESGCM:
    return AESGCM(derive(window_key, "record/v1", topic, partition.to_bytes(4, "big"), incarnation))


def _additional(topic: str, key: bytes, incarnation: bytes, sequence: bytes, policies: str) -> bytes:
    return b"".join(_prefixed(part) for part in (topic, key, incarnation, sequence, policies))
