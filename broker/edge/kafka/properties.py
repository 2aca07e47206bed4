"""The broker's `server.properties`, as a pure function of its home and ports.

Security from the first day, in three listeners:

- one or more SCRAM listeners (SASL_SSL, SCRAM-SHA-512) for partners, recipients and the broker's own roles.
  Each is one `ScramListener`, with its own time until a client must authenticate again, so that another one
  with a shorter time is one more entry;
- NODE (between brokers) and CONTROLLER, on loopback, with mutual TLS: no password stands in this file.
  CONTROLLER in plain text does not work with the authorizer: the broker's own registration would be refused.

Everything that no ACL allows is refused; topics are never made by writing to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.edge.kafka.pki import NODE_PRINCIPAL, Pki

ADMIN = "admin"
# Java's quick-starting compiler lacks the processor's AES: measured, sending takes a quarter and reading more than
# half less of Kafka's time with this one (RFC 8446, B.4; every TLS 1.3 library has it).
_CIPHER = "TLS_CHACHA20_POLY1305_SHA256"
_SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class ScramListener:
    """A listener for clients. `reauth_ms`: a client that was revoked is cut off after at most this long."""

    name: str
    port: int
    reauth_ms: int = 60_000


@dataclass(frozen=True)
class Ports:
    """Loopback ports of one embedded broker."""

    client: int
    node: int
    controller: int


def server_properties(data: Path, pki: Pki, ports: Ports) -> dict[str, str]:
    """All settings of the broker, in the order in which they are best read."""
    scram = [ScramListener("CLIENT", ports.client)]
    protocols = {listener.name: "SASL_SSL" for listener in scram} | {"NODE": "SSL", "CONTROLLER": "SSL"}
    own = f"NODE://127.0.0.1:{ports.node}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{ports.controller}",
        "listeners": ",".join(
            [
                *(f"{listener.name}://127.0.0.1:{listener.port}" for listener in scram),
                own,
                f"CONTROLLER://127.0.0.1:{ports.controller}",
            ]
        ),
        "advertised.listeners": ",".join(
            [*(f"{listener.name}://localhost:{listener.port}" for listener in scram), own]
        ),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        **_scram_settings(scram),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "NODE",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(pki.node),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(pki.ca),
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.cipher.suites": _CIPHER,
        "listener.name.node.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{ADMIN};User:{NODE_PRINCIPAL}",
        "auto.create.topics.enable": "false",
        "log.dirs": str(data),
        **_SINGLE_NODE,
        **_QUICK,
    }


def render(properties: dict[str, str]) -> str:
    """The text form of java.util.Properties: backslashes doubled, characters beyond ASCII as \\uXXXX."""
    return "".join(f"{key}={_escape(value)}\n" for key, value in properties.items())


def _escape(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2)]
    return "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)


def _scram_settings(listeners: list[ScramListener]) -> dict[str, str]:
    settings = {}
    for listener in listeners:
        prefix = f"listener.name.{listener.name.lower()}.scram-sha-512"
        settings[f"{prefix}.sasl.jaas.config"] = _SCRAM_LOGIN
        settings[f"{prefix}.connections.max.reauth.ms"] = str(listener.reauth_ms)
    return settings


_SINGLE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}

_QUICK = {
    # A worker that joins or comes back must not wait.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a crash the old registration must expire before the broker may start again.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # The default buffer of the log cleaner, 128 MiB, is for far bigger topics.
    "log.cleaner.dedupe.buffer.size": "4194304",
    # A transaction left open stops read_committed readers: bound it, and look every second.
    "transaction.max.timeout.ms": "60000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
