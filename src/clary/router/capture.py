"""Captured calls: what is taken note of on the road, and the bounded queue behind it.

A call that is sampled gets a ``Recording``, which takes note of what passes; all others have none.
Whatever has no room is dropped and counted: no call ever waits for its capture. Only calls that the
model answered with a status of 200 to 299, to their end, become records.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

from clary.messages import decode_meta
from clary.metrics.registry import VariantCounters
from clary.resources.data_capture import DataCapture
from clary.resources.routing_table import EndpointRoute
from clary.router.capture_records import CaptureContext, CaptureRecord, Observed
from clary.router.invocation import Invocation
from clary.settings import CaptureSettings

OVERHEAD_BYTES = 1024
"""What a record takes in memory beside its bodies, roughly."""

MAX_REMEMBERED = 1024

NO_TYPE = "application/octet-stream"
"""What a body without a Content-Type is taken for, here as in replies to clients."""


class Captures:
    """What is captured, by endpoint: those that capture nothing are not in it."""

    def __init__(self) -> None:
        self.by_endpoint: dict[str, DataCapture] = {}
        self.on_first: Callable[[], None] = lambda: None
        """Called when the first endpoint that captures has come."""

    def follow(self, name: str, route: EndpointRoute | None) -> None:
        """Take the new route of an endpoint."""
        if route is None or route.capture is None:
            self.by_endpoint.pop(name, None)
            return
        is_first = not self.by_endpoint
        self.by_endpoint[name] = route.capture
        if is_first:
            self.on_first()


ContextKey = tuple[str, str, bytes, bytes, bool]
"""Endpoint, variant, headers of the request and of the answer, whether it is a shadow's copy."""


class Contexts:
    """Makes what many records have in common, remembering what recurs."""

    def __init__(self) -> None:
        self._known: dict[ContextKey, tuple[DataCapture, CaptureContext]] = {}

    def find(self, capture: DataCapture, key: ContextKey) -> CaptureContext:
        """Return the context of a call."""
        known = self._known.get(key)
        if known is not None and known[0] is capture:
            return known[1]
        endpoint, variant, meta, reply_meta, is_shadow = key
        headers = decode_meta(meta)
        context = CaptureContext(
            destination=capture.destination,
            endpoint=endpoint,
            variant=variant,
            input=_observed(capture, headers) if capture.takes_input else None,
            output=_observed(capture, decode_meta(reply_meta)) if capture.takes_output else None,
            custom_attributes=headers.get("x-amzn-sagemaker-custom-attributes"),
            inference_id=headers.get("x-amzn-sagemaker-inference-id"),
            is_shadow=is_shadow,
        )
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[key] = (capture, context)
        return context


def _observed(capture: DataCapture, headers: Mapping[str, str]) -> Observed:
    content_type = headers.get("content-type", NO_TYPE)
    return Observed(content_type, capture.encoding(content_type))


class CaptureQueue:
    """Records on their way out of this process, as many as ``capture.queue_bytes`` holds."""

    def __init__(self, settings: CaptureSettings) -> None:
        self.arrived = asyncio.Event()
        """Set when there is something to take."""
        self.contexts = Contexts()
        self.max_body_bytes = settings.max_body_bytes
        self._max_bytes = settings.queue_bytes
        self._waiting: deque[Recording] = deque()
        self._bytes = 0

    def reserve(self, count: int) -> bool:
        """Take room for some bytes; False when there is none."""
        if self._bytes + count > self._max_bytes:
            return False
        self._bytes += count
        return True

    def release(self, count: int) -> None:
        """Give room back."""
        self._bytes -= count

    def put(self, recording: "Recording") -> None:
        """Queue what has its room already."""
        self._waiting.append(recording)
        if len(self._waiting) == 1:
            self.arrived.set()

    def take(self, count: int, size: int) -> list["Recording"]:
        """Take the oldest records: at most so many, and about so many bytes.

        They keep their room until they are ``done``.
        """
        taken: list[Recording] = []
        while self._waiting and len(taken) < count and size > 0:
            recording = self._waiting.popleft()
            size -= recording.size
            taken.append(recording)
        if not self._waiting:
            self.arrived.clear()
        return taken

    def done(self, recordings: list["Recording"]) -> None:
        """Give back the room of records that have been brought away, or given up."""
        self._bytes -= sum(recording.size for recording in recordings)


class Recording:
    """What has been seen of one captured call."""

    __slots__ = (
        "_began_at",
        "_capture",
        "_endpoint",
        "_event_id",
        "_input",
        "_input_bytes",
        "_is_over",
        "_is_shadow",
        "_meta",
        "_output",
        "_output_bytes",
        "_queue",
        "_reply_meta",
        "_variant",
        "counters",
        "size",
    )

    def __init__(
        self,
        queue: CaptureQueue,
        capture: DataCapture,
        event_id: str,
        *,
        began_at: float | None = None,
        is_shadow: bool = False,
    ) -> None:
        self.size = 0
        """Bytes of room in the queue."""
        self._queue = queue
        self._capture = capture
        self._event_id = event_id
        self._began_at = time.time() if began_at is None else began_at
        self._is_shadow = is_shadow
        self._is_over = False
        self._input: list[bytes] = []
        self._output: list[bytes] = []
        self._input_bytes = self._output_bytes = 0
        """Bytes of what came in parts."""
        self._reply_meta = b""
        # Of the invocation, once it has ended:
        self._meta = b""
        self._endpoint = self._variant = ""
        self.counters: VariantCounters | None = None

    def for_shadow(self) -> "Recording":
        """Return one for the copy of the same call, with the same id: they can be joined."""
        return Recording(
            self._queue, self._capture, self._event_id, began_at=self._began_at, is_shadow=True
        )

    # While the call goes on ---------------------------------------------------------------

    def add_input(self, invocation: Invocation, data: bytes) -> None:
        """Take note of a part of the request's body that is passed on while it comes."""
        if self._capture.takes_input:
            self._input_bytes += len(data)
            if self._keep(invocation, len(data), self._input_bytes):
                self._input.append(bytes(data))  # of a view: its memory is read into again

    def begin(self, status: int, meta: bytes) -> None:
        """Take note of the head of the answer."""
        if 200 <= status < 300:
            self._reply_meta = meta
        else:
            self.drop()

    def add_output(self, invocation: Invocation, data: bytes) -> None:
        """Take note of a part of the answer's body, of which more follow."""
        if self._capture.takes_output and data:
            self._output_bytes += len(data)
            if self._keep(invocation, len(data), self._output_bytes):
                self._output.append(bytes(data))

    def end(self, invocation: Invocation, last: bytes) -> None:
        """Take note of the last part of a good answer, and queue the record."""
        if self._is_over:
            return
        taken = 0
        if self._capture.takes_input:
            if not invocation.is_streamed:
                self._input = [invocation.body]
                taken = len(invocation.body)
            elif self._input_bytes < invocation.body_length:
                self.drop()  # answered before all of it was there
                return
        if self._capture.takes_output:
            self._output.append(bytes(last))
        else:
            last = b""
        largest = max(taken, self._output_bytes + len(last))
        if not self._keep(invocation, OVERHEAD_BYTES + taken + len(last), largest):
            return
        self._is_over = True
        self._meta = invocation.meta
        self._endpoint = invocation.endpoint
        self._variant = invocation.variant
        self.counters = invocation.counters
        self._queue.put(self)

    def drop(self) -> None:
        """Forget the call: it failed, or its client has gone."""
        if not self._is_over:
            self._is_over = True
            self._queue.release(self.size)
            self._input = []
            self._output = []

    def _keep(self, invocation: Invocation, count: int, of_one_side: int) -> bool:
        """Take room for more; where there is none, the whole call is dropped, and counted."""
        if self._is_over:
            return False
        if of_one_side > self._queue.max_body_bytes or not self._queue.reserve(count):
            self.drop()
            if invocation.counters is not None:
                invocation.counters.capture_dropped += 1
            return False
        self.size += count
        return True

    # Afterwards ---------------------------------------------------------------------------

    def record(self) -> CaptureRecord:
        """Return the record of a call that has ended."""
        key = (self._endpoint, self._variant, self._meta, self._reply_meta, self._is_shadow)
        return CaptureRecord(
            self._queue.contexts.find(self._capture, key),
            self._event_id,
            self._began_at,
            b"".join(self._input),
            b"".join(self._output),
        )
