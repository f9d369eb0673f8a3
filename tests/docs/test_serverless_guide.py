"""The guide to serverless endpoints does what it says."""

import shlex
import sys
from pathlib import Path

from pages import blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/serverless.md"


def test_the_page_on_serverless_endpoints_works_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n".join(blocks(PAGE, "python")))
    with Server(tmp_path, CLARY_DATA_DIR=str(tmp_path / "data")) as server:
        done = in_a_terminal(server, f"{shlex.quote(sys.executable)} page.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "42",
        str({"MemorySizeInMB": 1024, "MaxConcurrency": 10, "ProvisionedConcurrency": 2}),
        "4",
    ]
