"""Events in EventBridge's shape, for code that reads AWS's (contract: autoscaling-metrics.md 9).

What a store writes down may leave out what is the same for all events of this server, and ARNs;
``complete`` adds them when the event is delivered.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clary.resources.endpoint import VariantState
from clary.resources.names import Namespace, ResourceKind

ENDPOINT = "SageMaker Endpoint State Change"
DEPLOYMENT = "SageMaker Endpoint Deployment State Change"
TRANSFORM_JOB = "SageMaker Transform Job State Change"

_SOURCE = "aws.sagemaker"
_NAMED = {"Endpoint": ResourceKind.ENDPOINT, "TransformJob": ResourceKind.TRANSFORM_JOB}
"""Whom an event can tell of, by the beginning of the members that name it."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def upper_snake(status: str) -> str:
    """Return a status as events spell it: ``InService`` is ``IN_SERVICE``."""
    return _HUMP.sub("_", status).upper()


def epoch_ms(at: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return round(at.timestamp() * 1000)


def endpoint_event(
    name: str,
    *,
    config_name: str,
    status: str,
    variants: Sequence[VariantState],
    shadow_variants: Sequence[VariantState],
    failure_reason: str | None,
    created_at: datetime,
    modified_at: datetime,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return the event of an endpoint that has come to a status."""
    detail: dict[str, Any] = {
        "EndpointName": name,
        "EndpointConfigName": config_name,
        "ProductionVariants": [_variant(state) for state in variants],
        "EndpointStatus": upper_snake(status),
        "CreationTime": epoch_ms(created_at),
        "LastModifiedTime": epoch_ms(modified_at),
        "Tags": dict(tags),
    }
    if shadow_variants:
        detail["ShadowProductionVariants"] = [_variant(state) for state in shadow_variants]
    if failure_reason:
        detail["FailureReason"] = failure_reason
    return {"detail-type": ENDPOINT, "time": _stamp(modified_at), "detail": detail}


def deployment_event(
    of_endpoint: Mapping[str, Any],
    *,
    pending: Mapping[str, Any],
    statuses: Mapping[str, Sequence[Mapping[str, Any]]],
    at: datetime,
) -> dict[str, Any]:
    """Return the event of a deployment that has come further.

    Args:
        of_endpoint: The endpoint's own event, as it is now.
        pending: PendingDeploymentSummary as DescribeEndpoint has it.
        statuses: ``VariantStatus`` of the endpoint's variants, by name.
        at: When it came further.
    """
    detail = dict(of_endpoint["detail"])
    detail["ProductionVariants"] = [
        {**variant, "VariantStatus": _plain(statuses.get(variant["VariantName"], ()))}
        for variant in detail["ProductionVariants"]
    ]
    detail["PendingDeploymentSummary"] = _plain(pending)
    return {"detail-type": DEPLOYMENT, "time": _stamp(at), "detail": detail}


def transform_job_event(
    name: str,
    *,
    status: str,
    definition: Mapping[str, Any],
    failure_reason: str | None,
    created_at: datetime,
    started_at: datetime | None,
    ended_at: datetime | None,
    at: datetime,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return the event of a transform job that has come to a status.

    Args:
        name: Of the job.
        status: As the API spells it, for so do AWS's events of jobs.
        definition: Members of CreateTransformJob, besides name and tags.
        failure_reason: Why it failed.
        created_at: When it was asked for.
        started_at: When its data began to move.
        ended_at: When it ended.
        at: When it came to the status.
        tags: Of the job.
    """
    detail: dict[str, Any] = {
        "TransformJobName": name,
        "TransformJobStatus": status,
        **_plain(definition),
        "CreationTime": epoch_ms(created_at),
        "Tags": dict(tags),
    }
    if failure_reason:
        detail["FailureReason"] = failure_reason
    if started_at is not None:
        detail["TransformStartTime"] = epoch_ms(started_at)
    if ended_at is not None:
        detail["TransformEndTime"] = epoch_ms(ended_at)
    return {"detail-type": TRANSFORM_JOB, "time": _stamp(at), "detail": detail}


def complete(event: Mapping[str, Any], *, event_id: str, namespace: Namespace) -> dict[str, Any]:
    """Return an event with all members that EventBridge's have."""
    detail = dict(event["detail"])
    resources: list[str] = []
    for member, kind in _NAMED.items():
        if f"{member}Name" in detail:
            arn = namespace.arn(kind, detail[f"{member}Name"])
            detail.setdefault(f"{member}Arn", arn)
            resources = [arn]
    return {
        "version": "0",
        "id": event_id,
        "source": _SOURCE,
        "account": namespace.account,
        "region": namespace.region,
        "resources": resources,
        **event,
        "detail": detail,
    }


def _variant(state: VariantState) -> dict[str, Any]:
    shown = {
        "VariantName": state.name,
        "DesiredWeight": state.desired_weight,
        "CurrentWeight": state.current_weight,
    }
    if state.serverless is not None:
        return shown  # its count is of hosts, which nobody asked for
    return {
        **shown,
        "DesiredInstanceCount": state.desired_count,
        "CurrentInstanceCount": state.current_count,
    }


def _plain(value: Any) -> Any:
    """Return a described value with its times as numbers."""
    if isinstance(value, datetime):
        return epoch_ms(value)
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(member) for member in value]
    return value


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
