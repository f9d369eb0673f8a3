"""How many asynchronous calls are worked on, and where each goes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.jobs.async_plan import (
    MOST_AHEAD,
    InstanceLoad,
    choose_place,
    claims,
    held_limit,
    instance_limit,
    pause_s,
)


@pytest.mark.parametrize(
    ("workers", "configured", "limit"),
    [
        ([1], None, 2),
        ([1, 1], None, 4),
        ([8], None, 9),  # a batch, and the next call
        ([0], None, 4),  # a server of the user's own
        ([1, 1], 1, 1),
        ([], None, 0),
        ([1], 1000, 1000),
    ],
)
def test_an_instance_gets_what_it_can_take(
    workers: list[int], configured: int | None, limit: int
) -> None:
    assert instance_limit(workers, configured) == limit


@pytest.mark.parametrize(
    ("capacity", "mean_s", "limit"),
    [
        (0, 0.0, 0),
        (4, 0.001, 4 + MOST_AHEAD),
        (4, 0.1, 4 + 8),
        (4, 600.0, 4 + 1),
        (1, 0.2, 2),
    ],
)
def test_less_is_held_the_longer_calls_take(capacity: int, mean_s: float, limit: int) -> None:
    assert held_limit(capacity, mean_s) == limit


@pytest.mark.parametrize(
    ("limits", "held", "room", "wanted"),
    [
        ({"a": 10}, {}, 100, {"a": 10}),
        ({"a": 10}, {"a": 5}, 100, {"a": 5}),
        ({"a": 10}, {"a": 6}, 100, {}),  # more than half is there: not for a few
        ({"a": 1}, {"a": 1}, 100, {}),
        ({"a": 0}, {}, 100, {}),
        ({"a": 50, "b": 50}, {}, 20, {"a": 10, "b": 10}),
        ({"a": 2, "b": 50}, {}, 20, {"a": 2, "b": 18}),
        ({"a": 5}, {}, 0, {}),
    ],
)
def test_claims(
    limits: dict[str, int], held: dict[str, int], room: int, wanted: dict[str, int]
) -> None:
    assert claims(limits, held, room) == wanted


NAMES = st.sampled_from("abcdef")


@given(
    st.dictionaries(NAMES, st.integers(0, 100)),
    st.dictionaries(NAMES, st.integers(0, 100)),
    st.integers(0, 300),
)
def test_no_claim_goes_beyond_a_limit(
    limits: dict[str, int], held: dict[str, int], room: int
) -> None:
    wanted = claims(limits, held, room)
    assert sum(wanted.values()) <= room
    for name, count in wanted.items():
        assert 0 < count <= limits[name] - held.get(name, 0)


def load(
    instance: str, in_use: int, limit: int = 2, variant: str = "v", weight: float = 1.0
) -> InstanceLoad:
    return InstanceLoad(variant, weight, instance, in_use, limit)


def test_the_instance_with_the_most_room_is_next() -> None:
    chosen = choose_place([load("i-1", 1), load("i-2", 0), load("i-3", 2)], 0.5)
    assert chosen is not None
    assert chosen.instance_id == "i-2"


def test_none_is_next_when_all_are_full_or_without_weight() -> None:
    assert choose_place([load("i-1", 2), load("i-2", 0, weight=0.0)], 0.5) is None
    assert choose_place([], 0.0) is None


def test_variants_share_by_weight_among_those_with_room() -> None:
    loads = [load("a-1", 0, variant="a", weight=3.0), load("b-1", 0, variant="b", weight=1.0)]
    found = Counter(choose_place(loads, draw / 100).variant for draw in range(100))  # type: ignore[union-attr]
    assert found == {"a": 75, "b": 25}
    full = [load("a-1", 2, variant="a", weight=3.0), loads[1]]
    assert {choose_place(full, draw / 100).variant for draw in range(100)} == {"b"}  # type: ignore[union-attr]


def test_pauses_grow_and_stay() -> None:
    assert [pause_s(attempt, (1.0, 2.0)) for attempt in range(4)] == [1.0, 2.0, 2.0, 2.0]
