"""On a provisioned cluster everybody can do their work and nothing else; every refusal has its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import faust
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from confluent_kafka import KafkaError
from pydantic import SecretStr
from territories import head, territory

from broker.core.errors import OperatorError
from broker.core.partitioner import partition_for
from broker.core.territory import make_territory
from broker.edge.kafka.admin import Admin
from broker.edge.kafka.clients import (
    _aiokafka,
    bulk_producer,
    check_login,
    consumer,
    faust_broker_credentials,
    producer,
    transactional_producer,
)
from broker.edge.kafka.collect import read_topic
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.provision import INGEST, RELEASE, plan_acls, plan_topics, provision
from broker.edge.kafka.settings import KafkaSettings


@dataclass(frozen=True)
class Cluster:
    kafka: EmbeddedKafka

    def as_(self, principal: str) -> KafkaSettings:
        return self.kafka.settings(principal)


@pytest.fixture(scope="module")
def cluster(new_kafka: Callable[[], EmbeddedKafka]) -> Iterator[Cluster]:
    kafka = new_kafka()
    provision(kafka.admin, territory(), kafka.home.secrets)
    yield Cluster(kafka)


async def write(settings: KafkaSettings, topic: str) -> None:
    # Without idempotence the refusal is the topic's, not the cluster's.
    client = AIOKafkaProducer(**_aiokafka(settings))
    await client.start()
    try:
        await client.send_and_wait(topic, b"v", key=b"k")
    finally:
        await client.stop()


async def read(settings: KafkaSettings, topic: str) -> bytes:
    """The first record, as a member of a group of the reader's own. aiokafka speaks of a refused topic only
    where it is subscribed to before the start."""
    client = consumer(settings, f"{settings.username.removeprefix('broker-')}.{topic}")
    client.subscribe([topic])
    try:
        await client.start()
        record = await asyncio.wait_for(client.getone(), 30)
        assert record.value is not None
        return record.value
    finally:
        await client.stop()


async def offsets(settings: KafkaSettings, topic: str, group: str) -> None:
    client = consumer(settings, group)
    await client.start()
    try:
        client.assign([TopicPartition(topic, 0)])
        await asyncio.wait_for(client.committed(TopicPartition(topic, 0)), 30)
    finally:
        await client.stop()


def test_provisioning_twice_changes_nothing(cluster: Cluster) -> None:
    secrets = cluster.kafka.home.secrets
    admin = Admin(cluster.kafka.admin)
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    rules = {name: admin.acls(name) for name in before}
    again = provision(cluster.kafka.admin, territory(), secrets)
    assert again.new_topics == ()
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert {name: admin.acls(name) for name in before} == rules
    assert sum(map(len, rules.values())) == len(plan_acls(territory()))
    assert admin.describe().keys() >= plan_topics(territory()).keys()
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}


def test_another_number_of_lanes_is_refused_and_named(cluster: Cluster) -> None:
    with pytest.raises(OperatorError, match="partitions_differ"):
        provision(cluster.kafka.admin, territory(lanes=3), cluster.kafka.home.secrets)


def test_what_a_recipient_may_no_longer_read_is_taken_back(cluster: Cluster) -> None:
    whole = territory()
    ville = whole.recipient("ville")
    fewer = whole.model_copy(update={"recipients": (ville.model_copy(update={"products": ("daily",)}),)})
    admin = Admin(cluster.kafka.admin)
    granted = ("TOPIC", "out.vacancy", "LITERAL", "READ")
    assert granted in admin.acls("ville")
    provision(cluster.kafka.admin, fewer, cluster.kafka.home.secrets)
    assert granted not in admin.acls("ville")
    provision(cluster.kafka.admin, whole, cluster.kafka.home.secrets)
    assert granted in admin.acls("ville")


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        ("en-a", "in.en-b.power"),
        ("en-a", "in.en-ab.power"),
        ("en-a", "sites.en-b"),
        ("en-a", "consent.en-b"),
        ("en-a", "dlq.en-a"),
        ("en-a", "contributions"),
        ("en-a", "control"),
        ("en-a", "out.vacancy"),
        ("ville", "out.vacancy"),
        ("ville", "in.en-a.power"),
        (INGEST, "out.vacancy"),
        (INGEST, "in.en-a.power"),
        (INGEST, "ledger"),
        (RELEASE, "contributions"),
        (RELEASE, "in.en-a.power"),
    ],
)
async def test_nobody_writes_what_is_not_theirs(cluster: Cluster, who: str, topic: str) -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        await write(cluster.as_(who), topic)


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        ("en-a", "in.en-b.power"),
        ("en-a", "sites.en-b"),
        ("en-a", "consent.en-b"),
        ("en-a", "dlq.en-b"),
        ("en-a", "contributions"),
        ("en-a", "rollups"),
        ("en-a", "out.daily"),
        ("en-b", "out.vacancy"),
        ("ville", "in.en-a.power"),
        ("ville", "ledger"),
        (INGEST, "contributions"),
        (RELEASE, "in.en-a.power"),
    ],
)
async def test_nobody_reads_what_is_not_theirs(cluster: Cluster, who: str, topic: str) -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        await read(cluster.as_(who), topic)


async def test_nobody_uses_anothers_group_or_transactions(cluster: Cluster) -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await offsets(cluster.as_("en-a"), "in.en-a.power", "en-b.readers")
    with pytest.raises(GroupAuthorizationFailedError):
        await offsets(cluster.as_("en-a"), "in.en-a.power", "ingest.lanes")
    for who, transactions in (("en-a", "ingest.0"), (INGEST, "release.0"), (RELEASE, "ingest.0")):
        client = transactional_producer(cluster.as_(who), transactions)
        try:
            with pytest.raises(TransactionalIdAuthorizationFailed):
                await client.start()
        finally:
            await client.stop()


async def test_the_whole_path_is_open_to_those_who_need_it(cluster: Cluster) -> None:
    """Partner → ingest (transaction with offsets) → release → recipient."""
    await write(cluster.as_("en-a"), "in.en-a.power")
    partition = partition_for(b"k", 2)

    async def move(who: str, role: str, source: str, target: str) -> None:
        sender = transactional_producer(cluster.as_(who), f"{role}.{partition}")
        await sender.start()
        reader = consumer(cluster.as_(who), f"{role}.lanes")
        await reader.start()
        tp = TopicPartition(source, partition)
        reader.assign([tp])
        record = await asyncio.wait_for(reader.getone(), 30)
        async with sender.transaction():
            await sender.send(target, record.value, partition=partition)
            await sender.send_offsets_to_transaction({tp: record.offset + 1}, f"{role}.lanes")
        await reader.stop()
        await sender.stop()

    await move(INGEST, "ingest", "in.en-a.power", "contributions")
    await move(RELEASE, "release", "contributions", "out.vacancy")
    reader = consumer(cluster.as_("ville"), "ville.readers")
    await reader.start()
    reader.assign([TopicPartition("out.vacancy", partition)])
    record = await asyncio.wait_for(reader.getone(), 30)
    assert record.value == b"v"
    await reader.stop()


async def test_control_records_are_written_by_control_and_read_by_the_roles(cluster: Cluster) -> None:
    sender = producer(cluster.as_("broker-control"))
    await sender.start()
    await sender.send_and_wait("control", b"v", key=b"partner:en-a")
    await sender.stop()
    for who in (INGEST, RELEASE):
        assert await read(cluster.as_(who), "control") == b"v"


async def test_faust_joins_its_group_with_the_roles_rights(cluster: Cluster, tmp_path: Path) -> None:
    settings = cluster.as_(INGEST)
    app = faust.App(
        "ingest.workers",
        broker=f"kafka://{settings.bootstrap_servers}",
        broker_credentials=faust_broker_credentials(settings),
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        datadir=tmp_path,
    )
    topic = app.topic("lanes", value_type=bytes, value_serializer="raw", partitions=2)
    assigned = asyncio.Event()

    @app.agent(topic)
    async def lanes(stream: faust.StreamT[bytes]) -> None:
        async for _ in stream:
            pass

    async def done(*_: object, **__: object) -> None:
        if app.consumer.assignment():
            assigned.set()

    app.on_rebalance_complete.connect(done, weak=False)
    app.finalize()
    async with app:
        await asyncio.wait_for(assigned.wait(), 60)
        assert {tp.topic for tp in app.consumer.assignment()} == {"lanes"}


async def test_bulk_records_land_in_the_partition_of_their_key(cluster: Cluster) -> None:
    failed: list[KafkaError] = []
    sender = bulk_producer(cluster.as_("en-b"))
    keys = [f"point-{i:05}".encode() * (1 + i % 3) for i in range(1_000)]
    for key in keys:
        sender.produce("in.en-b.power", b"v", key=key, on_delivery=lambda error, _: failed.append(error))
    assert await asyncio.to_thread(sender.flush, 60) == 0
    assert not failed
    landed = {
        record.key: record.partition for record in await read_topic(cluster.as_("en-b"), "in.en-b.power")
    }
    assert {key: landed[key] for key in keys} == {key: partition_for(key, 2) for key in keys}


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"password_file": None, "password": SecretStr("wrong")}, "kafka_login_refused", "en-a"),
        ({"username": "nobody"}, "kafka_login_refused", "nobody"),
        ({"bootstrap_servers": "localhost:1"}, "kafka_unreachable", "localhost:1"),
        ({"bootstrap_servers": "nonsense"}, "bad_bootstrap", "host:port"),
        ({"ca_file": None}, "kafka_not_trusted", "ca_file"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "kafka_unreachable", "SASL_PLAINTEXT"),
        ({"ca_file": Path("/nonexistent/ca.pem")}, "bad_ca_file", "/nonexistent/ca.pem"),
        ({"password_file": Path("/nonexistent/en-a")}, "password_missing", "/nonexistent/en-a"),
    ],
)
async def test_a_refused_login_says_why(
    cluster: Cluster, change: dict[str, object], reason: str, words: str
) -> None:
    with pytest.raises(OperatorError) as refused:
        await check_login(cluster.as_("en-a").model_copy(update=change))
    assert refused.value.reason == reason
    assert words in str(refused.value)


async def test_the_servers_name_is_checked(cluster: Cluster) -> None:
    port = cluster.kafka.bootstrap.rpartition(":")[2]
    await check_login(cluster.as_("en-a").model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}"}))
    with pytest.raises(OperatorError, match=r"kafka_not_trusted.*|.*kafka_unreachable"):
        await check_login(cluster.as_("en-a").model_copy(update={"bootstrap_servers": f"127.0.0.2:{port}"}))


def test_a_password_is_never_shown() -> None:
    settings = KafkaSettings(bootstrap_servers="x:1", username="u", password=SecretStr("hunter2"))
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_an_administrators_wrong_password_is_named(cluster: Cluster) -> None:
    wrong = cluster.kafka.admin.model_copy(update={"password_file": None, "password": SecretStr("wrong")})
    with pytest.raises(OperatorError, match="kafka_login_refused"):
        Admin(wrong).describe(timeout=5)


def test_a_partner_cannot_administer(cluster: Cluster) -> None:
    other = make_territory(head(), {}, {})
    with pytest.raises(OperatorError):
        provision(cluster.as_("en-a"), other, cluster.kafka.home.secrets)
