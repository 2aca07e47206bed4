"""A partner's signing key in a file of its own machine: made once, readable by its owner alone, never shown."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from broker.core.errors import InputError
from broker.core.note import Signer, Verifier, make_signer, parse_skey
from broker.core.territory import Name


def make_key(partner: str, file: Path) -> Verifier:
    """Writes a fresh secret key (Ed25519) of `partner` to `file`, mode 0600; the public key. Raises InputError where
    the file is there already: it may hold the key that agreements were signed with."""
    try:
        name = TypeAdapter(Name).validate_python(partner)
    except ValidationError as error:
        raise InputError(
            "bad_name",
            f"`{partner[:80]}` is no partner's name: a-z, 0-9 and - make one ({error.errors()[0]['msg']})",
        ) from None
    signer = make_signer(name, secrets.token_bytes(32))
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(
            "key_exists",
            "there is a file already: name a new one, or keep the key that you have",
            where=str(file),
        ) from None
    except OSError as error:
        raise InputError(
            "unwritable_file", f"cannot be written: {error.strerror}", where=str(file)
        ) from error
    with os.fdopen(descriptor, "w") as opened:
        opened.write(signer.skey + "\n")
    return signer.verifier


def read_key(file: Path) -> Signer:
    """The key in `file`. Raises InputError where there is none; no message repeats what stands there."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError("unreadable_file", "cannot be read as UTF-8 text", where=str(file)) from None
    try:
        return parse_skey(text.strip())
    except InputError as error:
        raise InputError(error.reason, error.what, where=str(file)) from None
