"""What a worker answers to frames: the functions, their errors, large bodies, order, cancelling."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.messages import (
    BODY,
    CANCEL,
    CREDIT,
    INVOKE,
    LATE,
    MAX_BODY_PART,
    MORE,
    PING,
    PONG,
    PROTOCOL_VERSION,
    REPLY_WINDOW,
    encode_frame,
    encode_meta,
)
from clary.status_page import FIRST_PLACE, NO_PLACE, WORDS
from instances import ECHO, Instance, an_instance, wait_for


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with an_instance(tmp_path) as instance:
        yield instance


def test_an_echo_handler_answers(instance: Instance) -> None:
    client = instance.ready(ECHO)
    assert client.hello.status == PROTOCOL_VERSION
    assert client.hello.number == 1
    status, headers, body = client.invoke('{"a": [1, 2]}')
    assert (status, headers, body) == (
        200,
        {"content-type": "application/json"},
        b'{"a": [1, 2]}',
    )


ERRORS = """
import json, sys

class Toolkit(Exception):
    def __init__(self, status_code, message):
        self.status_code, self.message = status_code, message

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    what = str(data)
    if what == "raise":
        raise ValueError("no such flower")
    if what == "exit":
        sys.exit(4)
    if what == "toolkit":
        raise Toolkit(422, "unprocessable flower")
    if what == "absurd":
        raise Toolkit(99, "no status")
    if what == "garbage":
        return object()
    return what
"""


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        pytest.param('"raise"', {}, 500, "no such flower\nTraceback", id="exception"),
        pytest.param('"exit"', {}, 500, "SystemExit", id="sys-exit"),
        pytest.param('"toolkit"', {}, 422, "unprocessable flower\nTraceback", id="own-status"),
        pytest.param('"absurd"', {}, 500, "no status", id="status-that-is-none"),
        pytest.param('"garbage"', {}, 500, "not JSON serializable", id="unserialisable"),
        pytest.param("{", {}, 500, "JSONDecodeError", id="malformed-body"),
        pytest.param(b"\xff\xfe", {}, 500, "UnicodeDecodeError", id="body-that-is-no-text"),
        pytest.param(
            '"x"', {"content_type": "image/png"}, 415, "image/png is not supported", id="type"
        ),
        pytest.param(
            '"x"', {"accept": "image/png"}, 406, "image/png is not supported", id="accept"
        ),
    ],
)
def test_a_failure_is_the_reply_of_that_request_alone(
    instance: Instance, body: str, headers: dict[str, str], status: int, text: str
) -> None:
    client = instance.ready(ERRORS)
    answered, reply_headers, reply = client.invoke(body, **headers)
    assert answered == status
    assert text in reply.decode()
    if status in (406, 415):
        assert set(json.loads(reply)) == {"error", "error-message", "stack-trace"}
        assert reply_headers["content-type"] == "application/json"
    assert client.invoke('"fine"') == (200, {"content-type": "application/json"}, b'"fine"')
    assert instance.workers()[0]["starts"] == 1


def test_five_megabytes_travel_both_ways(instance: Instance) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return data, content_type
"""
    client = instance.ready(code)
    body = bytes(range(256)) * 20_000
    status, headers, reply = client.invoke(body, content_type="application/octet-stream")
    assert status == 200
    assert headers == {
        "content-type": "application/octet-stream",
        "content-length": str(len(body)),  # for the router, which sees the first part only
    }
    assert reply == body


def test_a_reply_without_credit_stops_at_the_window_and_lets_others_pass(
    instance: Instance,
) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    return (b"x" * 3_000_000 if data == '"large"' else data), content_type
"""
    client = instance.ready(code)
    large = client.submit('"large"')
    received = 0
    while received < REPLY_WINDOW:
        frame = client.frame()
        assert frame.request_id == large
        assert frame.flags & MORE
        received += len(frame.body)
    assert received == REPLY_WINDOW
    assert client.invoke('"small"')[2] == b'"small"'
    client.send(encode_frame(CREDIT, large, number=10))
    frame = client.frame()
    assert (frame.request_id, len(frame.body)) == (large, 10)
    client.send(encode_frame(CANCEL, large))
    client.send(encode_frame(CREDIT, large, number=MAX_BODY_PART))
    assert client.invoke('"still there"')[2] == b'"still there"'


BLOCKING = """
import os, time

def model_fn(model_dir): return None

def transform_fn(model, data, content_type, accept):
    with open("calls", "a") as file:
        file.write(data + "\\n")
    while data == "block" and not os.path.exists("go"):
        time.sleep(0.005)
    if data == "slow":
        time.sleep(0.005)
    return data
"""


def test_what_nobody_waits_for_any_more_is_not_called(instance: Instance) -> None:
    client = instance.ready(BLOCKING)
    calls = instance.code_dir / "calls"
    client.submit("block")
    wait_for(calls.exists, "the first call")
    cancelled = client.submit("cancelled")
    client.send(encode_frame(CANCEL, cancelled))
    client.submit("expired", time_left_ms=0)
    client.submit("wanted")
    (instance.code_dir / "go").touch()
    assert [client.reply()[3], client.reply()[3]] == [b"block", b"wanted"]
    assert calls.read_text().split() == ["block", "wanted"]


def test_queued_requests_of_a_lost_connection_are_not_called(instance: Instance) -> None:
    client, other = instance.ready(BLOCKING), instance.client()
    calls = instance.code_dir / "calls"
    client.submit("block")
    wait_for(calls.exists, "the first call")
    for _ in range(50):
        other.submit("slow")
    other.close()
    (instance.code_dir / "go").touch()
    client.reply()
    assert client.invoke("last")[2] == b"last"
    # The end of the connection is seen at the loop's next turn, after a call or two.
    assert calls.read_text().split().count("slow") < 5


MORTAL = """
import os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == b"die":
        os._exit(1)
    return data, "a/b"
"""


def test_which_request_was_begun_last_is_known_when_the_worker_is_dead(instance: Instance) -> None:
    client = instance.ready(MORTAL)
    other = instance.client()
    page, others_page = client.page(), other.page()
    assert (page.read().last_begun, others_page.read().last_begun) == (0, 0)
    other.invoke(b"hello", content_type="a/b")
    meta = encode_meta({"content-type": "a/b"})
    bodies = [b"short", b"died of it later", b"die", b"not begun"]
    client.send(
        b"".join(
            encode_frame(INVOKE, 2**32 - 2 + n, number=60_000, meta=meta, body=body)
            for n, body in enumerate(bodies[:2])
        )
    )
    for _ in range(2):
        client.reply()
    assert page.read().last_begun == 2**32 - 1
    client.send(
        b"".join(
            encode_frame(INVOKE, n, number=60_000, meta=meta, body=body)
            for n, body in enumerate(bodies[2:])
        )
    )
    with pytest.raises(ConnectionError):
        client.reply()
    instance.wait_for_restart()

    assert page.read().last_begun == 0
    assert others_page.read().last_begun == 1
    page.close()
    others_page.close()


def test_a_request_whose_body_comes_late_is_not_noted(instance: Instance) -> None:
    """Others that were sent after it may have been begun before it."""
    client = instance.ready(MORTAL)
    page = client.page()
    meta = encode_meta({"content-type": "a/b"})
    client.send(encode_frame(INVOKE, 1, flags=MORE | LATE, number=60_000, meta=meta))
    client.send(encode_frame(INVOKE, 2, number=60_000, meta=meta, body=b"x"))
    assert client.reply()[0] == 2
    client.send(encode_frame(BODY, 1, body=b"late"))
    assert client.reply()[0] == 1
    assert page.read().last_begun == 2
    client.send(encode_frame(INVOKE, 3, flags=MORE, number=60_000, meta=meta))
    client.send(encode_frame(BODY, 3, body=b"long"))
    assert client.reply()[0] == 3
    assert page.read().last_begun == 3
    page.close()


def test_more_connections_than_the_page_has_places(instance: Instance) -> None:
    instance.ready(MORTAL)
    clients = [instance.client() for _ in range(WORDS)]
    without = [client for client in clients if client.hello.flags == NO_PLACE]
    assert len(without) >= WORDS - (WORDS - FIRST_PLACE)
    places = [client.hello.flags for client in clients if client not in without]
    assert len(set(places)) == len(places)
    for client in (clients[0], without[0]):
        assert client.invoke(b"x", content_type="a/b")[0] == 200
    with pytest.raises(OSError, match="no place"):
        without[0].page()
    for client in clients:
        client.close()
    wait_for(lambda: instance.client().hello.flags != NO_PLACE, "a place to be free")


def test_pings_are_answered_between_calls(instance: Instance) -> None:
    code = """
import time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    time.sleep(0.02)
    return data
"""
    client = instance.ready(code)
    for _ in range(20):
        client.submit("{}")
    client.reply()
    client.send(encode_frame(PING, number=77))
    kinds = [client.frame().kind for _ in range(20)]
    assert kinds.index(PONG) < 5


def test_garbage_instead_of_frames_closes_only_that_connection(instance: Instance) -> None:
    client, other = instance.ready(), instance.client()
    other.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
    with pytest.raises(ConnectionError):
        other.frame()
    assert client.invoke()[0] == 200


ASYNC = """
import asyncio

gate = asyncio.Event()

async def model_fn(model_dir):
    return asyncio.get_running_loop()

def input_fn(data, content_type):
    return data.strip('"')

async def predict_fn(data, model):
    assert model is asyncio.get_running_loop()
    if data == "open":
        gate.set()
    elif data == "wait":
        try:
            await gate.wait()
        except asyncio.CancelledError:
            print("cancelled, as it should be")
            raise
    elif data == "raise":
        raise KeyError("flower")
    elif data == "cancel":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    return data
"""


def test_asynchronous_functions_run_side_by_side(instance: Instance) -> None:
    client = instance.ready(ASYNC)
    assert client.hello.number == 0
    waiting = [client.submit('"wait"') for _ in range(5)]
    assert client.invoke('"raise"')[0] == 500
    assert client.invoke('"cancel"')[0] == 500
    opener = client.submit('"open"')
    answered = {client.reply()[0] for _ in range(6)}
    assert answered == {*waiting, opener}


def test_cancelling_and_disconnecting_cancel_asynchronous_calls(instance: Instance) -> None:
    client, other = instance.ready(ASYNC), instance.client()
    request = client.submit('"wait"')
    other.submit('"wait"')
    assert client.invoke('"x"')[2] == b'"x"'
    client.send(encode_frame(CANCEL, request))
    other.close()
    wait_for(lambda: instance.log().count("cancelled, as it should be") == 2, "both to end")
    assert not client.has_frame(within_s=0.05)


def test_synchronous_functions_may_use_asyncio_run(instance: Instance) -> None:
    code = """
import asyncio
def model_fn(model_dir): return None
def predict_fn(data, model):
    async def compute(): return "computed"
    return asyncio.run(compute())
"""
    client = instance.ready(code)
    assert client.invoke()[2] == b'"computed"'
    assert client.invoke()[2] == b'"computed"'


def test_context_has_the_request_and_shapes_the_reply(instance: Instance) -> None:
    code = """
def model_fn(model_dir, context):
    return context.system_properties["model_dir"]

def predict_fn(data, model, context):
    context.set_response_status(201, "Created", 0)
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen")
    return [model, context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"),
            sorted(context.get_all_request_header(0)), context.get_request_header(0, "none")]
"""
    client = instance.ready(code)
    status, headers, body = client.invoke(**{"x-amzn-sagemaker-custom-attributes": "trace=1"})
    assert status == 201
    assert headers == {
        "x-amzn-sagemaker-custom-attributes": "seen",
        "content-type": "application/json",
    }
    names = ["content-type", "x-amzn-sagemaker-custom-attributes"]
    assert json.loads(body) == [str(instance.directory / "model"), "trace=1", names, None]
    assert client.invoke()[1]["content-type"] == "application/json"


def test_execution_parameters_are_answered_where_there_is_a_function(instance: Instance) -> None:
    code = (
        ECHO
        + """
def execution_parameters_fn():
    return {"MaxConcurrentTransforms": 2}
"""
    )
    client = instance.ready(code)
    path = {":path": "/execution-parameters"}
    assert json.loads(client.invoke(b"", **path)[2]) == {"MaxConcurrentTransforms": 2}
    assert client.invoke(b"", **{":path": "/elsewhere"})[0] == 404


def test_a_handler_in_a_sub_folder_finds_its_neighbours(instance: Instance) -> None:
    instance.write(
        "code/serving/handler.py",
        "from names import GREETING\n"
        + """
from serving.relative import PUNCTUATION

def model_fn(model_dir): return GREETING + PUNCTUATION
def predict_fn(data, model): return model
""",
    )
    instance.write("code/serving/relative.py", "PUNCTUATION = '!'\n")
    instance.write("code/names.py", "GREETING = 'hello'\n")
    client = instance.ready(container={"program": "serving/handler.py"})
    assert client.invoke()[2] == b'"hello!"'


def test_the_users_modules_are_not_shadowed_by_ours(instance: Instance) -> None:
    instance.write("code/spec.py", "WHO = 'mine'\n")
    instance.write("code/server.py", "WHO = 'mine'\n")
    code = """
import codecs, server, spec, sys
def model_fn(model_dir): return None
def predict_fn(data, model):
    ours = [entry for entry in sys.path if "clary" in entry and "site-packages" not in entry]
    return [spec.WHO, server.WHO, hasattr(codecs, "BOM_UTF8"), ours]
"""
    client = instance.ready(code)
    who, other, is_stdlib, ours = json.loads(client.invoke()[2])
    assert (who, other, is_stdlib) == ("mine", "mine", True)
    assert not [entry for entry in ours if entry.endswith("worker")]


def test_what_a_handler_prints_is_in_the_log_at_once(instance: Instance) -> None:
    code = """
import logging
def model_fn(model_dir):
    print("printed while loading")
    logging.getLogger("flowers").info("logged while loading")
def predict_fn(data, model):
    print("printed in a call")
    return data
"""
    client = instance.ready(code)
    client.invoke()
    log = instance.log()
    for text in ("printed while loading", "logged while loading", "printed in a call"):
        assert text in log


def test_the_time_in_the_handler_comes_with_the_reply(instance: Instance) -> None:
    code = """
import time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    time.sleep(0.05)
    return data
"""
    client = instance.ready(code)
    started = time.monotonic()
    client.submit()
    frame = client.frame()
    assert 50_000 <= frame.number <= (time.monotonic() - started) * 1e6
