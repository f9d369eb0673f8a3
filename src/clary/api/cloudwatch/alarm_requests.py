"""What PutMetricAlarm and PutCompositeAlarm may say: checked, in CloudWatch's words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from clary.api.cloudwatch.metric_data import read_queries
from clary.api.cloudwatch.refusals import InvalidCombination, MissingParameter
from clary.api.operations import Request
from clary.errors import InvalidRequest
from clary.metrics.expressions import check_queries
from clary.metrics.statistics import parse_statistic
from clary.resources.alarm import ACTION_MEMBERS, alarm_name
from clary.resources.alarm_expression import children, parse_rule

FINE_PERIODS_S = (10, 20, 30)
MAX_RANGE_S = 86400
MAX_LONG_RANGE_S = 7 * 86400
LONG_PERIOD_S = 3600
MAX_QUERIES = 10
SUPPRESSOR_PERIODS = ("ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")

_OF_A_METRIC = (
    "MetricName",
    "Namespace",
    "Dimensions",
    "Period",
    "Unit",
    "Statistic",
    "ExtendedStatistic",
)
_STATIC = (
    "GreaterThanOrEqualToThreshold",
    "GreaterThanThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
)
_NOT_BUILT = (
    "EvaluationCriteria",
    "EvaluationInterval",
    "ThresholdMetricId",
    "WarmUpConfiguration",
    "ActionConfiguration",
)
_ARN = re.compile(r"arn:[a-z0-9-]+:[a-z0-9-]+:[^:]*:[^:]*:.+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_metric_alarm(request: Request) -> None:
    """Refuse an alarm that could not be judged.

    Raises:
        InvalidRequest: Naming the parameter.
    """
    _check_common(request)
    for name in _NOT_BUILT:
        if name in request:
            raise InvalidRequest(f"{name} is not built in this version of Clary.")
    if "WallClockWindow" in request.get("EvaluationWindow", {}):
        raise InvalidRequest("EvaluationWindow can only be a SlidingWindow here.")
    for name in ("EvaluationPeriods", "ComparisonOperator"):
        _require(request, name)
    if request["ComparisonOperator"] not in _STATIC:
        raise InvalidRequest(
            f"ComparisonOperator {request['ComparisonOperator']} is for anomaly detection, which "
            "is not built in this version of Clary."
        )
    _require(request, "Threshold")
    period_s = _check_queries(request) if request.get("Metrics") else _check_metric(request)
    _check_periods(request, period_s)
    _check_choice(request, "TreatMissingData", ("missing", "ignore", "breaching", "notBreaching"))
    _check_choice(request, "EvaluateLowSampleCountPercentile", ("evaluate", "ignore"))
    if "EvaluateLowSampleCountPercentile" in request and not _is_percentile(request):
        raise InvalidRequest(
            "Invalid parameter combination: EvaluateLowSampleCountPercentile can only be used with "
            "a percentile."
        )


def check_composite_alarm(request: Request) -> Sequence[str]:
    """Refuse a rule that says nothing; return the names of all alarms that it needs.

    Raises:
        InvalidRequest: Saying what is wrong with it.
    """
    _check_common(request)
    if "ActionConfiguration" in request:
        raise InvalidRequest("ActionConfiguration is not built in this version of Clary.")
    for value in ACTION_MEMBERS.values():
        for arn in request.get(value, ()):
            if arn.split(":")[2] in ("autoscaling", "automate", "swf"):
                raise InvalidRequest(f"Invalid action for a composite alarm: {arn}")
    names = list(children(parse_rule(request["AlarmRule"])))
    suppressor = request.get("ActionsSuppressor")
    for name in SUPPRESSOR_PERIODS:
        if suppressor and name not in request:
            raise MissingParameter(f"{name} is required when ActionsSuppressor is specified.")
        if not suppressor and name in request:
            raise InvalidRequest(f"{name} can only be used with an ActionsSuppressor.")
        if request.get(name, 0) < 0:
            raise InvalidRequest(f"{name} must be 0 or more; it is {request[name]}.")
    if suppressor:
        names.append(alarm_name(suppressor))
    return names


def _check_common(request: Request) -> None:
    if _CONTROL.search(request["AlarmName"]):
        raise InvalidRequest("AlarmName must not contain control characters.")
    for member in ACTION_MEMBERS.values():
        for arn in request.get(member, ()):
            if not _ARN.fullmatch(arn):
                raise InvalidRequest(f"Invalid arn syntax: {arn}")


def _check_metric(request: Request) -> int:
    for name in ("MetricName", "Namespace", "Period"):
        _require(request, name)
    if "Statistic" in request and "ExtendedStatistic" in request:
        raise InvalidCombination(
            "The parameters Statistic and ExtendedStatistic are mutually exclusive and you have "
            "specified both."
        )
    if "Statistic" not in request and "ExtendedStatistic" not in request:
        raise MissingParameter("Either Statistic or ExtendedStatistic is required.")
    if "ExtendedStatistic" in request:
        parse_statistic(request["ExtendedStatistic"])
    _check_dimensions(request.get("Dimensions", ()))
    return int(request["Period"])


def _check_queries(request: Request) -> int:
    for name in _OF_A_METRIC:
        if name in request:
            raise InvalidCombination(
                f"The parameters {name} and Metrics are mutually exclusive and you have specified "
                "both."
            )
    queries: Sequence[Mapping[str, Any]] = request["Metrics"]
    if sum(1 for query in queries if query.get("ReturnData", True)) != 1:
        raise InvalidRequest("Exactly one element of the metrics list should return data.")
    if len(queries) > MAX_QUERIES:
        raise InvalidRequest(f"Metrics has at most {MAX_QUERIES} elements.")
    values = read_queries(queries)
    check_queries(values)
    if not any(value.metric is not None for value in values):
        raise InvalidRequest("Metrics must have at least one metric.")
    periods = {value.metric.period_s if value.metric else value.period_s for value in values}
    periods.discard(None)
    if len(periods) > 1:
        raise InvalidRequest("All elements of Metrics must have the same period.")
    return next(value.metric.period_s for value in values if value.metric is not None)


def _check_periods(request: Request, period_s: int) -> None:
    if period_s not in FINE_PERIODS_S and period_s % 60:
        raise InvalidRequest("Period must be 10, 20, 30 or a multiple of 60")
    periods = request["EvaluationPeriods"]
    if request.get("DatapointsToAlarm", 1) > periods:
        raise InvalidRequest(
            f"DatapointsToAlarm ({request['DatapointsToAlarm']}) must be less than or equal to "
            f"EvaluationPeriods ({periods})."
        )
    limit_s = MAX_RANGE_S if period_s < LONG_PERIOD_S else MAX_LONG_RANGE_S
    if periods * period_s > limit_s:
        raise InvalidRequest(
            "Metrics cannot be checked across more than "
            f"{'a day' if limit_s == MAX_RANGE_S else 'seven days'} (EvaluationPeriods * Period "
            f"must be <= {limit_s})."
        )


def _check_dimensions(dimensions: Sequence[Mapping[str, str]]) -> None:
    names = [dimension["Name"] for dimension in dimensions]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"Dimension names must be unique; {name} is there twice.")


def _check_choice(request: Request, name: str, allowed: Sequence[str]) -> None:
    value = request.get(name)
    if value is not None and value not in allowed:
        raise InvalidRequest(
            f"Option {value} is not supported for {name}; supported: {', '.join(allowed)}."
        )


def _is_percentile(request: Request) -> bool:
    statistics = [request.get("ExtendedStatistic", "")]
    statistics += [q["MetricStat"]["Stat"] for q in request.get("Metrics", ()) if "MetricStat" in q]
    return any(statistic.startswith("p") for statistic in statistics)


def _require(request: Request, name: str) -> None:
    if name not in request:
        raise MissingParameter(f"The parameter {name} is required.")
