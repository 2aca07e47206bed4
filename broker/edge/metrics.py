"""Every metric of the broker, each one literal with its help text and unit. Labels never hold an identifier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broker.core.open_windows import NEVER, OpenWindows
from broker.core.plan import Plan
from broker.core.reasons import REASONS
from broker.core.release import Summary

REGISTRY = CollectorRegistry()

READINGS = Counter(
    "broker_readings", "Readings by partner, outcome and reason.", ["partner", "outcome", "reason"],
    registry=REGISTRY,
)  # fmt: skip
LATE = Counter(
    "broker_late_readings", "Readings admitted after their window had closed, and not used.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
LAG = Gauge(
    "broker_lag_records", "Records of a partition that its lane has not read yet.", ["topic", "partition"],
    registry=REGISTRY,
)  # fmt: skip
WATERMARK = Gauge(
    "broker_watermark_seconds", "Completeness of an input partition, as seconds since the epoch.",
    ["topic", "partition"], registry=REGISTRY,
)  # fmt: skip
WATERMARK_DELAY = Gauge(
    "broker_watermark_delay_seconds",
    "How far a partner's stream is behind the most advanced one of its domain; without any mark, since it began.",
    ["domain", "topic", "lane"], registry=REGISTRY,
)  # fmt: skip
OPEN_WINDOWS = Gauge(
    "broker_open_windows", "Base windows that hold contributions and are open.", ["domain", "lane"],
    registry=REGISTRY,
)  # fmt: skip
STALLED = Gauge(
    "broker_stream_stalled", "1 while windows have waited for a stream's marks for a quarter of max_hold or longer.",
    ["topic", "partition"], registry=REGISTRY,
)  # fmt: skip
PAUSED = Gauge(
    "broker_partner_paused", "1 while a partner's streams are not read.", ["partner"], registry=REGISTRY
)
RELEASE_SECONDS = Histogram(
    "broker_release_duration_seconds", "From the closing of a base window to its committed releases.", ["domain"],
    registry=REGISTRY, buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)  # fmt: skip
CELLS = Counter(
    "broker_cells", "Cells decided, by product and outcome.", ["product", "outcome"], registry=REGISTRY
)
SUPPRESSED_SHARE = Gauge(
    "broker_suppressed_share", "Share of the cells of a product's last release that were suppressed.",
    ["product"], registry=REGISTRY,
)  # fmt: skip
LEFT_OUT = Gauge(
    "broker_products_left_out", "Activated products that may not run (unsigned, contradictory).",
    registry=REGISTRY,
)  # fmt: skip


class Telemetry:
    """The stages' telemetry port: Prometheus for figures, the structured log for what needs a person."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("broker")

    def readings(self, partner: str, outcome: str, reason: str, count: int) -> None:
        if count:
            READINGS.labels(partner, outcome, reason).inc(count)

    def late(self, topic: str, count: int) -> None:
        LATE.labels(topic).inc(count)

    def lag(self, topic: str, partition: int, records: int) -> None:
        LAG.labels(topic, partition).set(records)

    def watermark(self, topic: str, partition: int, until: int) -> None:
        WATERMARK.labels(topic, partition).set(until / 1000)

    def stalled(self, topic: str, partition: int, waiting_ms: int, *, given_up: bool) -> None:
        STALLED.labels(topic, partition).set(waiting_ms > 0)
        if waiting_ms:
            self._log.error(
                "stream_given_up" if given_up else "stream_stalled", reason="no_marks", topic=topic,
                partition=partition, waiting_hours=waiting_ms // 3_600_000, must_act=ACTORS["no_marks"],
            )  # fmt: skip

    def paused(self, partner: str, reason: str, detail: str) -> None:
        PAUSED.labels(partner).set(1)
        self._log.error(
            "partner_paused", partner=partner, reason=reason, detail=detail, must_act=ACTORS[reason]
        )

    def resumed(self, partner: str) -> None:
        PAUSED.labels(partner).set(0)
        self._log.info("partner_resumed", partner=partner)

    def bad_record(self, partner: str, reason: str, topic: str, partition: int, offset: int) -> None:
        self._log.warning(
            "bad_record", partner=partner, reason=reason, text=REASONS[reason].text, topic=topic,
            partition=partition, offset=offset, must_act=REASONS[reason].must_act,
        )  # fmt: skip

    def left_out(self, products: Mapping[str, list[str]]) -> None:
        LEFT_OUT.set(len(products))
        for product, reasons in products.items():
            self._log.error("product_left_out", product=product, reasons=reasons, must_act="operator")

    @contextmanager
    def releasing(self, domain: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        RELEASE_SECONDS.labels(domain).observe(time.perf_counter() - begun)

    def released(self, product: str, summary: Summary) -> None:
        suppressed = summary.primary + summary.secondary
        CELLS.labels(product, "published").inc(summary.published)
        CELLS.labels(product, "primary").inc(summary.primary)
        CELLS.labels(product, "secondary").inc(summary.secondary)
        SUPPRESSED_SHARE.labels(product).set(suppressed / max(1, suppressed + summary.published))

    def release_lane(self, partition: int, plan: Plan, windows: OpenWindows) -> None:
        for name, domain in plan.domains.items():
            OPEN_WINDOWS.labels(name, partition).set(windows.open_count(name))
            marks = {stream.topic: windows.watermark(stream) for stream in domain.streams}
            known = [mark for mark in marks.values() if mark > NEVER]
            began = min(product.active_from for product in domain.products)
            for topic, mark in marks.items():
                delay = max(known, default=began) - (mark if mark > NEVER else began)
                WATERMARK_DELAY.labels(name, topic, partition).set(delay / 1000)


ACTORS = {
    "no_marks": "the partner must send this stream's readings and completeness marks, to every partition of the topic",
    "missing_table": "the partner must send its sites and consent topics, the operator must have provisioned them",
    "consent_silent": "the partner's consent service must send its heartbeat again",
    "unreadable": "the operator must look at the topic's ACLs and its health",
}
