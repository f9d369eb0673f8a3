from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.fleet.launchers.base import InstanceState, InstanceStatus
from clary.fleet.launchers.process import parse_status
from clary.messages import ProtocolError
from clary.resources.routing_table import ContainerRoute


def a_line(**fields: Any) -> dict[str, Any]:
    workers = [
        {"address": "unix:/w0.sock", "state": "ready", "pid": 1, "starts": 1},
        {"address": "unix:/w1.sock", "state": "dead", "pid": 2, "starts": 3},
        {"address": "unix:/w2.sock", "state": "starting", "pid": 3, "starts": 1},
    ]
    return {
        "instance_id": "i-1",
        "state": "healthy",
        "reason": None,
        "containers": [{"name": "primary", "workers": workers}],
        **fields,
    }


def test_only_workers_that_are_ready_are_taken() -> None:
    assert parse_status(a_line()) == InstanceStatus(
        state=InstanceState.HEALTHY,
        containers=(ContainerRoute(name="primary", workers=("unix:/w0.sock",)),),
    )


def test_a_failure_keeps_its_reason() -> None:
    status = parse_status(a_line(state="failed", reason="No module named 'x'"))

    assert (status.state, status.reason) == ("failed", "No module named 'x'")


def test_containers_that_failed_are_known_by_name() -> None:
    containers = [
        {"name": name, "has_failed": has_failed, "workers": []}
        for name, has_failed in (("a", True), ("b", False), ("c", True))
    ]
    status = parse_status(a_line(state="failed", containers=containers))
    assert status.failed_containers == ("a", "c")


@pytest.mark.parametrize(
    "line",
    [
        {},
        a_line(state="splendid"),
        a_line(containers=None),
        a_line(containers=[{}]),
        a_line(containers=[{"name": "primary", "workers": [{"state": "ready"}]}]),
        a_line(containers=["primary"]),
    ],
)
def test_what_is_no_status_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_status(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(state=JSON, containers=JSON)
def test_no_line_breaks_the_reader(state: Any, containers: Any) -> None:
    try:
        parse_status(a_line(state=state, containers=containers))
    except ProtocolError:
        pass
