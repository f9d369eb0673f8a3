"""CreateEndpoint until InService."""

import statistics
import time
from collections.abc import Mapping

from benchmarks import contenders
from benchmarks.results import Bench, Check, Report, ValueRow
from server import IMAGE, ROLE, Contents, Server

POLL_S = 0.01
REQUIREMENT = "iniconfig==2.1.0"
"""Small, pure Python, without dependencies."""


def run(bench: Bench) -> Report:
    report = Report("CreateEndpoint to InService")
    with contenders.clary(bench.directory) as server:
        files: dict[str, Contents] = {**contenders.files_of("echo")}
        plain = [
            _deploy(server, f"plain-{number}", {**files, "number": str(number)})
            for number in range(bench.plan.deployments)
        ]
        files = {**files, "code/requirements.txt": REQUIREMENT}
        first = _deploy(server, "requirements", {**files, "number": "first"})
        cached = [
            _deploy(server, f"requirements-{number}", {**files, "number": str(number)})
            for number in range(bench.plan.deployments)
        ]
    report.values += [
        ValueRow("no requirements", statistics.median(plain), "s", _range(plain)),
        ValueRow("requirements, first: builds the environment", first, "s"),
        ValueRow("requirements, again: cached", statistics.median(cached), "s", _range(cached)),
    ]
    report.checks += [
        Check("to InService, no requirements", tuple(plain), 0.7, "s", at_most=True),
        Check("to InService, cached venv", tuple(cached), 1, "s", at_most=True),
    ]
    report.notes.append(
        f"Median of {bench.plan.deployments}, each a new archive on the embedded S3, from the call "
        f"of CreateEndpoint, DescribeEndpoint asked every {POLL_S * 1000:.0f} ms."
    )
    return report


def _deploy(server: Server, name: str, files: Mapping[str, Contents]) -> float:
    """Return the seconds from CreateEndpoint to InService; the endpoint is deleted again."""
    url = server.upload(files, name)
    sagemaker = server.sagemaker
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": url},
        ExecutionRoleArn=ROLE,
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    began = time.perf_counter()
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    while True:
        description = sagemaker.describe_endpoint(EndpointName=name)
        if description["EndpointStatus"] != "Creating":
            break
        time.sleep(POLL_S)
    took = time.perf_counter() - began
    assert description["EndpointStatus"] == "InService", description
    server.invoke(name)
    server.delete_endpoint(name)
    return took


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
