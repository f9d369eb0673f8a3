"""boto3's paginators: pages of two, put together, are the whole list.

The table is complete for the services that watch and scale; each service has tests of its own for
orders and filters.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.session import get_session

from autoscaling_cases import activities, names, wait_for_activities
from clary.api.coverage import coverage
from components import ComponentEndpoint
from handlers import ECHO
from server import IMAGE, ROLE, Server, wait_for

SERVICES = ("application-autoscaling", "cloudwatch", "logs")
RESOURCE = names("paged")

OF_TARGETS = {"ServiceNamespace": "sagemaker"}
OF_RESOURCE = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE["ResourceId"]}
LISTS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("application-autoscaling", "DescribeScalableTargets"): ("ScalableTargets", OF_TARGETS),
    ("application-autoscaling", "DescribeScalingActivities"): ("ScalingActivities", OF_RESOURCE),
    ("application-autoscaling", "DescribeScalingPolicies"): ("ScalingPolicies", OF_RESOURCE),
    ("application-autoscaling", "DescribeScheduledActions"): ("ScheduledActions", OF_RESOURCE),
    ("cloudwatch", "DescribeAlarmHistory"): ("AlarmHistoryItems", {"AlarmName": "paged-0"}),
    ("cloudwatch", "DescribeAlarms"): ("MetricAlarms", {"AlarmNamePrefix": "paged-"}),
    ("cloudwatch", "GetMetricData"): ("MetricDataResults", {}),
    ("cloudwatch", "ListDashboards"): ("DashboardEntries", {}),
    ("cloudwatch", "ListMetrics"): ("Metrics", {"Namespace": "Paged"}),
    ("logs", "DescribeLogGroups"): ("logGroups", {"logGroupNamePrefix": "paged-"}),
    ("logs", "DescribeLogStreams"): ("logStreams", {"logGroupName": "paged-0"}),
    ("logs", "FilterLogEvents"): ("events", {"logGroupName": "paged-0"}),
    ("sagemaker", "ListEndpointConfigs"): ("EndpointConfigs", {}),
    ("sagemaker", "ListEndpoints"): ("Endpoints", {}),
    ("sagemaker", "ListInferenceComponents"): ("InferenceComponents", {}),
    ("sagemaker", "ListModels"): ("Models", {}),
    ("sagemaker", "ListTransformJobs"): ("TransformJobSummaries", {}),
}
UNPAGED_SIZE = {"ListDashboards", "ListMetrics"}
"""Operations whose pages have a size that clients cannot choose."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("pages"), CLARY_FLEET_MAX_WORKERS="1") as running:
        make_resources_of_sagemaker(running)
        make_autoscaling(running)
        make_metrics(running)
        make_logs(running)
        yield running


def make_resources_of_sagemaker(server: Server) -> None:
    sagemaker = server.sagemaker
    url = server.upload({"code/inference.py": ECHO})
    for name in ("paged", "other-0", "other-1", "other-2"):
        sagemaker.create_model(
            ModelName=name,
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": url},
            ExecutionRoleArn=ROLE,
        )
    for number in range(3):
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"other-{number}",
            ProductionVariants=[variant("AllTraffic", f"other-{number}")],
        )
        sagemaker.create_endpoint(
            EndpointName=f"other-{number}", EndpointConfigName=f"other-{number}"
        )
        sagemaker.create_transform_job(
            TransformJobName=f"other-{number}",
            ModelName=f"other-{number}",
            TransformInput={
                "ContentType": "text/plain",
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://models/model"}
                },
            },
            TransformOutput={"S3OutputPath": "s3://models/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )
    sagemaker.create_endpoint_config(
        EndpointConfigName="paged",
        ProductionVariants=[variant(name, "paged") for name in ("AllTraffic", "second", "third")],
    )
    sagemaker.create_endpoint(EndpointName="paged", EndpointConfigName="paged")
    server.wait_for_status("paged", "InService")

    components = ComponentEndpoint(server, "components").create()
    for number in range(3):
        components.component(f"part-{number}", "paged", cores=0.5, wait=False)


def variant(name: str, model: str) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }


def make_autoscaling(server: Server) -> None:
    scaling = server.client("application-autoscaling")
    for name in ("second", "third"):
        resource = {**RESOURCE, "ResourceId": f"endpoint/paged/variant/{name}"}
        scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=1)
    for bounds in ((2, 2), (1, 1), (2, 3)):
        scaling.register_scalable_target(**RESOURCE, MinCapacity=bounds[0], MaxCapacity=bounds[1])
        wait_for_activities(scaling, RESOURCE, len(activities(scaling, RESOURCE)))
    for number in range(3):
        scaling.put_scaling_policy(
            **RESOURCE,
            PolicyName=f"paged-{number}",
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
            },
        )
        scaling.put_scheduled_action(
            **RESOURCE,
            ScheduledActionName=f"paged-{number}",
            Schedule="cron(0 0 1 1 ? 2190)",
            ScalableTargetAction={"MaxCapacity": 2},
        )


def make_metrics(server: Server) -> None:
    cloudwatch = server.client("cloudwatch")
    for number in range(3):
        cloudwatch.put_metric_alarm(
            AlarmName=f"paged-{number}",
            Namespace="Paged",
            MetricName=f"m{number}",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )
        cloudwatch.set_alarm_state(AlarmName="paged-0", StateValue="OK", StateReason="ok")
        cloudwatch.set_alarm_state(AlarmName="paged-0", StateValue="ALARM", StateReason="not ok")
        cloudwatch.put_dashboard(DashboardName=f"paged-{number}", DashboardBody='{"widgets": []}')
        cloudwatch.put_metric_data(
            Namespace="Paged",
            MetricData=[
                {
                    "MetricName": f"m{number}",
                    "Value": 1.0,
                    "Timestamp": datetime.now(UTC) - timedelta(minutes=minutes),
                }
                for minutes in range(1, 4)
            ],
        )


def make_logs(server: Server) -> None:
    logs = server.client("logs")
    for number in range(3):
        logs.create_log_group(logGroupName=f"paged-{number}")
        logs.create_log_stream(logGroupName="paged-0", logStreamName=f"s{number}")
        logs.put_log_events(
            logGroupName="paged-0",
            logStreamName=f"s{number}",
            logEvents=[
                {"timestamp": int(datetime.now(UTC).timestamp() * 1000), "message": f"line {line}"}
                for line in range(3)
            ],
        )


def test_the_table_is_complete() -> None:
    paged = {
        (service, operation)
        for service in SERVICES
        for operation in get_session().get_paginator_model(service)._paginator_config
        if operation in coverage()[service].built
    }
    assert paged == {place for place in LISTS if place[0] in SERVICES}


@pytest.mark.parametrize(("service", "operation"), LISTS, ids=[name for _, name in LISTS])
def test_pages_of_two_are_the_whole_list(server: Server, service: str, operation: str) -> None:
    key, parameters = LISTS[service, operation]
    if operation == "GetMetricData":
        now = datetime.now(UTC)
        parameters = {
            "StartTime": now - timedelta(minutes=10),
            "EndTime": now,
            "MetricDataQueries": [
                {
                    "Id": f"m{number}",
                    "MetricStat": {
                        "Metric": {"Namespace": "Paged", "MetricName": f"m{number}"},
                        "Period": 60,
                        "Stat": "Sum",
                    },
                }
                for number in range(3)
            ],
        }
    client = server.client(service)
    method = next(
        name for name, shape in client.meta.method_to_api_mapping.items() if shape == operation
    )
    paginator = client.get_paginator(method)
    size = {} if operation in UNPAGED_SIZE else {"PageSize": 2}

    def read() -> tuple[Any, list[Any]] | None:
        """The whole list and its pages, of a time when no job, endpoint or alarm changed."""
        (before,) = paginator.paginate(**parameters)
        pages = list(paginator.paginate(**parameters, PaginationConfig=size))
        (after,) = paginator.paginate(**parameters)
        return (before, pages) if before[key] == after[key] else None

    whole, pages = wait_for(read, what="a list that stays as it is")
    items = [item for page in pages for item in page[key]]
    if operation == "GetMetricData":  # a page has two points, of one metric or of two
        values = [v for item in items for v in zip(item["Timestamps"], item["Values"], strict=True)]
        assert len(values) == sum(len(item["Values"]) for item in whole[key]) == 9
        assert all(sum(len(item["Values"]) for item in page[key]) <= 2 for page in pages)
        return
    assert items == whole[key]
    assert len(items) >= 3
    if size:
        assert len(pages) > 1
        assert all(len(page[key]) <= 2 for page in pages)


WAIT = {"WaiterConfig": {"Delay": 1, "MaxAttempts": 60}}


def test_waiters_end(server: Server) -> None:
    """Those of boto3 for what is built; S3's are with S3's tests."""
    cloudwatch, sagemaker = server.client("cloudwatch"), server.sagemaker
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule='ALARM("paged-1")')
    cloudwatch.get_waiter("alarm_exists").wait(AlarmNames=["paged-1"], **WAIT)
    cloudwatch.get_waiter("composite_alarm_exists").wait(
        AlarmNames=["both"], AlarmTypes=["CompositeAlarm"], **WAIT
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="paged", **WAIT)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="other-0", **WAIT)
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(
        TransformJobName="other-0", **WAIT
    )
    sagemaker.delete_endpoint(EndpointName="other-0")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="other-0", **WAIT)
