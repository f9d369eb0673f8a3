"""What Application Auto Scaling keeps: targets, policies, scheduled actions, activities.

A target is one number of one thing that may be moved between two bounds. ``DIMENSIONS`` says which
numbers there are; who can read and change one is registered in ``store/scalable_resources.py``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from clary.resources.names import Namespace, partition_of

NAMESPACE = "sagemaker"
"""The one service namespace that exists here."""

VARIANT_INSTANCES = "sagemaker:variant:DesiredInstanceCount"
VARIANT_CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
COMPONENT_COPIES = "sagemaker:inference-component:DesiredCopyCount"

ACTIVITIES_KEPT_S = 42 * 86400
"""Activities are kept for six weeks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A number that can be scaled."""

    pattern: re.Pattern[str]
    """Of resource ids."""

    noun: str
    """What activities call it."""

    metrics: Mapping[str, "PredefinedMetric"]
    """Predefined metrics of policies for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredefinedMetric:
    """What a name of a predefined metric stands for (autoscaling-metrics.md 2)."""

    name: str
    statistic: str
    is_high_resolution: bool = False
    namespace: str = "AWS/SageMaker"


_VARIANT = re.compile(r"endpoint/(?P<EndpointName>[^/]+)/variant/(?P<VariantName>[^/]+)\Z")
_COMPONENT = re.compile(r"inference-component/(?P<InferenceComponentName>[^/]+)\Z")

DIMENSIONS: Mapping[str, Dimension] = {
    VARIANT_INSTANCES: Dimension(
        pattern=_VARIANT,
        noun="desired instance count",
        metrics={
            "SageMakerVariantInvocationsPerInstance": PredefinedMetric(
                name="InvocationsPerInstance", statistic="Sum"
            ),
            "SageMakerVariantConcurrentRequestsPerModelHighResolution": PredefinedMetric(
                name="ConcurrentRequestsPerModel", statistic="Maximum", is_high_resolution=True
            ),
        },
    ),
    VARIANT_CONCURRENCY: Dimension(
        pattern=_VARIANT,
        noun="desired provisioned concurrency",
        metrics={
            "SageMakerVariantProvisionedConcurrencyUtilization": PredefinedMetric(
                name="ServerlessProvisionedConcurrencyUtilization", statistic="Maximum"
            ),
        },
    ),
    COMPONENT_COPIES: Dimension(
        pattern=_COMPONENT,
        noun="desired copy count",
        metrics={
            "SageMakerInferenceComponentInvocationsPerCopy": PredefinedMetric(
                name="InvocationsPerCopy", statistic="Sum"
            ),
            "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": (
                PredefinedMetric(
                    name="ConcurrentRequestsPerCopy", statistic="Maximum", is_high_resolution=True
                )
            ),
        },
    ),
}
"""By ``ScalableDimension``."""


def names_in(dimension: str, resource_id: str) -> dict[str, str]:
    """Return the names in a resource id, as dimensions of metrics; empty: it is none."""
    known = DIMENSIONS.get(dimension)
    match = known.pattern.match(resource_id) if known else None
    return match.groupdict() if match else {}


@dataclass(frozen=True, slots=True, order=True)
class TargetName:
    """What tells targets apart."""

    resource_id: str
    dimension: str

    def words(self) -> str:
        """Return it as AWS's messages name a target."""
        return (
            f"service namespace: {NAMESPACE}, resource ID: {self.resource_id}, "
            f"scalable dimension: {self.dimension}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendedState:
    """What is switched off."""

    scale_in: bool = False
    scale_out: bool = False
    schedules: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """What earlier scaling by policies still holds back."""

    out_at: datetime | None = None
    """When the last scale-out was done."""

    out_added: int = 0
    """What scale-outs have added, each within the cooldown of the one before."""

    in_at: datetime | None = None
    """When the last scale-in was done. None: never, or ended by a scale-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalableTarget:
    """A number of a thing, and between which bounds it may be moved."""

    id: str
    name: TargetName
    min_capacity: int
    max_capacity: int
    role_arn: str
    suspended: SuspendedState = SuspendedState()
    created_at: datetime
    cooling: Cooling = Cooling()
    last_reason: str | None = None
    """Why nothing was scaled when that was last recorded; None once something was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """When and how far to move the number of a target."""

    id: str
    target: TargetName
    target_id: str
    name: str
    type: str
    """``TargetTrackingScaling`` or ``StepScaling``."""

    configuration: Mapping[str, Any]
    """As the request had it, JSON types."""

    alarms: tuple[str, ...] = ()
    """Names of the alarms that belong to a target tracking policy: high, then low."""

    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledAction:
    """Bounds that a target gets at certain times."""

    id: str
    target: TargetName
    target_id: str
    name: str
    schedule: str
    timezone: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    min_capacity: int | None = None
    max_capacity: int | None = None
    created_at: datetime
    next_at: datetime | None
    """When it is due. None: never again."""


class ActivityStatus(StrEnum):
    """As AWS writes them."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    OVERRIDDEN = "Overridden"
    UNFULFILLED = "Unfulfilled"
    FAILED = "Failed"


OPEN = (ActivityStatus.PENDING, ActivityStatus.IN_PROGRESS)
"""Statuses of activities that somebody has still to bring to their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingActivity:
    """Something that was done to a target, or why it was not."""

    id: str
    target: TargetName
    target_id: str
    description: str
    cause: str
    status: ActivityStatus
    status_message: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    not_scaled: Sequence[Mapping[str, Any]] = field(default=())
    """``NotScaledReasons``: only of one that did nothing."""

    capacity: int | None = None
    """What is to become of the number. None: it is not about the number."""

    previous: int | None = None
    """What the number was before."""

    by_policy: bool = False
    """Whether a policy wanted it, so that cooldowns begin with it."""


def target_arn(namespace: Namespace, target_id: str) -> str:
    """Return the ARN of a target."""
    return (
        f"arn:{partition_of(namespace.region)}:application-autoscaling:{namespace.region}:"
        f"{namespace.account}:scalable-target/{target_id}"
    )


def policy_arn(namespace: Namespace, policy: ScalingPolicy) -> str:
    """Return the ARN of a policy: what alarms name as their action."""
    return (
        f"arn:{partition_of(namespace.region)}:autoscaling:{namespace.region}:{namespace.account}:"
        f"scalingPolicy:{policy.id}:resource/{NAMESPACE}/{policy.target.resource_id}:"
        f"policyName/{policy.name}"
    )


def scheduled_action_arn(namespace: Namespace, action: ScheduledAction) -> str:
    """Return the ARN of a scheduled action."""
    return (
        f"arn:{partition_of(namespace.region)}:autoscaling:{namespace.region}:{namespace.account}:"
        f"scheduledAction:{action.id}:resource/{NAMESPACE}/{action.target.resource_id}:"
        f"scheduledActionName/{action.name}"
    )


def policy_id_of(arn: str) -> str | None:
    """Return the id of the policy that an alarm's action names; None: it names none."""
    parts = arn.split(":")
    is_policy = len(parts) > 6 and parts[2] == "autoscaling" and parts[5] == "scalingPolicy"
    return parts[6] if is_policy else None
