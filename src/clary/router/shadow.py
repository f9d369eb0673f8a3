"""Copies of invocations for a shadow variant.

A copy's answer is thrown away, whatever it is; what remains is in the counters of the shadow's
variant. It shares headers, body and deadline with the invocation that it copies, and nothing else:
neither can delay the other, or end it.

Copies are gathered for a moment and sent together. So a call's own copy is sent when its answer has
gone, if the model is fast; and of many calls in a row, one meets the work for all their copies,
instead of each the work for its own.
"""

import asyncio
import random
import time
from collections.abc import Callable

from clary.errors import InvalidRequest, InvocationError, Overloaded
from clary.router.balancing import shadow_share
from clary.router.invocation import Invocation
from clary.router.pipeline import Pipelines
from clary.router.table import Instance, PipelineInstance, Variant, Worker
from clary.settings import RouterSettings

GATHER_S = 0.005
"""How long copies are gathered, in seconds."""

GATHERED_SHARE = 4
"""A quarter of the copies that may be open is sent without waiting for more."""

Choose = Callable[[Variant], tuple[Instance, Worker] | None]


class Mirror:
    """Sends copies to the shadow variant of one endpoint. Lives on when the route changes.

    Args:
        settings: How far the shadow may lag.
        choose: Finds an instance and a worker of a variant.
        pipelines: Takes copies for instances of several containers.
        variant: The shadow variant.
        production_weight: Weight that the shadow's is to be compared with.
    """

    def __init__(
        self,
        settings: RouterSettings,
        choose: Choose,
        pipelines: Pipelines,
        variant: Variant,
        production_weight: float,
    ) -> None:
        self.copies = 0
        """Copies that are gathered, or sent and not yet answered."""
        self.body_bytes = 0
        """Bytes of their bodies."""
        self._max_copies = settings.shadow_max_outstanding
        self._max_bytes = settings.shadow_max_bytes
        self._enough = max(self._max_copies // GATHERED_SHARE, 1)
        self._choose = choose
        self._pipelines = pipelines
        self._gathered: list[Invocation] = []
        self._sending: asyncio.Handle | None = None
        self.follow(variant, production_weight)

    def follow(self, variant: Variant, production_weight: float) -> None:
        """Take the shadow variant of a new route."""
        self._variant = variant
        self._share = shadow_share(production_weight, variant.weight)

    def offer(self, invocation: Invocation) -> None:
        """Copy an invocation, if the share says so and the shadow keeps up; else count it.

        Decided once: an invocation may be sent a second time.
        """
        # A streamed body is not here to be copied.
        if invocation.is_mirrored or invocation.is_streamed:
            return
        invocation.is_mirrored = True
        if self._share < 1 and random.random() >= self._share:  # noqa: S311 - no secret
            return
        size = len(invocation.body)
        if self.copies >= self._max_copies or self.body_bytes + size > self._max_bytes:
            self._variant.counters.dropped += 1
            return
        self.copies += 1
        self.body_bytes += size
        self._gathered.append(invocation)
        if len(self._gathered) == self._enough:
            if self._sending is not None:
                self._sending.cancel()
            self._sending = asyncio.get_running_loop().call_soon(self._send)
        elif self._sending is None:
            self._sending = asyncio.get_running_loop().call_later(GATHER_S, self._send)

    def _send(self) -> None:
        self._sending = None
        gathered, self._gathered = self._gathered, []
        variant = self._variant
        for invocation in gathered:
            chosen = self._choose(variant)
            if chosen is None:
                variant.counters.dropped += 1
                self.forget(invocation)
                continue
            instance, worker = chosen
            copy = ShadowCopy(invocation, self)
            copy.target_model = invocation.target_model
            if isinstance(instance, PipelineInstance):
                self._send_through(copy, instance)
                continue
            copy.variant = variant.name
            copy.counters = variant.counters
            copy.container = instance.container
            copy.channel = worker.channel
            variant.counters.invocations += 1
            worker.channel.submit(copy)

    def _send_through(self, copy: "ShadowCopy", instance: PipelineInstance) -> None:
        """Send a copy through the containers of an instance."""
        try:
            self._pipelines.submit(copy, self._variant, instance)
        except (InvalidRequest, Overloaded):
            self._variant.counters.dropped += 1
            self.forget(copy)

    def forget(self, invocation: Invocation) -> None:
        """Take a copy that has ended, or that was not made, off the books."""
        self.copies -= 1
        self.body_bytes -= len(invocation.body)


class ShadowCopy(Invocation):
    """A copy on its way."""

    __slots__ = ("_mirror", "_status")

    def __init__(self, original: Invocation, mirror: Mirror) -> None:
        super().__init__(original.endpoint, original.meta, original.body, original.deadline)
        self.target_container = original.target_container
        self._status = 200
        self._mirror = mirror
        if original.recording is not None:
            self.recording = original.recording.for_shadow()

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self._status = status
        if self.recording is not None:
            self.recording.begin(status, meta)
        self._take(body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if status != 200:
            self._status = 500
            if self.recording is not None:
                self.recording.drop()
        self._take(body, more)

    def on_failure(self, error: InvocationError) -> None:
        self._mirror.forget(self)
        if self.recording is not None:
            self.recording.drop()
        if self.counters is not None:
            self.counters.count_failure()

    def _take(self, body: bytes, more: bool) -> None:
        if not more:
            self._end()
            if self.recording is not None:
                self.recording.end(self, body)
            return
        if self.recording is not None:
            self.recording.add_output(self, body)
        if body and self.channel is not None:
            self.channel.credit(self, len(body))  # read it to its end, as a client would

    def _end(self) -> None:
        self._mirror.forget(self)
        counters = self.counters
        if counters is None:
            return
        if not 200 <= self._status < 300:
            counters.count_answer(self._status)
        if counters.is_measured:
            counters.model.samples.append(time.monotonic() - self.sent_at)
