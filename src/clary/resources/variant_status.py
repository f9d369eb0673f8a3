"""What a variant is busy with, in AWS's words (endpoints.md 2)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clary.resources.endpoint import (
    Deployment,
    DeploymentPhase,
    Endpoint,
    EndpointStatus,
    VariantState,
)

Status = Mapping[str, Any] | None
"""A VariantStatus; None where there is nothing to say."""


def variant_status(endpoint: Endpoint, state: VariantState) -> Status:
    """Return the status of a variant of the fleet that the endpoint has, or has had so far."""
    count, deployment = state.desired_count, endpoint.deployment
    since = endpoint.modified_at
    match endpoint.status:
        case EndpointStatus.CREATING:
            return _status("Creating", f"Launching {count} instance(s).", since)
        case EndpointStatus.DELETING:
            return _status("Deleting", f"Terminating {count} instance(s).", since)
        case EndpointStatus.UPDATING if state.serverless and not state.serverless.is_reached:
            wanted = state.serverless.desired.provisioned
            text = f"Scaling out desired provisioned concurrency to {wanted}."
            return _status("Updating", text, since)
        case EndpointStatus.ROLLING_BACK if deployment and state.current_count < count:
            missing = count - state.current_count
            return _status("Creating", f"Launching {missing} instance(s).", since)
        case EndpointStatus.UPDATING if deployment and state.current_count < count:
            ended = count - state.current_count  # those that made room in a rolling update
            return _status("Deleting", f"Terminating {ended} instance(s).", since)
        # Not when another variant is scaled, or only weights change.
        case EndpointStatus.UPDATING if not deployment and state.current_count != count:
            return _status("Updating", f"Scaling out desired instance count to {count}.", since)
    return None


def pending_variant_status(
    endpoint: Endpoint, deployment: Deployment, state: VariantState
) -> Status:
    """Return the status of a variant of a deployment's new fleet."""
    total, progress, policy = state.desired_count, deployment.progress, deployment.policy
    since = deployment.progress_at
    if endpoint.status is not EndpointStatus.UPDATING:
        return _status("Deleting", f"Terminating {state.current_count} instance(s).", since)
    if progress.phase is DeploymentPhase.LAUNCHING:
        count = policy.new_instances(progress.step, total)
        if policy.is_rolling:
            count -= policy.new_instances(progress.step - 1, total)
        return _status("Creating", f"Launching {count} instance(s).", since)
    share = policy.share(progress.step, total)
    is_full = share >= 1
    count = total if is_full else max(1, -(-int(total * share * 1000) // 1000))
    capacity = f"{'full' if is_full else 'canary'} capacity of {count} instance(s)."
    if progress.phase is DeploymentPhase.ACTIVATING:
        return _status("ActivatingTraffic", f"Activating traffic on {capacity}", since)
    steps = policy.steps([variant.desired_count for variant in deployment.variants])
    is_last = progress.step >= steps and not policy.is_rolling
    return _status(
        "Baking",
        f"Baking for {policy.bake_s(progress.step, steps):g} seconds "
        f"({'TerminationWaitInSeconds' if is_last else 'WaitIntervalInSeconds'}) with traffic "
        f"enabled on {capacity}",
        since,
    )


def _status(status: str, message: str, since: datetime) -> Status:
    return {"Status": status, "StatusMessage": message, "StartTime": since}
