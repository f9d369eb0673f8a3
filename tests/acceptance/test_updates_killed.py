"""Every way to change an endpoint, with processes killed in the middle: no call is lost.

What an update does is looked at in ``test_updates*.py`` and ``test_variants.py``. Here the calls
count, of a client that makes 200 a second. Control is killed at each step; the slow ones are the
rest of a table of which some cases are always run.
"""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from load import Load
from server import IMAGE, ROLE, Server, wait_for
from updates import (
    BROKEN,
    RATE,
    WORD,
    a_config,
    a_load_on,
    a_model,
    an_endpoint_under_load,
    answers_since,
    blue_green,
    describe,
    kill_control,
    update,
    variant_status,
)

HANGING = "import time\ntime.sleep(3600)\n"

ONE_IS_ENOUGH = """
import pathlib

def model_fn(model_dir):
    pathlib.Path("{marker}").mkdir()  # the second one cannot
    return "new"

def transform_fn(model, data, content_type, accept):
    return model, "text/plain"
"""

SLEEPS = """
import os, pathlib, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == b"sleep":
        pathlib.Path("{directory}", f"asleep-{{os.getpid()}}").touch()
        time.sleep(3)
    return "woken", "text/plain"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("killed")
    with Server(
        directory, CLARY_FLEET_MAX_WORKERS="1", CLARY_FLEET_STARTUP_TIMEOUT_S="20"
    ) as running:
        for word in ("old", "new"):
            a_model(running, word, WORD.format(word=word))
        a_model(running, "broken", BROKEN)
        a_model(running, "hanging", HANGING)
        running.sagemaker.create_model(
            ModelName="lost",
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": "s3://models/nothing/here.tar.gz"},
            ExecutionRoleArn=ROLE,
        )
        yield running


def policy(kind: str, wait_s: int, *, last_wait_s: int = 0) -> Mapping[str, Any]:
    """A deployment of two instances in at least two steps, where the kind has steps."""
    if kind == "rolling":
        return {
            "RollingUpdatePolicy": {
                "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                "WaitIntervalInSeconds": wait_s,
            }
        }
    size = {"Type": "CAPACITY_PERCENT", "Value": 50}
    sizes = {"canary": {"CanarySize": size}, "linear": {"LinearStepSize": size}}
    if kind == "all-at-once":
        last_wait_s = wait_s
    routing = kind.upper().replace("-", "_")
    return blue_green(routing, wait_s, last_wait_s, **sizes.get(kind, {}))


class Change(NamedTuple):
    """A way to change an endpoint of the model ``old``, and how it ends."""

    begin: Callable[[Server, str], None]
    answers: bytes = b"new"
    """What all calls are answered with when it is over."""

    reason: str = ""
    """Words of the failure reason; of a change that works out, nothing."""

    before: int = 2
    after: int = 2
    """Instances."""

    endpoint: Callable[[Server, str], AbstractContextManager[Load]] | None = None
    at_bake: Callable[[Server, str], None] | None = None


def updated(kind: str, model: str = "new", wait_s: int = 1) -> Callable[[Server, str], None]:
    def begin(server: Server, name: str) -> None:
        config = a_config(server, f"{name}-new", model, 2)
        update(server, name, config, DeploymentConfig=policy(kind, wait_s))

    return begin


def guarded(kind: str, server: Server, name: str) -> None:
    """Update with bakes that last until an alarm ends them."""
    server.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Tests",
        MetricName="Trouble",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    set_alarm(server, name, "OK")
    update(
        server,
        name,
        a_config(server, f"{name}-new", "new", 2),
        DeploymentConfig={
            **policy(kind, 600),
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name}]},
        },
    )


def set_alarm(server: Server, name: str, value: str = "ALARM") -> None:
    server.client("cloudwatch").set_alarm_state(
        AlarmName=name, StateValue=value, StateReason="It is a test."
    )


def second_is_broken(server: Server, name: str) -> None:
    """The first batch of a rolling update gets its traffic; the second does not load."""
    marker = server.directory / f"marker-{name}"
    a_model(server, name, ONE_IS_ENOUGH.format(marker=marker))
    updated("rolling", name)(server, name)


def resize(count: int, server: Server, name: str) -> None:
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
    )


def two_variants(server: Server, name: str) -> AbstractContextManager[Load]:
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": word,
                "ModelName": word,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "InitialVariantWeight": weight,
            }
            for word, weight in (("old", 1.0), ("new", 0.0))
        ],
    )
    return a_load_on(server, name, name)


def weigh(server: Server, name: str) -> None:
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "old", "DesiredWeight": 0.0},
            {"VariantName": "new", "DesiredWeight": 1.0},
        ],
    )


KINDS = ("all-at-once", "canary", "linear", "rolling")

UNWELL = {
    "broken": "this model is not well",
    "lost": "Failed to download model data",
    "hanging": "did not pass the ping health check",
}

CHANGES = {
    **{kind: Change(updated(kind)) for kind in KINDS},
    "scale-out": Change(partial(resize, 4), b"old", after=4),
    "scale-in": Change(partial(resize, 1), b"old", before=4, after=1),
    "weights": Change(weigh, endpoint=two_variants),
    **{
        f"{kind}-alarm": Change(
            partial(guarded, kind), b"old", "is in state ALARM", at_bake=set_alarm
        )
        for kind in KINDS
    },
    **{
        f"{kind}-{model}": Change(updated(kind, model), b"old", reason)
        for kind in KINDS
        for model, reason in UNWELL.items()
    },
    "rolling-second": Change(second_is_broken, b"old", "FileExistsError"),
}

ALWAYS = {
    ("scale-in", True),
    ("weights", True),
    ("linear-alarm", True),
    ("canary-lost", False),
    ("rolling-second", False),
}


CASES = [
    pytest.param(
        name,
        kill,
        marks=() if (name, kill) in ALWAYS else (pytest.mark.slow,),
        id=f"{name}-{'killed' if kill else 'left'}",
    )
    for name in CHANGES
    for kill in (False, True)
]


def follow(server: Server, name: str, change: Change, *, kill: bool) -> dict[str, Any]:
    """Look at an endpoint until it is done, and kill control whenever something has changed."""
    seen: tuple[Any, ...] = ()
    found: dict[str, Any] = {}
    has_rung = change.at_bake is None

    def is_done() -> bool:
        nonlocal seen, found, has_rung
        found = describe(server, name)
        step = variant_status(server, name)
        state = (
            found["EndpointStatus"],
            step,
            *(variant["CurrentInstanceCount"] for variant in found["ProductionVariants"]),
        )
        if state != seen and kill:
            kill_control(server)
        seen = state
        if not has_rung and step.startswith("Baking"):
            assert change.at_bake is not None
            change.at_bake(server, name)
            has_rung = True
        return bool(found["EndpointStatus"] == "InService")

    wait_for(is_done, timeout_s=100, what=f"{name} to be done")
    assert has_rung, found
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("case", "kill"), CASES)
def test_no_call_is_lost(server: Server, case: str, kill: bool) -> None:
    change = CHANGES[case]
    name = f"{case}-{'killed' if kill else 'left'}"
    if change.endpoint is not None:
        endpoint = change.endpoint(server, name)
    else:
        endpoint = an_endpoint_under_load(server, name, change.before)
    with endpoint as load:
        change.begin(server, name)
        found = follow(server, name, change, kill=kill)
        assert change.reason in found.get("FailureReason", "")
        assert bool(change.reason) == ("FailureReason" in found), found
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls afterwards")
        assert answers_since(load, moment) == {change.answers}
        wait_for(
            lambda: len(server.pids("clary-host", f" {name}/")) == change.after,
            timeout_s=30,
            what="the surplus to stop",
        )


MODEL_ERROR = 424
BROKEN_CONNECTION = 0


@pytest.mark.parametrize(
    ("process", "lost"),
    [
        pytest.param("clary-gateway", {BROKEN_CONNECTION}, marks=pytest.mark.slow),
        pytest.param("clary-objects", set(), marks=pytest.mark.slow),
        ("clary-host", set()),
        ("clary-worker", {MODEL_ERROR}),
    ],
)
def test_an_update_goes_on_whoever_dies(server: Server, process: str, lost: set[int]) -> None:
    """Killed in a bake. What is lost is what was with that very process, or nothing."""
    name = f"goes-on-{process.removeprefix('clary-')}"
    is_of_instances = process in ("clary-host", "clary-worker")
    a_config(server, f"{name}-old", "old", 2)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-old")
    server.wait_for_status(name, "InService")
    with Load(server.port, name, rate=RATE) as load:
        wait_for(lambda: load.good_since(0) > 20, what="the load to run")
        updated("linear", wait_s=3)(server, name)
        wait_for(
            lambda: variant_status(server, name).startswith("Baking"), timeout_s=20, what="a bake"
        )
        words = (process, f" {name}/") if is_of_instances else (process,)
        victims = server.pids(*words)
        assert len(victims) == (4 if is_of_instances else 1)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, timeout_s=30, what="the load to go on")

        def is_done() -> bool:
            try:
                found = describe(server, name)
            except (ClientError, BotoCoreError):
                return False  # the gateway, or what it waits for, is not back yet
            return bool(found["EndpointStatus"] == "InService")

        wait_for(is_done, timeout_s=60, what="the update to end")
        assert describe(server, name)["EndpointConfigName"] == f"{name}-new"
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls afterwards")
        assert answers_since(load, moment) == {b"new"}
    assert {outcome.status for outcome in load.failures} <= lost
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_an_instance_drains_while_control_is_killed(server: Server) -> None:
    """Calls that a surplus instance has begun are answered, whoever is there to wait for them."""
    a_model(server, "sleeps", SLEEPS.format(directory=server.directory))
    config = a_config(server, "drained", "sleeps", 2)
    answers: list[bytes] = []
    with a_load_on(server, "drained", config):
        calls = [
            threading.Thread(
                target=lambda: answers.append(server.invoke("drained", b"sleep", "a/b"))
            )
            for _ in range(4)  # the load may have two of them meet on one instance
        ]
        for call in calls:
            call.start()
        wait_for(
            lambda: len(list(server.directory.glob("asleep-*"))) == 2,
            timeout_s=30,
            what="both instances to be in a call",
        )
        resize(1, server, "drained")
        kill_control(server)
        server.wait_for_status("drained", "InService")
        for call in calls:
            call.join(30)
        assert answers == [b"woken"] * 4
        wait_for(
            lambda: len(server.pids("clary-host", " drained/")) == 1,
            timeout_s=30,
            what="the surplus to stop",
        )


@pytest.mark.parametrize("kill", [False, True], ids=["left", "killed"])
def test_nothing_stops_while_a_gateway_has_not_heard_of_it(server: Server, kill: bool) -> None:
    """The gateway stands still for longer than control waits for its word."""
    name = f"unheard-{kill}".lower()
    with an_endpoint_under_load(server, name, 2) as load:
        updated("all-at-once", wait_s=3)(server, name)
        wait_for(
            lambda: variant_status(server, name).startswith("Baking"), timeout_s=20, what="a bake"
        )
        [gateway] = server.pids("clary-gateway")
        [control] = server.pids("clary-control")
        hosts = server.pids("clary-host", f" {name}/")
        assert len(hosts) == 4
        os.kill(gateway, signal.SIGSTOP)
        try:
            if kill:
                os.kill(control, signal.SIGKILL)
            wait_for(
                lambda: marked_to_stop(server, name) == 2, timeout_s=30, what="the bake to end"
            )
            # Control has said so to the gateway, where it can, and looks ten times a second
            # whether everybody has heard of it.
            watched_until = time.monotonic() + 2
            while time.monotonic() < watched_until:
                assert server.pids("clary-host", f" {name}/") == hosts
        finally:
            os.kill(gateway, signal.SIGCONT)
        server.wait_for_status(name, "InService")
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="calls afterwards")
        assert answers_since(load, moment) == {b"new"}
        wait_for(
            lambda: len(server.pids("clary-host", f" {name}/")) == 2,
            timeout_s=30,
            what="the old ones to stop",
        )


def marked_to_stop(server: Server, endpoint: str) -> int:
    """Count the instances that control means to stop."""
    query = "SELECT count(*) FROM instances WHERE endpoint_name = ? AND stopping"
    with closing(sqlite3.connect(server.data_dir / "state.sqlite")) as database:
        return int(database.execute(query, (endpoint,)).fetchone()[0])
