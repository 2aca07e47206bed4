"""Certificates are renewed before Kafka would refuse them, and keys stay private."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from broker.edge.kafka.pki import ensure_pki

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def node(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "node.pem").read_bytes())


def authority(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_fresh_certificate_stays(tmp_path: Path) -> None:
    ensure_pki(tmp_path, NOW)
    before = contents(tmp_path)
    ensure_pki(tmp_path, NOW + dt.timedelta(days=100))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("days", [340, 397, 800])
def test_one_near_or_past_its_end_is_renewed_by_the_same_authority(tmp_path: Path, days: int) -> None:
    ensure_pki(tmp_path, NOW)
    old, later = contents(tmp_path), NOW + dt.timedelta(days=days)
    ensure_pki(tmp_path, later)
    assert (tmp_path / "ca.pem").read_bytes() == old["ca.pem"]
    assert node(tmp_path).not_valid_after_utc > later + dt.timedelta(days=300)
    node(tmp_path).verify_directly_issued_by(authority(tmp_path))


@pytest.mark.parametrize("damage", ["ca.pem", "ca-key.pem", "node.pem"])
@pytest.mark.parametrize("how", ["missing", "garbage", "foreign"])
def test_a_missing_damaged_or_foreign_file_is_made_anew(tmp_path: Path, damage: str, how: str) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        ensure_pki(folder, NOW)
    if how == "missing":
        (mine / damage).unlink()
    else:
        (mine / damage).write_bytes(b"garbage" if how == "garbage" else (other / damage).read_bytes())
    ensure_pki(mine, NOW)
    node(mine).verify_directly_issued_by(authority(mine))


def test_private_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, NOW)
    assert {path.stat().st_mode & 0o777 for path in (pki.ca_key, pki.node)} == {0o600}
    assert b"PRIVATE" not in pki.ca.read_bytes()


def test_the_node_is_known_by_its_whole_subject(tmp_path: Path) -> None:
    ensure_pki(tmp_path, NOW)
    assert node(tmp_path).subject.rfc4514_string() == "CN=node-1,O=cluster"
