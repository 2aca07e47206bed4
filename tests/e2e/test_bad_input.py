"""What partners send wrongly: each record has its reason and its place, and nobody else notices.

One territory in which energy-a and water-n send every kind of bad record beside their good ones, water-s's consent
topic is missing at first, and the topic of water-n's readings is empty at first. The releases must be those of a dry
run on the good data alone.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from run import Running, dry_run, sent_by, tally, territory

from broker.core.errors import BrokerError, PartnerError, Refused
from broker.core.partitioner import partition_for
from broker.core.reasons import REASONS
from broker.edge.kafka.admin import Admin, TopicSpec, librdkafka
from broker.edge.kafka.clients import bulk_producer
from broker.edge.kafka.outbox import Outbox
from broker.edge.keys import load_keys
from broker.partner.send import send_consent, send_sites, send_steps
from broker.sim import TerritorySpec, World, generate
from broker.sim.spec import Faults

SEED = 23
LANES = 2
SPEC = TerritorySpec(
    epcis=2,
    communes=2,
    iris=4,
    premises=400,
    days=3,
    lanes=LANES,
    half_hourly=None,
    faults=Faults(malformed=0),
)
DAILY = "energy-water-daily"
RELEASES = {DAILY: 2 * SPEC.days}
MISSING = "consent.water-s"
CENTURY = 100 * 366 * 86_400_000


@dataclass(frozen=True)
class Bad:
    """A record that must be quarantined: where it lies in Kafka, and why."""

    partner: str
    topic: str
    reason: str
    key: bytes
    value: bytes
    partition: int
    offset: int


@dataclass
class Story:
    """What was sent wrongly, and what was seen on the way."""

    running: Running
    bad: list[Bad] = field(default_factory=list)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    while_missing: dict[str, int] = field(default_factory=dict)
    released_while_missing: int = 0

    def send(self, partner: str, topic: str, items: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Sends (reason, key, value) as a partner; `wrong_partition` into the other partition than its key's."""
        producer: Producer = bulk_producer(self.running.demo.kafka.settings(partner), every_delivery=True)
        for reason, key, value in items:
            self._produce(producer, partner, topic, reason, key, value)
        assert producer.flush(60) == 0

    def _produce(
        self, producer: Producer, partner: str, topic: str, reason: str, key: bytes, value: bytes
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            self.bad.append(
                Bad(partner, topic, reason, key, value, message.partition() or 0, message.offset() or 0)
            )

        own = partition_for(key, LANES)
        partition = 1 - own if reason == "wrong_partition" else own
        producer.produce(topic, value, key, partition=partition, on_delivery=delivered)


@pytest.fixture(scope="module")
def world() -> World:
    return generate(SPEC, SEED)


@pytest.fixture(scope="module")
def story(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with territory(tmp_path_factory.mktemp("bad"), world, "2026-01-01") as running:
        found = Story(running)
        delete_topic(running, MISSING)
        worker = running.start("all")
        send_tables(found, world)
        send_bad_tables(found, world)
        for partner, sender in running.senders(world).items():
            (steps,) = world.readings[partner].values()
            if partner == "energy-a":
                send_bad_energy(found, world)
            if partner != "water-n":
                send_steps(sender, steps)
        waiting = sent_by(world)["water-n"] + sent_by(world)["water-s"]
        due = world.sent() - waiting + len(bad_energy(found, world))
        running.until(lambda: worker.readings() >= due, "the readings of those who need not wait")
        found.while_missing = {s.partner: tally(running.receipts(s.partner))["read"] for s in world.streams}
        found.released_while_missing = running.released()[DAILY]
        Admin(running.demo.kafka.admin).ensure_topics(
            {MISSING: TopicSpec(LANES, {"cleanup.policy": "compact"})}
        )
        send_consent(producer(running, "water-s"), "water-s", world.consent["water-s"], running.demo.codec)
        send_bad_water(found, world)
        (steps,) = world.readings["water-n"].values()
        send_steps(running.senders(world)["water-n"], steps)
        running.wait_for(RELEASES)
        yield found


def delete_topic(running: Running, topic: str) -> None:
    admin = AdminClient(librdkafka(running.demo.kafka.admin))
    admin.delete_topics([topic])[topic].result(30)
    running.until(lambda: topic not in admin.list_topics(timeout=10).topics, f"{topic} is gone")


def producer(running: Running, partner: str) -> Producer:
    return bulk_producer(running.demo.kafka.settings(partner))


def send_tables(story: Story, world: World) -> None:
    codec = story.running.demo.codec
    for stream in world.streams:
        client = producer(story.running, stream.partner)
        send_sites(client, stream.partner, world.sites[stream.partner], codec)
        if f"consent.{stream.partner}" != MISSING:
            send_consent(client, stream.partner, world.consent[stream.partner], codec)


# -- the bad records ----------------------------------------------------------------------------------


def site(**changes: Any) -> dict[str, Any]:
    place = {"valid_from": None, "valid_to": None, "premises": "home", "area": "990010101", "segment": "flat"}
    return {**place, "register_size": None, **changes}


def send_bad_tables(story: Story, world: World) -> None:
    """Sites and consent of points that nobody else has, so that the good data stay as they are."""
    codec = story.running.demo.codec

    def history(point: str, *sites: dict[str, Any]) -> bytes:
        return codec.encode("site-history", {"delivery_point": point, "sites": list(sites)})

    def changed(area: str) -> dict[str, Any]:
        return site(area=world.tree["iris"][0] if area == "known" else area)

    known = changed("known")
    story.send(
        "energy-a",
        "sites.energy-a",
        [
            ("overlapping_sites", b"twice", history("twice", known, known)),
            ("area_not_in_hierarchy", b"nowhere", history("nowhere", changed("990099999"))),
            ("bad_site", b"garbled-site", b"\xff garbled"),
            ("bad_site", b"misnamed", history("another", known)),
            ("wrong_partition", b"astray", history("astray", known)),
        ],
    )
    send_sites(
        producer(story.running, "energy-a"),
        "energy-a",
        pl.DataFrame([{"delivery_point": "garbled-consent", **known}], schema=world.sites["energy-a"].schema),
        codec,
    )
    story.send("energy-a", "consent.energy-a", [("bad_consent", b"garbled-consent", b"\x00\x00\x00")])


def reading(story: Story, world: World, partner: str, **changes: Any) -> tuple[bytes, bytes]:
    """Key and value of the partner's first reading, with changes."""
    ((stream, steps),) = world.readings[partner].items()
    row = next(step.frame for step in steps if step.frame.height).drop("phase").head(1)
    row = row.with_columns(pl.lit(to, row.schema[name]).alias(name) for name, to in changes.items())
    schema = "electricity-interval" if stream == "electricity" else "water-register"
    (value,) = story.running.demo.codec.encode_readings(row, schema)
    return row["delivery_point"][0].encode(), value


def bad_energy(story: Story, world: World) -> list[tuple[str, bytes, bytes]]:
    key, good = reading(story, world, "energy-a")
    begin = int(world.edges[0])
    quarantined = [
        ("undecodable", key, good[:-4]),
        ("oversized", key, good + bytes(5000)),
        ("wrong_schema", *reading(story, world, "water-s")),
        (
            "wrong_schema",
            key,
            story.running.demo.codec.encode("completeness-mark", {"stream": "x", "until": 1}),
        ),
        ("bad_frame", key, b"\xff\xfe rubbish"),
        ("bad_frame", key, b'{"value": NaN}'),
        ("unknown_schema", key, b"\x00\x7f\xff\xff\xff" + good[5:]),
        ("empty", key, b""),
        ("out_of_bounds", *reading(story, world, "energy-a", value=10**15)),
        (
            "far_future",
            *reading(story, world, "energy-a", start=begin + CENTURY, end=begin + CENTURY + 3_600_000),
        ),
        ("bad_interval", *reading(story, world, "energy-a", end=begin - 3_600_000)),
        ("wrong_partition", key, good),
    ]
    unknown = ["twice", "nowhere", "garbled-site", "misnamed", "garbled-consent", "astray", "never-heard-of"]
    return quarantined + [("", *reading(story, world, "energy-a", delivery_point=name)) for name in unknown]


def send_bad_energy(story: Story, world: World) -> None:
    items = bad_energy(story, world)
    story.send("energy-a", "in.energy-a.electricity", [item for item in items if item[0]])
    outbox = Outbox(producer(story.running, "energy-a"), "in.energy-a.electricity")
    outbox.put([key for reason, key, _ in items if not reason], [v for reason, _, v in items if not reason])
    outbox.close()
    story.refused["energy-a"] = Counter(contested_site=5, unknown_delivery_point=2)


def send_bad_water(story: Story, world: World) -> None:
    key, value = reading(story, world, "water-n", value=-1)
    story.send("water-n", "in.water-n.water", [("negative", key, value)])


# -- the promises -------------------------------------------------------------------------------------


def test_bad_records_change_no_release(story: Story, tmp_path: Path) -> None:
    running = story.running
    folder = running.demo.folder.folder
    tables = dry_run(
        folder / "policies" / f"{DAILY}.yaml", folder / "input", tmp_path / "out", running.demo.key_file
    )
    assert running.releases_csv(DAILY) == (tables / "releases.csv").read_bytes()
    assert running.decisions_csv(DAILY) == (tables / "decisions.csv").read_bytes()


def test_each_bad_record_has_one_dead_letter_with_its_reason_and_place(story: Story) -> None:
    for partner in ("energy-a", "water-n"):
        sent = Counter((b.topic, b.partition, b.offset, b.reason) for b in story.bad if b.partner == partner)
        letters = story.running.dead_letters(partner)
        assert Counter((x["topic"], x["partition"], x["offset"], x["reason"]) for x in letters) == sent
        for letter in letters:
            reason = REASONS[letter["reason"]]
            assert (letter["text"], letter["must_act"]) == (reason.text, reason.must_act)
    for partner in ("energy-b", "energy-c", "water-s"):
        assert story.running.dead_letters(partner) == []


def test_a_dead_letter_has_a_keyed_digest_of_the_record_and_nothing_of_its_payload(story: Story) -> None:
    running = story.running
    key = load_keys(running.demo.key_file).quarantine_key()
    by_place = {(b.topic, b.partition, b.offset): b for b in story.bad}
    for partner in ("energy-a", "water-n"):
        for record in running.read(f"dlq.{partner}", partner):
            letter = running.demo.codec.decode(record.value)[1]
            bad = by_place[letter["topic"], letter["partition"], letter["offset"]]
            if letter["reason"] not in ("overlapping_sites", "area_not_in_hierarchy"):
                assert letter["keyed_digest"] == hmac.digest(key, bad.value, "sha256")
            whole = (record.key or b"") + (record.value or b"")
            assert bad.key not in whole
            assert len(bad.value) < 8 or bad.value[5:] not in whole


def test_receipts_count_every_bad_and_every_refused_record(story: Story, world: World) -> None:
    for stream in world.streams:
        partner = stream.partner
        count = tally(story.running.receipts(partner))
        quarantined = Counter(b.reason for b in story.bad if b.topic == stream.topic)
        refused = story.refused.get(partner, Counter())
        assert count["read"] == sent_by(world)[partner] + quarantined.total() + refused.total()
        assert {reason: count[reason] for reason in quarantined} == dict(quarantined)
        assert {reason: count[reason] for reason in refused} == dict(refused)


def test_without_its_consent_topic_a_partner_waits_alone_and_the_log_says_what_is_missing(
    story: Story, world: World
) -> None:
    assert story.while_missing["water-s"] == 0
    assert story.while_missing["energy-b"] == sent_by(world)["energy-b"]
    assert story.released_while_missing == 0
    log = (story.running.demo.home / "worker-all.log").read_text()
    assert MISSING in log
    assert tally(story.running.receipts("water-s"))["read"] == sent_by(world)["water-s"]


def test_an_empty_topic_holds_its_windows_and_nothing_else(story: Story, world: World) -> None:
    assert story.while_missing["water-n"] == 0
    assert story.while_missing["energy-c"] == sent_by(world)["energy-c"]
    assert tally(story.running.receipts("water-n"))["read"] == sent_by(world)["water-n"] + 1


def test_the_log_names_no_delivery_point(story: Story, world: World) -> None:
    log = (story.running.demo.home / "worker-all.log").read_text()
    named = [
        *world.sites["energy-a"]["delivery_point"],
        *(b.key.decode() for b in story.bad),
        "never-heard-of",
    ]
    assert [name for name in named if name in log] == []


@pytest.mark.parametrize(
    ("principal", "topic"),
    [
        ("broker-ingest", "out.energy-water-daily"),
        ("broker-ingest", "log.policy"),
        ("broker-ingest", "in.energy-a.electricity"),
        ("broker-release", "contributions"),
        ("broker-release", "in.energy-a.electricity"),
        ("energy-a", "in.energy-b.electricity"),
        ("energy-a", "out.energy-water-daily"),
        ("city", "out.energy-water-daily"),
    ],
)
def test_nobody_writes_what_is_not_theirs(story: Story, principal: str, topic: str) -> None:
    with pytest.raises(PartnerError) as raised, Outbox(producer(story.running, principal), topic) as outbox:
        outbox.put([b"key"], [b"value"])
    assert raised.value.reason == "not_allowed"


@pytest.mark.parametrize(
    ("principal", "topic"),
    [
        ("broker-release", "in.energy-a.electricity"),
        ("broker-release", "sites.energy-a"),
        ("broker-release", "consent.energy-a"),
        ("broker-ingest", "contributions"),
        ("broker-ingest", "out.energy-water-daily"),
        ("energy-a", "in.energy-b.electricity"),
        ("energy-a", "dlq.water-n"),
        ("energy-a", "receipts.water-n"),
        ("energy-a", "contributions"),
        ("city", "evidence"),
    ],
)
def test_nobody_reads_what_is_not_theirs(story: Story, principal: str, topic: str) -> None:
    with pytest.raises(BrokerError) as raised:
        story.running.read(topic, principal)
    assert isinstance(raised.value, Refused)
    assert raised.value.reason == "topic_not_allowed"
