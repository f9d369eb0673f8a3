from pathlib import Path

import pytest

from clary.logs.retention_rule import KeptFile, choose_removals

OLD = KeptFile(path=Path("old"), bytes=100, written_ms=1000, is_in_use=False)
NEW = KeptFile(path=Path("new"), bytes=100, written_ms=3000, is_in_use=False)
BUSY = KeptFile(path=Path("busy"), bytes=100, written_ms=500, is_in_use=True)


@pytest.mark.parametrize(
    ("before_ms", "max_bytes", "removed"),
    [
        (None, 0, []),
        (2000, 0, ["old"]),
        (9000, 0, ["old", "new"]),
        (None, 300, []),
        (None, 299, ["old"]),
        (None, 100, ["old", "new"]),
        (None, 1, ["old", "new"]),
        (2000, 250, ["old"]),
    ],
)
def test_idle_files_go_oldest_first(
    before_ms: int | None, max_bytes: int, removed: list[str]
) -> None:
    chosen = choose_removals([NEW, BUSY, OLD], before_ms=before_ms, max_bytes=max_bytes)
    assert [path.name for path in chosen] == removed
