"""What the answers to invocations have in common: heads that recur, errors, ids and dates."""

import time

from clary.gateway import event_stream
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import ModelErrors
from clary.messages import MetaCache
from clary.router.invocation import Invocation
from clary.router.router import Router
from clary.router.sessions import ClosedSessions, Session, closed, parse_session, session_header
from clary.settings import Settings

MAX_REMEMBERED = 4096

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
# Sources disagree on how a container spells it: both reach the client as the first one
# (container.md 4).
OPENED = ("x-amzn-sagemaker-new-session-id", "x-amzn-sagemaker-session-id")
CLOSED = "x-amzn-sagemaker-closed-session-id"
SESSION_HEADERS = frozenset((*OPENED, CLOSED))
STREAM_CONTENT_TYPE = b"x-amzn-sagemaker-content-type"


class Replies:
    """Shared by all invocations of one gateway."""

    def __init__(self, settings: Settings, router: Router, clockwork: Clockwork) -> None:
        self.router = router
        self.clockwork = clockwork
        self.errors = ModelErrors(settings.server.account, settings.server.region)
        self.stream_idle_s = settings.router.stream_idle_timeout_s
        self.client_stall_s = settings.router.client_stall_timeout_s
        self.metas = MetaCache()
        self._heads: dict[tuple[bytes, str], bytes] = {}
        self._stream_heads: dict[tuple[bytes, str], bytes] = {}
        self._closed = ClosedSessions(MAX_REMEMBERED)

    def head(self, meta: bytes, invocation: Invocation) -> bytes:
        """Return the head of a good reply, but for date, id and length."""
        variant = invocation.variant
        head = self._heads.get((meta, variant))
        if head is None:
            head = self._make_head(meta, variant, b"content-type: ")
            headers = self.metas.decode(meta)
            if not headers.keys().isdisjoint(SESSION_HEADERS):
                return head + self._session_lines(headers, invocation)  # never the same twice
            if len(self._heads) >= MAX_REMEMBERED:
                self._heads.clear()
            self._heads[meta, variant] = head
        return head

    def stream_head(self, meta: bytes, variant: str) -> bytes:
        """Return the head of a response stream, but for date, id and length."""
        head = self._stream_heads.get((meta, variant))
        if head is None:
            content_types = b"content-type: %b\r\n%b: " % (
                event_stream.CONTENT_TYPE.encode(),
                STREAM_CONTENT_TYPE,
            )
            # A stream opens no session, and its head is gone before the container could close one.
            head = self._make_head(meta, variant, content_types)
            if len(self._stream_heads) >= MAX_REMEMBERED:
                self._stream_heads.clear()
            self._stream_heads[meta, variant] = head
        return head

    def _make_head(self, meta: bytes, variant: str, content_type: bytes) -> bytes:
        headers = self.metas.decode(meta)
        lines = [
            b"HTTP/1.1 200 OK",
            content_type + _value(headers.get("content-type", "application/octet-stream")),
            b"x-amzn-invoked-production-variant: " + variant.encode(),
        ]
        attributes = headers.get(CUSTOM_ATTRIBUTES)
        if attributes is not None:
            lines.append(CUSTOM_ATTRIBUTES.encode() + b": " + _value(attributes))
        return b"\r\n".join(lines) + b"\r\n"

    def find_session(self, session_id: str) -> Session:
        """Return what a ``SessionId`` says.

        Raises:
            InvalidRequest: It is none, or its session has ended.
        """
        session = parse_session(session_id, time.time())
        if session_id in self._closed:
            raise closed(session_id)
        return session

    def _session_lines(self, headers: dict[str, str], invocation: Invocation) -> bytes:
        """Return what a reply says of sessions, with the ids that the client knows."""
        lines = b""
        opened = next((headers[name] for name in OPENED if name in headers), None)
        if opened is not None:
            place = self.router.place_of(invocation.channel)
            if place is not None:
                opened = session_header(opened, place)
            lines += b"%b: %b\r\n" % (OPENED[0].encode(), _value(opened))
        ended = headers.get(CLOSED)
        if ended is not None:
            session = invocation.session
            if session is not None and session.container_id == ended:
                ended = session.id
                self._closed.add(ended)
            lines += b"%b: %b\r\n" % (CLOSED.encode(), _value(ended))
        return lines

    def length(self, meta: bytes) -> int | None:
        """Return the length of a reply that comes in parts, where the container announced it."""
        length = self.metas.decode(meta).get("content-length")
        return int(length) if length is not None and length.isdigit() else None


def _value(text: str) -> bytes:
    """Return a header's value; what would break the line is replaced."""
    return "".join(c if c.isprintable() else " " for c in text).encode("latin-1", "replace")
