"""What variants are busy with, in AWS's words."""

from typing import Any

import pytest

from builders import a_variant_state
from clary.resources.endpoint import DeploymentPhase, EndpointStatus, Progress
from clary.resources.variant_status import pending_variant_status, variant_status
from deployments import an_update, canary, rolling

LAUNCHING, ACTIVATING, BAKING = DeploymentPhase


@pytest.mark.parametrize(
    ("policy", "phase", "step", "status", "message"),
    [
        (None, LAUNCHING, 1, "Creating", "Launching 4 instance(s)."),
        (rolling(), LAUNCHING, 2, "Creating", "Launching 1 instance(s)."),
        (
            canary(),
            ACTIVATING,
            1,
            "ActivatingTraffic",
            "Activating traffic on canary capacity of 2 instance(s).",
        ),
        (
            canary(10),
            BAKING,
            1,
            "Baking",
            "Baking for 60 seconds (WaitIntervalInSeconds) with traffic enabled on canary "
            "capacity of 1 instance(s).",
        ),
        (
            canary(),
            BAKING,
            2,
            "Baking",
            "Baking for 30 seconds (TerminationWaitInSeconds) with traffic enabled on full "
            "capacity of 4 instance(s).",
        ),
        (
            rolling(),
            BAKING,
            4,
            "Baking",
            "Baking for 60 seconds (WaitIntervalInSeconds) with traffic enabled on full "
            "capacity of 4 instance(s).",
        ),
    ],
)
def test_a_variant_of_the_new_fleet(
    policy: dict[str, Any] | None, phase: DeploymentPhase, step: int, status: str, message: str
) -> None:
    endpoint = an_update(policy, old=4, new=4, progress=Progress(phase=phase, step=step))
    assert endpoint.deployment is not None
    state = endpoint.deployment.variants[0]
    found = pending_variant_status(endpoint, endpoint.deployment, state)
    assert found is not None
    assert (found["Status"], found["StatusMessage"]) == (status, message)


def test_a_new_fleet_that_is_given_up() -> None:
    endpoint = an_update(status=EndpointStatus.ROLLING_BACK)
    assert endpoint.deployment is not None
    state = a_variant_state(desired_count=2, current_count=1)
    found = pending_variant_status(endpoint, endpoint.deployment, state)
    assert found is not None
    assert found["StatusMessage"] == "Terminating 1 instance(s)."


@pytest.mark.parametrize(
    ("status", "current", "message"),
    [
        (EndpointStatus.UPDATING, 2, None),
        (EndpointStatus.UPDATING, 1, "Terminating 1 instance(s)."),
        (EndpointStatus.ROLLING_BACK, 1, "Launching 1 instance(s)."),
        (EndpointStatus.CREATING, 0, "Launching 2 instance(s)."),
        (EndpointStatus.DELETING, 0, "Terminating 2 instance(s)."),
        (EndpointStatus.IN_SERVICE, 1, None),
    ],
)
def test_a_variant_of_the_old_fleet(
    status: EndpointStatus, current: int, message: str | None
) -> None:
    found = variant_status(
        an_update(rolling(), status=status), a_variant_state(desired_count=2, current_count=current)
    )
    assert (found and found["StatusMessage"]) == message
