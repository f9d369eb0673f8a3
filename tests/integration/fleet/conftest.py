import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleets import FileStorage, Site
from server import wait_for


@pytest.fixture
def site() -> Iterator[Site]:
    """A data directory with a running supervisor."""
    # Not pytest's own directory: sockets have paths of at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="clary-") as directory:
        made = Site(Path(directory) / "d", FileStorage())
        made.start_supervisor()
        try:
            yield made
        finally:
            made.stop_supervisor()
            wait_for(
                lambda: not made.processes("clary-host") + made.processes("clary-worker"),
                what="hosts and workers to leave with the supervisor",
            )
