"""Response streams of users' own servers: chunks in, events out."""

import json
import socket

import pytest

from event_reader import Event, EventReader
from gateways import wait_for
from http_peer import CHUNKED, HttpPeer, chunk

MEBIBYTE = 1024 * 1024


@pytest.fixture
def peer():
    with HttpPeer() as peer:
        yield peer


@pytest.fixture
def user_gateway(make_gateway, peer):
    gateway = make_gateway()
    gateway.route("user", peer.address)
    return gateway


def part(data):
    return Event("PayloadPart", data)


def exception_of(event):
    return event.kind, json.loads(event.payload)


def test_every_chunk_is_one_event_and_leaves_at_once(user_gateway, peer):
    with user_gateway.connect() as client:
        client.stream("user", b"{}", headers=[("X-Amzn-SageMaker-Accept", "text/event-stream")])
        headers, body = peer.read()
        assert body == b"{}"
        assert headers["accept"] == "text/event-stream"
        assert "x-amzn-sagemaker-accept" not in headers
        peer.write(CHUNKED)
        peer.write(chunk(b"d"))
        events = EventReader(client)
        assert events.headers["x-amzn-sagemaker-content-type"] == "text/event-stream"
        assert next(events) == part(b"d")
        peer.write(chunk(b"a") + chunk(b"ta"))  # together in one packet
        assert [next(events), next(events)] == [part(b"a"), part(b"ta")]
        peer.write(chunk(b": end") + chunk(b""))
        assert list(events) == [part(b": end")]

        client.stream("user")  # both connections live on
        assert peer.read()[1] == b""
        peer.write(CHUNKED + chunk(b"again") + chunk(b""))
        assert list(EventReader(client)) == [part(b"again")]


def test_a_reply_with_a_length_comes_whole_up_to_256_kb_and_in_parts_beyond(user_gateway, peer):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nwh")
        client.connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.read_head()
        client.connection.settimeout(15)
        peer.write(b"ole.")
        assert EventReader.whole(client) == [part(b"whole.")]

        client.stream("user")
        peer.read()
        peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin")
        events = EventReader(client)
        assert next(events) == part(b"begin")
        peer.write(b"x" * 999_995)
        assert b"".join(event.payload for event in events) == b"x" * 999_995


def test_a_reply_that_ends_with_its_connection_is_whole(user_gateway, peer):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\none")
        events = EventReader(client)
        assert next(events) == part(b"one")
        peer.write(b"two")
        assert next(events) == part(b"two")
        peer.hang_up()
        assert list(events) == []


def test_an_empty_stream_is_a_stream_of_nothing(user_gateway, peer):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(CHUNKED + chunk(b""))
        events = EventReader(client)
        assert (events.status, list(events)) == (200, [])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", 503),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n", 400),
    ],
)
def test_an_error_status_is_an_ordinary_model_error(user_gateway, peer, answer, status):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(answer)
        got, headers, body = client.read()
        assert (got, headers["x-amzn-errortype"]) == (424, "ModelError")
        assert json.loads(body)["OriginalStatusCode"] == status
        assert json.loads(body)["OriginalMessage"] == "busy"


def test_a_connection_that_breaks_before_the_first_chunk_is_an_ordinary_model_error(
    user_gateway, peer
):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(CHUNKED)
        peer.hang_up()
        status, _, body = client.read()
        assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 0)


@pytest.mark.parametrize("rest", [b"", b"ff\r\nnot all of it", b"no chunk at all\r\n"])
def test_a_connection_that_breaks_in_mid_stream_is_a_model_stream_error(user_gateway, peer, rest):
    with user_gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(CHUNKED + chunk(b"one"))
        events = EventReader(client)
        assert next(events) == part(b"one")
        peer.write(rest)
        peer.hang_up()
        *_, last = events
        kind, answer = exception_of(last)
        assert (kind, answer["ErrorCode"]) == ("ModelStreamError", "StreamBroken")
        assert "broke the connection" in answer["Message"]

        client.stream("user")
        peer.read()
        peer.write(CHUNKED + chunk(b"fine") + chunk(b""))
        assert list(EventReader(client)) == [part(b"fine")]


def test_a_client_that_leaves_closes_the_connection_to_the_server(user_gateway, peer):
    client = user_gateway.connect()
    client.stream("user")
    peer.read()
    peer.write(CHUNKED + chunk(b"one"))
    next(EventReader(client))
    client.connection.close()
    assert peer.is_abandoned()


def test_a_stream_that_takes_too_long_closes_the_connection_to_the_server(make_gateway, peer):
    gateway = make_gateway(router={"stream_timeout_s": 0.4})
    gateway.route("user", peer.address)
    with gateway.connect() as client:
        client.stream("user")
        peer.read()
        peer.write(CHUNKED + chunk(b"one"))
        events = EventReader(client)
        next(events)
        assert exception_of(next(events))[1]["ErrorCode"] == "ModelInvocationTimeExceeded"
        assert peer.is_abandoned()


def test_a_client_that_never_reads_stops_the_server_and_nobody_else(
    make_gateway, echo_worker, peer
):
    gateway = make_gateway()
    gateway.route("user", peer.address)
    gateway.route("echo", echo_worker.address)
    piece = chunk(b"x" * 65_536)
    with gateway.connect() as deaf:
        deaf.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        deaf.stream("user")
        peer.read()
        peer.write(CHUNKED)
        peer.connection.settimeout(0.5)
        sent, backlog = 0, piece
        while sent < 64 * MEBIBYTE:
            try:
                count = peer.connection.send(backlog)
            except TimeoutError:
                break
            sent += count
            backlog = backlog[count:] or piece
        # The sockets' buffers on both sides, the gateway's high water, and one window.
        assert sent < 24 * MEBIBYTE
        with gateway.connect() as client:
            assert client.invoke("echo", b"past it")[2] == b"past it"
        deaf.connection.close()
        peer.connection.settimeout(10)
        wait_for(lambda: is_refused(peer, piece), "the server's connection to break")


def is_refused(peer, data):
    try:
        peer.connection.send(data)
    except ConnectionError:
        return True
    return False


def test_plain_invocations_get_each_chunk_at_once_too(user_gateway, peer):
    with user_gateway.connect() as client:
        client.post("/endpoints/user/invocations")
        peer.read()
        peer.write(CHUNKED + chunk(b"o"))
        client.read_head()
        assert client.read_chunk() == b"o"
        peer.write(chunk(b"n") + chunk(b"e"))
        assert [client.read_chunk(), client.read_chunk()] == [b"n", b"e"]
        peer.write(b"10\r\nnot all")
        assert client.read_chunk() == b"not all"
        peer.hang_up()
        with pytest.raises(EOFError):
            client.read_chunk()
