"""Fixtures for every kind of test."""

from collections.abc import Iterator

import pytest

from server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server for all tests of a module; each test uses names of its own."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running
