"""Handlers that yield, deployed and called by stock boto3: a tiny generator of tokens."""

import contextlib
import json
import os
import time

import pytest
from botocore.exceptions import EventStreamError

from server import Server, wait_for

SYNC = """
import json, os, time

WORDS = ["the", "cat", "sat", "on", "a", "mat"]

def model_fn(model_dir):
    return {word: WORDS[(i + 1) % len(WORDS)] for i, word in enumerate(WORDS)}

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    if data.get("fail") == "early":
        raise ValueError("no such prompt")
    return tokens(data, model)

def tokens(data, model):
    word = data["prompt"]
    try:
        for number in range(data["count"]):
            if number == data.get("fail"):
                raise ValueError("out of words")
            if number == data.get("die"):
                os._exit(1)
            yield f"{word} {time.monotonic_ns()}\\n"
            time.sleep(data.get("pause", 0))
            word = model[word]
    finally:
        if "mark" in data:
            open(data["mark"], "w").close()

def output_fn(prediction, accept):
    return prediction, "text/plain"
"""
ASYNC = (
    SYNC.replace("def tokens", "async def tokens")
    .replace("time.sleep", "await asyncio.sleep")
    .replace("import json", "import asyncio, json")
)
CODE = {"sync": SYNC, "async": ASYNC}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("generators")) as server:
        for name, code in CODE.items():
            server.create_endpoint(
                name,
                {"code/inference.py": code},
                environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
            )
        for name in CODE:
            server.wait_for_status(name, "InService")
        yield server


@contextlib.contextmanager
def stream(server, endpoint, **wish):
    response = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint,
        Body=json.dumps({"prompt": "the", "count": 6, **wish}),
        ContentType="application/json",
    )
    with contextlib.closing(response["Body"]):
        yield response


def parts(response):
    return (event["PayloadPart"]["Bytes"].decode() for event in response["Body"])


KINDS = pytest.mark.parametrize("kind", CODE)


@KINDS
def test_each_yield_is_one_part_and_leaves_before_the_next_is_made(server, kind):
    delays, words = [], []
    with stream(server, kind, count=12, pause=0.05) as response:
        assert response["ContentType"] == "text/plain"
        for part in parts(response):
            word, made_at = part.split()
            words.append(word)
            delays.append(time.monotonic_ns() - int(made_at))
    assert words == ["the", "cat", "sat", "on", "a", "mat"] * 2
    assert sorted(delays)[6] < 40e6  # not with the next one; less than 1 ms on an idle machine


@KINDS
def test_a_plain_invocation_gets_the_parts_as_its_body(server, kind):
    body = server.invoke(kind, json.dumps({"prompt": "on", "count": 3})).decode()
    assert [line.split()[0] for line in body.splitlines()] == ["on", "a", "mat"]


@KINDS
def test_streams_of_one_worker_run_side_by_side(server, kind):
    with (
        stream(server, kind, count=30, pause=0.02) as first,
        stream(server, kind, count=30, pause=0.02) as second,
    ):
        ours, theirs = parts(first), parts(second)
        made = [(next(ours).split()[1], next(theirs).split()[1]) for _ in range(30)]
    assert int(made[0][1]) < int(made[-1][0])


@KINDS
def test_what_fails_early_is_a_model_error_and_what_fails_late_ends_the_stream(server, kind):
    for fail in ("early", 0):
        with (
            pytest.raises(server.runtime.exceptions.ModelError, match=r"no such|out of words"),
            stream(server, kind, fail=fail),
        ):
            pass
    received = []
    with (
        pytest.raises(EventStreamError, match=r"ModelStreamError.*out of words"),
        stream(server, kind, fail=2) as response,
    ):
        received.extend(parts(response))
    assert len(received) == 2


@KINDS
def test_a_client_that_leaves_closes_the_generator(server, kind):
    mark = server.directory / f"closed-{kind}"
    with stream(server, kind, count=10_000, pause=0.01, mark=str(mark)) as response:
        next(parts(response))
        assert not mark.exists()
    wait_for(mark.exists, what="the generator to be closed")


@KINDS
def test_a_client_that_does_not_read_stops_the_generator_and_nobody_else(server, kind):
    with stream(server, kind, count=10_000_000) as deaf:
        next(parts(deaf))
        with stream(server, kind) as response:
            assert len(list(parts(response))) == 6
        (worker,) = server.pids("clary-worker", f" {kind}/")
        wait_for(lambda: is_at_rest(worker), timeout_s=20, what="the generator to be stopped")
        with stream(server, kind) as response:
            assert len(list(parts(response))) == 6


def is_at_rest(pid):
    """Whether a process uses less than a tenth of a core for a while."""
    before = cpu_s(pid)
    time.sleep(0.3)  # a span to measure over, no wait for anything
    return cpu_s(pid) - before < 0.03


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@KINDS
def test_a_worker_that_dies_in_mid_stream_is_a_model_stream_error(server, kind):
    received = []
    with (
        pytest.raises(EventStreamError, match="ModelStreamError"),
        stream(server, kind, die=2, pause=0.1) as response,
    ):
        received.extend(parts(response))
    assert len(received) == 2
    with stream(server, kind) as response:  # waits for the new worker
        assert len(list(parts(response))) == 6
