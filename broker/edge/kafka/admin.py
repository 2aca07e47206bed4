"""What only an administrator does: topics, users, access rules. All of it declarative and safe to repeat.

Kept apart from the clients because neither aiokafka nor Faust can do it; used by the operator's commands
only. Two traps of confluent-kafka are avoided here: `describe_acls` answers an unauthorised caller with an
empty list instead of an error, and `describe_user_scram_credentials` then ends the whole process; so the
first is only used to wait for rules that were just accepted, and the second never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from broker.core.errors import OperatorError
from broker.edge.kafka.settings import KafkaSettings
from broker.edge.kafka.tls import librdkafka_tls

REQUEST_TIMEOUT = 15.0
_SCRAM_ITERATIONS = 8192
# What the client documents for "any"; its type annotations know text only.
_ANY: Any = None


@dataclass(frozen=True)
class TopicSpec:
    """`partitions` is fixed for ever (a key's place depends on it); `config` holds Kafka's own topic
    settings. Replication is the cluster's default."""

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Acl:
    """One allowance: `principal` (a user name) may do `operation` on a resource, or on all whose names begin
    so."""

    principal: str
    resource: Literal["topic", "group", "transactional_id", "cluster"]
    name: str
    prefixed: bool
    operation: Literal["read", "write", "describe", "delete", "create", "describe_configs"]


def librdkafka(settings: KafkaSettings) -> dict[str, Any]:
    """The settings in librdkafka's words. The host name check stays on (its default). Raises OperatorError where a
    file of them cannot be used."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
    }
    if settings.sasl:
        config |= {
            "sasl.mechanism": settings.mechanism,
            "sasl.username": settings.username,
            "sasl.password": settings.secret(),
        }
    return config | librdkafka_tls(settings)


def wait_until_ready(settings: KafkaSettings, timeout: float, check: Callable[[], None]) -> None:
    """Wait until `settings` can log in and see the cluster; `check` is called meanwhile and may raise."""
    admin = Admin(settings)
    deadline = time.monotonic() + timeout
    while True:
        check()
        try:
            admin.describe(timeout=1.0)
        except OperatorError:
            if time.monotonic() > deadline:
                raise
        else:
            return


class Admin:
    """An administrator's connection. Raises OperatorError, with Kafka's reason, whatever goes wrong."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._login_error: KafkaError | None = None
        self._where = settings.bootstrap_servers
        self._client = AdminClient(
            librdkafka(settings)
            | {
                "error_cb": self._note_error,  # without it a refused login only shows as a time-out
                "log_level": 0,  # what matters comes back as an error
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
            }
        )

    def describe(self, timeout: float = REQUEST_TIMEOUT) -> dict[str, int]:
        """The partitions of each topic that this principal may see."""
        self._login_error = None
        deadline = time.monotonic() + timeout
        while True:
            try:
                listing = self._client.list_topics(timeout=min(1.0, timeout))
                break
            except KafkaException as error:
                refused = self._translate(error, "cannot reach the cluster")
                if self._login_error or time.monotonic() >= deadline:
                    raise refused from error
        return {name: len(topic.partitions) for name, topic in listing.topics.items() if topic.error is None}

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> list[str]:
        """Make the missing topics, set differing settings of existing ones; the names of the new ones.

        Raises OperatorError where an existing topic has another number of partitions: a key's partition would
        change, so nothing is altered.
        """
        existing = self.describe()
        for name, spec in sorted(topics.items()):
            if existing.get(name, spec.partitions) != spec.partitions:
                raise OperatorError(
                    "partitions_differ",
                    f"it has {existing[name]} partitions and needs {spec.partitions}: the number of lanes is "
                    "fixed when a territory is created; use another cluster or the old number",
                    where=f"topic {name}",
                )
        missing = sorted(topics.keys() - existing.keys())
        self._create(missing, topics)
        self._configure({name: topics[name].config for name in topics.keys() & existing.keys()})
        return missing

    def ensure_users(self, passwords: Mapping[str, str]) -> None:
        """Give each user this password (SCRAM-SHA-512), creating the missing ones. Open connections go on."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _SCRAM_ITERATIONS)
        wanted: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(name, info, word.encode()) for name, word in passwords.items()
        ]
        if not wanted:
            return
        for name, future in self._client.alter_user_scram_credentials(wanted).items():
            self._result(future, f"cannot set the password of {name}")

    def ensure_acls(self, wanted: Iterable[Acl]) -> None:
        """Make these the only allowances of the principals that they name, and wait until the cluster
        applies them.

        Rules of principals that `wanted` does not name stay as they are.
        """
        rules = set(wanted)
        principals = {rule.principal for rule in rules}
        present = [binding for name in sorted(principals) for binding in self._acls_of(name)]
        target = {_key(_binding(rule)): _binding(rule) for rule in rules}
        surplus = [binding for binding in present if _key(binding) not in target]
        missing = [target[key] for key in sorted(target.keys() - {_key(binding) for binding in present})]
        if surplus:
            for future in self._client.delete_acls([_exact(binding) for binding in surplus]).values():
                self._result(future, "cannot remove an access rule")
        if missing:
            for future in self._client.create_acls(missing).values():
                self._result(future, "cannot add an access rule")
        self._await_acls(principals, set(target))

    def acls(self, principal: str) -> set[tuple[str, ...]]:
        """The allowances of one principal as (resource, name, pattern, operation), in Kafka's words (empty,
        too, where this caller may not ask)."""
        keys = map(_key, self._acls_of(principal))
        return {(resource, name, pattern, operation) for resource, name, pattern, _, _, operation, _ in keys}

    def _acls_of(self, principal: str) -> list[AclBinding]:
        filter_ = AclBindingFilter(
            ResourceType.ANY,
            _ANY,
            ResourcePatternType.ANY,
            f"User:{principal}",
            _ANY,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        found: list[AclBinding] = self._result(
            self._client.describe_acls(filter_), "cannot list the access rules"
        )
        return found

    def _await_acls(self, principals: set[str], target: set[tuple[str, ...]]) -> None:
        # The controller has committed the rules when the calls return; the broker applies them a little
        # later.
        deadline = time.monotonic() + REQUEST_TIMEOUT
        while {_key(binding) for name in principals for binding in self._acls_of(name)} != target:
            if time.monotonic() > deadline:
                raise OperatorError(
                    "acls_not_applied",
                    "the access rules were accepted but are not in force: check that this user may "
                    "administer ACLs",
                    where=self._where,
                )
            time.sleep(0.02)

    def _create(self, names: list[str], topics: Mapping[str, TopicSpec]) -> None:
        if not names:
            return
        new = [NewTopic(name, topics[name].partitions, config=dict(topics[name].config)) for name in names]
        for name, future in self._client.create_topics(new, request_timeout=REQUEST_TIMEOUT).items():
            self._result(future, f"cannot create topic {name}")
        deadline = time.monotonic() + REQUEST_TIMEOUT
        while not set(names) <= self.describe().keys():
            if time.monotonic() > deadline:
                raise OperatorError("topics_not_visible", "the new topics do not appear", where=self._where)
            time.sleep(0.02)

    def _configure(self, wanted: Mapping[str, Mapping[str, str]]) -> None:
        resources = [
            ConfigResource(ConfigResource.Type.TOPIC, name)
            for name, config in sorted(wanted.items())
            if config
        ]
        if not resources:
            return
        changes = []
        for resource, future in self._client.describe_configs(resources).items():
            present = self._result(future, f"cannot read the settings of topic {resource.name}")
            differing = {
                key: value
                for key, value in wanted[resource.name].items()
                if key not in present or present[key].value != value
            }
            if differing:
                entries = [
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in differing.items()
                ]
                changes.append(
                    ConfigResource(ConfigResource.Type.TOPIC, resource.name, incremental_configs=entries)
                )
        if changes:
            for resource, future in self._client.incremental_alter_configs(changes).items():
                self._result(future, f"cannot change the settings of topic {resource.name}")

    def _result(self, future: Any, doing: str) -> Any:
        try:
            return future.result(timeout=REQUEST_TIMEOUT)
        except KafkaException as error:
            raise self._translate(error, doing) from error
        except TimeoutError as error:
            raise OperatorError("kafka_unreachable", f"{doing}: no answer", where=self._where) from error

    def _note_error(self, error: KafkaError) -> None:
        if error.code() in {KafkaError._AUTHENTICATION, KafkaError._SSL}:
            self._login_error = error

    def _translate(self, error: KafkaException, doing: str) -> OperatorError:
        self._client.poll(0)  # serves error_cb
        cause = self._login_error or error.args[0]
        reason = "kafka_login_refused" if self._login_error else "kafka_refused"
        if cause.code() in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}:
            reason = "kafka_unreachable"
        return OperatorError(reason, f"{doing}: {cause.str()}", where=self._where)


def _binding(rule: Acl) -> AclBinding:
    resources = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional_id": ResourceType.TRANSACTIONAL_ID,
        "cluster": ResourceType.BROKER,
    }
    pattern = ResourcePatternType.PREFIXED if rule.prefixed else ResourcePatternType.LITERAL
    operation = AclOperation[rule.operation.upper()]
    return AclBinding(
        resources[rule.resource],
        rule.name,
        pattern,
        f"User:{rule.principal}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )


def _exact(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype, binding.name, binding.resource_pattern_type, binding.principal, binding.host,
        binding.operation, binding.permission_type,
    )  # fmt: skip


def _key(binding: AclBinding) -> tuple[str, ...]:
    return (
        _word(binding.restype),
        binding.name,
        _word(binding.resource_pattern_type),
        binding.principal,
        binding.host,
        _word(binding.operation),
        _word(binding.permission_type),
    )


def _word(value: Enum | str | int) -> str:
    assert isinstance(value, Enum)
    return value.name
