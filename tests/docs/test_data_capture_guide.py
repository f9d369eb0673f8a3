"""The guide to data capture does what it says."""

import json
import shlex
import sys
from pathlib import Path

from pages import blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/data-capture.md"


def test_the_page_on_data_capture_works_from_top_to_bottom(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    (tmp_path / "page.py").write_text("\n".join(blocks(PAGE, "python")))
    with Server(tmp_path, CLARY_DATA_DIR=data, CLARY_CAPTURE_FLUSH_S="1") as server:
        done = in_a_terminal(server, f"{shlex.quote(sys.executable)} page.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Started 50", "JSON True", "True 0"]


def test_the_line_that_it_shows_is_json() -> None:
    (line,) = blocks(PAGE, "json")
    assert json.loads(line)["captureData"]["endpointOutput"]["mode"] == "OUTPUT"
