"""Copies on instances: where they go, how many instances they need, and never more than fits."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import a_spec
from clary.control.component_placement import Host, Placed, Wanted, grow, place, vacate
from clary.resources.inference_component import ComputeResources, Placement

SIZE = ComputeResources(cpu_cores=4.0, accelerators=2, memory_mib=8192)


def wanted(count: int = 1, component: str = "a", placement: str = "SPREAD", **needs: int | float):
    spec = a_spec(**needs, SchedulingConfig={"PlacementStrategy": placement})
    return Wanted(component, spec, count)


def hosts(count: int, size: ComputeResources = SIZE) -> list[Host]:
    return [Host(f"h{i}", size) for i in range(count)]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        pytest.param(wanted(4), ["h0", "h1", "h0", "h1"], id="spread-evenly"),
        pytest.param(
            wanted(4, placement="BINPACK"), ["h0", "h0", "h0", "h0"], id="binpack-fills-one"
        ),
        pytest.param(
            wanted(5, placement="BINPACK"), ["h0", "h0", "h0", "h0", "h1"], id="then-the-next"
        ),
        pytest.param(wanted(10), ["h0", "h1"] * 4, id="by-cores"),
        pytest.param(wanted(9, memory_mib=4096), ["h0", "h1"] * 2, id="by-memory"),
        pytest.param(wanted(9, cores=0, accelerators=1), ["h0", "h1"] * 2, id="by-accelerators"),
        pytest.param(wanted(5, cores=0.25), ["h0", "h1", "h0", "h1", "h0"], id="quarters"),
        pytest.param(wanted(1, memory_mib=9000), [], id="larger-than-an-instance"),
        pytest.param(wanted(1, accelerators=3), [], id="more-accelerators-than-one-has"),
        pytest.param(wanted(0), [], id="none"),
    ],
)  # fmt: skip
def test_copies_go_where_there_is_room(each: Wanted, expected: list[str]) -> None:
    assert place(each, hosts(2)) == expected


def test_spread_looks_at_copies_of_the_same_component_first() -> None:
    two = hosts(2)
    two[0].take("b", wanted(component="b").spec.needs)
    two[1].take("a", wanted().spec.needs)
    assert place(wanted(), two) == ["h0"]


def test_spread_takes_the_emptier_one_of_equals() -> None:
    two = hosts(2)
    two[0].take("b", wanted(component="b").spec.needs)
    assert place(wanted(), two) == ["h1"]


@pytest.mark.parametrize(
    ("list_of", "there", "at_most", "expected"),
    [
        pytest.param([wanted(4)], 1, 9, 0, id="room-enough"),
        pytest.param([wanted(5)], 1, 9, 1, id="one-more"),
        pytest.param([wanted(13)], 1, 9, 3, id="several"),
        pytest.param([wanted(13)], 1, 2, 2, id="no-more-than-allowed"),
        pytest.param([wanted(1)], 0, 9, 1, id="from-none"),
        pytest.param([wanted(3, memory_mib=9000)], 0, 9, 0, id="what-never-fits-asks-for-none"),
        pytest.param(
            [wanted(1, memory_mib=8192), wanted(1, "b", memory_mib=8192)], 0, 9, 2, id="of-two"
        ),
    ],
)
def test_instances_are_as_many_as_copies_need(
    list_of: list[Wanted], there: int, at_most: int, expected: int
) -> None:
    present = hosts(there)
    assert grow(present, list_of, size=SIZE, at_most=at_most) == expected
    assert all(host.free == SIZE for host in present)


def needs() -> st.SearchStrategy[Wanted]:
    return st.builds(
        wanted,
        count=st.integers(0, 12),
        component=st.sampled_from("abc"),
        placement=st.sampled_from([p.value for p in Placement]),
        cores=st.integers(0, 20).map(lambda quarters: quarters / 4),
        memory_mib=st.integers(128, 12_000),
        accelerators=st.integers(0, 3),
    )


@settings(deadline=None)
@given(st.lists(needs(), max_size=6), st.integers(0, 5))
def test_no_instance_ever_holds_more_than_it_has(many: list[Wanted], count: int) -> None:
    present = hosts(count)
    taken: dict[str, list[ComputeResources]] = {host.id: [] for host in present}
    copies: dict[str, Counter[str]] = {host.id: Counter() for host in present}
    for each in many:
        placed = place(each, present)
        assert len(placed) <= each.count
        for host_id in placed:
            taken[host_id].append(each.spec.needs)
            copies[host_id][each.component] += 1
        if len(placed) < each.count:  # only because nothing has room
            assert not any(host.free.fits(each.spec.needs) for host in present)
    for host in present:
        assert sum(n.cpu_cores for n in taken[host.id]) <= SIZE.cpu_cores
        assert sum(n.memory_mib for n in taken[host.id]) <= SIZE.memory_mib
        assert sum(n.accelerators for n in taken[host.id]) <= SIZE.accelerators
        assert host.copies == copies[host.id]


@settings(deadline=None)
@given(st.lists(needs(), max_size=5), st.integers(0, 3), st.integers(0, 30))
def test_instances_are_added_until_there_is_room_for_all_that_fits(
    many: list[Wanted], count: int, at_most: int
) -> None:
    present, left, added = hosts(count), many, 0
    while True:
        left = [replace(each, count=each.count - len(place(each, present))) for each in left]
        more = grow(present, left, size=SIZE, at_most=at_most - added)
        if not more:
            break
        present += [Host(f"n{added + i}", SIZE) for i in range(more)]
        added += more
    assert added <= at_most
    if added < at_most:
        assert all(not SIZE.fits(each.spec.needs) for each in left if each.count)


@settings(deadline=None)
@given(st.lists(needs(), max_size=6), st.integers(1, 5), st.integers(0, 3))
def test_what_moves_from_emptied_instances_fits_on_those_that_stay(
    many: list[Wanted], count: int, at_most: int
) -> None:
    present = hosts(count)
    copies = [Placed(w.component, w.spec, id) for w in many for id in place(w, present)]
    gone = vacate(present, copies, at_most=at_most)
    assert len(gone) <= at_most
    stay = [host for host in present if host.id not in gone]
    moving = [copy for id in gone for copy in copies if copy.host_id == id]
    for copy in moving:
        assert place(Wanted(copy.component, copy.spec, 1), stay)
    assert all(any(copy.host_id == id for copy in copies) for id in gone)
