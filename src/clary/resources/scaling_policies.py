"""Configurations of scaling policies: what they say, and what they may not say.

Pure. The API checks with it before anything is stored; control reads with it what was stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from typing import Any

from clary.errors import InvalidRequest
from clary.resources.scaling import DIMENSIONS, PredefinedMetric, TargetName, names_in

TARGET_TRACKING = "TargetTrackingScaling"
STEP = "StepScaling"
DEFAULT_COOLDOWN_S = 300
"""Of all dimensions of SageMaker, out and in."""

MAX_STEPS = 20
MAX_METRICS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTracking:
    """Keep a metric near a value."""

    target: float
    out_cooldown_s: int = DEFAULT_COOLDOWN_S
    in_cooldown_s: int = DEFAULT_COOLDOWN_S
    may_scale_in: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far to go when the metric lies so far from the alarm's threshold."""

    lower: float
    upper: float
    adjustment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScaling:
    """Go as far as the steps say."""

    adjustment_type: str
    steps: tuple[Step, ...]
    min_magnitude: int = 0
    cooldown_s: int = DEFAULT_COOLDOWN_S


Rule = TargetTracking | StepScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedMetric:
    """What the alarms of a target tracking policy watch."""

    namespace: str = ""
    name: str = ""
    dimensions: tuple[tuple[str, str], ...] = ()
    statistic: str = ""
    unit: str | None = None
    queries: tuple[Mapping[str, Any], ...] = ()
    """``MetricDataQueries`` instead of all of these: metric math."""

    is_high_resolution: bool = False


def parse_policy(policy_type: str, configuration: Mapping[str, Any], target: TargetName) -> Rule:
    """Read and check a configuration.

    Raises:
        InvalidRequest: It contradicts itself, or does not fit the target.
    """
    if policy_type == STEP:
        return parse_steps(configuration)
    rule = parse_tracking(configuration)
    tracked_metric(configuration, target)
    return rule


def parse_tracking(configuration: Mapping[str, Any]) -> TargetTracking:
    """Read and check what a target tracking policy says, but for its metric."""
    target = configuration["TargetValue"]
    if not isfinite(target) or target <= 0:
        raise InvalidRequest(f"TargetValue must be a finite number above 0; it is {target}.")
    return TargetTracking(
        target=target,
        out_cooldown_s=_cooldown(configuration, "ScaleOutCooldown"),
        in_cooldown_s=_cooldown(configuration, "ScaleInCooldown"),
        may_scale_in=not configuration.get("DisableScaleIn", False),
    )


def tracked_metric(configuration: Mapping[str, Any], target: TargetName) -> TrackedMetric:
    """Return the metric of a target tracking policy.

    Raises:
        InvalidRequest: There is none, or more than one, or it is none of this target's.
    """
    predefined = configuration.get("PredefinedMetricSpecification")
    customized = configuration.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        raise InvalidRequest(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must "
            "be specified."
        )
    if predefined is not None:
        return _predefined(predefined, target)
    return _customized(customized or {})


def same_metric(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two target tracking policies watch the same, which AWS allows only one to do."""
    names = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
    return all(one.get(name) == other.get(name) for name in names)


def _predefined(specification: Mapping[str, Any], target: TargetName) -> TrackedMetric:
    name = specification["PredefinedMetricType"]
    known: Mapping[str, PredefinedMetric] = DIMENSIONS[target.dimension].metrics
    if name not in known:
        raise InvalidRequest(
            f"Predefined metric type {name} is not supported for scalable dimension "
            f"{target.dimension}. Supported: {', '.join(known)}."
        )
    if specification.get("ResourceLabel"):
        raise InvalidRequest(f"ResourceLabel cannot be specified for metric type {name}.")
    metric = known[name]
    names = names_in(target.dimension, target.resource_id)
    return TrackedMetric(
        namespace=metric.namespace,
        name=metric.name,
        dimensions=tuple(sorted(names.items())),
        statistic=metric.statistic,
        is_high_resolution=metric.is_high_resolution,
    )


def _customized(specification: Mapping[str, Any]) -> TrackedMetric:
    queries = specification.get("Metrics")
    single = [name for name in ("MetricName", "Namespace", "Statistic") if name in specification]
    if queries:
        if single or "Dimensions" in specification:
            raise InvalidRequest(
                "CustomizedMetricSpecification takes either Metrics, or MetricName, Namespace and "
                "Statistic."
            )
        return TrackedMetric(queries=_check_queries(queries))
    if len(single) < 3:
        raise InvalidRequest(
            "CustomizedMetricSpecification must have MetricName, Namespace and Statistic, or "
            "Metrics."
        )
    dimensions = specification.get("Dimensions", ())
    return TrackedMetric(
        namespace=specification["Namespace"],
        name=specification["MetricName"],
        dimensions=tuple(sorted((d["Name"], d["Value"]) for d in dimensions)),
        statistic=specification["Statistic"],
        unit=specification.get("Unit"),
    )


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    if len(queries) > MAX_METRICS:
        raise InvalidRequest(f"At most {MAX_METRICS} Metrics can be specified.")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("The Ids of Metrics must be unique.")
    for query in queries:
        if ("Expression" in query) == ("MetricStat" in query):
            raise InvalidRequest(
                f"Metric {query['Id']} must have exactly one of Expression and MetricStat."
            )
    returned = [query for query in queries if query.get("ReturnData", True)]
    if len(returned) != 1:
        raise InvalidRequest(
            f"Exactly one of Metrics must have ReturnData true; {len(returned)} have."
        )
    return tuple(queries)


def parse_steps(configuration: Mapping[str, Any]) -> StepScaling:
    """Read and check a step scaling configuration (autoscaling-metrics.md 3)."""
    adjustment_type = configuration.get("AdjustmentType")
    adjustments = configuration.get("StepAdjustments") or ()
    if adjustment_type is None:
        raise InvalidRequest("AdjustmentType must be specified.")
    if not adjustments:
        raise InvalidRequest("There must be at least one step adjustment.")
    if len(adjustments) > MAX_STEPS:
        raise InvalidRequest(f"There can be at most {MAX_STEPS} step adjustments.")
    magnitude = configuration.get("MinAdjustmentMagnitude")
    if magnitude is not None and adjustment_type != "PercentChangeInCapacity":
        raise InvalidRequest(
            "MinAdjustmentMagnitude can only be specified with PercentChangeInCapacity."
        )
    if magnitude is not None and magnitude < 1:
        raise InvalidRequest("MinAdjustmentMagnitude must be 1 or more.")
    steps = tuple(_parse_step(a, adjustment_type) for a in adjustments)
    _check_intervals(steps)
    return StepScaling(
        adjustment_type=adjustment_type,
        steps=steps,
        min_magnitude=magnitude or 0,
        cooldown_s=_cooldown(configuration, "Cooldown"),
    )


def _parse_step(adjustment: Mapping[str, Any], adjustment_type: str) -> Step:
    lower, upper = (
        adjustment.get("MetricIntervalLowerBound"),
        adjustment.get("MetricIntervalUpperBound"),
    )
    if lower is None and upper is None:
        # One step for all: AWS's documents refuse it, Terraform's examples need a bound too.
        raise InvalidRequest(
            "At least one of MetricIntervalLowerBound and MetricIntervalUpperBound must be "
            "specified in a step adjustment."
        )
    step = Step(
        lower=-inf if lower is None else lower,
        upper=inf if upper is None else upper,
        adjustment=adjustment["ScalingAdjustment"],
    )
    if not step.lower < step.upper:
        raise InvalidRequest(
            "MetricIntervalLowerBound must be less than MetricIntervalUpperBound in a step "
            "adjustment."
        )
    if adjustment_type == "ExactCapacity" and step.adjustment < 0:
        raise InvalidRequest("ScalingAdjustment must be 0 or more with ExactCapacity.")
    return step


def _check_intervals(steps: Iterable[Step]) -> None:
    ordered = sorted(steps, key=lambda step: step.lower)
    for before, after in pairwise(ordered):
        if before.upper > after.lower:
            raise InvalidRequest("Step adjustment intervals can't overlap.")
        if before.upper < after.lower:
            raise InvalidRequest("Step adjustment intervals can't have a gap between them.")
    first, last = ordered[0], ordered[-1]
    if -inf < first.lower < 0:
        raise InvalidRequest(
            "There must be a step adjustment with an unspecified lower bound when there is a "
            "negative lower bound."
        )
    if 0 < last.upper < inf:
        raise InvalidRequest(
            "There must be a step adjustment with an unspecified upper bound when there is a "
            "positive upper bound."
        )


def _cooldown(configuration: Mapping[str, Any], name: str) -> int:
    value = configuration.get(name, DEFAULT_COOLDOWN_S)
    if not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{name} must be 0 or more seconds; it is {value}.")
    return value
