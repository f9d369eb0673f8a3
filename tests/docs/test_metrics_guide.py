"""The guide to metrics does what it says."""

import shlex
import sys
from pathlib import Path

import pytest

from clary.metrics.expression_functions import FUNCTIONS
from handlers import ECHO
from pages import ROOT, blocks
from server import Server, wait_for
from shell import in_a_terminal

PAGE = "docs/guides/metrics.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("metrics-guide")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_code_of_the_guide_reads_and_writes(server: Server, tmp_path: Path) -> None:
    files = []
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.write_text(block)
        files.append(file.name)
    assert files == ["latency.py", "own.py"]
    server.deploy("digits", {"code/inference.py": ECHO})
    for _ in range(3):
        server.invoke("digits")
    lines = "\n".join(f"{shlex.quote(sys.executable)} {name}" for name in files)

    def shown() -> bool:
        done = in_a_terminal(server, lines, tmp_path)
        assert done.returncode == 0, done.stderr
        rows = dict(line.split(" [", 1) for line in done.stdout.splitlines())
        assert set(rows) == {
            "Invocations", "InvocationModelErrors", "ModelLatency", "errors in percent"
        }  # fmt: skip
        return "3" in rows["Invocations"] and rows["errors in percent"] != "]"

    wait_for(shown, timeout_s=30, what="three calls in the guide's output")
    own = server.client("cloudwatch").list_metrics(Namespace="Shop")["Metrics"]
    assert {metric["MetricName"] for metric in own} == {"Basket", "Pressure"}


def test_the_guide_names_every_function() -> None:
    text = (ROOT / PAGE).read_text()
    listed = text.partition("> ABS")[2].partition("\n\n")[0]
    names = {name.strip(" >\n") for name in f"ABS{listed}".replace("\n>", " ").split(",")}
    assert names == {*FUNCTIONS, "METRICS", "SEARCH"}
