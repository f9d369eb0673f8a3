"""What gateway, control, hosts and workers say to each other.

Two kinds of conversation:

**Frames**, between a router and a worker, over a Unix socket (or TCP across machines)::

    0      1      2        4            8            12            16             20
    +------+------+--------+------------+------------+-------------+--------------+------+------+
    | kind | flags| status | request id | number     | meta length | body length  | meta | body |
    |  u8  |  u8  |  u16   |    u32     |    u32     |     u32     |     u32      | JSON | bytes|
    +------+------+--------+------------+------------+-------------+--------------+------+------+

All integers are big-endian. ``meta`` is a flat JSON object of lower-case HTTP header names to
strings, or nothing at all. What ``status`` and ``number`` mean depends on the kind (below). Many
requests share one connection: the request id tells them apart, and is chosen by the router, unique
on its connection while the request is open.

A body longer than ``MAX_BODY_PART`` travels in several frames: the first carries ``MORE``, then
``BODY`` frames follow (request) or ``PART`` frames (reply), of up to ``MAX_PIECE`` bytes, the last
without ``MORE``. Frames of different requests may lie between them. A worker sends at most
``REPLY_WINDOW`` bytes of one reply ahead of the ``CREDIT`` that it was given, so that one slow
client never stalls its neighbours.

**JSON lines**, one object a line, for everything that is not an invocation: supervisor, hosts,
publishing of routes. ``encode_line`` and ``LineDecoder`` are that format.

Standard library only, Python 3.9: workers import this in the model's interpreter.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, cast

PROTOCOL_VERSION = 3

HEAD = struct.Struct("!BBHIIII")
HEAD_LENGTH = HEAD.size

# Kinds. Router to worker: PING, INVOKE, BODY, CANCEL, CREDIT. Worker to router: the rest.
HELLO = 1
"""First frame on a connection, from the worker. status: PROTOCOL_VERSION; number: how many
requests of one connection it may have in progress at once (oldest first), 0 = any number.
request id: the worker's life, a random number that this process keeps; sessions stick to it.
flags: the connection's place in the worker's status page (``status_page.py``). If the worker dies,
requests that it had not begun may be sent elsewhere."""
PING = 2
"""number: anything; comes back in the PONG."""
PONG = 3
"""status: 200 when the worker can take invocations, else 503."""
INVOKE = 4
"""number: time left for the whole invocation, in milliseconds. meta: request headers, and
``:path`` where it is not ``/invocations``."""
BODY = 5
"""More of a request's body."""
REPLY = 6
"""status: HTTP status of the container; number: microseconds in the handler; meta: reply headers.
When the reply is a stream (a generator), the number is 0 and PART frames follow as they come."""
PART = 7
"""More of a reply's body. status: 200, or another one when the handler failed in mid-stream (the
body is then the error text and the stream ends)."""
CANCEL = 8
"""The router no longer wants the answer. No reply follows, whatever the state of the request."""
CREDIT = 9
"""number: so many more bytes of the reply's body may be sent."""

# Flags.
MORE = 1
"""Body goes on in a later frame of this request."""
STREAM = 2
"""On REPLY: the parts are yielded by the handler one by one; pass each on at once. On INVOKE: the
client asked for a response stream."""
LATE = 4
"""On INVOKE: the body is sent as it arrives; requests that come later may be begun before this."""

MAX_BODY_PART = 120 * 1024
"""Most bytes of body in a frame that is taken whole. Larger ones are a protocol error."""
MAX_PIECE = 1024 * 1024
"""Most bytes in a frame that only carries a piece of a body: BODY, and PART with the status 200."""
MAX_META = 64 * 1024
"""Most bytes of meta in one frame. Larger frames are a protocol error."""
REPLY_WINDOW = 1024 * 1024
"""Bytes of one reply that a worker may send before it has been given CREDIT."""


MIN_PIECE = 16 * 1024
"""BODY and PART frames from this length on are handed on as they come, without being copied."""


class ProtocolError(Exception):
    """The peer sent something that is no frame. The connection is of no more use."""


class Frame(NamedTuple):
    """One frame, as decoded."""

    kind: int
    flags: int
    status: int
    request_id: int
    number: int
    meta: bytes
    body: bytes
    """Of BODY and PART possibly a view of bytes: it can be joined, measured and written."""


def encode_frame(
    kind: int,
    request_id: int = 0,
    *,
    flags: int = 0,
    status: int = 0,
    number: int = 0,
    meta: bytes = b"",
    body: bytes = b"",
) -> bytes:
    """Return the bytes of one frame. ``body`` is copied; use HEAD directly for large ones."""
    return HEAD.pack(kind, flags, status, request_id, number, len(meta), len(body)) + meta + body


class FrameDecoder:
    """Cuts a byte stream into frames.

    The stream comes as bytes, or as views of memory that is not written to again (``reading.py``).
    What a BODY or PART frame carries is only a piece of a body, so a long one that arrives in
    several reads is handed on as several frames, all but the last with ``MORE``, and its bodies are
    views of what was read: megabytes are not copied here.
    """

    __slots__ = ("_open", "_rest", "left")

    def __init__(self) -> None:
        self._rest = b""
        self.left = 0
        """Bytes that the long frame which was begun still lacks."""
        self._open = Frame(0, 0, 0, 0, 0, b"", b"")
        """That frame's head."""

    def feed(self, data: bytes) -> List[Frame]:
        """Take bytes as they came; return the frames that are now whole, in order.

        Raises:
            ProtocolError: A length is over the limits above.
        """
        frames: List[Frame] = []
        position = 0
        if self.left:
            position = self._go_on(data, 0, frames)
        elif self._rest:
            # Complete the one frame that was cut, and copy no more than it.
            rest = self._rest
            if len(rest) < 20:
                position = 20 - len(rest)
                rest += data[:position]
                if len(rest) < 20:
                    self._rest = rest
                    return frames
            kind, _, status, _, _, meta_length, body_length = HEAD.unpack_from(rest)
            _check_lengths(kind, status, meta_length, body_length)
            if self._begin(rest, 0, frames):
                position = self._go_on(data, position, frames)
            else:
                end = position + 20 + meta_length + body_length - len(rest)
                rest += data[position:end]
                if end > len(data):
                    self._rest = rest
                    return frames
                self._cut(rest, 0, frames)
                position = end
        end = self._cut(data, position, frames)
        self._keep(data, end, frames)
        return frames

    def _keep(self, data: bytes, position: int, frames: List[Frame]) -> None:
        """Remember the frame that is not whole yet; hand on what there is of a long one."""
        self._rest = b""
        if position < len(data) and not self._begin(data, position, frames):
            self._rest = bytes(data[position:])

    def _begin(self, data: bytes, position: int, frames: List[Frame]) -> bool:
        """Begin to hand on a long frame whose head is there; return whether it is one."""
        if len(data) - position < 20:
            return False
        kind, flags, status, request_id, number, meta_length, body_length = HEAD.unpack_from(
            data, position
        )
        if body_length < MIN_PIECE or meta_length or not _is_piece(kind, status):
            return False
        self._rest = b""
        self._open = Frame(kind, flags, status, request_id, number, b"", b"")
        self.left = body_length
        self._go_on(data, position + 20, frames)
        return True

    def _go_on(self, data: bytes, position: int, frames: List[Frame]) -> int:
        """Hand on a piece of the long frame that was begun; return where it ends."""
        kind, flags, status, request_id, number, _, _ = self._open
        body = cast(bytes, memoryview(data)[position : position + self.left])
        if not body:
            return position
        self.left -= len(body)
        if self.left:
            flags |= MORE
        frames.append(Frame(kind, flags, status, request_id, number, b"", body))
        return position + len(body)

    @staticmethod
    def _cut(data: bytes, position: int, frames: List[Frame]) -> int:
        """Append the whole frames from ``position`` on; return where they end."""
        length = len(data)
        unpack = HEAD.unpack_from
        # What Frame(...) comes down to; its own call takes a third of the time of this loop.
        new = tuple.__new__
        is_view = isinstance(data, memoryview)
        while length - position >= 20:
            kind, flags, status, request_id, number, meta_length, body_length = unpack(
                data, position
            )
            body_start = position + 20
            if meta_length:
                if meta_length > MAX_META:
                    _check_lengths(kind, status, meta_length, body_length)
                meta = data[body_start : body_start + meta_length]
                body_start += meta_length
            else:
                meta = b""
            end = body_start + body_length
            if body_length > MIN_PIECE:
                if body_length > MAX_BODY_PART:
                    _check_lengths(kind, status, meta_length, body_length)
                if end > length:
                    break
                if _is_piece(kind, status):
                    body = cast(bytes, memoryview(data)[body_start:end])
                else:
                    body = bytes(data[body_start:end])
            elif end > length:
                break
            else:
                body = data[body_start:end]
                if is_view:
                    body = bytes(body)
            if is_view:
                meta = bytes(meta)
            frames.append(new(Frame, (kind, flags, status, request_id, number, meta, body)))
            position = end
        return position


def _is_piece(kind: int, status: int) -> bool:
    """Whether a frame carries a piece of a body, which may be cut anywhere."""
    return kind == BODY or (kind == PART and status == 200)


def _check_lengths(kind: int, status: int, meta_length: int, body_length: int) -> None:
    limit = MAX_PIECE if _is_piece(kind, status) else MAX_BODY_PART
    if body_length > limit or meta_length > MAX_META:
        raise ProtocolError(f"a frame of {meta_length} + {body_length} bytes is too large")


TRACED = b'"traceparent":"'
"""In meta blocks of calls that belong to a trace, which are never the same twice."""


def with_trace(meta: bytes, headers: Dict[str, str]) -> bytes:
    """Return a meta block with the headers of a trace added at its end.

    Args:
        meta: Without them.
        headers: ``traceparent``, and what goes with it.
    """
    more = encode_meta(headers)
    return meta[:-1] + b"," + more[1:] if meta else more


class MetaCache:
    """Turns meta blocks into dictionaries and back, remembering the ones that recur.

    Nearly all requests of an endpoint carry the same few headers, so that encoding and decoding
    JSON would be a tenth of the cost of a small invocation. Returned dictionaries are shared:
    leave them unchanged.
    """

    __slots__ = ("_decoded", "_encoded", "_size")

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._decoded: Dict[bytes, Dict[str, str]] = {}
        self._encoded: Dict[Tuple[Tuple[str, str], ...], bytes] = {}

    def decode(self, meta: bytes) -> Dict[str, str]:
        """Return the headers in a meta block.

        Raises:
            ProtocolError: It is no flat JSON object of strings.
        """
        headers = self._decoded.get(meta)
        if headers is None:
            headers = decode_meta(meta)
            if TRACED in meta:
                return headers  # it will not come again, and what does has to stay
            if len(self._decoded) >= self._size:
                self._decoded.clear()
            self._decoded[meta] = headers
        return headers

    def encode(self, headers: Tuple[Tuple[str, str], ...]) -> bytes:
        """Return the meta block for pairs of lower-case name and value."""
        meta = self._encoded.get(headers)
        if meta is None:
            meta = encode_meta(dict(headers))
            if len(self._encoded) >= self._size:
                self._encoded.clear()
            self._encoded[headers] = meta
        return meta


def encode_meta(headers: Dict[str, str]) -> bytes:
    """Return the meta block for a dictionary of headers."""
    return json.dumps(headers, separators=(",", ":")).encode() if headers else b""


def decode_meta(meta: bytes) -> Dict[str, str]:
    """Return the headers in a meta block.

    Raises:
        ProtocolError: It is no flat JSON object of strings.
    """
    if not meta:
        return {}
    try:
        headers = json.loads(meta)
    except ValueError as error:
        raise ProtocolError(f"meta is no JSON: {error}") from error
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise ProtocolError("meta is no flat object of strings")
    return headers


def encode_line(message: Dict[str, Any]) -> bytes:
    """Return one JSON line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineDecoder:
    """Cuts a byte stream into JSON lines."""

    __slots__ = ("_limit", "_parts", "_size")

    def __init__(self, limit: int = 64 * 1024 * 1024) -> None:
        self._limit = limit
        self._parts: List[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> List[Dict[str, Any]]:
        """Take bytes as they came; return the messages that are now whole, in order.

        Raises:
            ProtocolError: A line is no JSON object, or longer than the limit.
        """
        if b"\n" not in data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > self._limit:
                raise ProtocolError(f"line of more than {self._limit} bytes")
            return []
        *lines, rest = (b"".join([*self._parts, data])).split(b"\n")
        self._parts = [rest] if rest else []
        self._size = len(rest)
        messages = []
        for line in lines:
            if not line:
                continue
            try:
                message = json.loads(line)
            except ValueError as error:
                raise ProtocolError(f"line is no JSON: {error}") from error
            if not isinstance(message, dict):
                raise ProtocolError("line is no JSON object")
            messages.append(message)
        return messages


def parse_address(address: str) -> Tuple[str, str, Optional[int]]:
    """Split a worker's address into scheme, host or path, and port.

    ``unix:/run/w0.sock`` and ``tcp:10.0.0.2:4000`` speak frames; ``http:127.0.0.1:8080`` is a
    user's own HTTP server. ``models:i-1`` stands for the models that an instance of a multi-model
    endpoint holds: each has an address of its own.

    Raises:
        ProtocolError: It is none of these.
    """
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "models") and rest:
        return scheme, rest, None
    if scheme in ("tcp", "http"):
        host, _, port = rest.rpartition(":")
        if host and port.isdigit():
            return scheme, host.strip("[]"), int(port)
    raise ProtocolError(f"no address of a worker: {address!r}")
