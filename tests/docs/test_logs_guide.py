"""The guide to logs does what it says."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import blocks, commands
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/logs.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("logs-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_finds_its_lines(server: Server, tmp_path: Path) -> None:
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block)
    own = [line for line in commands(PAGE) if line.startswith("clary")]
    by_cli = [line for line in commands(PAGE) if line.startswith("aws") and shutil.which("aws")]
    script = [*own, f"{shlex.quote(sys.executable)} search.py", *by_cli]
    done = in_a_terminal(server, "\n".join(script), tmp_path)

    assert done.returncode == 0, done.stderr
    assert "model loaded" in done.stdout
    assert "['ERROR bob is out of luck']" in done.stdout
    assert '"user": "ada"' in done.stdout.splitlines()[-1 - len(by_cli)]
    if by_cli:
        assert done.stdout.splitlines()[-1] == "ERROR bob is out of luck"
