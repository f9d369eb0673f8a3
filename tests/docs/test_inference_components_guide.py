"""The guide to inference components does what it says, and so does the example beside it."""

import shlex
import sys
from pathlib import Path

import pytest

from pages import ROOT, blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/inference-components.md"
EXAMPLE = ROOT / "examples/inference_components"
FILES = ("models.py", "serve.py", "wake.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("components-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_is_the_example() -> None:
    assert blocks(PAGE, "python") == [(EXAMPLE / name).read_text() for name in FILES]


def test_the_example_wakes_a_model_from_zero(server: Server, tmp_path: Path) -> None:
    lines = [f"{shlex.quote(sys.executable)} {shlex.quote(str(EXAMPLE / n))}" for n in FILES]
    done = in_a_terminal(server, "\n".join(lines), tmp_path, timeout_s=300)
    assert done.returncode == 0, done.stderr
    *serving, refused, answer = done.stdout.splitlines()
    called = server.cli("invoke", "shared", "--component", "double", "-d", "[1, 2]")
    assert called.stdout == "[2, 4]"
    lines = server.cli("describe", "shared").stdout.splitlines()
    shown = [line.split() for line in lines if line.startswith(("double", "triple"))]
    assert [row[:6] for row in shown] == [
        ["double", "InService", "2", "of", "2", "double"],
        ["triple", "InService", "1", "of", "1", "triple"],
    ]
    page = (ROOT / PAGE).read_text()
    assert "\n".join(serving) in page
    assert f"{refused}\n{answer}" in page
    assert answer == "triple [3, 6]"
