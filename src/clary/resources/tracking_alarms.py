"""The alarms of a target tracking policy: what ``DescribeAlarms`` shows of it.

Two for each policy, or one where it may not scale in. Thresholds and counts are what is seen of
AWS's (autoscaling-metrics.md 2).
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.resources.names import Namespace
from clary.resources.scaling import ScalingPolicy, TargetName, policy_arn
from clary.resources.scaling_policies import parse_tracking, tracked_metric

LOW_FRACTION = 0.9
"""The low alarm's threshold, as a fraction of the target value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPeriods:
    """How long, and how often, a metric has to be off its target."""

    period_s: int = 60
    high_resolution_period_s: int = 10
    out_periods: int = 3
    in_periods: int = 15


def name_alarms(target: TargetName, *, may_scale_in: bool) -> tuple[str, ...]:
    """Return new names: of the high alarm, and of the low one where there is one."""
    kinds = ("AlarmHigh", "AlarmLow") if may_scale_in else ("AlarmHigh",)
    return tuple(f"TargetTracking-{target.resource_id}-{kind}-{uuid.uuid4()}" for kind in kinds)


def define_alarms(
    policy: ScalingPolicy, namespace: Namespace, periods: AlarmPeriods
) -> dict[str, dict[str, Any]]:
    """Return the definitions of a policy's alarms, as PutMetricAlarm takes them, by name."""
    rule = parse_tracking(policy.configuration)
    arn = policy_arn(namespace, policy)
    metric = tracked_metric(policy.configuration, policy.target)
    period_s = periods.high_resolution_period_s if metric.is_high_resolution else periods.period_s
    watched: dict[str, Any]
    if metric.queries:
        watched = {"Metrics": [_query(query, period_s) for query in metric.queries]}
    else:
        watched = {
            "Namespace": metric.namespace,
            "MetricName": metric.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
            "Statistic": metric.statistic,
            "Period": period_s,
        }
        if metric.unit is not None:
            watched["Unit"] = metric.unit
    common = {
        **watched,
        "AlarmDescription": (f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {arn}."),
        "ActionsEnabled": True,
        "AlarmActions": [arn],
        "OKActions": [],
        "InsufficientDataActions": [],
    }
    sides = (
        ("GreaterThanThreshold", rule.target, periods.out_periods),
        ("LessThanThreshold", rule.target * LOW_FRACTION, periods.in_periods),
    )
    return {
        name: {
            **common,
            "ComparisonOperator": comparison,
            "Threshold": threshold,
            "EvaluationPeriods": count,
        }
        for name, (comparison, threshold, count) in zip(policy.alarms, sides, strict=False)
    }


def _query(query: Mapping[str, Any], period_s: int) -> dict[str, Any]:
    """Return a query as alarms have it: with a period, which those of policies lack."""
    if "MetricStat" not in query:
        return dict(query)
    return {**query, "MetricStat": {"Period": period_s, **query["MetricStat"]}}
