"""The guide to batching does what it says."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import blocks, commands
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/batching.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("batching-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_is_batched(server: Server, tmp_path: Path) -> None:
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block)
    lines = [*commands(PAGE), f"{shlex.quote(sys.executable)} many.py"]
    done = in_a_terminal(server, "\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"QUIETLY"' in done.stdout
    took = re.search(r"200 calls of 20 ms in ([\d.]+) s", done.stdout)
    assert took is not None
    # As many workers as there are cores would need 4 s divided by them.
    assert float(took[1]) < 1.5
