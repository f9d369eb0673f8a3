"""A pipeline of three containers: what each further step costs."""

from benchmarks import contenders
from benchmarks.groups.echo import BODY
from benchmarks.results import Bench, Check, Report
from server import IMAGE, ROLE, Server

SINGLE = "one container"
THREE = "pipeline of three containers"
STEPS = 3
ALLOWED_MS = 0.2


def run(bench: Bench) -> Report:
    report = Report("Inference pipeline, JSON echo in every container")
    with contenders.clary(bench.directory) as server:
        server.deploy("echo", contenders.files_of("echo"), environment=contenders.ONE_WORKER)
        _deploy_pipeline(server, "pipeline")
        requests = {
            name: contenders.invocation(server, endpoint, BODY, "application/json")
            for name, endpoint in ((SINGLE, "echo"), (THREE, "pipeline"))
        }
        report.loads += bench.interleave(
            requests, *((name, count) for count in (1, 64) for name in requests)
        )
    single, three = report.find(SINGLE, 1), report.find(THREE, 1)
    over = tuple(
        mine.p50_ms - STEPS * one.p50_ms
        for mine, one in zip(three.rounds, single.rounds, strict=True)
    )
    report.checks.append(
        Check("pipeline of 3, p50 over 3 single steps", over, ALLOWED_MS, "ms", at_most=True)
    )
    return report


def _deploy_pipeline(server: Server, name: str) -> None:
    url = server.upload(contenders.files_of("echo"), name)
    container = {"Image": IMAGE, "ModelDataUrl": url, "Environment": contenders.ONE_WORKER}
    server.sagemaker.create_model(
        ModelName=name, Containers=[container] * STEPS, ExecutionRoleArn=ROLE
    )
    server.sagemaker.create_endpoint_config(
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
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.wait_for_status(name, "InService")
