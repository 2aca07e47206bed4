"""One topic's way out for a partner's bulk producer: nothing is lost silently.

Each record's delivery is confirmed (it leaves the producer's queue) or its failure is reported and counted; `close`
raises where one failed, in the words of who must act.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from broker.core.errors import BrokerError, OperatorError, PartnerError

BulkProducer = Producer

CHUNK: Final = 20_000
QUEUE: Final = 200_000  # records in the producer's queue before the sender waits
PATIENCE: Final = 120.0  # seconds without any confirmation before giving up

Progress = Callable[[int], None]
_PARTNERS_FAULT: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)


class Outbox:
    """One topic's way out. Use `close` (or `with`) at the end: it waits for every confirmation.

    producer: made by `broker.edge.kafka.clients.bulk_producer`; several outboxes may share one.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self.topic = topic
        self.sent = 0
        self._failed = 0
        self._first: KafkaError | None = None
        self._partitions: int | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the topic has. Raises OperatorError or PartnerError where it cannot be seen."""
        if self._partitions is None:
            try:
                topic = self._producer.list_topics(self.topic, timeout=15.0).topics[self.topic]
            except KafkaException as error:
                raise self._translated(error.args[0], "the topic cannot be looked up") from error
            if topic.error is not None:
                raise self._translated(topic.error, "the topic cannot be used")
            self._partitions = len(topic.partitions)
        return self._partitions

    def put(self, keys: Sequence[bytes], values: Sequence[bytes], progress: Progress | None = None) -> None:
        """Queue records in order; waits where the queue is long. Raises where one was already refused."""
        for at in range(0, len(values), CHUNK):
            pairs = zip(keys[at : at + CHUNK], values[at : at + CHUNK], strict=True)
            self._queue([{"key": key, "value": value} for key, value in pairs])
            if progress is not None:
                progress(len(values[at : at + CHUNK]))

    def mark(self, value: bytes) -> None:
        """Queue one record without key to every partition."""
        self._wait(QUEUE)
        self._check()
        for partition in range(self.partitions):
            # One by one: `produce_batch` was seen to leave a message's own partition unheeded.
            try:
                self._producer.produce(self.topic, value, partition=partition, on_delivery=self._delivered)
            except KafkaException as error:
                raise self._translated(error.args[0], "a mark cannot be queued") from error
            self.sent += 1

    def close(self) -> None:
        """Wait until all is confirmed. Raises PartnerError or OperatorError where a record was not taken."""
        self._wait(0)
        self._check()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def _queue(self, messages: list[dict[str, Any]]) -> None:
        self._wait(QUEUE - len(messages))
        self._check()
        try:
            queued = self._producer.produce_batch(self.topic, messages, on_delivery=self._delivered)
        except KafkaException as error:
            raise self._translated(error.args[0], "records cannot be queued") from error
        self.sent += queued
        if queued < len(messages):
            refused = next(message["_error"] for message in messages if "_error" in message)
            raise self._translated(refused, f"{len(messages) - queued} records cannot be queued")
        self._producer.poll(0)

    def _wait(self, most: int) -> None:
        """Until at most so many records are on their way."""
        waited, before = 0.0, len(self._producer)
        while (on_their_way := len(self._producer)) > max(most, 0):
            waited, before = (waited + 0.2, before) if on_their_way >= before else (0.0, on_their_way)
            if waited > PATIENCE:
                self._check()
                raise OperatorError(
                    "kafka_silent",
                    f"{on_their_way} records are not confirmed: is Kafka up?",
                    where=self.topic,
                )
            try:
                self._producer.poll(0.2)
            except KafkaException as error:  # of a user who may write nowhere at all
                raise self._translated(error.args[0], f"{on_their_way} records are not taken") from error

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        """Called for what failed; of the rest only where the producer reports each delivery."""
        if error is not None:
            self._failed += 1
            self._first = self._first or error

    def _check(self) -> None:
        if self._first is not None:
            raise self._translated(self._first, f"{self._failed} of {self.sent} records were not taken")

    def _translated(self, error: KafkaError, what: str) -> BrokerError:
        if error.code() in _PARTNERS_FAULT:
            return PartnerError(
                "not_allowed", f"{what}: {error.str()}; check user, password and stream", where=self.topic
            )
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return OperatorError(
                "no_topic", f"{what}: it does not exist; provision the territory", where=self.topic
            )
        return OperatorError("not_delivered", f"{what}: {error.str()}", where=self.topic)
