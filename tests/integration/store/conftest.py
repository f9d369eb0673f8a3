import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from builders import A_TIME, NAMESPACE
from clary.store import Store


class SteppingClock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.time = A_TIME

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def monotonic(self) -> float:
        return (self.now() - A_TIME).total_seconds()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "state.sqlite", NAMESPACE, SteppingClock())
    yield opened
    opened.close()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as loop:
        yield loop
