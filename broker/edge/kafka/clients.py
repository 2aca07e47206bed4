"""Kafka clients of all kinds, made from one settings object. TLS checks the server's name, always.

Two libraries, for what each was measured to do well: aiokafka inside the broker (transactions, manual
partitions, batches as lists), librdkafka for partners' bulk sending. Sizes below were chosen for lanes that
move 100,000 records at a time; a transaction left open blocks readers, hence its short time-out.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import SaslAuthenticationFailed
from confluent_kafka import KafkaError, Producer

from broker.core.errors import OperatorError
from broker.edge.kafka.admin import librdkafka
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.kafka.tls import ssl_context

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

# Generous: on a busy machine a slow answer is no failure. A successor settles a transaction left open at once.
REQUEST_TIMEOUT_MS = 30_000
TRANSACTION_TIMEOUT_MS = 30_000
FETCH_PARTITION_BYTES = 4 << 20
FETCH_WAIT_MS = 100
# Below the cluster's default limit of a batch (1,048,588 bytes), so that what is sent here is taken there.
MAX_BATCH_BYTES = 1_000_000


def transactional_producer(settings: KafkaSettings, transactional_id: str) -> AIOKafkaProducer:
    """A producer whose `start` fences the former owner of `transactional_id` and settles its transaction.

    Most of what a lane writes is encrypted, and does not get smaller: snappy finds that out at once, where the
    client's lz4 (level 9) took a tenth of a lane's time.
    """
    return AIOKafkaProducer(
        **_aiokafka(settings),
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        compression_type="snappy",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_BATCH_BYTES,
        linger_ms=5,
    )


def producer(settings: KafkaSettings) -> AIOKafkaProducer:
    """A plain idempotent producer, for control records and the like."""
    return AIOKafkaProducer(
        **_aiokafka(settings),
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_BATCH_BYTES,
    )


def consumer(
    settings: KafkaSettings,
    group: str | None = None,
    *,
    idle_ms: int = FETCH_WAIT_MS,
    reset: str = "earliest",
) -> AIOKafkaConsumer:
    """A reader of committed records, without partitions yet; offsets are never committed behind the caller's
    back.

    idle_ms: how long Kafka may keep a fetch for which there is nothing. The client has one fetch under way: of
    several partitions that are read at different speeds, one that was emptied waits for it. reset: where to begin
    where a position is none of the partition's; "none": that is an error.
    """
    return AIOKafkaConsumer(
        **_aiokafka(settings),
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset=reset,
        max_partition_fetch_bytes=FETCH_PARTITION_BYTES,
        fetch_max_bytes=16 * FETCH_PARTITION_BYTES,
        fetch_max_wait_ms=idle_ms,
    )


def admin_client(settings: KafkaSettings) -> AIOKafkaAdminClient:
    """For what a lane administers of its own topics."""
    return AIOKafkaAdminClient(**_aiokafka(settings))


def bulk_producer(
    settings: KafkaSettings,
    on_error: Callable[[OperatorError], None] | None = None,
    *,
    every_delivery: bool = False,
) -> Producer:
    """A partner's producer: hundreds of thousands of records a second, each once, in the partition of its
    key.

    `on_error` hears what is wrong with the connection while `poll` or `flush` runs: without it a refused
    login only shows as a time-out of each record. `every_delivery`: the callers' `on_delivery` hears of what was
    taken too, not of failures only.
    """

    def heard(error: KafkaError) -> None:
        if on_error is not None:
            on_error(OperatorError("kafka_connection", error.str(), where=settings.bootstrap_servers))

    return Producer(
        librdkafka(settings)
        | {
            "partitioner": "murmur2_random",  # Java's; librdkafka's own default puts keys elsewhere
            "enable.idempotence": True,
            # What is neither reported nor in the queue any more was taken: a call per record costs a third of sending.
            "delivery.report.only.error": not every_delivery,
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": MAX_BATCH_BYTES,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "message.timeout.ms": 60_000,
            "error_cb": heard,
            "log_level": 0,
        }
    )


def faust_broker_credentials(settings: KafkaSettings) -> CredentialsT | None:
    """The same login in Faust's form, for `faust.App(broker_credentials=…)`; None where none is needed."""
    # Importing Faust takes half a second, and only workers need it.
    from faust import SASLCredentials, SSLCredentials  # noqa: PLC0415
    from faust.types.auth import SASLMechanism  # noqa: PLC0415

    context = ssl_context(settings)
    if settings.sasl:
        return SASLCredentials(
            username=settings.username,
            password=settings.secret(),
            mechanism=SASLMechanism(settings.mechanism),
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context is not None else None


async def check_login(settings: KafkaSettings) -> None:
    """Log in once. Raises OperatorError with the true reason, which the clients hide behind "unable to
    bootstrap"."""
    failure: OperatorError | None = None
    for server in settings.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit():
            raise OperatorError(
                "bad_bootstrap", "must be host:port[,host:port…]", where=settings.bootstrap_servers
            )
        config = _aiokafka(settings)
        del config["bootstrap_servers"]
        try:
            connection = await create_conn(host.strip("[]"), int(port), **config)
        except (AioKafkaError, OSError) as error:
            failure = _login_failure(settings, server, error)
        else:
            connection.close()
            return
    assert failure is not None
    raise failure


def _login_failure(settings: KafkaSettings, server: str, error: Exception) -> OperatorError:
    if isinstance(error, SaslAuthenticationFailed):
        return OperatorError(
            "kafka_login_refused",
            f"Kafka does not accept user {settings.username} with this password",
            where=server,
        )
    causes = [error, *([error.__cause__] if error.__cause__ else [])]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return OperatorError(
                "kafka_not_trusted",
                f"the server's certificate is not trusted ({cause.verify_message}): check ca_file and the "
                "host name",
                where=server,
            )
        if isinstance(cause, ssl.SSLError) and "alert" in str(cause):
            return OperatorError(
                "kafka_login_refused",
                f"Kafka does not accept this client's certificate ({cause.reason}): check cert_file and key_file",
                where=server,
            )
    reason = str(causes[-1]) or type(error).__name__
    return OperatorError(
        "kafka_unreachable",
        f"no Kafka answers there with {settings.security_protocol}: {reason}",
        where=server,
    )


def _aiokafka(settings: KafkaSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "ssl_context": ssl_context(settings),
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.sasl:
        config |= {
            "sasl_mechanism": settings.mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.secret(),
        }
    return config
