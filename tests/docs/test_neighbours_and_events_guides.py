"""The guides to neighbour services and to events do what they say."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from pages import blocks, commands
from server import Server, wait_for
from shell import in_a_terminal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("neighbours-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_neighbours_guide_runs(server: Server, tmp_path: Path) -> None:
    code = "\n".join(blocks("docs/guides/neighbours.md", "python"))
    (tmp_path / "guide.py").write_text(code)
    done = in_a_terminal(server, f"{shlex.quote(sys.executable)} guide.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "arn:aws:iam::123456789012:role/execution",
        "digits is in service",
        "SubscriptionConfirmation",
        "hello, listener",
    ]


def shape(value):
    """The names and kinds of a value, without what it says."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    return [shape(member) for member in value] if isinstance(value, list) else type(value)


def test_the_event_of_the_guide_is_the_one_that_is_written(server: Server, tmp_path: Path) -> None:
    page = "docs/guides/events.md"
    (handler,) = blocks(page, "python")
    (tmp_path / "echo").mkdir()
    (tmp_path / handler.splitlines()[0].removeprefix("# ")).write_text(handler)
    deploy, tail = commands(page)
    done = in_a_terminal(server, deploy, tmp_path)
    assert done.returncode == 0, done.stderr
    file = server.data_dir / tail.rpartition("/")[2]
    wait_for(lambda: "IN_SERVICE" in file.read_text(), what="the event")
    written = json.loads(file.read_text().splitlines()[-1])
    (shown,) = map(json.loads, blocks(page, "json"))
    written["detail"]["Tags"] = {}  # `clary deploy` has its own
    assert shape(written) == shape(shown)
    for name in ("version", "source", "account", "region", "resources", "detail-type"):
        assert written[name] == shown[name]
