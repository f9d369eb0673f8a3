"""Response streams through a gateway: frames by hand, long replies of a real worker."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from clary.messages import (
    CANCEL,
    CREDIT,
    INVOKE,
    LATE,
    MAX_BODY_PART,
    MORE,
    PING,
    PONG,
    REPLY,
    STREAM,
    decode_meta,
    encode_frame,
)
from clary.settings import run_dir
from event_reader import Event, EventReader
from frame_peer import FramePeer, a_session
from gateways import wait_for

MEBIBYTE = 1024 * 1024
PIECE = b"x" * MAX_BODY_PART


@pytest.fixture
def peer(tmp_path):
    directory = run_dir(tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    with FramePeer(directory / "peer.sock") as peer:
        yield peer


@pytest.fixture
def make_streaming_gateway(make_gateway, peer):
    """A gateway whose endpoint ``peer`` is the peer."""

    def make(**router):
        gateway = make_gateway(router=router)
        gateway.route("peer", peer.address)
        peer.accept()
        return gateway

    return make


@pytest.fixture
def streaming_gateway(make_streaming_gateway):
    return make_streaming_gateway()


def outstanding(gateway):
    (worker,) = gateway.router._workers
    return worker.channel.outstanding


def exception_of(event: Event):
    return event.kind, json.loads(event.payload)


def model_error(reply):
    status, headers, body = reply
    assert headers["x-amzn-errortype"] == "ModelError", body
    return status, json.loads(body)


# What the client gets ----------------------------------------------------------------------


def test_every_part_arrives_as_one_event_before_the_next_is_made(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, flags=MORE | STREAM)
        peer.part(request, b"one", flags=MORE)
        events = EventReader(client)
        assert next(events) == Event("PayloadPart", b"one")
        peer.part(request, b"", flags=MORE)  # says nothing to the client
        peer.part(request, b"two", flags=MORE)
        assert next(events) == Event("PayloadPart", b"two")
        peer.part(request, b"three")
        assert list(events) == [Event("PayloadPart", b"three")]
        assert outstanding(streaming_gateway) == 0

        client.stream("peer")  # the connection lives on
        peer.reply(peer.read(), b"whole")
        status, headers, body = client.read()
        assert (status, headers["content-length"]) == (200, str(len(body)))


def test_the_worker_is_told_that_a_stream_is_wanted_and_has_the_streams_time(
    streaming_gateway, peer
):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        assert (request.kind, request.flags) == (INVOKE, STREAM)
        assert 470_000 < request.number <= 480_000
        peer.reply(request)
        client.read()
        client.post("/endpoints/peer/invocations")
        request = peer.read()
        assert request.flags == 0
        assert request.number <= 60_000
        peer.reply(request)


def test_a_long_request_body_is_passed_on_and_answered_by_a_stream(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer", bytes(MEBIBYTE))
        request = frame = peer.read()
        assert request.flags == MORE | STREAM | LATE
        received = 0
        while frame.flags & MORE:
            frame = peer.read()
            received += len(frame.body)
        assert received == MEBIBYTE
        peer.reply(request, b"thanks", flags=MORE)
        peer.part(request)
        assert list(EventReader(client)) == [Event("PayloadPart", b"thanks")]


def test_headers_are_those_of_the_operation(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream(
            "peer",
            headers=[
                ("Accept", "a/client"),
                ("X-Amzn-SageMaker-Accept", "text/event-stream"),
                ("X-Amzn-SageMaker-Custom-Attributes", "trace=1"),
                ("X-Amzn-SageMaker-Session-Id", a_session("s-1")),
            ],
        )
        request = peer.read()
        assert decode_meta(request.meta) == {
            "content-type": "x/y",
            "accept": "text/event-stream",
            "x-amzn-sagemaker-custom-attributes": "trace=1",
            "x-amzn-sagemaker-session-id": "s-1",
        }
        meta = {
            "content-type": "text/plain; charset=utf-8",
            "x-amzn-sagemaker-custom-attributes": "took=2",
            "x-other": "dropped",
        }
        peer.send(
            encode_frame(
                REPLY, request.request_id, flags=MORE, status=201, meta=json.dumps(meta).encode()
            )
        )
        peer.part(request, b"x")
        events = EventReader(client)
    assert events.status == 200
    assert set(events.headers) - {"date", "x-amzn-requestid"} == {
        "content-type",
        "transfer-encoding",
        "x-amzn-sagemaker-content-type",
        "x-amzn-sagemaker-custom-attributes",
        "x-amzn-invoked-production-variant",
    }
    assert events.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert events.headers["x-amzn-sagemaker-content-type"] == "text/plain; charset=utf-8"
    assert events.headers["x-amzn-sagemaker-custom-attributes"] == "took=2"
    assert events.headers["x-amzn-invoked-production-variant"] == "AllTraffic"


@pytest.mark.parametrize(
    ("header", "value", "text"),
    [
        ("X-Amzn-SageMaker-Session-Id", "NEW_SESSION", "session cannot be opened"),
        ("X-Amzn-SageMaker-Accept", "\xff", "'accept'"),
        ("X-Amzn-SageMaker-Inference-Component", "c", "Inference Component Name"),
    ],
)
def test_headers_that_a_stream_cannot_take_are_validation_errors(gateway, header, value, text):
    with gateway.connect() as client:
        client.stream("echo", headers=[(header, value)])
        status, headers, body = client.read()
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert text in json.loads(body)["Message"]


def test_what_does_not_stream_comes_in_one_event_and_long_replies_in_several(gateway):
    with gateway.connect() as client:
        client.stream("echo", b"hello", "text/plain")
        events = EventReader.whole(client)
        assert events == [Event("PayloadPart", b"hello")]
        client.stream("echo", b"", "text/plain")
        assert EventReader.whole(client) == [Event("PayloadPart", b"")]
        client.stream("echo", b"3000000", "test/large")
        parts = list(EventReader(client))
        assert len(parts) > 1
        assert b"".join(part.payload for part in parts) == b"x" * 3_000_000


def test_a_client_of_http_1_0_gets_the_stream_until_the_connection_ends(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.send(b"POST /endpoints/peer/invocations-response-stream HTTP/1.0\r\n")
        client.send(b"Host: localhost\r\nContent-Length: 0\r\n\r\n")
        request = peer.read()
        peer.reply(request, b"a", flags=MORE | STREAM)
        peer.part(request, b"b")
        _, headers = client.read_head()
        assert "transfer-encoding" not in headers
        assert EventReader.parse(client.read_to_end()) == [
            Event("PayloadPart", b"a"),
            Event("PayloadPart", b"b"),
        ]


# Failures ----------------------------------------------------------------------------------


def test_what_fails_before_the_first_part_is_an_ordinary_model_error(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        peer.reply(peer.read(), b"no such prompt", status=404)
        status, answer = model_error(client.read())
        assert (status, answer["OriginalStatusCode"]) == (424, 404)

        client.stream("peer")  # the generator began, and failed before it gave anything
        request = peer.read()
        peer.reply(request, flags=MORE | STREAM)
        peer.part(request, b"ValueError: boom", status=500)
        status, answer = model_error(client.read())
        assert (status, answer["OriginalStatusCode"]) == (424, 500)
        assert answer["OriginalMessage"] == "ValueError: boom"

        client.stream("peer")
        request = peer.read()
        peer.reply(request, flags=MORE | STREAM)
        peer.hang_up()
        assert model_error(client.read())[1]["OriginalStatusCode"] == 0


def test_a_handler_that_fails_in_mid_stream_is_a_model_stream_error(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, b"fine so far", flags=MORE | STREAM)
        peer.part(request, b"ValueError: boom", status=500)
        first, last = EventReader(client)
        assert first == Event("PayloadPart", b"fine so far")
        assert exception_of(last) == (
            "ModelStreamError",
            {"Message": "ValueError: boom", "ErrorCode": "StreamBroken"},
        )
        assert outstanding(streaming_gateway) == 0
        assert streaming_gateway.registry.variant("peer", "AllTraffic").model_errors == 1

        client.stream("peer")  # on the same connection
        peer.reply(peer.read(), b"next")
        assert EventReader.whole(client) == [Event("PayloadPart", b"next")]


def test_a_worker_that_dies_in_mid_stream_is_a_model_stream_error(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, b"last words", flags=MORE | STREAM)
        events = EventReader(client)
        next(events)
        peer.hang_up()
        kind, answer = exception_of(next(events))
        assert (kind, answer["ErrorCode"]) == ("ModelStreamError", "StreamBroken")
        assert list(events) == []


def test_a_fault_of_the_platform_in_mid_stream_is_an_internal_stream_failure(
    streaming_gateway, peer
):
    with streaming_gateway.connect() as client, streaming_gateway.connect() as other:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, b"a", flags=MORE | STREAM)
        events = EventReader(client)
        next(events)
        other.stream("peer")
        peer.read()
        peer.send(b"\xff" * 20)  # lengths beyond every limit: no frame
        assert exception_of(next(events))[0] == "InternalStreamFailure"
        status, headers, _ = other.read()
        assert (status, headers["x-amzn-errortype"]) == (500, "InternalFailure")


def test_a_stopping_server_ends_its_streams_in_words(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        peer.reply(peer.read(), b"a", flags=MORE | STREAM)
        events = EventReader(client)
        next(events)
        streaming_gateway.call(streaming_gateway.front.drain(0.05))
        assert exception_of(next(events)) == (
            "InternalStreamFailure",
            {"Message": "The server was stopped."},
        )
        assert peer.read().kind == CANCEL


@pytest.mark.parametrize("limit", ["stream_timeout_s", "stream_idle_timeout_s"])
def test_a_stream_that_takes_too_long_is_cancelled_and_says_so(make_streaming_gateway, peer, limit):
    gateway = make_streaming_gateway(**{limit: 0.4})
    with gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, b"a", flags=MORE | STREAM)
        events = EventReader(client)
        next(events)
        kind, answer = exception_of(next(events))
        assert (kind, answer["ErrorCode"]) == ("ModelStreamError", "ModelInvocationTimeExceeded")
        assert peer.read().kind == CANCEL
        assert outstanding(gateway) == 0


def test_parts_put_the_idle_limit_off_but_not_the_limit_of_the_whole(make_streaming_gateway, peer):
    gateway = make_streaming_gateway(stream_idle_timeout_s=0.5, stream_timeout_s=1.5)
    with gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        started = time.monotonic()
        peer.reply(request, b"a", flags=MORE | STREAM)
        count = 0
        while not peer.has_frame(within_s=0.1):
            peer.part(request, b"b", flags=MORE)
            count += 1
        assert peer.read().kind == CANCEL
        assert time.monotonic() - started > 1
        assert count >= 5
        assert exception_of(list(EventReader(client))[-1])[1]["ErrorCode"] == (
            "ModelInvocationTimeExceeded"
        )


def test_a_late_first_part_is_a_model_error_and_a_worker_that_lives_gets_the_next_call(
    make_gateway, tmp_path
):
    directory = run_dir(tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    with FramePeer(directory / "one.sock", concurrency=1) as peer:
        gateway = make_gateway(router={"stream_timeout_s": 0.3})
        gateway.route("peer", peer.address)
        peer.accept()
        with gateway.connect() as client:
            client.stream("peer")
            peer.read()
            assert "timed out" in model_error(client.read())[1]["OriginalMessage"]
            assert peer.read().kind == CANCEL
            ping = peer.read()
            assert ping.kind == PING  # is it hanging, or only late?
            client.stream("peer")
            assert not peer.has_frame(within_s=0.1)
            peer.send(encode_frame(PONG, ping.request_id, status=200, number=ping.number))
            peer.reply(peer.read(), b"here")
            assert EventReader.whole(client) == [Event("PayloadPart", b"here")]


# The client --------------------------------------------------------------------------------


def test_a_client_that_leaves_cancels_its_stream_at_once(streaming_gateway, peer):
    client = streaming_gateway.connect()
    client.stream("peer")
    request = peer.read()
    peer.reply(request, b"a", flags=MORE | STREAM)
    next(EventReader(client))
    client.connection.close()
    frame = peer.read()
    assert (frame.kind, frame.request_id) == (CANCEL, request.request_id)
    assert outstanding(streaming_gateway) == 0
    peer.part(request, b"too late", flags=MORE)
    with streaming_gateway.connect() as other:
        other.stream("peer")
        peer.reply(peer.read(), b"next")
        assert EventReader.whole(other) == [Event("PayloadPart", b"next")]


def give_all_that_is_allowed(peer, request):
    """Send parts as a worker does, up to the window; return the bytes that the router let pass."""
    window, sent = MEBIBYTE, 0
    peer.reply(request, flags=MORE | STREAM)
    while True:
        while window > 0:
            peer.part(request, PIECE, flags=MORE)
            window -= len(PIECE)
            sent += len(PIECE)
            assert sent < 64 * MEBIBYTE, "no end of credit for a client that reads nothing"
        if not peer.has_frame(within_s=0.5):
            return sent
        frame = peer.read()
        assert (frame.kind, frame.request_id) == (CREDIT, request.request_id)
        window += frame.number


def test_a_client_that_never_reads_holds_up_nobody_and_no_memory(streaming_gateway, peer):
    with streaming_gateway.connect() as deaf:
        deaf.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        deaf.stream("peer")
        request = peer.read()
        sent = give_all_that_is_allowed(peer, request)
        # The sockets' buffers, the gateway's high water, and one window.
        assert sent < 12 * MEBIBYTE
        with streaming_gateway.connect() as other:
            other.stream("peer")
            peer.reply(peer.read(), b"past it")
            assert EventReader.whole(other) == [Event("PayloadPart", b"past it")]

        events = EventReader(deaf)  # it wakes up, and has missed nothing
        received = 0
        while received < sent:
            received += len(next(events).payload)
        peer.part(request)
        while peer.has_frame(within_s=0.2):
            assert peer.read().kind == CREDIT
        assert list(events) == []


def test_a_client_that_reads_nothing_for_too_long_is_cut_off(make_streaming_gateway, peer):
    gateway = make_streaming_gateway(client_stall_timeout_s=0.5)
    with gateway.connect() as deaf:
        deaf.stream("peer")
        give_all_that_is_allowed_until_cancelled(peer, peer.read())
        assert outstanding(gateway) == 0
        assert deaf.is_closed()


def give_all_that_is_allowed_until_cancelled(peer, request):
    window = MEBIBYTE
    peer.reply(request, flags=MORE | STREAM)
    while True:
        while window > 0:
            peer.part(request, PIECE, flags=MORE)
            window -= len(PIECE)
        frame = peer.read()
        if frame.kind == CANCEL:
            return
        window += frame.number


def test_many_streams_that_nobody_reads_leave_the_gateway_its_memory(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker().address)
    counters = gateway.registry.variant("echo", "AllTraffic")
    before = resident_bytes()
    clients = [gateway.connect() for _ in range(8)]
    for client in clients:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.stream("echo", b"40000000", "test/large")
    wait_for(lambda: counters.invocations == 8, "the streams")
    with gateway.connect() as client:
        assert client.invoke("echo", b"past them")[2] == b"past them"
    assert resident_bytes() - before < 8 * 4 * MEBIBYTE
    for client in clients:
        client.connection.close()


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Streams and admission, and InvokeEndpoint on a handler that streams -----------------------


def test_open_streams_count_against_the_queue(make_streaming_gateway, peer):
    gateway = make_streaming_gateway(max_queue_per_worker=6)
    clients = [gateway.connect() for _ in range(6)]
    requests = []
    for client in clients:
        client.stream("peer")
        requests.append(peer.read())
        peer.reply(requests[-1], b"a", flags=MORE | STREAM)
        next(EventReader(client))
    with gateway.connect() as client:
        client.stream("peer")
        status, headers, _ = client.read()
        assert (status, headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
        peer.part(requests[0])
        wait_for(lambda: outstanding(gateway) == 5, "the end of one stream")
        client.stream("peer")
        peer.reply(peer.read(), b"room")
        assert EventReader.whole(client) == [Event("PayloadPart", b"room")]
    for client in clients:
        client.connection.close()


def test_a_new_routing_table_leaves_streams_alone(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.stream("peer")
        request = peer.read()
        peer.reply(request, b"a", flags=MORE | STREAM)
        events = EventReader(client)
        next(events)
        streaming_gateway.publish("peer", None)
        peer.part(request, b"b", flags=MORE)
        assert next(events) == Event("PayloadPart", b"b")
        peer.part(request)
        assert list(events) == []


def test_plain_invocations_of_a_generator_get_each_part_as_a_chunk_at_once(streaming_gateway, peer):
    with streaming_gateway.connect() as client:
        client.post("/endpoints/peer/invocations")
        request = peer.read()
        peer.reply(request, b"one", flags=MORE | STREAM)
        _, headers = client.read_head()
        assert headers["transfer-encoding"] == "chunked"
        assert client.read_chunk() == b"one"
        peer.part(request, b"two", flags=MORE)
        assert client.read_chunk() == b"two"
        peer.part(request)
        assert client.read_chunk() == b""
        client.post("/endpoints/peer/invocations")
        peer.reply(peer.read(), b"next")
        assert client.read()[2] == b"next"


def test_a_generator_that_fails_under_a_plain_invocation_breaks_the_connection(
    streaming_gateway, peer
):
    with streaming_gateway.connect() as client:
        client.post("/endpoints/peer/invocations")
        request = peer.read()
        peer.reply(request, b"one", flags=MORE | STREAM)
        peer.part(request, b"ValueError: boom", status=500)
        client.read_head()
        assert client.read_chunk() == b"one"  # what was made arrives
        with pytest.raises(EOFError):
            client.read_chunk()
