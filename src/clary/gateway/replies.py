"""What the answers to invocations have in common: heads that recur, errors, ids and dates."""

from clary.gateway import event_stream
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import ModelErrors
from clary.messages import MetaCache
from clary.router.router import Router
from clary.settings import Settings

MAX_REMEMBERED = 4096

RETURNED = {
    # Headers of the container's reply that reach the client (container.md 4).
    "x-amzn-sagemaker-custom-attributes": b"x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-session-id": b"x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-new-session-id": b"x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id": b"x-amzn-sagemaker-closed-session-id",
}
RETURNED_BY_STREAMS = {
    # A stream opens no session, and its head is gone before the container could close one.
    "x-amzn-sagemaker-custom-attributes": b"x-amzn-sagemaker-custom-attributes",
}
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

    def head(self, meta: bytes, variant: str) -> bytes:
        """Return the head of a good reply, but for date, id and length."""
        head = self._heads.get((meta, variant))
        if head is None:
            head = self._make_head(meta, variant, b"content-type: ", RETURNED)
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
            head = self._make_head(meta, variant, content_types, RETURNED_BY_STREAMS)
            if len(self._stream_heads) >= MAX_REMEMBERED:
                self._stream_heads.clear()
            self._stream_heads[meta, variant] = head
        return head

    def _make_head(
        self, meta: bytes, variant: str, content_type: bytes, returned: dict[str, bytes]
    ) -> bytes:
        headers = self.metas.decode(meta)
        lines = [
            b"HTTP/1.1 200 OK",
            content_type + _value(headers.get("content-type", "application/octet-stream")),
            b"x-amzn-invoked-production-variant: " + variant.encode(),
        ]
        lines += [
            returned[name] + b": " + _value(value)
            for name, value in headers.items()
            if name in returned
        ]
        return b"\r\n".join(lines) + b"\r\n"

    def length(self, meta: bytes) -> int | None:
        """Return the length of a reply that comes in parts, where the container announced it."""
        length = self.metas.decode(meta).get("content-length")
        return int(length) if length is not None and length.isdigit() else None


def _value(text: str) -> bytes:
    """Return a header's value; what would break the line is replaced."""
    return "".join(c if c.isprintable() else " " for c in text).encode("latin-1", "replace")
