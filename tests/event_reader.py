"""Reads a response stream as it comes: chunk by chunk, event by event."""

from dataclasses import dataclass

from botocore.eventstream import EventStreamBuffer, EventStreamMessage

from gateways import Client


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or the exception that ends a stream."""

    kind: str
    payload: bytes


class EventReader:
    """The response to InvokeEndpointWithResponseStream on a raw connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = EventStreamBuffer()
        self._is_over = False
        self.status, self.headers = client.read_head()

    def __next__(self) -> Event:
        while True:
            for message in self._buffer:
                return _event(message)
            if self._is_over:
                raise StopIteration
            chunk = self._client.read_chunk()
            self._is_over = not chunk
            self._buffer.add_data(chunk)

    def __iter__(self) -> "EventReader":
        return self

    @classmethod
    def whole(cls, client: Client) -> list[Event]:
        """Read a response that came whole; return its events."""
        status, _, body = client.read()
        assert status == 200, body
        return cls.parse(body)

    @staticmethod
    def parse(body: bytes) -> list[Event]:
        """Return the events in bytes."""
        buffer = EventStreamBuffer()
        buffer.add_data(body)
        return [_event(message) for message in buffer]


def _event(message: EventStreamMessage) -> Event:
    kind = message.headers.get(":event-type") or message.headers[":exception-type"]
    return Event(kind, message.payload)
