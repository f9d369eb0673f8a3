"""What tests of Application Auto Scaling share."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import Server, wait_for

DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def names(endpoint: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
        "ScalableDimension": DIMENSION,
    }


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return code and message of a refusal."""
    with pytest.raises(ClientError) as error:
        call()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    found = error.value.response["Error"]
    return found["Code"], found["Message"]


def activities(scaling: Any, resource: dict[str, str], **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scaling.describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=resource["ResourceId"], **more
    )["ScalingActivities"]
    return found


def wait_for_activities(
    scaling: Any, resource: dict[str, str], count: int, **more: Any
) -> list[dict[str, Any]]:
    """Wait until there are so many, none of them under way, and return them."""

    def settled() -> bool:
        found = activities(scaling, resource, **more)
        return len(found) >= count and all(
            a["StatusCode"] not in ("Pending", "InProgress") for a in found
        )

    wait_for(settled, timeout_s=30, what=f"{count} activities to end")
    return activities(scaling, resource, **more)


def desired_count(server: Server, resource: dict[str, str]) -> int:
    endpoint = resource["ResourceId"].split("/")[1]
    described = server.sagemaker.describe_endpoint(EndpointName=endpoint)
    return int(described["ProductionVariants"][0]["DesiredInstanceCount"])
