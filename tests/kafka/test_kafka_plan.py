"""Who may do what on Kafka: the plan, without a cluster."""

from __future__ import annotations

from territories import territory

from broker.edge.kafka.admin import Acl
from broker.edge.kafka.provision import plan_acls, plan_principals, plan_topics


def may(principal: str, operation: str, topic: str) -> bool:
    """Whether the plan lets a principal do this on a topic, as Kafka's authorizer would decide."""
    return any(
        rule.principal == principal
        and rule.resource == "topic"
        and rule.operation == operation
        and (topic.startswith(rule.name) if rule.prefixed else topic == rule.name)
        for rule in plan_acls(territory())
    )


def test_topics_have_the_territorys_lanes_except_single_sequences() -> None:
    topics = plan_topics(territory(lanes=7), ["secret-product"])
    single = {name for name, spec in topics.items() if spec.partitions == 1}
    assert single == {"control", "log.policy"}
    assert {spec.partitions for name, spec in topics.items() if name not in single} == {7}
    assert {"out.vacancy", "out.daily", "out.secret-product"} <= topics.keys()
    assert {
        "in.en-a.power",
        "in.en-a.gas",
        "in.en-b.power",
        "sites.en-b",
        "consent.en-b",
        "dlq.en-b",
    } <= topics.keys()


def test_inputs_keep_the_brokers_time_and_state_is_compacted() -> None:
    topics = plan_topics(territory())
    assert all(
        spec.config["message.timestamp.type"] == "LogAppendTime"
        for name, spec in topics.items()
        if name.startswith("in.")
    )
    compacted = {name for name, spec in topics.items() if spec.config.get("cleanup.policy") == "compact"}
    assert compacted == {"control", "evidence", "sites.en-a", "sites.en-b", "consent.en-a", "consent.en-b"}


def test_each_topic_is_written_by_exactly_its_owners() -> None:
    writers = {
        topic: {p for p in plan_principals(territory()) if may(p, "write", topic)}
        for topic in plan_topics(territory())
    }
    expected = {
        "lanes": set(),
        "control": {"broker-control"},
        "contributions": {"broker-ingest"},
        "rollups": {"broker-release"},
        "ledger": {"broker-release"},
        "log.policy": {"broker-release", "broker-control"},
        "evidence": {"broker-release", "broker-control"},
    }
    for topic, found in writers.items():
        kind, _, rest = topic.partition(".")
        owner = rest.partition(".")[0]
        by_kind = {
            "in": {owner},
            "sites": {owner},
            "consent": {owner},
            "dlq": {"broker-ingest"},
            "receipts": {"broker-ingest"},
            "out": {"broker-release"},
        }
        assert found == expected.get(topic, by_kind.get(kind)), topic


def test_each_topic_is_read_by_exactly_those_who_need_it() -> None:
    expected = {
        "contributions": {"broker-release"},
        "rollups": {"broker-release"},
        "ledger": {"broker-release"},
        "in.en-a.power": {"en-a", "broker-ingest"},
        "sites.en-b": {"en-b", "broker-ingest"},
        "consent.en-b": {"en-b", "broker-ingest"},
        "dlq.en-a": {"en-a"},
        "out.daily": {"ville"},
        "out.vacancy": {"ville", "en-a"},
        "log.policy": set(),
        "evidence": set(),
    }
    for topic, readers in expected.items():
        assert {p for p in plan_principals(territory()) if may(p, "read", topic)} == readers, topic


def test_a_longer_name_never_falls_under_a_shorter_ones_prefix() -> None:
    for topic in ("in.en-ab.power", "in.en-a", "sites.en-ab", "dlq.en-ab", "contributions-2", "out"):
        assert not any(may("en-a", operation, topic) for operation in ("read", "write", "describe"))


def test_nobody_may_create_topics_or_touch_the_cluster() -> None:
    rules = plan_acls(territory())
    assert {rule.resource for rule in rules} == {"topic", "group", "transactional_id"}
    assert not {rule for rule in rules if rule.operation == "create"}
    assert {rule.name for rule in rules if rule.operation == "delete"} == {"contributions", "rollups"}
    assert all(rule.prefixed == rule.name.endswith(".") and rule.name for rule in rules)
    assert Acl("en-a", "group", "en-a.", True, "read") in rules
