"""Endpoints as a client sees them: found, waited for, deleted.

What `clary deploy` makes bears a tag with the endpoint's name. That is how `clary rm` and the next
`deploy` find it again, and why they leave alone what somebody else made.
"""

import time
from collections.abc import Mapping
from typing import Any

from clary.cli.api import Api, Refused
from clary.cli.deployment import name_prefix
from clary.cli.failure import CommandFailed
from clary.cli.output import Steps

TAG = "clary:deployment"
POLL_S = 0.1


UPDATABLE = ("InService", "UpdateRollbackFailed")
"""Statuses of an endpoint that UpdateEndpoint takes."""


class DeploymentFailed(CommandFailed):
    """The endpoint came to ``Failed``, or back to what it was; the message holds the reason."""

    def __init__(self, message: str, still_serves: bool = False) -> None:
        super().__init__(message)
        self.still_serves = still_serves
        """Whether the endpoint is what it was before."""


def find_endpoint(api: Api, name: str) -> dict[str, Any] | None:
    """Describe an endpoint; None when there is none of this name."""
    try:
        return api.call("sagemaker", "describe_endpoint", EndpointName=name)
    except Refused as error:
        if error.not_found:
            return None
        raise


def wait_in_service(api: Api, name: str, steps: Steps) -> None:
    """Show what the server does until the endpoint serves.

    Raises:
        DeploymentFailed: It came to ``Failed``, or was deleted by somebody else.
    """
    while True:
        description = find_endpoint(api, name)
        if description is None:
            raise DeploymentFailed(f"endpoint {name} was deleted while it was being created")
        status = description["EndpointStatus"]
        if status in UPDATABLE:
            return
        if status == "Failed":
            raise DeploymentFailed(description.get("FailureReason") or "no reason was given")
        phase, detail = phase_of(api.get_json(f"/_clary/endpoints/{name}"))
        steps.begin(phase)
        steps.detail(detail)
        time.sleep(POLL_S)


def phase_of(endpoint: Mapping[str, Any]) -> tuple[str, str]:
    """Return what an endpoint that is being created is at, for the progress display.

    The slowest instance counts.

    Args:
        endpoint: ``/_clary/endpoints/{name}``.

    Returns:
        A phase, and more about it.
    """
    instances = endpoint["instances"]
    waiting = [i for i in instances if _phase_word(i) != "healthy"]
    if not waiting:
        return ("healthy", "") if instances else ("starting", "")
    healthy = len(instances) - len(waiting)
    word = min((_phase_word(i) for i in waiting), key=_PHASES.index)
    return word, f"{healthy} of {len(instances)} instances are healthy" if healthy else ""


# What a starting instance is busy with (`fleet.instance.Phase`), then its other states.
_PHASES = ("downloading", "environment", "starting", "loading", "unhealthy", "failed", "healthy")


def _phase_word(instance: Mapping[str, Any]) -> str:
    word = instance["phase"] or instance["state"]
    return word if word in _PHASES else "starting"


def remove(api: Api, endpoint: str) -> list[str]:
    """Delete an endpoint and what ``deploy`` made for it.

    Returns:
        Names of the things deleted.

    Raises:
        Refused: There is no endpoint of this name, and nothing that ``deploy`` made for it.
    """
    deleted = []
    missing: Refused | None = None
    try:
        settle(api, endpoint)
        delete_endpoint(api, endpoint)
        deleted.append(f"endpoint {endpoint}")
    except Refused as error:
        if not error.not_found:
            raise
        missing = error
    deleted += delete_made_by_deploy(api, endpoint)
    if missing is not None and not deleted:
        raise missing
    return deleted


def delete_made_by_deploy(api: Api, endpoint: str, *, keep: str = "") -> list[str]:
    """Delete models and configurations tagged with this endpoint; return what was deleted."""
    deleted = []
    for kind, operation, member, parameter in (
        ("configuration", "endpoint_config", "EndpointConfigs", "EndpointConfigName"),
        ("model", "model", "Models", "ModelName"),
    ):
        found = api.pages(
            "sagemaker", f"list_{operation}s", member, NameContains=name_prefix(endpoint)
        )
        for item in found:
            name, arn = item[parameter], item[parameter.removesuffix("Name") + "Arn"]
            if name == keep or _tag(api, arn) != endpoint:
                continue
            api.call("sagemaker", f"delete_{operation}", **{parameter: name})
            deleted.append(f"{kind} {name}")
    return deleted


def settle(api: Api, endpoint: str) -> str:
    """Wait while an endpoint is in the middle of something, and return its status after that.

    Before, it can be neither deleted nor updated.
    """
    while True:
        description = api.call("sagemaker", "describe_endpoint", EndpointName=endpoint)
        status: str = description["EndpointStatus"]
        if status in (*UPDATABLE, "Failed", "OutOfService", "Deleting"):
            return status
        time.sleep(POLL_S)


def delete_endpoint(api: Api, endpoint: str) -> None:
    """Delete an endpoint, where it is, and wait until it is gone."""
    description = find_endpoint(api, endpoint)
    if description is not None and description["EndpointStatus"] != "Deleting":
        api.call("sagemaker", "delete_endpoint", EndpointName=endpoint)
    while find_endpoint(api, endpoint) is not None:
        time.sleep(POLL_S)


def _tag(api: Api, arn: str) -> str | None:
    tags = api.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn)
    return next((tag["Value"] for tag in tags if tag["Key"] == TAG), None)


def log_tail(api: Api, endpoint: str, lines: int) -> str:
    """Return the last lines of an endpoint's log; empty when there is none."""
    try:
        return b"".join(api.stream(f"/_clary/logs/{endpoint}", lines=lines)).decode(
            errors="replace"
        )
    except Refused:
        return ""
