"""Response streams end to end: a user's FastAPI server, deployed, and stock boto3."""

import contextlib
import json
import os
import signal
import time

import pytest
from botocore.exceptions import EventStreamError

from server import Server, wait_for

USER_SERVER = """
import asyncio, json, os, time
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI()
log = Path(os.environ["SEEN"])


@app.get("/ping")
async def ping():
    return {}


async def tokens(count, pause):
    try:
        for number in range(count):
            yield f"data: {number} {time.time()}\\n\\n"
            await asyncio.sleep(pause)
    finally:
        log.open("a").write("closed\\n")


async def dying():
    yield "data: 0\\n\\n"
    await asyncio.sleep(0.2)
    os._exit(1)


async def failing():
    yield "data: 0\\n\\n"
    await asyncio.sleep(0.2)
    raise ValueError("boom")


@app.post("/invocations")
async def invocations(request: Request):
    wish = await request.json()
    if wish["kind"] == "json":
        return {"accept": request.headers.get("accept")}
    if wish["kind"] == "refuse":
        return JSONResponse({"no": "thanks"}, status_code=422)
    parts = {
        "tokens": lambda: tokens(wish["count"], wish["pause"]),
        "dying": dying,
        "failing": failing,
    }[wish["kind"]]()
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "from=server"}
    return StreamingResponse(parts, media_type="text/event-stream", headers=headers)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("streaming")
    with Server(directory, CLARY_ROUTER_STREAM_TIMEOUT_S="6") as server:
        server.deploy(
            "chat",
            {"code/server.py": USER_SERVER},
            image="clary/server:latest",
            environment={"CLARY_APP": "server:app", "SEEN": str(directory / "seen")},
        )
        server.seen = directory / "seen"
        yield server


@contextlib.contextmanager
def stream(server, kind, **more):
    response = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName="chat",
        Body=json.dumps({"kind": kind, **more}),
        ContentType="application/json",
        Accept="text/event-stream",
    )
    with contextlib.closing(response["Body"]):
        yield response


def texts(response):
    return (event["PayloadPart"]["Bytes"].decode() for event in response["Body"])


def test_server_sent_events_arrive_one_by_one_as_they_are_made(server):
    delays = []
    with stream(server, "tokens", count=20, pause=0.05) as response:
        assert response["ContentType"].startswith("text/event-stream")
        assert response["InvokedProductionVariant"] == "AllTraffic"
        assert response["CustomAttributes"] == "from=server"
        for number, text in enumerate(texts(response)):
            _, count, made_at = text.split()
            assert int(count) == number
            delays.append(time.time() - float(made_at))
    assert len(delays) == 20
    assert sorted(delays)[10] < 0.04  # not with the next one; about 1 ms on an idle machine


def test_an_answer_that_is_no_stream_comes_as_one(server):
    with stream(server, "json") as response:
        assert response["ContentType"] == "application/json"
        assert json.loads("".join(texts(response))) == {"accept": "text/event-stream"}


def test_a_plain_invocation_gets_the_same_stream_as_its_body(server):
    body = server.invoke("chat", b'{"kind": "tokens", "count": 3, "pause": 0}').decode()
    assert [event.split()[1] for event in body.strip().split("\n\n")] == ["0", "1", "2"]


def test_a_refusal_is_a_model_error(server):
    with (
        pytest.raises(server.runtime.exceptions.ModelError) as caught,
        stream(server, "refuse"),
    ):
        pass
    assert caught.value.response["OriginalStatusCode"] == 422


@pytest.mark.parametrize("kind", ["failing", "dying"])
def test_a_server_that_fails_in_mid_stream_is_a_model_stream_error(server, kind):
    parts = []
    with (
        pytest.raises(EventStreamError, match="ModelStreamError"),
        stream(server, kind) as response,
    ):
        parts.extend(texts(response))
    assert parts == ["data: 0\n\n"]
    wait_for(lambda: answers(server), timeout_s=20, what="the server to be back")


def answers(server):
    try:
        with stream(server, "tokens", count=1, pause=0) as response:
            return list(texts(response))
    except (server.runtime.exceptions.ModelError, server.runtime.exceptions.ServiceUnavailable):
        return None


def test_a_stream_ends_at_the_limit(server):
    started = time.monotonic()
    with (
        pytest.raises(EventStreamError, match="time limit"),
        stream(server, "tokens", count=1000, pause=0.1) as response,
    ):
        list(texts(response))
    assert time.monotonic() - started > 5.5


def test_a_client_that_leaves_ends_the_generator(server):
    before = server.seen.read_text().count("closed") if server.seen.exists() else 0
    with stream(server, "tokens", count=1000, pause=0.05) as response:
        next(texts(response))
    wait_for(
        lambda: server.seen.exists() and server.seen.read_text().count("closed") > before,
        what="the generator to be closed",
    )


def test_streams_outlive_control(server):
    with stream(server, "tokens", count=40, pause=0.1) as response:
        parts = texts(response)
        next(parts)
        (control,) = server.pids("clary-control")
        os.kill(control, signal.SIGKILL)
        assert len(list(parts)) == 39
    wait_for(lambda: server.pids("clary-control") not in ([], [control]), what="control to be back")
