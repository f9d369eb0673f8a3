"""What a gateway takes note of: calls that it samples, on each road that an answer takes."""

import random

import pytest

from clary.resources.data_capture import DataCapture
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from gateways import wait_for

ROOM = 40_000_000

STREAMS = """
import time

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    return data

def predict_fn(data, model):
    for n in range(int(data)):
        yield "%d," % n
        if n == 1000:
            time.sleep(1000)

def output_fn(prediction, accept):
    return prediction, "text/csv"
"""


def route_to(gateway, *workers, share=1.0):
    instances = tuple(
        InstanceRoute(id=f"i-{n}", containers=(ContainerRoute(name="primary", workers=(w,)),))
        for n, w in enumerate(workers)
    )
    variant = VariantRoute(name="main", weight=1.0, instances=instances)
    capture = None
    if share:
        capture = DataCapture(
            share=share, destination="s3://b", takes_input=True, takes_output=True
        )
    gateway.publish("echo", EndpointRoute(name="echo", variants=(variant,), capture=capture))


@pytest.fixture
def capturing(make_gateway, echo_worker):
    gateway = make_gateway(capture={"queue_bytes": ROOM})
    route_to(gateway, echo_worker.address)
    return gateway


def call(gateway, body=b"1", content_type="text/csv"):
    with gateway.connect() as client:
        return client.invoke("echo", body, content_type)


def captured(gateway):
    """The bodies of what has been captured, and how much room that takes."""

    async def take():
        taken = gateway.front.captured.take(100, 100_000_000)
        records = [each.record() for each in taken]
        gateway.front.captured.done(taken)
        return [(record.input, record.output) for record in records]

    return gateway.call(take())


def is_empty(gateway):
    async def ask():
        queue = gateway.front.captured
        if not queue.reserve(ROOM):
            return False
        queue.release(ROOM)
        return True

    return gateway.call(ask())


@pytest.mark.parametrize("size", [0, 10, 300_000, 5_000_000])
def test_bodies_of_any_size_are_captured_whole(capturing, size):
    body = random.randbytes(size)
    status, _, answer = call(capturing, body, "x/y")
    assert (status, answer) == (200, body)
    assert captured(capturing) == [(body, body)]
    assert is_empty(capturing)


def test_a_long_answer_to_a_short_request_is_captured(capturing):
    status, _, answer = call(capturing, b"3000000", "test/large")
    assert status == 200
    ((request, noted),) = captured(capturing)
    assert (request, noted) == (b"3000000", answer)


def test_each_of_pipelined_requests_is_captured_with_its_own_answer(capturing):
    with capturing.connect() as client:
        for number in range(20):
            client.post("/endpoints/echo/invocations", b"%d" % number, [("Content-Type", "x/y")])
        assert [client.read()[2] for _ in range(20)] == [b"%d" % n for n in range(20)]
    assert captured(capturing) == [(b"%d" % n, b"%d" % n) for n in range(20)]


@pytest.mark.parametrize("body", [b"no good", b"n" * 400_000])
def test_a_failed_call_leaves_nothing_behind(capturing, body):
    assert call(capturing, body, "test/raise")[0] == 424
    assert captured(capturing) == []
    assert is_empty(capturing)


def test_a_call_whose_worker_dies_leaves_nothing_behind(make_gateway, make_worker):
    gateway = make_gateway(capture={"queue_bytes": ROOM})
    route_to(gateway, make_worker().address)
    assert call(gateway, b"x" * 400_000, "test/kill")[0] in (424, 500)
    assert is_empty(gateway)
    assert captured(gateway) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(make_gateway, make_worker):
    gateway = make_gateway(capture={"queue_bytes": ROOM})
    route_to(gateway, make_worker(STREAMS).address)
    with gateway.connect() as client:
        client.stream("echo", b"2000", "text/plain")
        client.read_head()
        client.read_chunk()
        wait_for(lambda: not is_empty(gateway), "parts that are noted")
    wait_for(lambda: is_empty(gateway), "the room to be given back")
    assert captured(gateway) == []


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_generators_parts_are_captured_as_one_answer(make_gateway, make_worker, is_stream):
    gateway = make_gateway(capture={"queue_bytes": ROOM})
    route_to(gateway, make_worker(STREAMS).address)
    with gateway.connect() as client:
        if is_stream:
            client.stream("echo", b"300", "text/plain")
            assert client.read()[0] == 200
        else:
            assert client.invoke("echo", b"300", "text/plain")[0] == 200
    whole = "".join(f"{n}," for n in range(300)).encode()
    assert captured(gateway) == [(b"300", whole)]
    assert is_empty(gateway)


def test_the_share_is_drawn_for_each_call(capturing, echo_worker):
    route_to(capturing, echo_worker.address, share=0.5)
    with capturing.connect() as client:
        for _ in range(300):
            client.invoke("echo")
    assert 95 < len(captured(capturing)) < 205  # so far off once in ten million times


def test_calls_are_not_captured_any_more_once_the_route_says_so(capturing, echo_worker):
    call(capturing, b"1")
    route_to(capturing, echo_worker.address, share=0)
    call(capturing, b"2")
    assert captured(capturing) == [(b"1", b"1")]


def test_without_room_calls_go_on_and_drops_are_counted(make_gateway, echo_worker):
    gateway = make_gateway(capture={"queue_bytes": 3000})
    route_to(gateway, echo_worker.address)
    for _ in range(5):
        assert call(gateway)[0] == 200
    counters = gateway.registry.variant("echo", "main")
    assert counters.capture_dropped == 3
    assert len(captured(gateway)) == 2
