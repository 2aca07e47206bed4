"""Keys from a local file: one 32-byte secret, everything else derived from it by HKDF, labels per use.

The file is made once with mode 0600. Whoever holds it can read open and closed windows alike; trustees will
take that power away, which is why everything asks this small port and nothing else.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from broker.core.errors import OperatorError
from broker.core.sealing import KEY_BYTES, derive


class LocalKeys:
    """The port on a secret held by this process."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise OperatorError("bad_key_file", f"the key file must hold {KEY_BYTES} bytes in hexadecimal")
        self._secret = secret

    def __repr__(self) -> str:
        return "LocalKeys(…)"

    def epoch_key(self, domain: str, epoch: str) -> bytes:
        return derive(self._secret, "epoch/v1", domain, epoch)

    def window_key(self, domain: str, length: str, start: int) -> bytes:
        return derive(self._secret, "window/v1", domain, length, start.to_bytes(8, "big", signed=True))

    def rounding_key(self, domain: str, epoch: str) -> bytes:
        return derive(self._secret, "rounding/v1", domain, epoch)

    def audit_key(self) -> bytes:
        return derive(self._secret, "audit/v1")

    def quarantine_key(self) -> bytes:
        return derive(self._secret, "quarantine/v1")


def load_keys(path: Path, *, create: bool = False) -> LocalKeys:
    """Keys of the file at `path` (64 hexadecimal digits); with `create` a missing file is made, mode 0600."""
    if create and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        return LocalKeys(bytes.fromhex(path.read_text().strip()))
    except FileNotFoundError as error:
        raise OperatorError(
            "no_key_file", "no key file; name it with BROKER_KEY_FILE", where=str(path)
        ) from error
    except ValueError as error:
        raise OperatorError(
            "bad_key_file", f"the key file must hold {KEY_BYTES} bytes in hexadecimal", where=str(path)
        ) from error
