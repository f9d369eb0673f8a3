"""The guide to multi-model endpoints does what it says."""

import shlex
import sys
from pathlib import Path

import pytest

from pages import ROOT, blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/multi-model.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("multi-model-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_serves_two_models(server: Server, tmp_path: Path) -> None:
    files = []
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.write_text(block)
        files.append(file.name)
    lines = [f"{shlex.quote(sys.executable)} {name}" for name in files]
    done = in_a_terminal(server, "\n".join([*lines, "clary describe times"]), tmp_path)
    assert done.returncode == 0, done.stderr
    answers = "double.tar.gz [2, 4]\ntriple.tar.gz [3, 6]\n"
    assert answers in (ROOT / PAGE).read_text()
    assert done.stdout.startswith(answers)
    assert "loaded, pinned" in done.stdout
