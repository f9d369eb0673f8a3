"""Which models of a multi-model endpoint have to go."""

import random

import pytest

from clary.control.model_cache import LoadedModel, Room, eviction_order, is_full, is_over


def models(*memory_mib: int) -> list[LoadedModel]:
    """Models a, b, c... of these sizes, each used later than the one before."""
    return [
        LoadedModel(name=chr(97 + n), memory_kib=size * 1024, used_at=float(n))
        for n, size in enumerate(memory_mib)
    ]


def room(memory_mib: int = 1000, **fields) -> Room:
    return Room(memory_kib=memory_mib * 1024, **fields)


@pytest.mark.parametrize(
    ("sizes", "limits", "loading", "full"),
    [
        ((), {"memory_mib": 1}, 1, False),  # what the first one takes is not known
        ((10, 10), {"memory_mib": 30}, 1, False),
        ((10, 10), {"memory_mib": 29}, 1, True),
        ((10, 10), {"memory_mib": 30}, 2, True),
        ((10, 10), {"memory_mib": 34, "spare_kib": 4096}, 1, False),
        ((10, 10), {"memory_mib": 34, "spare_kib": 4097}, 1, True),
        ((10, 30), {"memory_mib": 60}, 1, False),
        ((10, 10), {"max_models": 3}, 1, False),
        ((10, 10), {"max_models": 3}, 2, True),
        ((10, 10), {"max_models": 2}, 1, True),
        ((), {"max_models": 1}, 1, False),
        ((0, 0), {"memory_mib": 1}, 9, False),  # a container that cannot tell
    ],
)
def test_an_instance_is_full_when_one_more_may_not_fit(sizes, limits, loading, full):
    assert is_full(models(*sizes), room(**limits), loading=loading) is full


@pytest.mark.parametrize(
    ("sizes", "limits", "over"),
    [
        ((), {"memory_mib": 0}, False),
        ((10, 10), {"memory_mib": 20}, False),
        ((10, 11), {"memory_mib": 20}, True),
        ((10, 10), {"memory_mib": 23, "spare_kib": 3072}, False),
        ((10, 10), {"memory_mib": 23, "spare_kib": 3073}, True),
        ((1, 1, 1), {"max_models": 3}, False),
        ((1, 1, 1), {"max_models": 2}, True),
    ],
)
def test_an_instance_is_over_when_what_it_holds_is_too_much(sizes, limits, over):
    assert is_over(models(*sizes), room(**limits)) is over


def test_the_least_recently_used_goes_first():
    shuffled = models(1, 1, 1, 1)
    random.Random(1).shuffle(shuffled)
    assert eviction_order(shuffled, room()) == ["a", "b", "c", "d"]


def test_pinned_models_and_the_new_one_stay():
    limits = room(pinned=frozenset({"a", "not there"}))
    assert eviction_order(models(1, 1, 1), limits, keep={"c"}) == ["b"]
    assert eviction_order([], limits) == []
