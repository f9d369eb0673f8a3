"""The guide to alarms does what it says."""

import shlex
import sys
from pathlib import Path

from pages import blocks
from server import Server
from shell import in_a_terminal


def test_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    with Server(tmp_path, CLARY_DATA_DIR=str(tmp_path / "data")) as server:
        (tmp_path / "page.py").write_text("\n".join(blocks("docs/guides/alarms.md", "python")))
        done = in_a_terminal(server, f"{shlex.quote(sys.executable)} page.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "queue-too-long OK",
        "queue-too-long ALARM",
        "Threshold Crossed: 1 out of the last 1 datapoints ",
        "shop-is-slow ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from OK to ALARM",
        "shop-is-slow OK",
    ]
