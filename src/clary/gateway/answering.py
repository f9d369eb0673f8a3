"""The writing half of a client's connection: responses, whole or piece by piece.

``http.py`` derives the whole connection from it. Chunked encoding is here, and what the client is
shown when a response cannot be finished.
"""

import asyncio

from clary.gateway.requests import Request, Responder

MAX_COPIED = 16 * 1024
"""Pieces shorter than this are copied into their chunk, or behind their head; longer ones are
written beside it."""


class AnsweringConnection(asyncio.Protocol):
    """What a request is answered on."""

    __slots__ = (
        "_close_after",
        "_current",
        "_is_chunked_reply",
        "_is_full",
        "_transport",
        "responder",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._current: Request | None = None
        self._close_after = False
        self._is_chunked_reply = False
        self._is_full = False
        self.responder: Responder | None = None
        """What works on the current request, where it wants to hear of the client."""

    @property
    def is_http_1_0(self) -> bool:
        """Whether the client knows no chunked encoding."""
        raise NotImplementedError

    def _finish(self) -> None:
        """One response is done; begin the next request, or wait for it."""
        raise NotImplementedError

    def respond(self, response: bytes) -> None:
        """Send a whole response, head and body; a HEAD request is sent the head alone."""
        if self._transport is not None:
            if self._current is not None and self._current.method == b"HEAD":
                response = response[: response.index(b"\r\n\r\n") + 4]
            self._transport.write(response)
            self._finish()

    def start(self, head: bytes, *, chunked: bool) -> None:
        """Send the head of a response whose body comes by ``send``.

        The beginning of a body that is not chunked may stand behind the head.
        """
        self._is_chunked_reply = chunked
        if self._transport is not None:
            self._transport.write(head)

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self._transport is not None and data:
            if not self._is_chunked_reply:
                self._transport.write(data)
            elif len(data) < MAX_COPIED:
                self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            else:
                self._transport.write(b"%x\r\n" % len(data))
                self._transport.write(data)
                self._transport.write(b"\r\n")

    def end(self) -> None:
        """The body is whole."""
        if self._transport is not None:
            if self._is_chunked_reply:
                self._transport.write(b"0\r\n\r\n")
            self._finish()

    @property
    def is_full(self) -> bool:
        """Whether the client reads more slowly than it is sent to."""
        return self._is_full

    def close_after_response(self) -> None:
        """Keep the connection no longer than the current response."""
        self._close_after = True

    @property
    def will_close(self) -> bool:
        """Whether the current response is the connection's last."""
        return self._close_after or (self._current is not None and not self._current.keep_alive)

    def abort(self) -> None:
        """Break the connection: the client must not take what it got for a whole response."""
        if self._transport is not None:
            self._transport.abort()

    def break_off(self) -> None:
        """Stop within a body so that the client sees that it is not whole.

        What was sent still arrives, and then the announced length or the last chunk is missing.
        HTTP/1.0 announces neither, and who does not read would keep the connection for ever:
        these are cut off.
        """
        if self._is_full or (self.is_http_1_0 and not self._is_chunked_reply):
            self.abort()
        else:
            self.close()

    def close(self) -> None:
        """Close once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def pause_reading(self) -> None:
        """Take no more of the body for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more of the body."""
        if self._transport is not None:
            self._transport.resume_reading()
