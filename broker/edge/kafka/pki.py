"""A private certificate authority and one node certificate, for the Kafka that the tools start themselves.

Invariants: the node's certificate is always signed by `ca.pem`, names localhost and 127.0.0.1, and outlives
its next start by RENEW_BEFORE; private keys are readable by their owner alone. Kafka reads one PEM file
(unencrypted PKCS#8 key, then certificate) as its key store and a certificate as its trust store (KIP-651).
The node's Kafka principal is its whole subject, `CN=node-1,O=cluster`: a short name could be taken by a
user of that name. Certificates follow RFC 5280 (basic constraints, key identifiers, extended key usage).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE_PRINCIPAL = "CN=node-1,O=cluster"
CA_LIFE = dt.timedelta(days=3650)
NODE_LIFE = dt.timedelta(days=397)
RENEW_BEFORE = dt.timedelta(days=60)
# A clock that is a little behind must not find the certificate "not yet valid".
_SLACK = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pki:
    """Where the files lie: `ca` is public, `ca_key` and `node` (key and certificate) are mode 0600."""

    ca: Path
    ca_key: Path
    node: Path


def ensure_pki(folder: Path, now: dt.datetime) -> Pki:
    """Give `folder` a valid authority and node certificate, renewing what is missing, foreign or near its
    end.

    A renewed node certificate keeps the authority, so that clients that trust `ca.pem` go on; only an
    authority that is itself near its end is replaced. `now` is an aware instant.
    """
    pki = Pki(folder / "ca.pem", folder / "ca-key.pem", folder / "node.pem")
    authority = _load(pki.ca, pki.ca_key)
    if authority is None or not _valid(authority[1], authority[1], now):
        authority = _make_ca(now)
        write_private(pki.ca_key, _key_pem(authority[0]))
        write_private(pki.ca, _pem(authority[1]), mode=0o644)
        pki.node.unlink(missing_ok=True)
    node = _load(pki.node, pki.node)
    if node is None or not _valid(node[1], authority[1], now):
        key, certificate = _make_node(*authority, now)
        write_private(pki.node, _key_pem(key) + _pem(certificate))
    return pki


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` so that it is never readable by others and never half written."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def _load(certificate: Path, key: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    """The pair, or None where a file is missing, damaged or the two do not belong together."""
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        public = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
        return None
    return private, public


def _valid(certificate: x509.Certificate, issuer: x509.Certificate, now: dt.datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE


def _make_ca(now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("data trust broker, local authority", "cluster")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(subject, subject, key, now, CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    return key, builder.sign(key, hashes.SHA256())


def _make_node(
    ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, now: dt.datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    # Client use too: the node calls its own controller over mutual TLS.
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = _builder(_name("node-1", "cluster"), ca.subject, key, now, NODE_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(names, critical=False).add_extension(uses, critical=False)
    builder = builder.add_extension(issuer, critical=False)
    return key, builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + life)
    )


def _name(common: str, organisation: str) -> x509.Name:
    # Kafka prints a subject last attribute first (RFC 2253): this order gives `CN=…,O=…`.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
