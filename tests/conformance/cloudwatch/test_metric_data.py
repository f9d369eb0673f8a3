"""PutMetricData, GetMetricStatistics, GetMetricData and ListMetrics."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

DIMENSIONS = [{"Name": "EndpointName", "Value": "digits"}, {"Name": "VariantName", "Value": "A"}]


def a_minute_ago(minutes: int = 1) -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes)


def a_namespace() -> str:
    return f"Tests/{uuid.uuid4().hex}"


def put(client: Any, namespace: str, *data: dict[str, Any]) -> None:
    client.put_metric_data(
        Namespace=namespace, MetricData=[{"MetricName": "Load", **each} for each in data]
    )


def statistics(client: Any, namespace: str, **given: Any) -> list[dict[str, Any]]:
    parameters = {
        "Namespace": namespace,
        "MetricName": "Load",
        "StartTime": a_minute_ago(10),
        "EndTime": datetime.now(UTC) + timedelta(minutes=1),
        "Period": 60,
        "Statistics": ["Sum", "SampleCount", "Average", "Minimum", "Maximum"],
    }
    if "ExtendedStatistics" in given:
        del parameters["Statistics"]
    reply = client.get_metric_statistics(**{**parameters, **given})
    assert reply["Label"] == "Load"
    return sorted(reply["Datapoints"], key=lambda point: point["Timestamp"])


def refused(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_all_forms_of_values_add_up(any_cloudwatch: Any) -> None:
    namespace, at = a_namespace(), a_minute_ago(2)
    put(
        any_cloudwatch,
        namespace,
        {"Value": 4.0, "Timestamp": at, "Unit": "Count"},
        {"Values": [1.0, 2.0], "Counts": [1, 3], "Timestamp": at, "Unit": "Count"},
        {"Values": [9.0], "Timestamp": at + timedelta(seconds=59), "Unit": "Count"},
        {
            "StatisticValues": {"SampleCount": 2, "Sum": 6, "Minimum": 0.5, "Maximum": 5.5},
            "Timestamp": at,
            "Unit": "Count",
        },
    )
    (point,) = statistics(any_cloudwatch, namespace)
    assert point == {
        "Timestamp": at,
        "SampleCount": 8.0,
        "Sum": 26.0,
        "Average": 3.25,
        "Minimum": 0.5,
        "Maximum": 9.0,
        "Unit": "Count",
    }


def test_a_long_body_comes_compressed(cloudwatch: Any) -> None:
    namespace, at = a_namespace(), a_minute_ago(2)
    put(cloudwatch, namespace, *[{"Value": 1.0, "Timestamp": at}] * 900)
    assert statistics(cloudwatch, namespace)[0]["Sum"] == 900


def test_data_of_entities_are_data(cloudwatch: Any) -> None:
    namespace = a_namespace()
    cloudwatch.put_metric_data(
        Namespace=namespace,
        EntityMetricData=[{"MetricData": [{"MetricName": "Load", "Value": 3.0}]}],
        StrictEntityValidation=False,
    )
    assert statistics(cloudwatch, namespace)[0]["Sum"] == 3.0


def test_units_are_kept_apart(cloudwatch: Any) -> None:
    namespace, at = a_namespace(), a_minute_ago()
    put(
        cloudwatch,
        namespace,
        {"Value": 1.0, "Unit": "Seconds", "Timestamp": at},
        {"Value": 5.0, "Timestamp": at},
    )
    assert [point["Sum"] for point in statistics(cloudwatch, namespace, Unit="Seconds")] == [1.0]
    both = statistics(cloudwatch, namespace)
    assert {point["Unit"]: point["Sum"] for point in both} == {"Seconds": 1.0, "None": 5.0}


def test_high_resolution_data_can_be_read_by_the_second(cloudwatch: Any) -> None:
    namespace, at = a_namespace(), a_minute_ago()
    for second in (0, 1, 5):
        moment = at + timedelta(seconds=second)
        put(cloudwatch, namespace, {"Value": 1.0, "StorageResolution": 1, "Timestamp": moment})
    by_second = statistics(cloudwatch, namespace, Period=1, StartTime=at)
    assert [(p["Timestamp"] - at).seconds for p in by_second] == [0, 1, 5]
    by_five = statistics(cloudwatch, namespace, Period=5, StartTime=at)
    assert [p["Sum"] for p in by_five] == [2.0, 1.0]
    assert [p["Sum"] for p in statistics(cloudwatch, namespace)] == [3.0]


def test_percentiles_and_their_kin(cloudwatch: Any) -> None:
    namespace, at = a_namespace(), a_minute_ago()
    values = [float(n) for n in range(1, 101)]
    put(cloudwatch, namespace, {"Values": values, "Timestamp": at})
    names = ["p50", "p99", "p99.9", "tm90", "TC(10:20)", "PR(0:50)", "IQM", "wm95", "ts50"]
    (point,) = statistics(cloudwatch, namespace, ExtendedStatistics=names)
    read = point["ExtendedStatistics"]
    assert read["p50"] == pytest.approx(50, rel=0.03)
    assert read["p99"] == pytest.approx(99, rel=0.03)
    assert read["p99.9"] == pytest.approx(100, rel=0.02)
    assert read["tm90"] == pytest.approx(45.5, rel=0.02)
    assert read["TC(10:20)"] == pytest.approx(10, abs=1)
    assert read["PR(0:50)"] == pytest.approx(50, abs=1)
    assert read["IQM"] == pytest.approx(50.5, rel=0.02)
    assert read["wm95"] == pytest.approx(50.35, rel=0.02)
    assert read["ts50"] == pytest.approx(1275, rel=0.02)


def test_mere_statistics_have_no_percentiles(cloudwatch: Any) -> None:
    namespace = a_namespace()
    values = {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}
    put(cloudwatch, namespace, {"StatisticValues": values})
    assert statistics(cloudwatch, namespace, ExtendedStatistics=["p99"]) == []


WRONG_DATA = {
    "two forms": (
        {"Value": 1.0, "StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1}},
        "InvalidParameterCombination",
        "mutually exclusive and you have specified both",
    ),
    "no form": ({}, "MissingParameter", "At least one of the parameters must be specified"),
    "NaN": ({"Value": float("nan")}, "InvalidParameterValue", "The value NaN for parameter"),
    "infinity": ({"Value": float("inf")}, "InvalidParameterValue", "MetricData.member.1.Value"),
    "too large": ({"Value": 1e200}, "InvalidParameterValue", "is invalid"),
    "resolution": (
        {"Value": 1.0, "StorageResolution": 10},
        "InvalidParameterValue",
        "The value 10 for parameter MetricData.member.1.StorageResolution is invalid",
    ),
    "too old": (
        {"Value": 1.0, "Timestamp": datetime.now(UTC) - timedelta(days=15)},
        "InvalidParameterValue",
        "within the past two weeks",
    ),
    "too new": (
        {"Value": 1.0, "Timestamp": datetime.now(UTC) + timedelta(hours=3)},
        "InvalidParameterValue",
        "no more than two hours in the future",
    ),
    "counts": (
        {"Values": [1.0, 2.0], "Counts": [1.0]},
        "InvalidParameterValue",
        "must be of the same size",
    ),
    "many values": ({"Values": [1.0] * 151}, "InvalidParameterValue", "a size greater than 150"),
    "unit": ({"Value": 1.0, "Unit": "Parsecs"}, "ValidationError", "enum value set"),
    "min over max": (
        {"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}},
        "InvalidParameterValue",
        "must be greater than or equal to",
    ),
    "dimension twice": (
        {"Value": 1.0, "Dimensions": [DIMENSIONS[0]] * 2},
        "InvalidParameterValue",
        "must be unique",
    ),
}


@pytest.mark.parametrize(("datum", "code", "text"), WRONG_DATA.values(), ids=WRONG_DATA)
def test_wrong_data_is_refused(
    cloudwatch: Any, datum: dict[str, Any], code: str, text: str
) -> None:
    data = [{"MetricName": "Load", **datum}]
    found = refused(cloudwatch.put_metric_data, Namespace="Tests", MetricData=data)
    assert (found[0], text in found[1]) == (code, True), found


def test_errors_have_the_same_code_in_all_protocols(any_cloudwatch: Any) -> None:
    data = [{"MetricName": "Load"}]
    code, _ = refused(any_cloudwatch.put_metric_data, Namespace="Tests", MetricData=data)
    assert code == "MissingParameter"
    data = [{"MetricName": "Load", "Value": 1.0}]
    code, message = refused(any_cloudwatch.put_metric_data, Namespace="AWS/X", MetricData=data)
    assert code == "InvalidParameterValue"
    assert message == "The value AWS/X for parameter Namespace is invalid."


WRONG_STATISTICS = {
    "none": ({"Statistics": None}, "MissingParameter"),
    "both": ({"ExtendedStatistics": ["p9"], "Statistics": ["Sum"]}, "InvalidParameterCombination"),
    "unknown": ({"ExtendedStatistics": ["q9"], "Statistics": None}, "InvalidParameterValue"),
    "period": ({"Period": 61}, "InvalidParameterValue"),
    "turned round": ({"EndTime": a_minute_ago(20)}, "InvalidParameterValue"),
    "too many": ({"StartTime": a_minute_ago(1442)}, "InvalidParameterCombination"),
}


@pytest.mark.parametrize(("given", "code"), WRONG_STATISTICS.values(), ids=WRONG_STATISTICS)
def test_wrong_questions_are_refused(cloudwatch: Any, given: dict[str, Any], code: str) -> None:
    parameters = {
        "Namespace": "Tests",
        "MetricName": "Load",
        "StartTime": a_minute_ago(10),
        "EndTime": datetime.now(UTC),
        "Period": 60,
        "Statistics": ["Sum"],
        **given,
    }
    shown = {name: value for name, value in parameters.items() if value is not None}
    assert refused(cloudwatch.get_metric_statistics, **shown)[0] == code


def test_too_many_data_points_are_told_in_numbers(cloudwatch: Any) -> None:
    _, message = refused(
        cloudwatch.get_metric_statistics,
        Namespace="Tests",
        MetricName="Load",
        StartTime=datetime(2026, 1, 1, tzinfo=UTC),
        EndTime=datetime(2026, 1, 4, tzinfo=UTC),
        Period=60,
        Statistics=["Sum"],
    )
    assert message.startswith(
        "You have requested up to 4,320 datapoints, which exceeds the limit of 1,440."
    )


def test_metrics_are_listed_in_pages(any_cloudwatch: Any) -> None:
    namespace = a_namespace()
    data = [
        {"MetricName": f"M{n:03}", "Value": 1.0, "Dimensions": DIMENSIONS if n % 2 else []}
        for n in range(600)
    ]
    any_cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)
    pages = list(any_cloudwatch.get_paginator("list_metrics").paginate(Namespace=namespace))
    assert [len(page["Metrics"]) for page in pages] == [500, 100]
    names = [metric["MetricName"] for page in pages for metric in page["Metrics"]]
    assert names == [f"M{n:03}" for n in range(600)]
    listed = any_cloudwatch.list_metrics(
        Namespace=namespace,
        MetricName="M001",
        Dimensions=[{"Name": "EndpointName"}],
        RecentlyActive="PT3H",
    )["Metrics"]
    assert listed == [{"Namespace": namespace, "MetricName": "M001", "Dimensions": DIMENSIONS}]
    nothing = any_cloudwatch.list_metrics(
        Namespace=namespace, Dimensions=[{"Name": "EndpointName", "Value": "other"}]
    )
    assert nothing["Metrics"] == []
    assert refused(any_cloudwatch.list_metrics, NextToken="x")[0] in (
        "InvalidParameterValue",
        "InvalidNextToken",
    )


def stat(namespace: str, id: str, name: str = "Load", **more: Any) -> dict[str, Any]:
    metric = {"Namespace": namespace, "MetricName": name}
    return {"Id": id, "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, **more}


def ask(client: Any, *queries: dict[str, Any], **more: Any) -> Any:
    return client.get_metric_data(
        MetricDataQueries=list(queries),
        StartTime=a_minute_ago(5),
        EndTime=datetime.now(UTC) + timedelta(minutes=1),
        **more,
    )


def test_expressions_are_computed(any_cloudwatch: Any) -> None:
    namespace = a_namespace()
    for minutes, errors, calls in ((3, 1.0, 10.0), (2, 0.0, 20.0)):
        at = a_minute_ago(minutes)
        any_cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {"MetricName": "Errors", "Value": errors, "Timestamp": at},
                {"MetricName": "Load", "Value": calls, "Timestamp": at},
            ],
        )
    reply = ask(
        any_cloudwatch,
        stat(namespace, "m1", "Errors", ReturnData=False),
        stat(namespace, "m2"),
        {"Id": "rate", "Expression": "100 * m1 / m2", "Label": "Error rate"},
        {"Id": "filled", "Expression": "FILL(m2, 0)"},
        ScanBy="TimestampAscending",
    )
    results = {each["Id"]: each for each in reply["MetricDataResults"]}
    assert list(results) == ["m2", "rate", "filled"]
    assert results["m2"]["Values"] == [10.0, 20.0]
    assert results["m2"]["Timestamps"] == [a_minute_ago(3), a_minute_ago(2)]
    assert results["rate"]["Values"] == [10.0, 0.0]
    assert results["rate"]["Label"] == "Error rate"
    assert results["rate"]["StatusCode"] == "Complete"
    assert results["filled"]["Values"][:5] == [0.0, 0.0, 10.0, 20.0, 0.0]


def test_data_points_come_in_pages_newest_first(any_cloudwatch: Any) -> None:
    namespace = a_namespace()
    for minutes in (4, 3, 2):
        put(any_cloudwatch, namespace, {"Value": minutes, "Timestamp": a_minute_ago(minutes)})
    queries = [stat(namespace, "m1"), {"Id": "e1", "Expression": "m1 * 10"}]
    pages = any_cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=a_minute_ago(5),
        EndTime=datetime.now(UTC),
        MaxDatapoints=2,
    )
    read: dict[str, list[float]] = {}
    sizes = []
    for page in pages:
        sizes.append(sum(len(each["Values"]) for each in page["MetricDataResults"]))
        for each in page["MetricDataResults"]:
            read.setdefault(each["Id"], []).extend(each["Values"])
    assert sizes == [2, 2, 2]
    assert read == {"m1": [2.0, 3.0, 4.0], "e1": [20.0, 30.0, 40.0]}


WRONG_QUERIES = {
    "same id": ([stat("N", "a"), stat("N", "a")], "are not unique"),
    "bad id": ([stat("N", "A")], "MetricDataQueries.member.1.Id is invalid"),
    "neither": ([{"Id": "a"}], "mutually exclusive"),
    "no expression": ([{"Id": "a", "Expression": "1 +"}], "Unexpected the end"),
    "unknown id": ([{"Id": "a", "Expression": "b + 1"}], "refers to 'b'"),
    "itself": ([{"Id": "a", "Expression": "a + 1"}], "refers to itself"),
    "in a ring": (
        [{"Id": "a", "Expression": "b + 1"}, {"Id": "b", "Expression": "a"}],
        "refers to itself",
    ),
    "a number": ([{"Id": "a", "Expression": "1 + 1"}], "gives a number"),
    "unknown function": ([{"Id": "a", "Expression": "NOISE(1)"}], "no function NOISE"),
}


@pytest.mark.parametrize(("queries", "text"), WRONG_QUERIES.values(), ids=WRONG_QUERIES)
def test_wrong_queries_are_refused(
    cloudwatch: Any, queries: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(ClientError) as caught:
        ask(cloudwatch, *queries)
    error = caught.value.response["Error"]
    assert (error["Code"], text in error["Message"]) == ("ValidationError", True), error
