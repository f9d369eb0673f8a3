"""A copy of an invocation for a shadow variant.

The copy's answer is thrown away, whatever it is; what remains is in the counters of the shadow's
variant. It shares headers, body and deadline with the invocation that it copies, and nothing else:
neither can delay the other, or end it.
"""

from clary.errors import InvocationError
from clary.router.invocation import Channel, Invocation
from clary.router.table import Backlog, Variant


class ShadowCopy(Invocation):
    """A copy on its way. Counts in the backlog from its making to its end."""

    __slots__ = ("_backlog", "_is_failed")

    def __init__(
        self,
        original: Invocation,
        variant: Variant,
        container: str,
        channel: Channel,
        backlog: Backlog,
    ) -> None:
        super().__init__(original.endpoint, original.meta, original.body, original.deadline)
        self.variant = variant.name
        self.counters = variant.counters
        self.container = container
        self.channel = channel
        self._is_failed = False
        self._backlog = backlog
        backlog.copies += 1
        backlog.body_bytes += self.body_length

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self._is_failed = not 200 <= status < 300
        self._take(body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        self._is_failed = self._is_failed or status != 200
        self._take(body, more)

    def on_failure(self, error: InvocationError) -> None:
        self._is_failed = True
        self._end()

    def _take(self, body: bytes, more: bool) -> None:
        if not more:
            self._end()
        elif body and self.channel is not None:
            self.channel.credit(self, len(body))

    def _end(self) -> None:
        self._backlog.copies -= 1
        self._backlog.body_bytes -= self.body_length
        if self._is_failed and self.counters is not None:
            self.counters.model_errors += 1
