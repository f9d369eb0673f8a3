"""Buffers are read into again only when nobody has what was read before."""

import asyncio
import socket

import pytest
import uvloop

from clary.reading import BUFFER_BYTES, MAX_SPARE, MIN_VIEW, LongReads, ReadBuffers


def read(buffers: ReadBuffers, data: bytes) -> bytes:
    """Do what an event loop does with data that has come."""
    memoryview(buffers.get())[: len(data)] = data
    return buffers.take(len(data))


def test_what_was_read_stays_as_it_is_while_somebody_has_it():
    buffers = ReadBuffers()
    kept = [read(buffers, bytes([number]) * BUFFER_BYTES) for number in range(40)]
    for number, view in enumerate(kept):
        assert view == bytes([number]) * BUFFER_BYTES


def test_a_part_of_a_view_keeps_the_buffer_too():
    buffers = ReadBuffers()
    part = memoryview(read(buffers, b"a" * BUFFER_BYTES))[10:20]
    for _ in range(3):
        read(buffers, b"b" * BUFFER_BYTES)
    assert bytes(part) == b"a" * 10


def test_a_buffer_that_nobody_has_any_more_is_used_again():
    buffers = ReadBuffers()
    used = set()
    for _ in range(50):
        used.add(id(buffers.get()))
        read(buffers, b"x" * BUFFER_BYTES)
    assert len(used) == 1


def test_no_more_buffers_are_kept_than_said():
    buffers = ReadBuffers()
    kept = [read(buffers, b"x" * MIN_VIEW) for _ in range(3 * MAX_SPARE)]
    kept.clear()
    assert len(buffers._others) == MAX_SPARE


def test_short_reads_are_copied_so_that_they_do_not_keep_a_buffer():
    buffers = ReadBuffers()
    buffer = buffers.get()
    assert type(read(buffers, b"short")) is bytes
    assert buffers.get() is buffer


class Echo(asyncio.Protocol):
    """Collects what it gets, and reads long from the first byte to the last."""

    def __init__(self, total: int) -> None:
        self.received: list[bytes] = []
        self.done = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self.kinds: set[type] = set()
        self._left = total

    def connection_made(self, transport):
        self._transport = transport
        self._long = LongReads(self, ReadBuffers())

    def data_received(self, data):
        self.kinds.add(type(data))
        self.received.append(data)
        self._left -= len(data)
        self._long.follow(self._transport, is_long=self._left > 0, count=len(data))
        if self._left == 0:
            self.done.set_result(None)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_connection_changes_to_long_reads_and_back(new_loop):
    sent = bytes(range(256)) * 20_000

    async def run():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, echo = await loop.create_connection(lambda: Echo(len(sent)), sock=ours)
        theirs.setblocking(False)
        await loop.sock_sendall(theirs, sent)
        await asyncio.wait_for(echo.done, 30)
        assert b"".join(echo.received) == sent
        assert not echo._long.is_on or len(echo.received[-1]) >= MIN_VIEW
        theirs.close()
        assert await asyncio.wait_for(echo.lost, 30) is None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
