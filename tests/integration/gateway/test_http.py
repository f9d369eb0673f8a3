"""HTTP/1.1 as clients speak it, well and badly; the server stays unmoved."""

import json

import pytest

from gateways import in_background

INVOKE = "/endpoints/echo/invocations"


def assert_still_serves(gateway):
    with gateway.connect() as client:
        assert client.invoke("echo", b"alive")[2] == b"alive"


def test_a_connection_carries_many_requests(gateway):
    with gateway.connect() as client:
        for i in range(5):
            status, headers, body = client.invoke("echo", b"%d" % i, "text/plain")
            assert (status, body) == (200, b"%d" % i)
            assert headers["content-type"] == "text/plain"
            assert "connection" not in headers


def test_every_reply_has_an_id_of_its_own_and_a_date(gateway):
    with gateway.connect() as client:
        replies = [client.invoke("echo", b"x")[1] for _ in range(3)]
    assert len({headers["x-amzn-requestid"] for headers in replies}) == 3
    assert all(headers["date"].endswith("GMT") for headers in replies)


def test_pipelined_requests_are_answered_in_order(gateway):
    request = (
        b"POST /endpoints/echo/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: %d\r\n\r\n%b"
    )
    with gateway.connect() as client:
        bodies = [b"request %d" % i for i in range(50)]
        client.send(b"".join(request % (len(body), body) for body in bodies))
        assert [client.read()[2] for _ in bodies] == bodies


def test_a_chunked_body_arrives_whole(gateway):
    with gateway.connect() as client:
        client.post(INVOKE, headers=[("Transfer-Encoding", "chunked")], length=False)
        client.send(b"3\r\nabc\r\n")
        client.send(b"5;ext=1\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n")
        assert client.read()[2] == b"abcdefgh"


def test_a_request_may_come_byte_by_byte(gateway):
    with gateway.connect() as client:
        raw = (
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok" % INVOKE.encode()
        )
        for byte in raw:
            client.send(bytes([byte]))
        assert client.read()[2] == b"ok"


def test_expect_100_continue_is_answered_before_the_body(gateway):
    with gateway.connect() as client:
        client.post(
            INVOKE, headers=[("Expect", "100-continue"), ("Content-Length", "4")], length=False
        )
        assert client.read()[0] == 100
        client.send(b"body")
        assert client.read()[2] == b"body"


def test_http_1_0_and_connection_close_end_the_connection(gateway):
    for head in (b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"):
        with gateway.connect() as client:
            client.send(b"POST %b " % INVOKE.encode() + head)
            client.send(b"Host: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx")
            status, _, body = client.read()
            assert (status, body) == (200, b"x")
            assert client.is_closed()


def test_an_offer_to_upgrade_is_answered_in_http_1_1(gateway):
    with gateway.connect() as client:
        client.post(
            INVOKE,
            b"x",
            [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "")],
        )
        assert client.read()[2] == b"x"
        assert client.invoke("echo", b"y")[2] == b"y"


@pytest.mark.parametrize("size", [70_000, 300_000, 1_500_000])
@pytest.mark.parametrize("cut", [1, 1000, 260_000])
def test_what_follows_a_long_body_is_the_next_request(gateway, size, cut):
    """The rest of a long body is read past the parser, which has to take up from there."""
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    bodies = [bytes([number]) * (size + number) for number in range(3)] + [b"short"]
    raw = b"".join(head % (INVOKE.encode(), len(body)) + body for body in bodies)
    with gateway.connect() as client:
        sender = in_background(
            lambda: [client.send(part) for part in (raw[:cut], raw[cut:-cut], raw[-cut:])]
        )
        assert [client.read()[2] for _ in bodies] == bodies
        sender()
    assert_still_serves(gateway)


def test_a_client_that_stalls_within_a_long_body_holds_up_nobody(gateway):
    size = 3_000_000
    with gateway.connect() as stalled, gateway.connect() as client:
        stalled.post(
            INVOKE, headers=[("Content-Length", str(size))], length=False, body=b"x" * 1_000_000
        )
        for number in range(3):
            body = bytes([number]) * size
            sender = in_background(lambda body=body: client.post(INVOKE, body))
            assert client.read()[2] == body
            sender()
        stalled.send(b"x" * (size - 1_000_000))
        assert stalled.read()[2] == b"x" * size


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 262143, 262144, 1_000_000, 20_000_000])
def test_bodies_of_all_sizes_come_back_as_they_were_sent(gateway, size):
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    with gateway.connect() as client:
        status, _, answer = client.invoke("echo", body)
        assert status == 200
        assert answer == body
        assert client.invoke("echo", b"next")[2] == b"next"


@pytest.mark.parametrize("size", [262144, 262145, 3_000_000])
def test_replies_of_all_sizes_arrive_whole(gateway, size):
    with gateway.connect() as client:
        _, headers, body = client.invoke("echo", str(size).encode(), "test/large")
        assert body == b"x" * size
        assert headers["content-length"] == str(size)


@pytest.mark.parametrize("target", ["/_clary/health", "/_clary/health?verbose=1"])
def test_health_says_what_is_there(gateway, target):
    with gateway.connect() as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, _, body = client.read()
    assert status == 200
    assert json.loads(body)["status"] == "ok"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS on a plain port"),
        pytest.param(b"HELLO\r\n\r\n", id="no HTTP at all"),
        pytest.param(b"POST / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n", id="header without a colon"),
        pytest.param(b"POST / HTTP/9.9\r\n\r\n", id="no such version"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            id="two lengths",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", id="length is no number"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            id="chunked is not last",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
            id="bad chunk size",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            id="chunk longer than said",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", id="zero byte in a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200_000 + b"\r\n", id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000, id="endless header"),
        pytest.param(b"GET /" + b"a" * 1_000_000, id="endless path"),
    ],
)
def test_what_is_no_http_or_over_a_limit_closes_the_connection(gateway, raw):
    with gateway.connect() as client:
        try:
            client.send(raw)
            status, _, _ = client.read()
        except (ConnectionError, EOFError):
            status = 400  # closed while we were still sending
        assert status in (400, 413, 431)
        assert client.is_closed()
    assert_still_serves(gateway)


def test_a_hundred_thousand_headers_of_different_names_are_refused(gateway):
    with gateway.connect() as client:
        try:
            client.send(b"GET / HTTP/1.1\r\n")
            for i in range(100_000):
                client.send(b"X-%d: 1\r\n" % i)
            client.send(b"\r\n")
            assert client.read()[0] == 431
        except (ConnectionError, EOFError):
            pass
        assert client.is_closed()
    assert_still_serves(gateway)


def test_a_smuggled_request_is_never_run(gateway):
    smuggled = b"POST /endpoints/echo/invocations HTTP/1.1\r\nContent-Length: 8\r\n\r\nsmuggled"
    with gateway.connect() as client:
        client.send(
            b"POST /endpoints/echo/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
        )
        assert client.read()[0] == 400
        assert client.is_closed()


def test_half_a_request_moves_nobody(gateway):
    with gateway.connect() as client:
        client.post(INVOKE, headers=[("Content-Length", "100")], length=False)
        client.send(b"only ten b")
    assert_still_serves(gateway)


def test_slow_heads_and_stalled_bodies_are_cut_off(make_gateway, echo_worker):
    gateway = make_gateway(gateway={"header_timeout_s": 1.0, "body_idle_timeout_s": 1.0})
    gateway.route("echo", echo_worker.address)
    with gateway.connect() as head, gateway.connect() as body, gateway.connect() as silent:
        head.send(b"POST / HTTP/1.1\r\nHost: local")
        body.post(INVOKE, headers=[("Content-Length", "100")], length=False)
        body.send(b"x")
        assert head.is_closed()
        assert body.is_closed()
        assert silent.is_closed()
    assert_still_serves(gateway)


def test_a_body_over_the_limit_is_answered_413(make_gateway, echo_worker):
    gateway = make_gateway(gateway={"max_body_bytes": 100_000})
    gateway.route("echo", echo_worker.address)
    with gateway.connect() as client:
        status, headers, _ = client.invoke("echo", b"x" * 100_001)
        assert status == 413
        assert headers["connection"] == "close"
    with gateway.connect() as client:
        client.post(INVOKE, headers=[("Transfer-Encoding", "chunked")], length=False)
        client.send(b"186a1\r\n" + b"x" * 100_001 + b"\r\n0\r\n\r\n")
        assert client.read()[0] == 413
    with gateway.connect() as client:
        assert client.invoke("echo", b"x" * 100_000)[0] == 200


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ([("Host", "127.0.0.1:1234")], True),
        ([("Host", "localhost")], True),
        ([("Host", "[::1]:25279")], True),
        ([("Host", "bucket.s3.localhost:25279")], True),
        ([("Host", "evil.example")], False),
        ([("Host", "127.0.0.1.evil.example")], False),
        ([("Host", "localhost.evil.example")], False),
        ([("Host", "localhost"), ("Origin", "http://localhost:3000")], True),
        ([("Host", "localhost"), ("Origin", "https://evil.example")], False),
        ([("Host", "localhost"), ("Origin", "null")], False),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")], False),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "same-origin")], True),
        ([], False),
    ],
)
def test_only_our_own_hosts_and_pages_get_in(gateway, headers, is_taken):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with gateway.connect() as client:
        client.send(f"POST {INVOKE} HTTP/1.1\r\n{lines}Content-Length: 1\r\n\r\nx".encode())
        status, _, _ = client.read()
    assert status == (200 if is_taken else 403)


def test_a_failure_of_the_server_itself_is_answered_and_said_in_the_log(
    make_gateway, echo_worker, caplog
):
    gateway = make_gateway()
    gateway.route("echo", echo_worker.address)
    gateway.front.handle = None  # any failure: calling this raises TypeError
    with gateway.connect() as client:
        client.post(INVOKE, b"x")
        assert client.read()[0] == 500
        assert client.is_closed()
    assert "a request was not handled" in caplog.text


def test_the_server_is_no_proxy(gateway):
    with gateway.connect() as client:
        client.send(b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.read()[0] == 405
        assert client.is_closed()
