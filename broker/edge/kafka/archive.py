"""Make the class archive with which Kafka starts in two thirds of the time: `python -m
broker.edge.kafka.archive`.

Java writes it when a broker that has done a little of everything stops (JEP 350, dynamic AppCDS). It belongs
to the exact jars and the exact Java, which ignores it otherwise; so it is made on each machine and never
needed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from broker.edge.kafka import jvm
from broker.edge.kafka.admin import Admin, TopicSpec
from broker.edge.kafka.embedded import EmbeddedKafka


def make_archive(libs: Path) -> bool:
    """Start a Kafka in a folder that is thrown away, and keep its class archive beside `libs`; whether it
    worked."""
    target = jvm.archive(libs)
    target.unlink(missing_ok=True)
    fresh = target.with_suffix(".new")
    with tempfile.TemporaryDirectory(prefix="broker-kafka-") as folder:
        flags = (f"-XX:ArchiveClassesAtExit={fresh}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
        with EmbeddedKafka(Path(folder) / "home", libs=libs, jvm_flags=flags) as kafka:
            Admin(kafka.admin).ensure_topics({"archive": TopicSpec(1)})
    if not fresh.exists():  # it was killed as it took too long: Kafka starts without it as well
        return False
    fresh.replace(target)
    return True


if __name__ == "__main__":
    make_archive(jvm.default_libs())
