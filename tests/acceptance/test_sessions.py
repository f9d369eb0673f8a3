"""Stateful sessions: a client's calls come back to the worker that keeps its state."""

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handlers import ECHO
from server import IMAGE, ROLE, Server, wait_for

OPENED = "X-Amzn-SageMaker-New-Session-Id"

EXPIRES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")

COUNTER = """
import json, os, uuid

def model_fn(model_dir):
    return {}

def transform_fn(model, data, content_type, accept, context):
    session = context.get_request_header(0, "X-Amzn-SageMaker-Session-Id")
    request = json.loads(data)
    if session == "NEW_SESSION":
        session = request.get("id") or str(uuid.uuid4())
        model[session] = 0
        context.set_response_header(0, request.get("header", "X-Amzn-SageMaker-Session-Id"),
                                    f"{session}; Expires={request['expires']}")
    elif session is not None:
        model[session] += 1
        if request.get("close"):
            del model[session]
            context.set_response_header(0, "X-Amzn-SageMaker-Closed-Session-Id", session)
            return json.dumps({"pid": os.getpid()}), "application/json"
    count = model.get(session)
    return json.dumps({"pid": os.getpid(), "count": count, "id": session}), "application/json"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two gateways, two instances, two workers each: any of them may get the next call."""
    with Server(tmp_path_factory.mktemp("sessions"), CLARY_GATEWAY_PROCESSES="2") as running:
        running.deploy(
            "counter",
            {"code/inference.py": COUNTER},
            environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "2"},
            InitialInstanceCount=2,
        )
        yield running


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def call(server: Server, session: str, body: str = "{}") -> dict[str, Any]:
    """Call on a connection of its own, so that the gateways take turns as the system likes."""
    client = server.client("sagemaker-runtime", max_pool_connections=1)
    reply: dict[str, Any] = client.invoke_endpoint(
        EndpointName="counter", SessionId=session, Body=body, ContentType="application/json"
    )
    client.close()
    server._clients.pop(next(k for k, v in server._clients.items() if v is client))
    return reply


def opened(server: Server, seconds: float = 600, **more: str) -> str:
    body = json.dumps({"expires": in_seconds(seconds), **more})
    header: str = call(server, "NEW_SESSION", body)["NewSessionId"]
    session, _, expires = header.partition("; Expires=")
    assert EXPIRES.fullmatch(expires)
    return session


def refusal(server: Server, session: str) -> str:
    with pytest.raises(ClientError) as refused:
        call(server, session)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    message: str = refused.value.response["Error"]["Message"]
    return message


def code_of(server: Server, session: str) -> str:
    with pytest.raises(ClientError) as refused:
        call(server, session)
    code: str = refused.value.response["Error"]["Code"]
    return code


def test_every_call_of_a_session_reaches_the_worker_that_opened_it(server: Server) -> None:
    # Chance places them: with so many, all in one place would be one run in half a million.
    sessions = [opened(server) for _ in range(20)]
    pids: dict[str, set[int]] = {session: set() for session in sessions}
    for n in range(4):
        for session in sessions:
            answer = json.loads(call(server, session)["Body"].read())
            assert answer["count"] == n + 1
            # The container gets its own id back.
            assert session.startswith(answer["id"] + "-")
            pids[session].add(answer["pid"])

    assert all(len(seen) == 1 for seen in pids.values())
    assert len(set.union(*pids.values())) > 1, "sessions are spread over workers"


SLOW_COUNTER = COUNTER.replace("request = ", "__import__('time').sleep(0.05)\n    request = ", 1)


def test_a_session_of_a_pipeline_stays_with_the_worker_of_its_last_container(
    server: Server,
) -> None:
    server.sagemaker.create_model(
        ModelName="in-a-row",
        ExecutionRoleArn=ROLE,
        Containers=[
            {
                "Image": IMAGE,
                "ContainerHostname": name,
                "ModelDataUrl": server.upload({"code/inference.py": code}, f"in-a-row/{name}"),
                "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"},
            }
            for name, code in (("pass", ECHO), ("count", SLOW_COUNTER))
        ],
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "in-a-row",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 2,
    }
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="in-a-row", ProductionVariants=[variant]
    )
    server.sagemaker.create_endpoint(EndpointName="in-a-row", EndpointConfigName="in-a-row")
    server.wait_for_status("in-a-row", "InService")

    runtime = server.client("sagemaker-runtime", max_pool_connections=8)

    def ask(session: str, **request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = runtime.invoke_endpoint(
            EndpointName="in-a-row",
            SessionId=session,
            Body=json.dumps(request),
            ContentType="application/json",
        )
        return {**reply, **json.load(reply["Body"])}

    with ThreadPoolExecutor(8) as pool:  # so that workers are busy when others are called
        opened = list(pool.map(lambda _: ask("NEW_SESSION", expires=in_seconds(600)), range(16)))
        sessions = [answer["NewSessionId"].partition(";")[0] for answer in opened]
        places = dict(zip(sessions, [answer["pid"] for answer in opened], strict=True))
        # Three workers are more than instances: on one of these are two that have sessions.
        assert len(set(places.values())) > 2, "sessions are spread over workers"
        for n in range(3):
            for session, answer in zip(sessions, pool.map(ask, sessions), strict=True):
                assert (answer["count"], answer["pid"]) == (n + 1, places[session])

    assert ask(sessions[0], close=True)["ClosedSessionId"] == sessions.pop(0)
    victim = places[sessions[0]]
    os.kill(victim, signal.SIGKILL)

    def is_gone() -> bool:
        try:
            ask(sessions[0])
        except ClientError as error:
            return "is gone" in str(error)
        return False

    wait_for(is_gone, timeout_s=20, what="the session to be gone with its worker")
    for session in sessions:
        if places[session] != victim:
            assert ask(session)["pid"] == places[session]


@pytest.mark.parametrize("header", ["X-Amzn-SageMaker-Session-Id", OPENED])
def test_both_spellings_open_a_session(server: Server, header: str) -> None:
    session = opened(server, header=header, id="my-id")
    assert json.loads(call(server, session)["Body"].read())["id"] == "my-id"


def test_a_closed_session_is_forgotten(server: Server) -> None:
    session = opened(server)
    reply = call(server, session, '{"close": true}')
    assert reply["ClosedSessionId"] == session
    for _ in range(6):
        with pytest.raises(ClientError) as refused:
            call(server, session)
        # The gateway that closed it says so; the other one asks the container.
        assert refused.value.response["Error"]["Code"] in ("ValidationError", "ModelError")


def test_a_session_ends_when_its_container_said_it_would(server: Server) -> None:
    session = opened(server, seconds=2)
    assert json.loads(call(server, session)["Body"].read())["count"] == 1

    def has_ended() -> bool:
        try:
            call(server, session)
        except ClientError:
            return True
        return False

    wait_for(has_ended, what="the end of the session")
    assert "has expired" in refusal(server, session)


def test_an_unknown_session_is_a_validation_error(server: Server) -> None:
    assert "is unknown" in refusal(server, "nobody-has-this")
    assert "is gone" in refusal(server, "a-" + "0" * 12 + "12345678" + "00000000")
    assert "sessionId" in refusal(server, "not_an_id")


def test_a_session_whose_worker_died_is_gone(server: Server) -> None:
    session, other = opened(server), opened(server)
    victim = json.loads(call(server, session)["Body"].read())["pid"]
    while json.loads(call(server, other)["Body"].read())["pid"] == victim:
        other = opened(server)

    os.kill(victim, signal.SIGKILL)
    # Until its gateway has seen the connection close, a call is lost with the worker: ModelError.
    wait_for(lambda: code_of(server, session) == "ValidationError", what="the loss to be seen")

    # Whether the new worker is there yet or not, and from every gateway: never another's state.
    for _ in range(6):
        assert "is gone" in refusal(server, session)
    assert json.loads(call(server, other)["Body"].read())["count"] >= 2


OWN_SERVER = """
import json, os

sessions = {}

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    asked = dict(scope["headers"]).get(b"x-amzn-sagemaker-session-id")
    headers = [(b"content-type", b"application/json")]
    if asked == b"NEW_SESSION":
        asked = b"own-1"
        sessions[asked] = 0
        headers.append((b"x-amzn-sagemaker-new-session-id", b"own-1; Expires=2100-01-01T00:00:00Z"))
    elif asked is not None:
        sessions[asked] += 1
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    answer = {"pid": os.getpid(), "count": sessions.get(asked)}
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""


def test_a_server_of_the_users_own_keeps_sessions_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "server.py").write_text(OWN_SERVER)
    server.cli("deploy", str(tmp_path / "own"), "--app", "server:app")

    def invoke(session: str) -> dict[str, Any]:
        reply: dict[str, Any] = server.runtime.invoke_endpoint(
            EndpointName="own", SessionId=session, Body=b"{}"
        )
        return reply

    session = invoke("NEW_SESSION")["NewSessionId"].partition(";")[0]
    for count in (1, 2, 3):
        answer = json.loads(invoke(session)["Body"].read())
        assert answer["count"] == count
    os.kill(answer["pid"], signal.SIGKILL)

    def is_gone() -> bool:
        try:
            invoke(session)
        except server.runtime.exceptions.ValidationError as error:
            return "is gone" in str(error)
        except ClientError:
            return False  # the loss has not been seen yet
        return False

    wait_for(is_gone, timeout_s=20, what="the session to be gone with its server")
