"""What a client is told when the process behind the gateway dies while it answers."""

import asyncio
import socket
import threading

import pytest

from clary.gateway.forwarding import Service
from clary.gateway.front import FrontDoor
from clary.gateway.guard import Guard
from clary.metrics.registry import Registry
from clary.router.router import Router
from clary.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


class DyingProcess:
    """Gives the answers that it was made with, each on a connection that it then closes."""

    def __init__(self, path, *answers):
        self.requests = 0
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                while not connection.recv(65536).endswith(b"\r\n\r\n"):
                    pass
                self.requests += 1
                connection.sendall(answer)


class Told:
    """Passes all on to another thing."""

    def __init__(self, other):
        self._other = other

    def __getattr__(self, name):
        return getattr(self._other, name)


class Client(Told):
    """A client's connection of a gateway; notes what it writes at a time."""

    def __init__(self, connection, writes):
        super().__init__(connection)
        self._writes = writes

    def connection_made(self, transport):
        self._other.connection_made(Transport(transport, self._writes))


class Transport(Told):
    def __init__(self, transport, writes):
        super().__init__(transport)
        self._writes = writes

    def write(self, data):
        self._writes.append(data)
        self._other.write(data)


def ask(path, request, writes=None):
    """Return all that a gateway before the process at ``path`` answers to a request.

    What it writes at a time is added to ``writes``.
    """
    writes = [] if writes is None else writes

    async def run():
        loop = asyncio.get_running_loop()
        settings = Settings()
        front = FrontDoor(
            settings,
            Router(settings.router, Registry()),
            Guard(auth_is_on=False, allowed_hosts=()),
            {"control": Service("control", path)},
            life="test",
            on_demand={},
        )
        server = await loop.create_server(lambda: Client(front.connect(), writes), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        await front.drain(1)
        server.close()
        await server.wait_closed()
        return answer

    return asyncio.run(run())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control.sock")


def request_of(operation):
    return (
        b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n"
        b"x-amz-target: SageMaker.%b\r\n\r\n" % operation
    )


def test_a_head_without_its_body_is_no_answer(path):
    with DyingProcess(path, HEAD):
        answer = ask(path, request_of(b"CreateModel"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"ServiceUnavailable" in answer


def test_what_only_reads_is_asked_again(path):
    with DyingProcess(path, HEAD, HEAD + b"whole") as process:
        answer = ask(path, request_of(b"ListModels"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nwhole")
    assert process.requests == 2


@pytest.mark.parametrize("body", [b"whole", b""])
def test_an_answer_passes_as_it_is(path, body):
    head = HEAD.replace(b"5", b"%d" % len(body))
    with DyingProcess(path, head + body):
        answer = ask(path, request_of(b"CreateModel"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n" + body)


def test_a_body_that_breaks_off_has_less_than_was_announced(path):
    with DyingProcess(path, HEAD + b"who"):
        answer = ask(path, request_of(b"CreateModel"))
    assert not answer.endswith(b"whole")


def test_a_head_leaves_with_its_body(path):
    """The gateway may be killed too, between two writes."""
    writes = []
    with DyingProcess(path, HEAD + b"whole"):
        answer = ask(path, request_of(b"CreateModel"), writes)
    assert writes == [answer]
