"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Tests fold small frames, in a process for each core: threads of Polars would only wait for each other. It reads this
# once, when it is first imported; the workers that tests start have as many threads as anywhere.
with pytest.MonkeyPatch.context() as environment:
    environment.setenv("POLARS_MAX_THREADS", "1")
    import polars as pl

    from broker.edge.kafka.embedded import EmbeddedKafka

assert pl.thread_pool_size() == 1, "Polars was imported before"

# A machine under load is slow, not wrong: no test depends on how long an example takes.
settings.register_profile("broker", deadline=None, print_blob=True)
settings.load_profile("broker")

ROOT = Path(__file__).parent.parent
E2E = "tests/e2e/"


class OneEndToEnd(LoadScopeScheduling):
    """Shares tests among processes by files, because the tests of a file may share a Kafka. All end-to-end tests stay
    in one process: each takes more than a core, and some promise seconds, which two at a time could not keep."""

    def _split_scope(self, nodeid: str) -> str:
        return E2E if nodeid.startswith(E2E) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return OneEndToEnd(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, what takes longest comes first, lest the others wait for it at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(E2E))


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
