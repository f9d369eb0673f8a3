"""GetMetricData."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from clary.api.cloudwatch.metric_statistics import checked_period, metric_key
from clary.api.cloudwatch.pages import make_token, read_token
from clary.api.cloudwatch.refusals import InvalidToken
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.metrics.expressions import MetricQuery, MetricStat, Result, evaluate_all
from clary.metrics.statistics import parse_statistic

MAX_QUERIES = 500
MAX_DATAPOINTS = 100_800
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")


@operation("cloudwatch", "GetMetricData")
async def get_metric_data(call: Call, request: Request) -> Reply:
    start, end = request["StartTime"], request["EndTime"]
    if start >= end:
        raise InvalidRequest("The parameter StartTime must be less than the parameter EndTime.")
    limit = request.get("MaxDatapoints", MAX_DATAPOINTS)
    if not 1 <= limit <= MAX_DATAPOINTS:
        raise InvalidRequest(f"The value {limit} for parameter MaxDatapoints is invalid.")
    queries = read_queries(request["MetricDataQueries"])
    wanted = [
        query["Id"] for query in request["MetricDataQueries"] if query.get("ReturnData", True)
    ]
    results = await evaluate_all(
        call.backend.metrics, queries, _down(start, queries), end, wanted=wanted
    )
    skipped = _offset(request.get("NextToken"))
    is_ascending = request.get("ScanBy") == "TimestampAscending"
    page: list[dict[str, Any]] = []
    position = 0
    for id, found in results.items():
        for one in found:
            first = max(skipped - position, 0)
            points = one.points if is_ascending else one.points[::-1]
            room = skipped + limit - position
            shown = points[first : max(room, 0)]
            position += len(points)
            if shown or (not points and skipped == 0):
                page.append(_shown(id, one, shown, is_whole=len(points) <= room))
    following = make_token(skipped + limit) if position > skipped + limit else None
    return {"MetricDataResults": page, "NextToken": following, "Messages": []}


def read_queries(given: Sequence[Mapping[str, Any]]) -> list[MetricQuery]:
    """Return queries as values; alarms and policies have them in the same form.

    Raises:
        InvalidRequest: They are wrong; expressions are read later.
    """
    if len(given) > MAX_QUERIES:
        raise InvalidRequest(
            f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}."
        )
    ids = [query["Id"] for query in given]
    if len(set(ids)) != len(ids):
        raise InvalidRequest("The values for parameter id in MetricDataQueries are not unique.")
    return [
        _query(query, f"MetricDataQueries.member.{index}") for index, query in enumerate(given, 1)
    ]


def _query(given: Mapping[str, Any], where: str) -> MetricQuery:
    if _ID.fullmatch(given["Id"]) is None:
        raise InvalidRequest(f"The value {given['Id']} for parameter {where}.Id is invalid.")
    stat, expression = given.get("MetricStat"), given.get("Expression")
    if (stat is None) == (expression is None):
        how = "specified both" if stat is not None else "specified neither"
        raise InvalidRequest(
            f"The parameters {where}.MetricStat and {where}.Expression are mutually exclusive and "
            f"you have {how}."
        )
    period_s = given.get("Period")
    if period_s is not None:
        checked_period(period_s, f"{where}.Period")
    metric = None
    if stat is not None:
        named = stat["Metric"]
        if "Namespace" not in named or "MetricName" not in named:
            raise InvalidRequest(
                f"The parameters {where}.MetricStat.Metric.Namespace and MetricName are required."
            )
        parse_statistic(stat["Stat"])
        metric = MetricStat(
            key=metric_key(named["Namespace"], named["MetricName"], named.get("Dimensions", ())),
            period_s=checked_period(stat["Period"], f"{where}.MetricStat.Period"),
            statistic=stat["Stat"],
            unit=stat.get("Unit"),
        )
    return MetricQuery(
        id=given["Id"],
        metric=metric,
        expression=expression,
        period_s=period_s,
        label=given.get("Label"),
    )


def _down(start: datetime, queries: Sequence[MetricQuery]) -> datetime:
    """Round the start down to the longest period, so that no first period is left out."""
    longest = max((q.metric.period_s for q in queries if q.metric is not None), default=1)
    seconds = int(start.timestamp())
    return datetime.fromtimestamp(seconds - seconds % longest, UTC)


def _offset(token: str | None) -> int:
    """Return how many data points the pages before had."""
    offset = 0 if token is None else read_token(token)
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise InvalidToken("The token is invalid.")
    return offset


def _shown(
    id: str, result: Result, points: Sequence[tuple[datetime, float]], *, is_whole: bool
) -> dict[str, Any]:
    return {
        "Id": id,
        "Label": result.label,
        "Timestamps": [at for at, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if is_whole else "PartialData",
    }
