"""One request over ASGI and its reply: heads as values, bodies as streams."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from clary.aws.fault import Fault
from clary.aws.http import HttpRequest, HttpResponse
from clary.objects.contents import BATCH_BYTES, OpenContent

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_DOCUMENT_BYTES = 8 * 1024**2
"""Most bytes of an XML body: 10,000 parts with their checksums take about 3 MB."""
MAX_DROPPED_BYTES = 64 * 1024**2
"""Most bytes of an unwanted body that are read, so that its connection can go on."""


class ClientGone(Exception):
    """The connection ended before the request did."""


class Exchange:
    """See the module.

    Args:
        scope: As ASGI has it.
        receive: As ASGI has it.
        send: As ASGI has it.
    """

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False
        self._is_begun = False
        self.is_started = False
        self.method: str = scope["method"]
        self.raw_path: str = scope["raw_path"].decode("latin-1")
        self.query: str = scope["query_string"].decode("latin-1")
        self.scheme: str = scope.get("scheme", "http")
        self.headers = _headers(scope["headers"])
        self.request_id = self.headers.get("x-clary-request-id") or uuid.uuid4().hex[:16].upper()

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    def as_request(self, path: str, body: bytes = b"") -> HttpRequest:
        """Return the request as a value, with another path and with its body, where it is read."""
        return HttpRequest(self.method, path, self.query, self.headers, body)

    async def batches(self) -> AsyncIterator[list[bytes]]:
        """Yield the body as it comes, some pieces at a time.

        Raises:
            ClientGone: The connection broke.
        """
        batch: list[bytes] = []
        size = 0
        while not self._is_read:
            self._is_begun = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if piece:
                batch.append(piece)
                size += len(piece)
            if not message.get("more_body", False):
                self._is_read = True
            if batch and (self._is_read or size >= BATCH_BYTES):
                yield batch
                batch, size = [], 0

    async def read(self, limit: int = MAX_DOCUMENT_BYTES) -> list[bytes]:
        """Return the whole body.

        Raises:
            Fault: ``MaxMessageLengthExceeded``.
            ClientGone: The connection broke.
        """
        pieces: list[bytes] = []
        size = 0
        async for batch in self.batches():
            pieces += batch
            size += sum(map(len, batch))
            if size > limit:
                raise Fault("MaxMessageLengthExceeded", "Your request was too big.", 400)
        return pieces

    async def respond(self, response: HttpResponse) -> None:
        """Send a reply whose body is at hand.

        Raises:
            ClientGone: The connection broke.
        """
        headers = _raw_headers(response.headers)
        if not await self._leave_body():
            headers.append((b"connection", b"close"))
        is_bodiless = self.method == "HEAD" or response.status in (204, 304)
        if not is_bodiless and "content-length" not in response.headers:
            headers.append((b"content-length", b"%d" % len(response.body)))
        self.is_started = True
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": headers}
        )
        body = b"" if is_bodiless else response.body
        await self._send({"type": "http.response.body", "body": body})

    async def _leave_body(self) -> bool:
        """Deal with a body that nobody wants, before an early answer.

        A client that waits to be asked for its body (``Expect``) will not send it, and one that
        sends it may read no answer before it is through.

        Returns:
            Whether the connection is in a state for another request.

        Raises:
            ClientGone: The connection broke.
        """
        has_body = (
            self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        )
        if self._is_read or not has_body:
            return True
        if "expect" in self.headers and not self._is_begun:
            return False
        dropped = 0
        async for batch in self.batches():
            dropped += sum(map(len, batch))
            if dropped > MAX_DROPPED_BYTES:
                return False
        return True

    async def stream(self, head: HttpResponse, content: OpenContent) -> None:
        """Send a reply whose body is read while it is sent; its head has the length."""
        self.is_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": head.status,
                "headers": _raw_headers(head.headers),
            }
        )
        # To a client that has gone, sending does nothing: the rest must not be read for it.
        gone = asyncio.ensure_future(self._wait_until_gone())
        try:
            async for piece in content.read():
                if gone.done():
                    raise ClientGone
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name = name_bytes.decode("latin-1").lower()
        value = value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
