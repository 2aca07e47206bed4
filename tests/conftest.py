"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from broker.edge.kafka.embedded import EmbeddedKafka

# A machine under load is slow, not wrong: no test depends on how long an example takes.
settings.register_profile("broker", deadline=None, print_blob=True)
settings.load_profile("broker")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real readings, conformance fixtures and vectors, kept beside the project and never copied into it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.fail(f"the tests need the shared data folder at {folder}: put it beside the project")
    return folder


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A running Kafka that all tests share: for tests whose topics and principals have names of their own."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def new_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], EmbeddedKafka]]:
    """Starts an empty Kafka at each call, for tests that provision a whole territory; all stop with the
    module."""
    with ExitStack() as running:
        yield lambda: running.enter_context(EmbeddedKafka(tmp_path_factory.mktemp("kafka") / "home"))
