"""Generators as handlers: parts leave as they come, side by side, and as fast as they are read."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.messages import (
    CANCEL,
    CREDIT,
    MORE,
    PART,
    PING,
    PONG,
    REPLY,
    REPLY_WINDOW,
    STREAM,
    Frame,
    encode_frame,
)
from instances import Client, Instance, an_instance, wait_for

CODE = """
import asyncio, json, time

def model_fn(model_dir):
    return model_dir

def input_fn(data, content_type):
    return json.loads(data)

{predict}

def output_fn(prediction, accept):
    return prediction, "text/event-stream"
"""

COUNTING = """
def predict_fn(data, model):
    name = data.get("name", "x")
    try:
        for number in range(data.get("count", 3)):
            if number == data.get("fails_at"):
                raise ValueError("no more words")
            if number == data.get("wrong_at"):
                yield 3
            time.sleep(data.get("pause", 0))
            yield f"{name}{number} " * data.get("times", 1)
    finally:
        with open(f"{model}/{name}.closed", "a") as file:
            file.write("closed")
"""

ASYNC_COUNTING = COUNTING.replace("def predict", "async def predict").replace(
    "time.sleep", "await asyncio.sleep"
)

# A plain function whose generator is asynchronous: the handler is not, but its replies are.
MIXED = ASYNC_COUNTING.replace("async def predict_fn", "async def count") + (
    "\ndef predict_fn(data, model):\n    return count(data, model)\n"
)

KINDS = {"sync": COUNTING, "async": ASYNC_COUNTING, "mixed": MIXED}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with an_instance(tmp_path) as instance:
        yield instance


@pytest.fixture(params=list(KINDS))
def client(request: pytest.FixtureRequest, instance: Instance) -> Client:
    return instance.ready(CODE.replace("{predict}", KINDS[request.param]))


def has_closed(instance: Instance, name: str = "x") -> bool:
    file = instance.directory / f"model/{name}.closed"
    return file.exists() and file.read_text() == "closed"


def rest_of(client: Client) -> list[Frame]:
    """Frames up to the end of a stream."""
    frames = [client.frame()]
    while frames[-1].flags & MORE:
        frames.append(client.frame())
    return frames


def test_a_generator_is_answered_part_by_part(client: Client, instance: Instance) -> None:
    request_id = client.submit("{}")
    head, *parts = rest_of(client)
    assert (head.kind, head.flags, head.status) == (REPLY, MORE | STREAM, 200)
    assert (head.request_id, head.number, head.body) == (request_id, 0, b"")
    assert b"text/event-stream" in head.meta
    assert [(part.kind, part.status, part.body) for part in parts] == [
        (PART, 200, b"x0 "),
        (PART, 200, b"x1 "),
        (PART, 200, b"x2 "),
        (PART, 200, b""),
    ]
    wait_for(lambda: has_closed(instance), "the generator to end")
    client.send(encode_frame(PING))
    assert client.frame().kind == PONG


def test_the_first_part_leaves_when_it_is_there(client: Client) -> None:
    client.submit('{"pause": 0.3}')
    start = time.monotonic()
    head = client.frame()
    first = client.frame()
    first_at = time.monotonic()
    assert (head.kind, first.body) == (REPLY, b"x0 ")
    rest_of(client)
    # One pause of three, and not at the end with all of them.
    assert first_at - start < time.monotonic() - first_at


def test_streams_advance_side_by_side_and_other_requests_have_their_turns(client: Client) -> None:
    for name in "abcd":
        client.submit(f'{{"name": "{name}", "pause": 0.02, "count": 10}}')
    client.send(encode_frame(PING))
    seen: list[str] = []
    ended = 0
    ponged_after = -1
    while ended < 4:
        frame = client.frame()
        if frame.kind == PONG:
            ponged_after = len(seen)
        elif frame.kind == PART and frame.body:
            seen.append(frame.body.decode().strip())
        elif frame.kind == PART:
            ended += 1
    assert 0 <= ponged_after < 20
    assert sorted(seen) == sorted(f"{name}{i}" for name in "abcd" for i in range(10))
    # Nobody is ever two parts ahead of another.
    for position in range(0, 40, 4):
        numbers = [int(word[1:]) for word in seen[: position + 4]]
        assert max(numbers) <= position // 4 + 2


@pytest.mark.parametrize("kind", ["sync", "mixed", "async"])
def test_a_failure_before_the_first_part_is_an_ordinary_error(
    instance: Instance, kind: str
) -> None:
    client = instance.ready(CODE.replace("{predict}", KINDS[kind]))
    client.submit('{"fails_at": 0}')
    frames = rest_of(client)
    if kind == "mixed":
        # It has shown that it was begun, for the order of the requests says who was.
        assert [frame.kind for frame in frames] == [REPLY, PART]
    else:
        assert [frame.kind for frame in frames] == [REPLY]
    assert frames[-1].status == 500
    assert frames[-1].body.startswith(b"no more words\nTraceback")
    assert client.invoke('{"count": 0}')[0] == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"fails_at": 2}', b"no more words\nTraceback"),
        ('{"wrong_at": 2}', b"the generator yielded int; parts are str or bytes"),
    ],
)
def test_a_failure_in_mid_stream_ends_it_with_the_reason(
    client: Client, instance: Instance, body: str, text: bytes
) -> None:
    client.submit(body)
    *parts, last = rest_of(client)
    assert [part.body for part in parts] == [b"", b"x0 ", b"x1 "]
    assert (last.kind, last.flags, last.status) == (PART, 0, 500)
    assert last.body.startswith(text)
    wait_for(lambda: has_closed(instance), "the generator to be closed")
    assert text.decode().split("\n")[0] in instance.log()
    assert client.invoke('{"count": 1}')[2] == b"x0 "


def test_a_generator_without_parts_is_an_empty_answer(client: Client) -> None:
    status, headers, body = client.invoke('{"count": 0}')
    assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")


def test_cancelling_closes_the_generator(client: Client, instance: Instance) -> None:
    request_id = client.submit('{"pause": 0.01, "count": 100000}')
    client.frame()
    client.frame()
    client.send(encode_frame(CANCEL, request_id))
    wait_for(lambda: has_closed(instance), "the generator to be closed")
    while client.has_frame(0.1):
        assert client.frame().request_id == request_id  # was on its way
    assert client.invoke('{"name": "y", "count": 1}')[2] == b"y0 "


def test_a_lost_connection_closes_its_generators(client: Client, instance: Instance) -> None:
    other = instance.client()
    client.submit('{"name": "a", "pause": 0.01, "count": 100000}')
    client.submit('{"name": "b", "pause": 0.01, "count": 100000}')
    while client.frame().request_id != 2:
        pass
    client.close()
    wait_for(lambda: has_closed(instance, "a") and has_closed(instance, "b"), "both to be closed")
    assert other.invoke('{"count": 1}')[2] == b"x0 "


def test_a_reader_that_gives_no_credit_stops_its_generator_and_no_other(
    client: Client, instance: Instance
) -> None:
    request_id = client.submit('{"count": 1000, "times": 2500}')
    received = 0
    while received < REPLY_WINDOW:
        received += len(client.frame().body)
    assert received == REPLY_WINDOW
    assert client.invoke('{"name": "y", "count": 2}')[2] == b"y0 y1 "
    assert not client.has_frame(0.05)
    client.send(encode_frame(CREDIT, request_id, number=100_000))
    received = 0
    while received < 100_000:
        frame = client.frame()
        assert frame.request_id == request_id
        received += len(frame.body)
    assert received == 100_000
    client.send(encode_frame(CREDIT, request_id, number=1 << 30))
    rest_of(client)
    assert has_closed(instance)


def test_a_reader_that_does_not_read_stops_its_generator(
    client: Client, instance: Instance
) -> None:
    other = instance.client()
    for number in range(8):
        client.submit(f'{{"name": "{number}", "count": 300, "times": 2500}}')
    # Eight windows are more than the socket and the buffer of the connection take.
    assert other.invoke('{"name": "y", "count": 2}')[2] == b"y0 y1 "
    ended = 0
    while ended < 8:
        frame = client.frame()
        if frame.body and frame.flags & MORE:
            client.send(encode_frame(CREDIT, frame.request_id, number=len(frame.body)))
        ended += not frame.flags & MORE


def test_one_part_may_be_larger_than_the_window(client: Client) -> None:
    status, _, body = client.invoke('{"count": 2, "times": 1000000}')
    assert (status, len(body)) == (200, 6_000_000)


def test_a_stopping_worker_finishes_its_streams(client: Client, instance: Instance) -> None:
    client.submit('{"pause": 0.05, "count": 10}')
    client.frame()
    instance.stop()
    frames = rest_of(client)
    assert len([frame for frame in frames if frame.body]) == 10


def test_a_generator_that_hangs_is_replaced(instance: Instance) -> None:
    client = instance.ready(
        CODE.replace("{predict}", COUNTING), invocation_timeout_s=0.5, hung_grace_s=0.5
    )
    client.submit('{"pause": 60, "count": 2}')
    instance.wait_for_restart()
    assert "had been hanging in one call" in instance.log()


def test_a_stream_longer_than_the_limit_of_one_call_is_left_alone(instance: Instance) -> None:
    client = instance.ready(
        CODE.replace("{predict}", COUNTING), invocation_timeout_s=0.8, hung_grace_s=0.7
    )
    client.submit('{"pause": 0.4, "count": 6}')
    assert len([frame for frame in rest_of(client) if frame.body]) == 6
    instance.status()
    assert instance.workers()[0]["starts"] == 1


PLAIN = """
import os
def model_fn(model_dir): return None
{code}
"""


@pytest.mark.parametrize(
    ("code", "content_type"),
    [
        pytest.param(
            "def transform_fn(model, data, content_type, accept):\n    yield b'a'\n    yield 'b'",
            "application/json",
            id="transform-fn",
        ),
        pytest.param(
            "def predict_fn(data, model):\n    yield 'a'\n    yield bytearray(b'b')",
            "application/json",
            id="default-output-fn",
        ),
        pytest.param(
            "def output_fn(prediction, accept):\n    yield from 'ab'\n"
            "def predict_fn(data, model): return data",
            "application/json",
            id="output-fn",
        ),
        pytest.param(
            "def transform_fn(model, data, content_type, accept, context):\n"
            "    context.set_response_content_type(0, 'text/plain')\n    yield 'ab'",
            "text/plain",
            id="headers-set-before-the-first-part",
        ),
        pytest.param(
            "def transform_fn(model, data, content_type, accept):\n"
            "    return (part for part in 'ab'), 'text/x-letters'",
            "text/x-letters",
            id="generator-expression",
        ),
        pytest.param(
            "async def transform_fn(model, data, content_type, accept):\n"
            "    return (part for part in 'ab'), 'text/x-letters'",
            "text/x-letters",
            id="generator-of-a-coroutine-function",
        ),
    ],
)
def test_any_function_may_return_a_generator(
    instance: Instance, code: str, content_type: str
) -> None:
    client = instance.ready(PLAIN.replace("{code}", code))
    status, headers, body = client.invoke("1")
    assert (status, headers["content-type"], body) == (200, content_type, b"ab")


@pytest.mark.parametrize("value", ["['a', 'b']", "{'a': 1}"])
def test_values_that_are_no_generators_are_no_streams(instance: Instance, value: Any) -> None:
    code = f"def transform_fn(model, data, content_type, accept): return {value}"
    client = instance.ready(PLAIN.replace("{code}", code))
    client.submit("1")
    assert client.frame().flags == 0


def test_a_generator_may_use_asyncio_run(instance: Instance) -> None:
    code = """
import asyncio
async def word(): return "a"
def transform_fn(model, data, content_type, accept):
    yield asyncio.run(word())
    yield asyncio.run(word())
"""
    assert instance.ready(PLAIN.replace("{code}", code)).invoke("1")[2] == b"aa"


def test_requests_of_a_batch_may_be_answered_by_streams(instance: Instance) -> None:
    pytest.importorskip("numpy")
    code = """
def predict_fn(data, model): return data * 2
def output_fn(prediction, accept):
    for row in prediction.tolist():
        yield str(row)
"""
    client = instance.ready(
        PLAIN.replace("{code}", code), environment={"MODEL_MAX_BATCH_SIZE": "8"}
    )
    for body in ("[[1]]", "[[2], [3]]", "[[4]]"):
        client.submit(body)
    bodies: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
    ended = 0
    while ended < 3:
        frame = client.frame()
        bodies[frame.request_id] += frame.body
        ended += not frame.flags & MORE
    assert list(bodies.values()) == [b"[2]", b"[4][6]", b"[8]"]
