"""Signed notes: what Go's reference signs we accept, and every note that is not exactly right is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.errors import InputError
from broker.core.note import (
    MAX_SIGNATURES,
    Verifier,
    make_signer,
    open_note,
    parse_skey,
    parse_vkey,
    sign_note,
)

# The documented example of golang.org/x/mod/sumdb/note.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
LINE = f"— PeterNeumann {SIGNATURE}\n"
NOTE = f"{TEXT}\n{LINE}"

ALICE = make_signer("alice", bytes(range(32)))
BOB = make_signer("bob.example/agreement", bytes(range(1, 33)))


def refused(note: str, *verifiers: Verifier, code: str = "bad_note") -> str:
    with pytest.raises(InputError) as caught:
        open_note(note, verifiers or [parse_vkey(VKEY)])
    assert caught.value.reason == code, caught.value
    return caught.value.what


def test_the_documented_example_opens_and_is_signed_to_the_byte() -> None:
    opened = open_note(NOTE, [parse_vkey(VKEY)])
    assert opened.text == TEXT
    assert opened.signed_by == (parse_vkey(VKEY),)
    assert sign_note(TEXT, parse_skey(SKEY)) == NOTE


def test_keys_are_written_as_they_are_read() -> None:
    assert parse_vkey(VKEY).vkey == VKEY
    assert parse_skey(SKEY).skey == SKEY
    assert parse_skey(SKEY).verifier == parse_vkey(VKEY)


def test_a_private_key_shows_nowhere() -> None:
    signer = parse_skey(SKEY)
    secret = SKEY.rpartition("+")[2]
    seed = base64.b64decode(SKEY.removeprefix("PRIVATE+KEY+PeterNeumann+c74f20a3+"))[1:]
    for shown in (repr(signer), str(signer), f"{[signer]}"):
        assert secret not in shown
        assert repr(seed) not in shown
        assert seed.hex() not in shown
    for broken in (
        SKEY[:-1],
        SKEY.replace("c74f20a3", "c74f20a4"),
        SKEY + "A",
        SKEY.removeprefix("PRIVATE+KEY+"),
    ):
        with pytest.raises(InputError, match="bad_key") as caught:
            parse_skey(broken)
        assert "AYEKFALV" not in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n")))
def test_what_is_signed_opens_again_to_the_byte(body: str) -> None:
    text = body + "\n"
    note = sign_note(text, ALICE, BOB)
    assert open_note(note, [BOB.verifier, ALICE.verifier]).text == text
    assert open_note(note, [BOB.verifier]).signed_by == (BOB.verifier,)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    raw = bytearray(NOTE.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(InputError):
        open_note(changed, [parse_vkey(VKEY)])


def test_lines_of_unknown_keys_are_ignored_but_never_enough() -> None:
    note = sign_note("t\n", ALICE, BOB)
    assert open_note(note, [ALICE.verifier]).signed_by == (ALICE.verifier,)
    forged = note.replace("— alice", "— alicf")
    assert open_note(forged, [BOB.verifier]).signed_by == (BOB.verifier,)
    refused(note, parse_vkey(VKEY), code="bad_signature")
    assert "no signature of a key on file" in refused(forged, ALICE.verifier, code="bad_signature")


def test_a_bad_signature_of_a_known_key_refuses_the_whole_note() -> None:
    other = sign_note("other\n", ALICE).rpartition("\n\n")[2]
    refused(sign_note("t\n", BOB) + other, ALICE.verifier, BOB.verifier, code="bad_signature")
    short = base64.b64encode(ALICE.verifier.key_id + b"\x00").decode()
    refused(f"t\n\n— alice {short}\n", ALICE.verifier, code="bad_signature")


def test_two_lines_of_one_key_are_refused() -> None:
    assert "two signatures" in refused(NOTE + LINE)


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + LINE,
        f"{TEXT}\n",
        NOTE.removesuffix("\n"),
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("PeterNeumann x08", "PeterNeumann  x08"),
        NOTE.replace("PeterNeumann x08", "Peter+Neumann x08"),
        NOTE.replace("PeterNeumann x08", "Peter\u00a0Neumann x08"),
        NOTE.replace("nAM=", "nAM"),
        NOTE.replace("nAM=", "nAN="),  # the same bytes, other padding bits
        NOTE.replace("nAM=", "nAM=="),
        NOTE.replace("x08go/", "x08go_"),
        NOTE.replace("x08go/", "x08g o/"),
        NOTE + "— \n",
        NOTE + "hello\n",
        NOTE + "— short AAAA\n",
        NOTE.replace("problem,\n", "problem,\r\n"),
        NOTE.replace("problem,", "problem\t,"),
        NOTE.replace("problem,", "problem\ud800,"),
        NOTE + LINE.replace("PeterNeumann", "P") * MAX_SIGNATURES,
    ],
)
def test_a_note_that_is_not_of_the_form_is_refused(note: str) -> None:
    refused(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        VKEY.replace("c74f20a3", "c74f20a4"),
        VKEY.replace("c74f20a3", "C74F20A3"),
        VKEY.replace("c74f20a3", "c74f20a"),
        VKEY.replace("PeterNeumann", "Peter Neumann"),
        VKEY.replace("PeterNeumann", "PeterNeumanm"),
        VKEY.replace("PeterNeumann", ""),
        VKEY + "\n",
        VKEY[:-4],
        VKEY.replace("+ARpc", "+BBpc"),
        VKEY.replace("10TW", "10T_"),
        SKEY,
    ],
)
def test_a_key_that_is_not_exactly_right_is_refused(vkey: str) -> None:
    with pytest.raises(InputError, match="bad_key"):
        parse_vkey(vkey)


def test_only_clean_texts_with_signers_are_signed() -> None:
    for text in ("", "no newline", "tab\t\n", "half \udc00\n"):
        with pytest.raises(InputError, match="bad_note"):
            sign_note(text, ALICE)
    for signers in ((), (ALICE, ALICE)):
        with pytest.raises(InputError, match="bad_note"):
            sign_note("t\n", *signers)
    for name, seed in (("a b", bytes(32)), ("a+b", bytes(32)), ("", bytes(32)), ("a", bytes(31))):
        with pytest.raises(InputError, match="bad_key"):
            make_signer(name, seed)
