import pytest

from clary.fleet.cache import choose_to_remove

ENTRIES = [("old", 100.0, 10), ("middle", 500.0, 10), ("new", 900.0, 10)]


@pytest.mark.parametrize(
    ("held", "max_age_s", "max_bytes", "removed"),
    [
        pytest.param(set(), 1e9, 100, [], id="all fit"),
        pytest.param(set(), 600.0, 100, ["old"], id="too old"),
        pytest.param(set(), 1e9, 20, ["old"], id="too large: the least recently used goes"),
        pytest.param(set(), 1e9, 0, ["old", "middle", "new"], id="no room at all"),
        pytest.param({"old"}, 600.0, 20, ["middle"], id="held entries stay, and count"),
        pytest.param({"old", "middle", "new"}, 0.0, 0, [], id="all are held"),
    ],
)
def test_which_entries_go(
    held: set[str], max_age_s: float, max_bytes: int, removed: list[str]
) -> None:
    assert (
        choose_to_remove(ENTRIES, held=held, now=1000.0, max_age_s=max_age_s, max_bytes=max_bytes)
        == removed
    )
