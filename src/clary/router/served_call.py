"""A call of a model of a multi-model endpoint that a user's own server has."""

import time
from typing import Protocol

from clary.errors import InvocationError
from clary.messages import decode_meta, encode_meta
from clary.router.invocation import Invocation


class Reloading(Protocol):
    """Who has a model loaded again: the channel of the instance."""

    def reload(self, name: str, invocation: Invocation, *, is_full: bool) -> None:
        """Load a model that its server has dropped by itself, or has no memory for; call it again.

        Args:
            name: Of the model.
            invocation: What the server did not take.
            is_full: Whether another model has to go first.
        """
        ...


class ServedCall(Invocation):
    """A call of a model inside a user's own server: ``POST /models/<name>/invoke``.

    Also the channel of the invocation that it stands for. A server that has dropped the model by
    itself (404), or has no memory to run it (507), gets it loaded again and called once more.
    """

    __slots__ = ("_is_again", "_models", "original")

    # Of the ``Channel`` that the original invocation sees.
    outstanding = 1
    is_ready = True
    mean_handler_s = 0.0
    progress_at = 0.0
    concurrency = 0
    life = 1

    def __init__(
        self, models: Reloading, original: Invocation, path: str, *, is_again: bool
    ) -> None:
        meta = encode_meta({**decode_meta(original.meta), ":path": path})
        super().__init__(original.endpoint, meta, original.body, original.deadline)
        self.counters = original.counters
        self.original = original
        original.sent_at = time.monotonic()
        self._models = models
        self._is_again = is_again

    # Invocation ---------------------------------------------------------------------------

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        name = self.original.target_model
        if status in (404, 507) and not more and not self._is_again and name is not None:
            self._models.reload(name, self.original, is_full=status == 507)
            return
        self.original.on_reply(status, meta, body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        self.original.on_part(status, body, more)

    def on_failure(self, error: InvocationError) -> None:
        self.original.on_failure(error)

    # Channel of the original --------------------------------------------------------------

    def submit(self, invocation: Invocation) -> None:
        raise AssertionError("it carries one invocation, from its beginning")

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        raise AssertionError("the router streams no body to a model of a multi-model endpoint")

    def cancel(self, invocation: Invocation) -> None:
        if self.channel is not None:
            self.channel.cancel(self)

    def credit(self, invocation: Invocation, count: int) -> None:
        if self.channel is not None:
            self.channel.credit(self, count)

    def expire(self, now: float) -> None:
        """The server's channel minds the deadline."""

    def close(self) -> None:
        """Nothing to close: the server's channel stays."""
