"""The guide to batch transform does what it says."""

import shlex
import sys
from pathlib import Path

from pages import blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/batch-transform.md"


def test_the_page_on_batch_transform_works_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n".join(blocks(PAGE, "python")))
    (command,) = blocks(PAGE, "console")
    with Server(tmp_path, CLARY_DATA_DIR=str(tmp_path / "data")) as server:
        done = in_a_terminal(server, f"{shlex.quote(sys.executable)} page.py", tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["Completed", "b7,70.0"]
        words = shlex.split(command.removeprefix("$ clary ").replace("\\\n", " "))
        told = server.cli(*words, "--name", "again")
        assert told.stdout.strip() == "again: Completed, 2 of 2 files"
