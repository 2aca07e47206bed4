"""Signed notes: a text and the signatures of named Ed25519 keys below it.

Sources: C2SP signed-note v1.0.0 (c2sp.org/signed-note); text forms of keys as golang.org/x/mod/sumdb/note;
Ed25519 is RFC 8032 5.1. Only signature type 0x01 (Ed25519) is known; other types' lines are ignored.

    <text, ends in a newline>
    <empty line>
    — <key name> base64(<4 bytes key id><signature>)

Invariants
- key id = first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key); it only finds the key, never proves
  it.
- A note is accepted whole or not at all: a bad signature of a known key, a second line of a known key, a line
  that is not of the form, or base64 that is not canonical refuse the note. Lines of unknown keys are ignored,
  and a note without any signature of a known key is refused.
- The text is UTF-8 without control characters other than newline; what was signed are exactly its bytes.
- A private key never shows in `repr` or in a message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from broker.core.errors import InputError

ED25519: Final = b"\x01"
MAX_SIGNATURES: Final = 100  # as golang.org/x/mod/sumdb/note: bounds the work on a hostile note
MAX_CHARS: Final = 1_000_000

_PRIVATE: Final = "PRIVATE+KEY+"
_DASH: Final = "— "


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name. key_id: 4 bytes; public: 32 bytes."""

    name: str
    key_id: bytes
    public: bytes

    @property
    def vkey(self) -> str:
        """`name+<8 hex digits of the key id>+base64(0x01 ‖ public key)`."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(ED25519 + self.public)}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's Ed25519 signature of `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key under a name; the seed (32 bytes) is kept out of `repr`."""

    verifier: Verifier
    _seed: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def skey(self) -> str:
        """`PRIVATE+KEY+name+<key id>+base64(0x01 ‖ seed)`: a secret; write it to a file of mode 600 and
        nowhere else.
        """
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{_encode(ED25519 + self._seed)}"

    def sign(self, text: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(text)


@dataclass(frozen=True, slots=True)
class Note:
    """An accepted note: its text, and the known keys that signed it, in the order of their lines."""

    text: str
    signed_by: tuple[Verifier, ...]


def make_signer(name: str, seed: bytes) -> Signer:
    """The key of a 32-byte seed, which the caller draws from a random source."""
    if not _is_name(name):
        raise _bad_key("a key's name is text without spaces or `+`")
    if len(seed) != 32:
        raise _bad_key("an Ed25519 seed has 32 bytes")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return Signer(Verifier(name, _key_id(name, public), public), seed)


def parse_vkey(text: str) -> Verifier:
    """Read `name+hash+base64`; InputError (`bad_key`) unless it is exactly what `Verifier.vkey` writes."""
    name, key_id, key = _parts(text)
    verifier = Verifier(name, _key_id(name, key), key)
    if verifier.key_id != key_id:
        raise _bad_key("the key id does not belong to the name and key: copy the whole line again")
    return verifier


def parse_skey(text: str) -> Signer:
    """Read `PRIVATE+KEY+name+hash+base64`; InputError (`bad_key`), which never repeats any of it."""
    if not text.startswith(_PRIVATE):
        raise _bad_key(f"a private key begins with {_PRIVATE}")
    name, key_id, seed = _parts(text.removeprefix(_PRIVATE))
    signer = make_signer(name, seed)
    if signer.verifier.key_id != key_id:
        raise _bad_key("the key id does not belong to the name and key: copy the whole line again")
    return signer


def sign_note(text: str, *signers: Signer) -> str:
    """The note: `text` (ends in a newline) and one line per signer, in their order.

    Raises InputError (`bad_note`) where the text cannot be signed or there is no signer or one twice.
    """
    content = text.encode("utf-8", errors="strict") if _is_text(text) else b""
    if not content or not text.endswith("\n"):
        raise _bad_note("a text to sign is UTF-8 without control characters and ends in a newline")
    if not signers or len({signer.verifier for signer in signers}) != len(signers):
        raise _bad_note("a note needs signers, each once")
    lines = [f"{_DASH}{s.name} {_encode(s.verifier.key_id + s.sign(content))}\n" for s in signers]
    return f"{text}\n{''.join(lines)}"


def open_note(note: str, verifiers: Iterable[Verifier]) -> Note:
    """Accept a note that at least one of `verifiers` signed; InputError (`bad_note`, `bad_signature`)
    else.
    """
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    text, lines = _split(note)
    signed_by: list[Verifier] = []
    for line in lines:
        name, key_id, signature = _signature(line)
        verifier = known.get((name, key_id))
        if verifier is None:
            continue
        if verifier in signed_by:
            raise _bad_note(f"two signatures of key {name}: keep one")
        if not verifier.verifies(text.encode(), signature):
            raise InputError(
                "bad_signature", f"the signature of key {name} does not fit the text: sign again"
            )
        signed_by.append(verifier)
    if not signed_by:
        raise InputError("bad_signature", "no signature of a key on file: sign it with the registered key")
    return Note(text, tuple(signed_by))


def _split(note: str) -> tuple[str, list[str]]:
    if not _is_text(note) or len(note) > MAX_CHARS:
        raise _bad_note(f"a note is UTF-8 without control characters, at most {MAX_CHARS} characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise _bad_note("a note is a text, an empty line and signature lines, each ending in a newline")
    # Not splitlines(): Unicode has line ends that are no line ends here.
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _bad_note(f"more than {MAX_SIGNATURES} signatures")
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    blob = _decode(encoded)
    if not line.startswith(_DASH) or not space or not _is_name(name) or blob is None or len(blob) < 5:
        raise _bad_note("a signature line is: em dash, space, name of the key, space, canonical base64")
    return name, blob[:4], blob[4:]


def _parts(text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and 32 key bytes of `name+hash+base64`; base64 may hold `+`, name and hash may not."""
    name, _, rest = text.partition("+")
    hexed, _, encoded = rest.partition("+")
    blob = _decode(encoded)
    if not _is_name(name) or len(hexed) != 8 or set(hexed) - set("0123456789abcdef") or blob is None:
        raise _bad_key("a key is name+hash+base64, the hash 8 lower-case hex digits: copy the whole line")
    if len(blob) != 33 or blob[:1] != ED25519:
        raise _bad_key("not an Ed25519 key (type 1, 32 bytes)")
    return name, bytes.fromhex(hexed), blob[1:]


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() for c in name) and _is_text(name)


def _is_text(text: str) -> bool:
    return not any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in text)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes | None:
    """Standard base64 (RFC 4648 4), canonical (3.5): None unless encoding gives the very text back."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _encode(data) == text else None


def _bad_key(what: str) -> InputError:
    return InputError("bad_key", what)


def _bad_note(what: str) -> InputError:
    return InputError("bad_note", what)
