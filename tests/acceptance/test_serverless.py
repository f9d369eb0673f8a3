"""Serverless endpoints: workers come with calls, and go when there are none."""

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import Server, wait_for
from serverless import call, deploy_serverless, wait_for_template, wait_for_workers, workers
from variants import change


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("serverless"), CLARY_SERVERLESS_IDLE_S="3") as running:
        yield running


def outcome(server: Server, name: str, text: str, client: Any = None) -> str:
    """Return ``ok``, or the code of the error that a call got."""
    try:
        call(server, name, text, client)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def test_the_first_call_starts_a_worker_and_without_calls_it_ends(server: Server) -> None:
    described = deploy_serverless(server, "sleeper")
    (variant,) = described["ProductionVariants"]

    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 5}
    assert "CurrentInstanceCount" not in variant
    wait_for_template(server, "sleeper")
    for _ in range(3):
        wait_for_workers(server, "sleeper", 0)
        assert call(server, "sleeper")["said"] == "hello"
        assert len(workers(server, "sleeper")) == 1


def test_a_forked_worker_has_its_own_title_and_is_its_hosts_child(server: Server) -> None:
    deploy_serverless(server, "title")
    wait_for_template(server, "title")
    wait_for_workers(server, "title", 0)

    reply = server.runtime.invoke_endpoint(EndpointName="title", Body=b"title", Accept="text/plain")
    title = reply["Body"].read().decode()

    (template,) = server.pids("clary-template", "title/")
    (host,) = server.pids("clary-host", "title/")
    (worker,) = workers(server, "title")
    assert " clary-worker title/AllTraffic/i-" in title
    assert "template" not in title
    assert template != worker
    with open(f"/proc/{worker}/stat", "rb") as file:
        assert int(file.read().rpartition(b")")[2].split()[1]) == host


def test_a_burst_is_throttled_and_gets_no_other_error(server: Server, tmp_path: Path) -> None:
    deploy_serverless(server, "burst", MaxConcurrency=5)
    wait_for_workers(server, "burst", 0)
    client = server.client("sagemaker-runtime", max_pool_connections=50)
    together = threading.Barrier(50)

    def one(number: int) -> str:
        together.wait(60)
        return outcome(server, "burst", "sleep 3", client)

    with ThreadPoolExecutor(50) as pool:
        outcomes = Counter(pool.map(one, range(50)))

    assert set(outcomes) == {"ok", "ThrottlingException"}
    assert outcomes["ok"] >= 5
    assert outcomes["ThrottlingException"] >= 30
    assert 1 <= len(workers(server, "burst")) <= 5
    with pytest.raises(ClientError) as caught:
        _while_busy(server, "burst", 5, tmp_path, lambda: call(server, "burst"))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert caught.value.response["Error"]["Message"] == "Rate exceeded"


def _is_long(begun: Path) -> bool:
    """Whether a call has run for so long that no other waits for its worker to be free soon."""
    return begun.exists() and time.time() - begun.stat().st_mtime > 0.5


def _while_busy(
    server: Server, name: str, calls: int, directory: Path, do: Any, ends: str = "ok"
) -> Any:
    """Do something while workers are in so many calls; all of them end so."""
    client = server.client("sagemaker-runtime", max_pool_connections=calls)
    held = [directory / f"{name}-{number}" for number in range(calls)]
    with ThreadPoolExecutor(calls) as pool:
        running = [pool.submit(outcome, server, name, f"hold {path}", client) for path in held]
        try:
            wait_for(
                lambda: all(_is_long(path.with_suffix(".begun")) for path in held),
                what="all concurrency to be taken",
                timeout_s=45,
            )
            return do()
        finally:
            for path in held:
                path.with_suffix(".over").touch()
            assert {each.result() for each in running} == {ends}


def test_provisioned_workers_stay(server: Server) -> None:
    described = deploy_serverless(server, "warm", MaxConcurrency=4, ProvisionedConcurrency=2)
    (variant,) = described["ProductionVariants"]
    expected = {"MemorySizeInMB": 1024, "MaxConcurrency": 4, "ProvisionedConcurrency": 2}
    assert variant["CurrentServerlessConfig"] == variant["DesiredServerlessConfig"] == expected
    first = set(workers(server, "warm"))
    assert len(first) == 2

    described = change(
        server,
        "warm",
        AllTraffic={"ServerlessUpdateConfig": {"MaxConcurrency": 6, "ProvisionedConcurrency": 3}},
    )

    (variant,) = described["ProductionVariants"]
    expected = {"MemorySizeInMB": 1024, "MaxConcurrency": 6, "ProvisionedConcurrency": 3}
    assert variant["CurrentServerlessConfig"] == expected
    assert first < set(workers(server, "warm"))
    change(server, "warm", AllTraffic={"ServerlessUpdateConfig": {"ProvisionedConcurrency": 1}})
    wait_for_workers(server, "warm", 1)
    assert outcome(server, "warm", "hello") == "ok"


@pytest.mark.parametrize("how", ["take", "grab"])
def test_a_model_that_takes_too_much_memory_is_killed_and_the_call_says_so(
    server: Server, how: str
) -> None:
    """Also when it is deaf to what its host tells it."""
    name = f"greedy-{how}"
    deploy_serverless(server, name)
    before = call(server, name)["pid"]

    with pytest.raises(ClientError) as caught:
        call(server, name, f"{how} 1500")

    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert "more memory than the 1024 MB" in caught.value.response["OriginalMessage"]
    wait_for(lambda: before not in workers(server, name), what="the worker to be killed")
    assert call(server, name)["said"] == "hello"


def test_a_model_that_cannot_be_loaded_fails_the_endpoint(server: Server) -> None:
    code = "def model_fn(model_dir):\n    raise ValueError('no such weights')\n"

    described = deploy_serverless(server, "broken", code, wait="Failed")

    assert "no such weights" in described["FailureReason"]


def test_a_cold_start_that_fails_tells_its_caller(server: Server, tmp_path: Any) -> None:
    flag = tmp_path / "broken"
    code = f"""
import os

def model_fn(model_dir):
    if os.path.exists({str(flag)!r}):
        raise ValueError("the weights have gone")

def transform_fn(model, data, content_type, accept):
    return "{{}}", "application/json"
"""
    deploy_serverless(server, "moody", code)
    wait_for_workers(server, "moody", 0)
    flag.touch()

    with pytest.raises(ClientError) as caught:
        server.runtime.invoke_endpoint(EndpointName="moody", Body=b"{}")

    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert "the weights have gone" in caught.value.response["Error"]["Message"]
    flag.unlink()
    wait_for(lambda: outcome(server, "moody", "{}") == "ok", what="the model to load", timeout_s=60)


def test_an_update_changes_the_fleet_without_a_failed_call(server: Server) -> None:
    deploy_serverless(server, "renewed")
    other = another_config(server)
    stop = threading.Event()
    outcomes: Counter[str] = Counter()

    def keep_calling() -> None:
        while not stop.is_set():
            outcomes[outcome(server, "renewed", "hello")] += 1

    caller = threading.Thread(target=keep_calling)
    caller.start()
    try:
        server.sagemaker.update_endpoint(EndpointName="renewed", EndpointConfigName=other)
        described = server.wait_for_status("renewed", "InService")
    finally:
        stop.set()
        caller.join()

    assert described["EndpointConfigName"] == other
    (variant,) = described["ProductionVariants"]
    assert variant["CurrentServerlessConfig"]["MemorySizeInMB"] == 2048
    assert set(outcomes) == {"ok"}
    wait_for(lambda: len(server.pids("clary-host", "renewed/")) == 1, what="the old host to go")
    # And on to instances, from which there is no way back.
    model = described["ProductionVariants"][0]["VariantName"]
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="renewed-instances",
        ProductionVariants=[
            {
                "VariantName": model,
                "ModelName": "model-renewed",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    server.sagemaker.update_endpoint(EndpointName="renewed", EndpointConfigName="renewed-instances")
    server.wait_for_status("renewed", "InService")
    assert outcome(server, "renewed", "hello") == "ok"
    with pytest.raises(ClientError, match="cannot be updated"):
        server.sagemaker.update_endpoint(EndpointName="renewed", EndpointConfigName=other)


def another_config(server: Server) -> str:
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="renewed-2",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "model-renewed",
                "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 7},
            }
        ],
    )
    return "renewed-2"


@pytest.mark.parametrize("victim", ["control", "gateway", "host", "template"])
def test_a_cold_start_survives_the_death_of_a_process(server: Server, victim: str) -> None:
    name, word = f"cold-{victim}", f"clary-{victim}"
    deploy_serverless(server, name)
    wait_for_template(server, name)
    wait_for_workers(server, name, 0)
    (pid,) = server.pids(word, *([f"{name}/"] if victim in ("host", "template") else []))

    os.kill(pid, signal.SIGKILL)

    wait_for(lambda: outcome_or_gone(server, name) == "ok", what="a call to work", timeout_s=60)
    wait_for_workers(server, name, 0)
    assert outcome(server, name, "hello") == "ok"


def outcome_or_gone(server: Server, name: str) -> str:
    """As ``outcome``; a gateway that dies drops its connections."""
    try:
        return outcome(server, name, "hello")
    except Exception as error:
        return type(error).__name__


def test_a_worker_that_is_killed_under_a_call_fails_that_call_only(
    server: Server, tmp_path: Path
) -> None:
    deploy_serverless(server, "fragile")
    pid = call(server, "fragile", "sleep 0.5")["pid"]

    def another_is_called_and_the_first_killed() -> None:
        assert call(server, "fragile")["pid"] != pid
        os.kill(pid, signal.SIGKILL)

    do = another_is_called_and_the_first_killed
    _while_busy(server, "fragile", 1, tmp_path, do, ends="ModelError")
    assert outcome(server, "fragile", "hello") == "ok"


def test_after_the_death_of_everything_a_call_starts_from_zero(tmp_path: Any) -> None:
    with Server(tmp_path, CLARY_SERVERLESS_IDLE_S="3") as server:
        deploy_serverless(server, "phoenix")
        wait_for_workers(server, "phoenix", 0)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(outcome_or_gone, server, "phoenix")
            wait_for(lambda: workers(server, "phoenix") or running.done(), what="a start")
            server.kill()
            running.result()
        server.start()
        server.wait_for_status("phoenix", "InService")

        assert call(server, "phoenix")["said"] == "hello"
        wait_for_workers(server, "phoenix", 0)
        server.sagemaker.delete_endpoint(EndpointName="phoenix")
        wait_for(lambda: not server.pids("phoenix/"), what="everything of it to go", timeout_s=30)


def test_several_gateways_share_the_limit(tmp_path: Any) -> None:
    with Server(tmp_path, CLARY_GATEWAY_PROCESSES="3") as server:
        deploy_serverless(server, "shared", MaxConcurrency=2)
        # With a pool of one, most of these make a connection of their own, and the system spreads
        # those over the gateways.
        client = server.client("sagemaker-runtime", max_pool_connections=1)
        together = threading.Barrier(12)

        def one(number: int) -> str:
            together.wait(60)
            return outcome(server, "shared", "sleep 6", client)

        with ThreadPoolExecutor(12) as pool:
            outcomes = Counter(pool.map(one, range(12)))
        assert set(outcomes) <= {"ok", "ThrottlingException"}
        # The limit, and one more for each gateway that heard of the others too late.
        assert 2 <= outcomes["ok"] <= 5
        # Nobody counts what has ended: one after another they all work, whatever gateway it is.
        for _ in range(12):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("POST", "/endpoints/shared/invocations", b"hello")
            assert connection.getresponse().status == 200
            connection.close()


def test_metrics_of_cold_starts_and_of_concurrency(server: Server) -> None:
    deploy_serverless(server, "counted", MaxConcurrency=4, ProvisionedConcurrency=1)
    client = server.client("sagemaker-runtime", max_pool_connections=3)
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(outcome, server, "counted", "sleep 2", client) for _ in range(3)]
        assert {each.result() for each in running} == {"ok"}

    prefix = "ServerlessProvisionedConcurrency"
    for name, statistic, least, most in (
        ("ModelSetupTime", "SampleCount", 1, 2),
        ("ServerlessConcurrentExecutionsUtilization", "Maximum", 0.5, 0.75),
        (f"{prefix}Executions", "Maximum", 1, 1),
        (f"{prefix}Utilization", "Maximum", 1, 1),
        (f"{prefix}Invocations", "Sum", 1, 2),
        (f"{prefix}SpilloverInvocations", "Sum", 1, 2),
    ):

        def value(name: str = name, statistic: str = statistic) -> float:
            return newest(server, "counted", name, statistic)

        wait_for(lambda found=value: found() > 0, what=name, timeout_s=30)
        assert least <= value() <= most, name


def newest(server: Server, endpoint: str, metric: str, statistic: str) -> float:
    """Return the largest value of a metric's statistic in the last ten minutes; 0 without any."""
    now = datetime.now(UTC)
    reply = server.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=1),
        Period=3600,
        Statistics=[statistic],
    )
    return max((float(point[statistic]) for point in reply["Datapoints"]), default=0.0)
