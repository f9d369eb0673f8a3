"""How many workers serverless variants should have."""

import pytest

from clary.control.demand import Demand
from clary.control.serverless import split, target
from clary.resources.serverless import ServerlessCapacity


class Moment:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("needed", "provisioned", "floor", "most", "expected"),
    [
        (0, 0, 0, 16, 0),
        (3, 0, 0, 16, 3),
        (9, 0, 0, 16, 5),  # MaxConcurrency
        (9, 0, 0, 2, 2),
        (0, 0, 1, 16, 1),  # a new endpoint shows that its model can be loaded
        (0, 4, 0, 2, 4),  # what is provisioned is there, whatever the most
        (1, 4, 1, 16, 4),
    ],
)
def test_target(needed: int, provisioned: int, floor: int, most: int, expected: int) -> None:
    capacity = ServerlessCapacity(max_concurrency=5, provisioned=provisioned)

    assert target(capacity, needed, floor=floor, most=most) == expected


def test_the_first_workers_stay() -> None:
    assert split(["a", "b", "c"], 2) == (("a", "b"), ("c",))
    assert split(["a"], 2) == (("a",), ())


def test_the_most_that_was_needed_counts_until_it_is_old() -> None:
    clock, woken = Moment(), []
    demand = Demand(clock, idle_s=10)  # type: ignore[arg-type]
    demand.on_more = woken.append

    demand.note("e", "v", 1, life="g")
    clock.at = 1
    demand.note("e", "v", 3, life="g")
    clock.at = 5
    demand.note("e", "v", 2, life="g")

    assert woken == ["e", "e"]
    assert demand.wanted("e", "v") == (3, pytest.approx(6.01))
    clock.at = 11.5
    assert demand.wanted("e", "v") == (2, pytest.approx(3.51))
    clock.at = 15.5
    assert demand.wanted("e", "v") == (0, None)


def test_gateways_are_added_up_while_their_reports_are_fresh() -> None:
    clock = Moment()
    demand = Demand(clock, idle_s=100)  # type: ignore[arg-type]
    demand.take({"type": "needs", "life": "g0", "needs": [["e", "v", 2]]})
    clock.at = 1
    demand.take({"type": "needs", "life": "g1", "needs": [["e", "v", 2]]})
    assert demand.wanted("e", "v")[0] == 4
    clock.at = 50
    demand.take({"type": "needs", "life": "g1", "needs": [["e", "v", 3]]})
    clock.at = 101.5
    assert demand.wanted("e", "v")[0] == 3


def test_what_runs_counts_as_needed_only_where_nothing_has_been_heard() -> None:
    clock = Moment()
    demand = Demand(clock, idle_s=10)  # type: ignore[arg-type]

    demand.adopt("e", "v", 2)
    demand.adopt("e", "v", 9)

    assert demand.wanted("e", "v")[0] == 2
    demand.forget("e")
    assert demand.wanted("e", "v") == (0, None)
