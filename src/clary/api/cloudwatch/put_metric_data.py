"""PutMetricData: from its four forms to values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from clary.api.cloudwatch.refusals import InvalidCombination, MissingParameter
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.metrics.key import MetricKey
from clary.metrics.series import NO_UNIT, MetricPoint
from clary.metrics.statistics import StatisticSet

MAX_METRICS = 1000
MAX_VALUES = 150
LARGEST = 2.0**360
OLDEST = timedelta(weeks=2)
NEWEST = timedelta(hours=2)
FORMS = ("Value", "Values", "StatisticValues")


@operation("cloudwatch", "PutMetricData")
async def put_metric_data(call: Call, request: Request) -> Reply:
    namespace = request["Namespace"]
    if namespace.startswith("AWS/"):
        raise InvalidRequest(f"The value {namespace} for parameter Namespace is invalid.")
    now = call.backend.clock.now()
    points = []
    for where, datum in _all_data(request):
        at = _timestamp(datum, where, now)
        resolution_s = _resolution(datum, where)
        key = MetricKey.of(namespace, datum["MetricName"], _dimensions(datum, where))
        points += [
            MetricPoint(
                key=key,
                at=at,
                values=values,
                unit=datum.get("Unit") or NO_UNIT,
                resolution_s=resolution_s,
            )
            for values in _values(datum, where)
        ]
    await call.backend.metrics.put(points)
    return {}


def _all_data(request: Request) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give each datum with its place, for messages. Those of entities are data like any other."""
    data = list(request.get("MetricData", ()))
    for index, datum in enumerate(data, 1):
        yield f"MetricData.member.{index}", datum
    count = len(data)
    for number, entity in enumerate(request.get("EntityMetricData", ()), 1):
        for index, datum in enumerate(entity.get("MetricData", ()), 1):
            count += 1
            yield f"EntityMetricData.member.{number}.MetricData.member.{index}", datum
    if not count:
        raise MissingParameter("The parameter MetricData is required.")
    if count > MAX_METRICS:
        raise InvalidRequest(
            f"The collection MetricData must not have a size greater than {MAX_METRICS}."
        )


def _timestamp(datum: Mapping[str, Any], where: str, now: datetime) -> datetime:
    at: datetime = datum.get("Timestamp") or now
    if at < now - OLDEST:
        raise InvalidRequest(
            f"The parameter {where}.Timestamp must specify a time within the past two weeks."
        )
    if at > now + NEWEST:
        raise InvalidRequest(
            f"The parameter {where}.Timestamp must specify a time no more than two hours in the "
            "future."
        )
    return at


def _resolution(datum: Mapping[str, Any], where: str) -> int:
    resolution_s: int = datum.get("StorageResolution", 60)
    if resolution_s not in (1, 60):
        raise _invalid(resolution_s, f"{where}.StorageResolution")
    return resolution_s


def _dimensions(datum: Mapping[str, Any], where: str) -> dict[str, str]:
    dimensions: dict[str, str] = {}
    for index, each in enumerate(datum.get("Dimensions", ()), 1):
        name = f"{where}.Dimensions.member.{index}"
        if each["Name"] in dimensions:
            raise InvalidRequest(f"The parameter {name}.Name must be unique.")
        if not (each["Name"].strip() and each["Value"].strip()):
            raise InvalidRequest(f"The parameter {name}.Value must not be blank.")
        if not (each["Name"].isascii() and each["Value"].isascii()) or each["Name"][0] == ":":
            raise InvalidRequest(f"The parameter {name} contains characters that are not allowed.")
        dimensions[each["Name"]] = each["Value"]
    return dimensions


def _values(datum: Mapping[str, Any], where: str) -> Iterator[StatisticSet]:
    forms = [form for form in FORMS if datum.get(form) is not None]
    if not forms:
        raise MissingParameter(
            "At least one of the parameters must be specified: "
            f"{', '.join(f'{where}.{form}' for form in FORMS)}."
        )
    if len(forms) > 1:
        raise InvalidCombination(
            f"The parameters {where}.{forms[0]} and {where}.{forms[1]} are mutually exclusive and "
            "you have specified both."
        )
    if forms == ["StatisticValues"]:
        yield _statistic_set(datum["StatisticValues"], f"{where}.StatisticValues")
        return
    if forms == ["Value"]:
        values: Sequence[float] = [datum["Value"]]
        counts: Sequence[float] = [1.0]
        where = f"{where}.Value"
    else:
        values = datum["Values"]
        counts = datum.get("Counts") or [1.0] * len(values)
        if len(values) > MAX_VALUES:
            raise InvalidRequest(
                f"The collection {where}.Values must not have a size greater than {MAX_VALUES}."
            )
        if not values:
            raise MissingParameter(f"The parameter {where}.Values must not be empty.")
        if len(counts) != len(values):
            raise InvalidRequest(
                f"The parameters {where}.Values and {where}.Counts must be of the same size."
            )
        where = f"{where}.Values"
    for value, count in zip(values, counts, strict=True):
        _check(value, where)
        if _check(count, where.replace("Values", "Counts")) <= 0:
            raise _invalid(count, where.replace("Values", "Counts"))
        yield StatisticSet.of(value, count)


def _statistic_set(given: Mapping[str, float], where: str) -> StatisticSet:
    for name, value in given.items():
        _check(value, f"{where}.{name}")
    if given["SampleCount"] <= 0:
        raise _invalid(given["SampleCount"], f"{where}.SampleCount")
    if given["Maximum"] < given["Minimum"]:
        raise InvalidRequest(
            f"The parameter {where}.Maximum must be greater than or equal to the parameter "
            f"{where}.Minimum."
        )
    return StatisticSet(given["SampleCount"], given["Sum"], given["Minimum"], given["Maximum"])


def _check(value: float, where: str) -> float:
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise _invalid(value, where)
    return value


def _invalid(value: object, where: str) -> InvalidRequest:
    text = "NaN" if isinstance(value, float) and math.isnan(value) else value
    return InvalidRequest(f"The value {text} for parameter {where} is invalid.")
