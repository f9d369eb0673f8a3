"""Chains of containers: each a real worker process, driven by one gateway."""

import contextlib
import json
import threading
from dataclasses import replace

import pytest

from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from gateways import Gateway, WorkerProcess, make_settings, wait_for

STEP = """
import json, os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, bytes) else data.encode()
    if content_type == "test/sleep":
        time.sleep(float(text))
    elif content_type == "test/error-at-NAME":
        raise ValueError("not today")
    elif content_type == "test/kill-at-NAME":
        os.kill(os.getpid(), 9)
    elif content_type == "test/hang-at-NAME":
        time.sleep(3)
    elif content_type == "test/large-at-NAME":
        return b"x" * int(text.split(b">")[0]), "test/large"
    elif content_type == "test/empty-at-NAME":
        return b"", "test/empty"
    elif content_type == "test/large":
        return str(len(text)).encode(), "test/length"
    seen = f"{text.decode()}>NAME[{content_type},{accept}]"
    return seen.encode(), content_type if "-at-" in content_type else "from/NAME"
"""
NAMES = ("first", "second", "third")
LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("steps")
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in NAMES:
            workers[name] = WorkerProcess(directory / name, STEP.replace("NAME", name), name)
            stack.callback(workers[name].close)
        yield workers


def a_route(workers, *, is_direct=False, spare=None):
    addresses = {name: (worker.address,) for name, worker in workers.items()}
    for name, worker in (spare or {}).items():
        addresses[name] += (worker.address,)
    containers = tuple(
        ContainerRoute(name=name, workers=found) for name, found in addresses.items()
    )
    instance = InstanceRoute(id="i-1", containers=containers)
    variant = VariantRoute(name="A", weight=1, instances=(instance,), is_direct=is_direct)
    return EndpointRoute(name="steps", variants=(variant,))


@pytest.fixture(scope="module")
def gateway(workers):
    settings = make_settings(
        router={
            "max_step_body_bytes": LIMIT,
            "invocation_timeout_s": 2.0,
            "instance_wait_s": 5.0,
        }
    )
    gateway = Gateway(settings)
    gateway.publish("steps", a_route(workers))
    direct = a_route(workers, is_direct=True)
    gateway.publish("direct", EndpointRoute(name="direct", variants=direct.variants))
    gateway.route("plain", workers["first"].address)
    wait_for(lambda: is_usable(gateway), "the workers to be connected to")
    yield gateway
    gateway.close()


@pytest.fixture
def client(gateway):
    with gateway.connect() as client:
        yield client


def is_usable(gateway):
    (variant,) = gateway.router._endpoints["steps"].variants
    return all(instance.is_usable for instance in variant.instances)


def container_counters(gateway, endpoint="steps"):
    (row,) = [row for row in gateway.registry.to_json() if row["endpoint"] == endpoint]
    return row["containers"]


def test_each_answer_is_the_next_request_and_the_clients_accept_is_for_the_last(client):
    accept = [("Accept", "text/x")]
    status, headers, body = client.invoke("steps", b"in", "text/start", accept)
    assert status == 200
    assert headers["content-type"] == "from/third"
    assert headers["x-amzn-invoked-production-variant"] == "A"
    first, second, third = body.decode().split(">")[1:]
    assert first.startswith("first[text/start,")
    assert second.startswith("second[from/first,")
    assert "text/x" not in first + second
    assert third == "third[from/second,text/x]"


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_told_with_the_name_of_its_container_and_ends_the_chain(client, gateway, name):
    before = container_counters(gateway)
    status, _, body = client.invoke("steps", b"in", f"test/error-at-{name}")
    assert status == 424
    answer = json.loads(body)
    assert answer["OriginalStatusCode"] == 500
    assert f"from {name} with message" in answer["Message"]
    assert "not today" in answer["OriginalMessage"]
    after = container_counters(gateway)
    later = NAMES[NAMES.index(name) + 1 :]
    assert [after[n]["invocations"] - before[n]["invocations"] for n in later] == [0] * len(later)
    assert after[name]["model_errors"] - before[name]["model_errors"] == 1


def test_an_empty_answer_is_passed_on(client):
    status, _, body = client.invoke("steps", b"in", "test/empty-at-first")
    assert status == 200
    assert body.startswith(b">second[test/empty,")


@pytest.mark.parametrize("size", [0, 300_000, LIMIT])
def test_long_answers_reach_the_next_container_whole(client, size):
    status, _, body = client.invoke("steps", str(size).encode(), "test/large-at-first")
    assert status == 200
    assert body.startswith(str(size).encode())


def test_long_bodies_pass_through_to_the_first_and_from_the_last_container(client):
    status, _, body = client.invoke("steps", b"y" * 900_000, "text/start")
    assert status == 200
    assert body.startswith(b"y" * 900_000 + b">first")
    status, headers, body = client.invoke("steps", b"900000", "test/large-at-third")
    assert (status, headers["content-type"]) == (200, "test/large")
    assert body == b"x" * 900_000


def test_an_answer_over_the_limit_is_refused_between_the_steps(client, gateway):
    before = container_counters(gateway)["third"]["invocations"]
    for _ in range(2):  # the connection to the worker is as good as before
        status, _, body = client.invoke("steps", str(LIMIT + 1).encode(), "test/large-at-first")
        assert status == 424
        assert json.loads(body)["Message"] == (
            "Received response from first with status code 200. However, the request payload from "
            f"first to second is {LIMIT + 1} bytes, which has exceeded the maximum limit of 1 MB."
        )
    assert container_counters(gateway)["third"]["invocations"] == before
    assert client.invoke("steps", b"in", "text/start")[0] == 200


def test_all_steps_share_one_deadline_and_the_late_one_is_named(client):
    status, _, body = client.invoke("steps", b"in", "test/hang-at-second")
    assert status == 424
    assert (
        "timed out while waiting for a response from container second"
        in json.loads(body)["Message"]
    )


def test_direct_mode_asks_only_the_container_that_is_named(client, gateway):
    for name in NAMES:
        headers = [("X-Amzn-SageMaker-Target-Container-Hostname", name), ("Accept", "text/x")]
        status, _, body = client.invoke("direct", b"in", "text/start", headers)
        assert (status, body) == (200, f"in>{name}[text/start,text/x]".encode())
    assert {
        name: row["invocations"] for name, row in container_counters(gateway, "direct").items()
    } == {name: 1 for name in NAMES}


@pytest.mark.parametrize(
    ("endpoint", "target", "text"),
    [
        ("direct", None, "is required"),
        ("direct", "fourth", "fourth not found for endpoint direct. Its containers are first,"),
        ("steps", "first", "is only allowed for endpoints with a multi-container model in Direct"),
        (
            "plain",
            "primary",
            "is only allowed for endpoints with a multi-container model in Direct",
        ),
    ],
)
def test_a_container_that_cannot_be_named_is_a_validation_error(client, endpoint, target, text):
    headers = [("X-Amzn-SageMaker-Target-Container-Hostname", target)] if target else []
    status, headers, body = client.invoke(endpoint, b"in", "text/start", headers)
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert text in json.loads(body)["Message"]


def test_a_shadow_of_several_containers_gets_whole_calls(client, gateway, workers):
    (plain,) = gateway.router._endpoints["plain"].route.variants
    (shadow,) = a_route(workers).variants
    shadowed = EndpointRoute(
        name="shadowed", variants=(plain,), shadow=replace(shadow, name="S", weight=1.0)
    )
    gateway.publish("shadowed", shadowed)

    def counts():
        rows = [row for row in gateway.registry.to_json() if row["endpoint"] == "shadowed"]
        return {row["variant"]: row for row in rows}

    def is_answered():
        """A call whose copy lags is not copied: the next one is."""
        answer = client.invoke("shadowed", b"in", "text/start")[2]
        assert answer == b"in>first[text/start,application/json]"
        return counts()["S"]["containers"]["third"]["handler_us"] > 0

    wait_for(is_answered, "a copy to be answered")

    def has_whole_copies():
        row = counts()["S"]
        calls = {container["invocations"] for container in row["containers"].values()}
        return calls == {row["invocations"]}

    wait_for(has_whole_copies, "each copy to have passed each container")
    assert 1 <= counts()["S"]["invocations"] <= counts()["AllTraffic"]["invocations"]


# -- deaths; each with workers of its own ----------------------------------------------------------


@pytest.fixture
def own_workers(tmp_path):
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in (*NAMES, "spare"):
            code = STEP.replace("NAME", "second" if name == "spare" else name)
            workers[name] = WorkerProcess(tmp_path / name, code, name)
            stack.callback(workers[name].close)
        yield workers


@pytest.fixture
def own_gateway(make_gateway, own_workers):
    gateway = make_gateway(router={"invocation_timeout_s": 20.0, "instance_wait_s": 1.0})
    gateway.publish("steps", a_route({name: own_workers[name] for name in NAMES}))
    wait_for(lambda: is_usable(gateway), "the workers to be connected to")
    return gateway


def in_background(gateway, body, content_type):
    answers = []

    def call():
        with gateway.connect() as client:
            answers.append(client.invoke("steps", body, content_type))

    thread = threading.Thread(target=call)
    thread.start()
    return thread, answers


def test_a_worker_that_dies_in_a_step_fails_that_step_only(own_gateway):
    with own_gateway.connect() as client:
        status, _, body = client.invoke("steps", b"in", "test/kill-at-second")
    assert status == 424
    assert "Received server error (0) from second" in json.loads(body)["Message"]


def test_a_chain_begins_when_all_its_containers_are_there(own_gateway, own_workers):
    own_workers["second"].kill()
    wait_for(lambda: not is_usable(own_gateway), "the death to be seen")
    thread, answers = in_background(own_gateway, b"in", "text/start")
    own_workers["second"].start()
    thread.join(10)
    assert answers[0][0] == 200
    assert container_counters(own_gateway)["first"]["invocations"] == 1


def test_a_step_waits_for_its_container_to_come_back_and_the_first_runs_once(
    own_gateway, own_workers
):
    thread, answers = in_background(own_gateway, b"0.3", "test/sleep")
    wait_for(
        lambda: container_counters(own_gateway)["first"]["invocations"] == 1, "the first to begin"
    )
    own_workers["second"].kill()
    wait_for(lambda: own_gateway.router._pipelines._waiting, "the second step to wait")
    own_workers["second"].start()
    thread.join(10)
    assert answers[0][0] == 200
    invocations = {n: row["invocations"] for n, row in container_counters(own_gateway).items()}
    assert invocations == {name: 1 for name in NAMES}


def test_a_step_whose_container_stays_away_fails_with_its_name(own_gateway, own_workers):
    thread, answers = in_background(own_gateway, b"0.5", "test/sleep")
    wait_for(
        lambda: container_counters(own_gateway)["first"]["invocations"] == 1, "the first to begin"
    )
    own_workers["second"].kill()
    thread.join(10)
    status, _, body = answers[0]
    assert status == 424
    assert "from second with message" in json.loads(body)["Message"]
    assert container_counters(own_gateway)["first"]["invocations"] == 1


def test_a_step_that_a_dead_worker_did_not_start_goes_to_its_neighbour(own_gateway, own_workers):
    route = a_route(
        {name: own_workers[name] for name in NAMES}, spare={"second": own_workers["spare"]}
    )
    own_gateway.publish("steps", route)
    wait_for(
        lambda: all(w.channel.is_ready for w in own_gateway.router._workers),
        "the spare worker to be connected to",
    )
    threads = [in_background(own_gateway, b"in", "test/hang-at-second") for _ in range(4)]
    wait_for(
        lambda: container_counters(own_gateway)["second"]["invocations"] == 4, "four to arrive"
    )
    own_workers["second"].kill()
    for thread, _ in threads:
        thread.join(15)
    statuses = sorted(answers[0][0] for _, answers in threads)
    assert statuses == [200, 200, 200, 424]


def test_a_client_that_leaves_ends_its_chain(own_gateway):
    with own_gateway.connect() as client:
        client.post("/endpoints/steps/invocations", b"0.4", [("Content-Type", "test/sleep")])
        wait_for(
            lambda: container_counters(own_gateway)["first"]["invocations"] == 1,
            "the first to begin",
        )
    with own_gateway.connect() as client:  # behind it in the first worker's queue
        assert client.invoke("steps", b"in", "text/start")[0] == 200
    assert container_counters(own_gateway)["second"]["invocations"] == 1
