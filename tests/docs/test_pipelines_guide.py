"""The guide to pipelines does what it says."""

import shlex
import sys
from pathlib import Path

import pytest

from pages import blocks, commands
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/pipelines.md"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all files of the guide lie, under the names that it gives them."""
    directory = tmp_path_factory.mktemp("pipelines-guide")
    for block in (*blocks(PAGE, "toml"), *blocks(PAGE, "python")):
        file = directory / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    return directory


@pytest.fixture(scope="module")
def server(directory: Path):
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_three_steps_and_the_one_of_the_guide_answer(server: Server, directory: Path) -> None:
    python = shlex.quote(sys.executable)
    lines = [f"{python} make.py", *commands(PAGE), f"{python} direct.py"]
    done = in_a_terminal(server, "\n".join(lines), directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip() == '{"flower": "setosa", "is_known": true}"virginica"'
