"""The guide to updates does what it says."""

import shlex
import sys
from pathlib import Path

import pytest

from pages import blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/updates.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("updates-guide")
    with Server(
        directory, CLARY_DATA_DIR=str(directory / "data"), CLARY_FLEET_MAX_WORKERS="1"
    ) as running:
        yield running


def test_the_versions_of_the_guide_follow_each_other(server: Server, tmp_path: Path) -> None:
    (tmp_path / "updates.py").write_text("\n".join(blocks(PAGE, "python")))
    done = in_a_terminal(server, f"{shlex.quote(sys.executable)} updates.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "one",
        "two",
        "Baking for 3 seconds (WaitIntervalInSeconds) with traffic enabled on canary capacity of "
        "1 instance(s).",
        "['three', 'two']",
        "{'three'}",
        "version-3 True",
        "three",
        "3 five",
    ]
