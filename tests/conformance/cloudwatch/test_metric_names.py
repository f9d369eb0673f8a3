"""Which metrics each kind of endpoint has: by the names, dimensions and units of SageMaker's pages.

Neither more nor less: a metric that is misspelt, or that turns up under dimensions of its own, is
as useless to an alarm as one that is not there.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from botocore.exceptions import ClientError

from async_endpoints import ECHO as FAILS_IF_ASKED
from async_endpoints import deploy_async, put_input, wait_for_end
from components import ComponentEndpoint
from handlers import ECHO
from multi_models import MultiModelEndpoint
from server import IMAGE, ROLE, Server, wait_for
from serverless import call, deploy_serverless
from transforms import a_model, finish, start

CALLS, INSTANCES, COMPONENTS, JOBS = (
    "AWS/SageMaker",
    "/aws/sagemaker/Endpoints",
    "/aws/sagemaker/InferenceComponents",
    "/aws/sagemaker/TransformJobs",
)

ENDPOINT = ("EndpointName",)
VARIANT = ("EndpointName", "VariantName")
CONFIG = ("EndpointConfigName", "EndpointName", "VariantName")
CONTAINER = ("ContainerName", "EndpointName", "VariantName")
COMPONENT = ("InferenceComponentName",)
HOST = ("Host",)

Table = Mapping[tuple[str, tuple[str, ...], str], str]
"""Unit by namespace, names of the dimensions, and name."""


def rows(namespace: str, dimensions: tuple[str, ...], unit: str, *names: str) -> Table:
    return {(namespace, dimensions, name): unit for name in names}


ERRORS = ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
COUNTS = ("Invocations", "InvocationsPerInstance", *ERRORS)
USAGE = ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
OF_ALL: Table = {
    **rows(CALLS, VARIANT, "None", *ERRORS, "ConcurrentRequestsPerModel"),
    **rows(CALLS, VARIANT, "Microseconds", "ModelLatency"),
    **rows(INSTANCES, VARIANT, "Percent", *USAGE),
}
REAL_TIME: Table = {
    **OF_ALL,
    **rows(CALLS, VARIANT, "None", *COUNTS),
    **rows(CALLS, VARIANT, "Microseconds", "OverheadLatency"),
}

EXPECTED: Mapping[str, Table] = {
    "updated": {
        **REAL_TIME,
        **rows(CALLS, CONFIG, "None", *COUNTS),
        **rows(CALLS, CONFIG, "Microseconds", "ModelLatency", "OverheadLatency"),
    },
    "chained": {
        **REAL_TIME,
        **rows(CALLS, CONTAINER, "None", "Invocations", *ERRORS),
        **rows(CALLS, CONTAINER, "Microseconds", "ContainerLatency"),
        **rows(INSTANCES, CONTAINER, "Percent", "CPUUtilization", "MemoryUtilization"),
    },
    "many": {
        **REAL_TIME,
        **rows(
            CALLS,
            VARIANT,
            "Microseconds",
            "ModelLoadingWaitTime",
            "ModelUnloadingTime",
            "ModelDownloadingTime",
            "ModelLoadingTime",
        ),
        **rows(CALLS, VARIANT, "None", "ModelCacheHit"),
        **rows(INSTANCES, VARIANT, "None", "LoadedModelCount"),
    },
    "later": {
        **OF_ALL,
        **rows(
            CALLS,
            ENDPOINT,
            "Count",
            "ApproximateBacklogSize",
            "ApproximateBacklogSizePerInstance",
            "HasBacklogWithoutCapacity",
        ),
        **rows(CALLS, ENDPOINT, "Seconds", "ApproximateAgeOfOldestRequest"),
        **rows(
            CALLS,
            VARIANT,
            "Count",
            "InvocationsProcesssed",
            "InvocationFailures",
            "RequestDownloadFailures",
            "ResponseUploadFailures",
            "NotificationFailures",
        ),
        **rows(CALLS, VARIANT, "Microseconds", "RequestDownloadLatency", "ResponseUploadLatency"),
        **rows(CALLS, VARIANT, "Milliseconds", "TimeInBacklog", "TotalProcessingTime"),
    },
    "asleep": {
        **REAL_TIME,
        **rows(CALLS, VARIANT, "Microseconds", "ModelSetupTime"),
        **rows(
            CALLS,
            VARIANT,
            "None",
            "ServerlessConcurrentExecutionsUtilization",
            "ServerlessProvisionedConcurrencyUtilization",
        ),
        **rows(
            CALLS,
            VARIANT,
            "Count",
            "ServerlessProvisionedConcurrencyExecutions",
            "ServerlessProvisionedConcurrencyInvocations",
            "ServerlessProvisionedConcurrencySpilloverInvocations",
        ),
    },
    "parts": {
        **REAL_TIME,
        **rows(
            INSTANCES,
            VARIANT,
            "Percent",
            "CPUReservation",
            "MemoryReservation",
            "CPUUtilizationNormalized",
        ),
        **rows(
            CALLS,
            COMPONENT,
            "None",
            "Invocations",
            *ERRORS,
            "InvocationsPerCopy",
            "ConcurrentRequestsPerCopy",
            "NoCapacityInvocationFailures",
        ),
        **rows(CALLS, COMPONENT, "Microseconds", "ModelLatency", "OverheadLatency"),
        **rows(
            COMPONENTS,
            COMPONENT,
            "Percent",
            "CPUUtilizationNormalized",
            "MemoryUtilizationNormalized",
        ),
    },
}
OF_A_JOB: Table = rows(JOBS, HOST, "Percent", *USAGE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("names"),
        CLARY_FLEET_MAX_WORKERS="1",
        CLARY_METRICS_INSTANCE_INTERVAL_S="1",
        CLARY_ASYNC_INFERENCE_BACKLOG_INTERVAL_S="1",
        CLARY_FLEET_MULTI_MODEL_MAX_MODELS="1",
    ) as running:
        yield running


class Metric(NamedTuple):
    namespace: str
    name: str
    dimensions: Mapping[str, str]


def metrics(server: Server) -> list[Metric]:
    pages = server.client("cloudwatch").get_paginator("list_metrics").paginate()
    return [
        Metric(
            each["Namespace"],
            each["MetricName"],
            {dimension["Name"]: dimension["Value"] for dimension in each["Dimensions"]},
        )
        for page in pages
        for each in page["Metrics"]
    ]


def units(server: Server, metric: Metric) -> set[str]:
    now = datetime.now(UTC)
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace=metric.namespace,
        MetricName=metric.name,
        Dimensions=[{"Name": n, "Value": v} for n, v in metric.dimensions.items()],
        StartTime=now - timedelta(minutes=30),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return {point["Unit"] for point in points}


def wait_for_table(server: Server, expected: Table, is_wanted: Callable[[Metric], bool]) -> None:
    """Wait for what is expected; without GPUs, which not all machines have."""
    found: dict[tuple[str, tuple[str, ...], str], str] = {}

    def has_all() -> bool:
        for metric in metrics(server):
            if is_wanted(metric) and not metric.name.startswith("GPU"):
                place = (metric.namespace, tuple(sorted(metric.dimensions)), metric.name)
                if not found.get(place):  # a value of this very second shows itself in the next
                    found[place] = "/".join(sorted(units(server, metric)))
        return expected.keys() <= found.keys() and all(found.values())

    try:
        wait_for(has_all, timeout_s=60, what="all metrics", poll_s=0.5)
    except AssertionError:
        assert found == expected
    assert found == expected


def updated(server: Server) -> None:
    server.deploy("updated", {"code/inference.py": ECHO})
    found = server.sagemaker.describe_endpoint_config(EndpointConfigName="updated")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="updated-again", ProductionVariants=found["ProductionVariants"]
    )
    server.sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName="updated-again")
    server.wait_for_status("updated", "InService")
    server.invoke("updated")


def chained(server: Server) -> None:
    container = {
        "Image": IMAGE,
        "ModelDataUrl": server.upload({"code/inference.py": ECHO}, "chained"),
    }
    server.sagemaker.create_model(
        ModelName="chained",
        ExecutionRoleArn=ROLE,
        Containers=[{**container, "ContainerHostname": name} for name in ("first", "second")],
    )
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="chained",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "chained",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    server.sagemaker.create_endpoint(EndpointName="chained", EndpointConfigName="chained")
    server.wait_for_status("chained", "InService")
    server.invoke("chained")


def many(server: Server) -> None:
    endpoint = MultiModelEndpoint(server, "many").create()
    for target in ("a.tar.gz", "b.tar.gz"):  # the second takes the place of the first
        endpoint.put_named(target)
        endpoint.invoke(target)


def later(server: Server) -> None:
    for bucket in ("inputs", "results"):
        server.s3.create_bucket(Bucket=bucket)
    nowhere = "arn:aws:sns:us-east-1:123456789012:nowhere"
    deploy_async(server, "later", FAILS_IF_ASKED, topics={"ErrorTopic": nowhere})

    def ask(location: str) -> None:
        reply = server.runtime.invoke_endpoint_async(
            EndpointName="later", InputLocation=location, ContentType="text/plain"
        )
        wait_for_end(server, "later", reply["InferenceId"])

    ask(put_input(server, "good", b"good"))
    ask(put_input(server, "bad", b"fail"))
    ask("s3://inputs/not-there")
    ask(put_input(server, "slow", b"sleep 3"))  # so long that its age is measured
    for listed in server.s3.list_objects_v2(Bucket="results")["Contents"]:
        server.s3.delete_object(Bucket="results", Key=listed["Key"])
    server.s3.delete_bucket(Bucket="results")
    ask(put_input(server, "lost", b"good"))


def parts(server: Server) -> None:
    endpoint = ComponentEndpoint(server, "parts").create()
    endpoint.component("parts", endpoint.model("part"))
    endpoint.invoke("parts")
    endpoint.scale("parts", 0)
    with pytest.raises(ClientError, match="has no capacity"):
        endpoint.invoke("parts")
    endpoint.scale("parts", 1)


def asleep(server: Server) -> None:
    """One call has the worker that is provisioned, the other has to wait for a second one."""
    deploy_serverless(server, "asleep", MaxConcurrency=3, ProvisionedConcurrency=1)
    with ThreadPoolExecutor() as pool:
        for answer in [pool.submit(call, server, "asleep", "sleep 2") for _ in range(2)]:
            answer.result()


MAKERS = {
    "updated": updated,
    "chained": chained,
    "many": many,
    "later": later,
    "asleep": asleep,
    "parts": parts,
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_endpoint_has_the_metrics_of_its_kind(server: Server, kind: str) -> None:
    MAKERS[kind](server)
    wait_for_table(server, EXPECTED[kind], lambda metric: kind in metric.dimensions.values())


def test_reservations_are_of_each_instance(server: Server) -> None:
    endpoint = ComponentEndpoint(server, "halves").create(instances=2)
    endpoint.component("halves", endpoint.model("half"), cores=1, memory_mb=512)

    def extremes(name: str) -> tuple[float, float] | None:
        now = datetime.now(UTC)
        points = server.client("cloudwatch").get_metric_statistics(
            Namespace=INSTANCES,
            MetricName=name,
            Dimensions=[
                {"Name": "EndpointName", "Value": "halves"},
                {"Name": "VariantName", "Value": "main"},
            ],
            StartTime=now - timedelta(minutes=30),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Minimum", "Maximum"],
        )["Datapoints"]
        if not points:
            return None
        return min(p["Minimum"] for p in points), max(p["Maximum"] for p in points)

    # One of two has the copy: a core of 2, and 512 MB of 8 GiB.
    expected = {"CPUReservation": (0.0, 50.0), "MemoryReservation": (0.0, 6.25)}
    wait_for(
        lambda: {name: extremes(name) for name in expected} == expected,
        timeout_s=60,
        what="both reservations of both instances",
        poll_s=0.5,
    )
    endpoint.delete("halves")


SLOW_ROWS = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(1)
    return data, accept or content_type
"""


def test_a_transform_job_has_those_of_its_hosts_and_no_others(server: Server) -> None:
    server.s3.create_bucket(Bucket="rows")
    server.s3.put_object(Bucket="rows", Key="in/rows.csv", Body=b"1\n2\n3\n4\n5\n")
    model = a_model(server, "slow-rows", SLOW_ROWS)
    start(server, "nightly", model, "s3://rows/in/", "s3://rows/out", BatchStrategy="SingleRecord")
    instance = wait_for(
        lambda: next(
            (
                found[0]
                for command in server.processes().values()
                if "clary-host" in command
                and "nightly" in command
                and (found := re.search(r"i-[0-9a-f]{16}", command))
            ),
            None,
        ),
        timeout_s=30,
        what="the job's instance",
    )
    finish(server, "nightly")
    wait_for_table(
        server, OF_A_JOB, lambda metric: any("nightly" in v for v in metric.dimensions.values())
    )
    hosts = {metric.dimensions["Host"] for metric in metrics(server) if metric.namespace == JOBS}
    assert hosts == {f"nightly/{instance}"}


def test_the_guides_name_all_of_them() -> None:
    guides = Path(__file__).parents[3] / "docs" / "guides"
    pages = ("metrics.md", "async.md", "inference-components.md", "serverless.md")
    text = "".join((guides / page).read_text() for page in pages)
    names = {name for each in (*EXPECTED.values(), OF_A_JOB) for _, _, name in each}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
