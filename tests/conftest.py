"""Fixtures for every kind of test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from server import Server

# The same examples in each run, however slow the machine is; "explore" looks for others.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("suite"), derandomize=False)
settings.load_profile("suite")

ORDER = ("acceptance", "docs", "conformance", "integration", "unit")
"""Long modules first: a process that is given one last would work alone while others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    items.sort(key=lambda item: ORDER.index(item.path.relative_to(here).parts[0]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server for all tests of a module; each test uses names of its own."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running
