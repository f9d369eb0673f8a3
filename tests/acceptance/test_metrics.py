"""What endpoints do can be read as metrics: at once, exactly, and after ``kill -9`` of control."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handlers import ECHO
from load import Load
from server import Server, wait_for

FAILING = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    raise ValueError("no")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(
        tmp_path_factory.mktemp("metrics"), CLARY_METRICS_INSTANCE_INTERVAL_S="1"
    ) as server:
        yield server


def read(
    server: Server,
    name: str,
    endpoint: str,
    *statistics: str,
    namespace: str = "AWS/SageMaker",
    period_s: int = 300,
    **dimensions: str,
) -> dict[str, float]:
    """Statistics of a metric over the last minutes, over periods as one."""
    given = {"EndpointName": endpoint, "VariantName": "AllTraffic", **dimensions}
    extended = [each for each in statistics if each.startswith("p")]
    choice = {"ExtendedStatistics": extended} if extended else {"Statistics": list(statistics)}
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": n, "Value": v} for n, v in given.items()],
        StartTime=end - timedelta(seconds=period_s),
        EndTime=end,
        Period=period_s,
        **choice,
    )["Datapoints"]
    if not points:
        return {}
    (point,) = points
    return {
        each: point.get(each, point.get("ExtendedStatistics", {}).get(each)) for each in statistics
    }


def test_a_request_can_be_read_soon(server: Server) -> None:
    server.deploy("digits", {"code/inference.py": ECHO}, InitialInstanceCount=2)
    for _ in range(10):
        server.invoke("digits")
    wait_for(
        lambda: read(server, "Invocations", "digits", "Sum").get("Sum") == 10,
        what="ten invocations",
    )
    per_instance = read(server, "InvocationsPerInstance", "digits", "Sum", "Maximum")
    assert per_instance == {"Sum": pytest.approx(5), "Maximum": 0.5}
    for name in ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors"):
        assert read(server, name, "digits", "Sum") == {"Sum": 0.0}
    for name in ("ModelLatency", "OverheadLatency"):
        names = ("SampleCount", "Minimum", "Average", "Maximum")
        found = read(server, name, "digits", *names)
        assert found["SampleCount"] == 10
        assert 0 < found["Minimum"] <= found["Average"] <= found["Maximum"] < 2_000_000
        assert found["Minimum"] <= read(server, name, "digits", "p90")["p90"] <= found["Maximum"]
    listed = server.client("cloudwatch").list_metrics(
        Namespace="AWS/SageMaker", Dimensions=[{"Name": "EndpointName", "Value": "digits"}]
    )
    assert "ModelLatency" in {metric["MetricName"] for metric in listed["Metrics"]}


def test_errors_of_the_model_are_counted_and_their_rate_is_the_average(server: Server) -> None:
    server.deploy("failing", {"code/inference.py": FAILING})
    for _ in range(3):
        with pytest.raises(server.runtime.exceptions.ModelError):
            server.invoke("failing")
    wait_for(
        lambda: read(server, "InvocationModelErrors", "failing", "Sum").get("Sum") == 3,
        what="the errors",
    )
    assert read(server, "Invocation5XXErrors", "failing", "Maximum") == {"Maximum": 1.0}
    assert read(server, "Invocation4XXErrors", "failing", "Sum") == {"Sum": 0.0}


def test_an_idle_endpoint_has_zeros(server: Server) -> None:
    server.deploy("idle", {"code/inference.py": ECHO})

    def has_zeros() -> bool:
        values = read(server, "ConcurrentRequestsPerModel", "idle", "Maximum", "SampleCount")
        return values.get("Maximum") == 0

    wait_for(has_zeros, timeout_s=30, what="10 seconds without a request")


def test_each_container_of_a_pipeline_has_its_latency(server: Server) -> None:
    url = server.upload({"code/inference.py": ECHO}, "chain")
    container = {"Image": "clary/python:latest", "ModelDataUrl": url}
    server.sagemaker.create_model(
        ModelName="chain",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/tests",
        Containers=[{**container, "ContainerHostname": name} for name in ("first", "second")],
    )
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="chain",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "chain",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    server.sagemaker.create_endpoint(EndpointName="chain", EndpointConfigName="chain")
    server.wait_for_status("chain", "InService")
    server.invoke("chain")
    for name in ("first", "second"):
        wait_for(
            lambda name=name: (
                read(server, "ContainerLatency", "chain", "SampleCount", ContainerName=name)
                == {"SampleCount": 1.0}
            ),
            what=f"the latency of {name}",
        )
    whole = read(server, "ModelLatency", "chain", "Sum")["Sum"]
    parts = [
        read(server, "ContainerLatency", "chain", "Sum", ContainerName=name)["Sum"]
        for name in ("first", "second")
    ]
    assert 0 < sum(parts) <= whole


def test_killing_control_neither_loses_nor_repeats_a_count(server: Server) -> None:
    server.deploy("counted", {"code/inference.py": ECHO})
    with Load(server.port, "counted") as load:
        wait_for(lambda: load.good_since(0) > 50, what="the load to run")
        for _ in range(3):
            (pid,) = server.pids("clary-control")
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            wait_for(
                lambda pid=pid, killed=killed: (
                    server.pids("clary-control") not in ([], [pid])
                    and load.good_since(killed) > 100
                ),
                what="a new control, and calls meanwhile",
            )
    sent = load.good_since(0)
    counts: list[float] = []

    def has_all() -> bool:
        counts.append(read(server, "Invocations", "counted", "Sum").get("Sum", 0))
        return counts[-1] >= sent

    wait_for(has_all, timeout_s=20, what=f"{sent} invocations, of which there are {counts[-1:]}")
    time_of_reports = time.monotonic() + 2.5
    wait_for(lambda: time.monotonic() > time_of_reports, what="two more reports")
    assert read(server, "Invocations", "counted", "Sum")["Sum"] == sent
    assert read(server, "ModelLatency", "counted", "SampleCount")["SampleCount"] == sent


def test_what_instances_use_is_measured(server: Server) -> None:
    server.deploy("used", {"code/inference.py": ECHO}, InitialInstanceCount=2)

    def measured() -> bool:
        return all(
            read(server, name, "used", "SampleCount", namespace="/aws/sagemaker/Endpoints").get(
                "SampleCount", 0
            )
            >= 2
            for name in ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
        )

    wait_for(measured, what="measurements of both instances")
    found = read(
        server, "MemoryUtilization", "used", "Minimum", "Maximum",
        namespace="/aws/sagemaker/Endpoints",
    )  # fmt: skip
    assert 0 < found["Minimum"] <= found["Maximum"] < 100


def test_metrics_can_be_turned_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("off"), CLARY_METRICS_ENABLED="false") as server:
        server.deploy("quiet", {"code/inference.py": ECHO})
        server.invoke("quiet")
        server.client("cloudwatch").put_metric_data(
            Namespace="Own", MetricData=[{"MetricName": "Load", "Value": 1.0}]
        )
        listed = server.client("cloudwatch").list_metrics()["Metrics"]
        assert [metric["Namespace"] for metric in listed] == ["Own"]
