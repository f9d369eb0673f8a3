"""GetMetricStatistics and ListMetrics."""

from datetime import datetime, timedelta
from typing import Any

from clary.api.cloudwatch.pages import cut_page
from clary.api.cloudwatch.refusals import InvalidCombination, MissingParameter
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.metrics.key import MetricKey
from clary.metrics.statistics import parse_statistic

MAX_DATAPOINTS = 1440
LIST_PAGE = 500
RECENT = timedelta(hours=3)
FINE_PERIODS_S = (1, 5, 10, 20, 30)


@operation("cloudwatch", "GetMetricStatistics")
async def get_metric_statistics(call: Call, request: Request) -> Reply:
    simple, extended = request.get("Statistics", []), request.get("ExtendedStatistics", [])
    if not simple and not extended:
        raise MissingParameter("The parameter Statistics or ExtendedStatistics is required.")
    if simple and extended:
        raise InvalidCombination(
            "The parameters Statistics and ExtendedStatistics are mutually exclusive and you have "
            "specified both."
        )
    for name in extended:
        parse_statistic(name)
    period_s = checked_period(request["Period"], "Period")
    start, end = request["StartTime"], request["EndTime"]
    if start >= end:
        raise InvalidRequest("The parameter StartTime must be less than the parameter EndTime.")
    start = _rounded(start, period_s, call.backend.clock.now())
    count = int((end - start).total_seconds() / period_s)
    if count > MAX_DATAPOINTS:
        raise InvalidCombination(
            f"You have requested up to {count:,} datapoints, which exceeds the limit of "
            f"{MAX_DATAPOINTS:,}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )
    metrics = call.backend.metrics
    key = metric_key(request["Namespace"], request["MetricName"], request.get("Dimensions", ()))
    points: list[dict[str, Any]] = []
    for unit in [request["Unit"]] if "Unit" in request else metrics.units(key):
        for at, values in await metrics.statistics(
            key,
            start=start,
            end=end,
            period_s=period_s,
            statistics=[*simple, *extended],
            unit=unit,
            begins_at_start=True,
        ):
            shown: dict[str, Any] = {name: values[name] for name in simple}
            if extended:
                shown["ExtendedStatistics"] = values
            points.append({"Timestamp": at, **shown, "Unit": unit})
    return {"Label": request["MetricName"], "Datapoints": points}


@operation("cloudwatch", "ListMetrics")
async def list_metrics(call: Call, request: Request) -> Reply:
    since = None
    if request.get("RecentlyActive") == "PT3H":
        since = call.backend.clock.now() - RECENT
    keys = await call.backend.metrics.list_metrics(
        namespace=request.get("Namespace"),
        name=request.get("MetricName"),
        dimensions=[(each["Name"], each.get("Value")) for each in request.get("Dimensions", ())],
        active_since=since,
    )
    page, following = cut_page(
        keys, request.get("NextToken"), LIST_PAGE, lambda key: [key.namespace, key.name,
                                                                [list(d) for d in key.dimensions]]
    )  # fmt: skip
    listed = [
        {"Namespace": key.namespace, "MetricName": key.name, "Dimensions": dimension_list(key)}
        for key in page
    ]
    return {"Metrics": listed, "NextToken": following}


def metric_key(namespace: str, name: str, dimensions: Any) -> MetricKey:
    """Return the metric that a request names."""
    return MetricKey.of(namespace, name, {each["Name"]: each["Value"] for each in dimensions})


def dimension_list(key: MetricKey) -> list[dict[str, str]]:
    """Return a metric's dimensions as replies have them."""
    return [{"Name": name, "Value": value} for name, value in key.dimensions]


def checked_period(period_s: int, where: str) -> int:
    """Return a period.

    Raises:
        InvalidRequest: It is none of CloudWatch's.
    """
    if period_s not in FINE_PERIODS_S and (period_s <= 0 or period_s % 60):
        raise InvalidRequest(
            f"The value {period_s} for parameter {where} is invalid. It must be 1, 5, 10, 20, 30, "
            "or a multiple of 60."
        )
    return period_s


def _rounded(start: datetime, period_s: int, now: datetime) -> datetime:
    """Round a start as CloudWatch does: to the finest data that there is of its age."""
    age = now - start
    if age > timedelta(days=63):
        step_s = 3600
    elif age > timedelta(days=15):
        step_s = 300
    else:
        step_s = period_s if period_s in FINE_PERIODS_S else 60
    seconds = int(start.timestamp())
    return datetime.fromtimestamp(seconds - seconds % step_s, start.tzinfo)
