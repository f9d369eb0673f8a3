"""The guide to response streams does what it says."""

import shlex
import sys
from pathlib import Path

import pytest

from pages import blocks, commands
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/streaming.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("streaming-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_streams(server: Server, tmp_path: Path) -> None:
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block)
    lines = [*commands(PAGE), f"{shlex.quote(sys.executable)} ask.py"]
    done = in_a_terminal(server, "\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout[done.stdout.index("text/event-stream") :].split("\n", 1)[1]
    assert printed == (
        "data: You\n\ndata: asked:\n\ndata: why?\n\n[b'C-', b'l-', b'a-', b'r-', b'y-']\n"
    )
