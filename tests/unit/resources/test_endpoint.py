import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.resources.endpoint import (
    SERVING,
    TRANSITIONS,
    EndpointEvent,
    EndpointStatus,
    IllegalTransition,
    next_status,
)

S = EndpointStatus
E = EndpointEvent

# The contract, written down a second time, status by status: (ready, gave up, update, delete).
EXPECTED = {
    S.CREATING: (S.IN_SERVICE, S.FAILED, None, None),
    S.IN_SERVICE: (S.IN_SERVICE, None, S.UPDATING, S.DELETING),
    S.UPDATING: (S.IN_SERVICE, S.ROLLING_BACK, None, None),
    S.SYSTEM_UPDATING: (S.IN_SERVICE, None, None, None),
    S.ROLLING_BACK: (S.IN_SERVICE, S.UPDATE_ROLLBACK_FAILED, None, None),
    S.UPDATE_ROLLBACK_FAILED: (S.UPDATE_ROLLBACK_FAILED, None, S.UPDATING, S.DELETING),
    S.OUT_OF_SERVICE: (None, None, None, S.DELETING),
    S.FAILED: (None, S.FAILED, None, S.DELETING),
    S.DELETING: (None, None, None, None),
}


@pytest.mark.parametrize("event", E)
@pytest.mark.parametrize("status", S)
def test_each_cell_of_the_table_is_as_the_contract_says(
    status: EndpointStatus, event: EndpointEvent
) -> None:
    expected = EXPECTED[status][list(E).index(event)]

    if expected is None:
        with pytest.raises(IllegalTransition, match=f"{event} cannot happen .* is {status}"):
            next_status(status, event)
    else:
        assert next_status(status, event) is expected


@given(st.lists(st.sampled_from(E), max_size=30))
def test_no_walk_leaves_the_table_and_none_comes_back_from_deleting(
    events: list[EndpointEvent],
) -> None:
    status = S.CREATING
    for event in events:
        if (status, event) in TRANSITIONS:
            was, status = status, next_status(status, event)
            assert was is not S.DELETING


def test_statuses_are_written_as_aws_writes_them() -> None:
    assert {str(status) for status in S} == {
        "OutOfService", "Creating", "Updating", "SystemUpdating", "RollingBack", "InService",
        "Deleting", "Failed", "UpdateRollbackFailed",
    }  # fmt: skip


def test_an_endpoint_serves_from_its_first_success_until_it_is_deleted() -> None:
    assert set(S) - {S.CREATING, S.FAILED, S.DELETING, S.OUT_OF_SERVICE} == SERVING
