"""One invocation on its way through the containers of a model: a chain of steps.

``pipeline.py`` starts chains and finds the workers for their steps.
"""

import time
from typing import Protocol

from clary.errors import (
    InvocationError,
    InvocationTimeout,
    Overloaded,
    StepBodyTooLarge,
    WorkerLost,
)
from clary.messages import decode_meta
from clary.metrics.registry import VariantCounters
from clary.router.admission import admit
from clary.router.invocation import Carrier, Invocation, Resubmit
from clary.router.sessions import Session
from clary.router.step_metas import StepMetas
from clary.router.table import Container, Worker
from clary.settings import RouterSettings

MEGABYTE = 1024 * 1024


class Steps(Protocol):
    """What chains ask of the router that they are in."""

    settings: RouterSettings
    metas: StepMetas
    resubmit: Resubmit

    def choose(self, container: Container, session: Session | None) -> Worker | None:
        """Return the worker for the next step in a container; None when none is connected."""
        ...

    def find(self, step: "Step") -> Worker | None:
        """Return a worker for a step by the table as it is now."""
        ...

    def wait(self, step: "Step") -> None:
        """Keep a step until its container has a worker again, for a bounded time."""
        ...

    def forget(self, step: "Step") -> None:
        """Wait no more for the worker of a step."""
        ...


class Step(Invocation):
    """One container's part of an invocation."""

    __slots__ = ("_parts", "_reply_meta", "_size", "chain", "give_up_at", "index", "lost")

    def __init__(self, chain: "Chain", index: int, meta: bytes, body: bytes) -> None:
        self.chain = chain
        client = chain.client
        super().__init__(client.endpoint, meta, body, client.deadline)
        self.wants_stream = client.wants_stream and index == len(chain.containers) - 1
        self.index = index
        self.variant = chain.variant
        self.container = chain.containers[index].name
        self.counters: VariantCounters = chain.containers[index].counters
        self.give_up_at = 0.0
        """Until when it waits for a worker; 0: it has not waited yet."""
        self.lost: InvocationError = WorkerLost(
            f"No process of container {self.container} takes requests."
        )
        """Why it had to look for another worker."""
        self._reply_meta = b""
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def deadline(self) -> float:
        """The client's, which may move while its answer is streamed."""
        return self.chain.client.deadline

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self.chain.client.deadline = moment

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        chain = self.chain
        if not more:
            self._measure()
        if not 200 <= status < 300:
            self.counters.count_answer(status)
            chain.answer(self, status, meta, body, more)
        elif chain.is_last(self):
            chain.answer(self, status, meta, body, more)
        else:
            self._reply_meta = meta
            if more and not self._fits(_announced_length(meta)):
                return
            self._collect(body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        chain = self.chain
        if not more:
            self._measure()
        if chain.is_answering:
            if status != 200:
                self.counters.count_answer(500)
            chain.client.on_part(status, body, more)
        elif status != 200:
            # The handler failed while it was giving its answer.
            self.counters.count_answer(500)
            chain.answer(self, 500, b"", body, False)
        else:
            self._collect(body, more)

    def on_parts(self, parts: list[bytes]) -> None:
        if self.chain.is_answering:
            self.chain.client.on_parts(parts)
        else:
            super().on_parts(parts)

    def on_failure(self, error: InvocationError) -> None:
        if not isinstance(error, Overloaded):
            self.counters.count_failure()
        self.chain.fail(self, error)

    def on_writable(self) -> None:
        self.chain.client.on_writable()

    def _measure(self) -> None:
        """Take the time of an answer."""
        if self.counters.is_measured:
            self.counters.model.samples.append(time.monotonic() - self.sent_at)

    def _collect(self, body: bytes, more: bool) -> None:
        """Keep a part of the answer until all of it is there for the next step."""
        self._size += len(body)
        if not self._fits(self._size):
            return
        if not more and not self._parts:
            self.chain.go_on(self, self._reply_meta, body)
            return
        self._parts.append(body)
        if not more:
            self.chain.go_on(self, self._reply_meta, b"".join(self._parts))
        elif self.channel is not None:
            self.channel.credit(self, len(body))

    def _fits(self, size: int) -> bool:
        """Whether the next container is given so many bytes; fails the chain when it is not."""
        limit = self.chain.pipelines.settings.max_step_body_bytes
        if size <= limit:
            return True
        if self.channel is not None:
            self.channel.cancel(self)
        following = self.chain.containers[self.index + 1].name
        self.on_failure(
            StepBodyTooLarge(
                f"Received response from {self.container} with status code 200. However, the "
                f"request payload from {self.container} to {following} is {size} bytes, which has "
                f"exceeded the maximum limit of {_in_words(limit)}."
            )
        )
        return False


class Chain:
    """One client's invocation on its way through the containers; its ``Carrier``."""

    __slots__ = (
        "_current",
        "_is_over",
        "client",
        "containers",
        "instance_id",
        "is_answering",
        "pipelines",
        "variant",
    )

    def __init__(
        self,
        pipelines: Steps,
        client: Invocation,
        variant: str,
        instance_id: str,
        containers: tuple[Container, ...],
    ) -> None:
        self.pipelines = pipelines
        self.client = client
        self.variant = variant
        self.instance_id = instance_id
        self.containers = containers
        self.is_answering = False
        """Whether what the current step says goes to the client as it is."""
        self._is_over = False
        meta = client.meta if len(containers) == 1 else pipelines.metas.first(client.meta)
        self._current = Step(self, 0, meta, client.body)
        self._current.is_streamed = client.is_streamed
        self._current.body_length = client.body_length

    @property
    def channel(self) -> Carrier | None:
        """What has the current step."""
        return self._current.channel

    def is_last(self, step: Step) -> bool:
        """Whether a step's answer is the client's."""
        return step.index == len(self.containers) - 1

    def begin(self) -> None:
        """Send the first step.

        Raises:
            Overloaded: The worker's queue is full.
        """
        container = self.containers[0]
        worker = self.pipelines.choose(container, self.client.session)
        if worker is None:
            self.pipelines.wait(self._current)
        else:
            self._hand_over(self._current, worker)

    def send(self, step: Step) -> None:
        """Send a step to a worker of its container, or have it wait for one."""
        if self._is_over:
            return
        if step.deadline <= time.monotonic():
            step.on_failure(InvocationTimeout())
            return
        worker = self.pipelines.find(step)
        if worker is None:
            self.pipelines.wait(step)
            return
        try:
            self._hand_over(step, worker)
        except Overloaded as error:
            step.counters.overloaded += 1
            step.on_failure(error)

    def _hand_over(self, step: Step, worker: Worker) -> None:
        channel = worker.channel
        if channel.outstanding > 4:  # a short queue needs no arithmetic
            left_s = step.deadline - time.monotonic()
            admit(channel, left_s, self.pipelines.settings.max_queue_per_worker)
        step.channel = channel
        step.counters.invocations += 1
        channel.submit(step)

    def retry(self, step: Step, error: InvocationError) -> None:
        """Send a step again that its worker surely never started."""
        if self._is_over:
            return
        step.channel = None
        step.counters.invocations -= 1
        step.lost = error
        if step.index == 0 and not step.is_streamed and self.pipelines.find(step) is None:
            # Nothing has run: any instance will do.
            self._is_over = True
            self.pipelines.resubmit(self.client, error)
            return
        self.send(step)

    # From the steps -----------------------------------------------------------------------

    def go_on(self, step: Step, meta: bytes, body: bytes) -> None:
        """Make one step's answer the next one's request."""
        index = step.index + 1
        is_last = index == len(self.containers) - 1
        meta = self.pipelines.metas.next(self.client.meta, meta, is_last=is_last)
        self._current = Step(self, index, meta, body)
        worker = self.pipelines.choose(self.containers[index], self.client.session)
        if worker is None:
            self.send(self._current)
            return
        try:
            self._hand_over(self._current, worker)
        except Overloaded as error:
            self._current.counters.overloaded += 1
            self._current.on_failure(error)

    def answer(self, step: Step, status: int, meta: bytes, body: bytes, more: bool) -> None:
        """Give the client a step's answer: the last one's, or an error."""
        self.is_answering = True
        self.client.container = step.container
        self.client.on_reply(status, meta, body, more)

    def fail(self, step: Step, error: InvocationError) -> None:
        """Tell the client which container did not answer."""
        if not self._is_over:
            self._is_over = True
            self.client.container = step.container
            self.client.on_failure(error)

    # From the client ----------------------------------------------------------------------

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        step = self._current
        if step.index > 0 or step.channel is None:
            return True  # answered before all of the body was there
        return step.channel.send_body(step, data, more)

    def cancel(self, invocation: Invocation) -> None:
        self._is_over = True
        step = self._current
        if step.channel is None:
            self.pipelines.forget(step)
        else:
            step.channel.cancel(step)

    def credit(self, invocation: Invocation, count: int) -> None:
        if self._current.channel is not None:
            self._current.channel.credit(self._current, count)


def _announced_length(meta: bytes) -> int:
    """Return the length that a reply in parts has announced, 0 where it has not."""
    text = decode_meta(meta).get("content-length", "")
    return int(text) if text.isdecimal() else 0


def _in_words(limit: int) -> str:
    return f"{limit // MEGABYTE} MB" if limit % MEGABYTE == 0 else f"{limit} bytes"
