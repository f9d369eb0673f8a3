"""Invocations of models with several containers: one step after another, or the one that is named.

Each step is an ``Invocation`` of its own, with its own worker; what one answers is the body of the
next one's request::

    client's invocation ── Chain ──┬─ Step 1 ── channel of a worker of container 1
                                   ├─ Step 2 ── channel of a worker of container 2
                                   └─ Step 3 ── … its answer goes to the client as it comes

All steps run on one instance and share the client's deadline. A step that a dead worker did not
start is sent to another worker of the same container, and waits for one when there is none; only
before anything has run may the whole chain move to another instance. So no step runs twice.

In Direct mode the chain has one step: the container that the client named.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from clary.errors import (
    InvalidRequest,
    InvocationError,
    InvocationTimeout,
    Overloaded,
    StepBodyTooLarge,
    WorkerLost,
)
from clary.messages import decode_meta, encode_meta
from clary.metrics.registry import VariantCounters
from clary.router.admission import admit
from clary.router.balancing import choose_worker
from clary.router.invocation import Carrier, Invocation, Resubmit
from clary.router.sessions import Session
from clary.router.table import Container, Endpoint, PipelineInstance, Variant, Worker
from clary.settings import RouterSettings

Key = TypeVar("Key")

MAX_REMEMBERED = 4096
MEGABYTE = 1024 * 1024


FindEndpoint = Callable[[str], Endpoint | None]
"""Looks up the routing table as it is now."""


class Pipelines:
    """All chains of one router: starts them, and finds workers for their steps.

    Args:
        settings: Limits.
        find_endpoint: Looks up the routing table as it is now.
        resubmit: Takes a client's invocation of which no step has been started, to be sent to
            another instance.
    """

    def __init__(
        self,
        settings: RouterSettings,
        find_endpoint: FindEndpoint,
        resubmit: Resubmit,
    ) -> None:
        self.settings = settings
        self.metas = StepMetas()
        self.resubmit = resubmit
        self._find_endpoint = find_endpoint
        self._waiting: dict[str, list[Step]] = {}

    def submit(self, invocation: Invocation, variant: Variant, instance: PipelineInstance) -> None:
        """Start the chain of an invocation on an instance.

        Raises:
            InvalidRequest: The container that it names is not there, or it must name one.
            Overloaded: The queue of the first step is full.
        """
        containers = _wanted_containers(invocation, instance)
        chain = Chain(self, invocation, variant.name, instance.id, containers)
        invocation.variant = variant.name
        invocation.counters = variant.counters
        invocation.channel = chain
        invocation.sent_at = time.monotonic()
        try:
            chain.begin()
        except Overloaded:
            invocation.channel = None
            variant.counters.overloaded += 1
            raise
        variant.counters.invocations += 1

    def choose(self, container: Container, session: Session | None) -> Worker | None:
        """Return the worker for the next step in a container; None when none is connected.

        In the container that has opened the client's session, it is the worker that has it.
        """
        if session is not None and session.place is not None:
            for worker in container.workers:
                if worker.channel.life == session.place.worker_life:
                    return worker if worker.channel.is_ready else None
        return choose_worker(container.workers, self.settings.pack_below_s, time.monotonic())

    def find(self, step: "Step") -> Worker | None:
        """Return a worker for a step by the table as it is now.

        Workers that were started again may be other ones than those that the chain began with.
        """
        chain = step.chain
        endpoint = self._find_endpoint(step.endpoint)
        for variant in endpoint.all_variants if endpoint is not None else ():
            for instance in variant.instances:
                if instance.id == chain.instance_id and isinstance(instance, PipelineInstance):
                    container = instance.container_named(step.container)
                    return (
                        None if container is None else self.choose(container, chain.client.session)
                    )
        return None

    # Steps that wait for a worker ---------------------------------------------------------

    def wait(self, step: "Step") -> None:
        """Keep a step until its container has a worker again, for a bounded time."""
        if step.give_up_at == 0.0:
            step.give_up_at = min(
                time.monotonic() + self.settings.instance_wait_s, step.chain.client.deadline
            )
        self._waiting.setdefault(step.endpoint, []).append(step)

    def forget(self, step: "Step") -> None:
        """Wait no more for the worker of a step."""
        waiting = self._waiting.get(step.endpoint, [])
        if step in waiting:
            waiting.remove(step)

    def drain(self, endpoint: str) -> None:
        """Try again what waits, for the table or a channel has changed."""
        for step in self._waiting.pop(endpoint, ()):
            step.chain.send(step)

    def sweep(self, now: float) -> None:
        """Fail what has waited too long."""
        for endpoint in list(self._waiting):
            waiting = self._waiting[endpoint]
            for step in [step for step in waiting if step.give_up_at <= now]:
                waiting.remove(step)
                is_late = step.chain.client.deadline <= now
                step.on_failure(InvocationTimeout() if is_late else step.lost)
            if not waiting:
                self._waiting.pop(endpoint, None)


class StepMetas:
    """Makes the headers of each step's request, remembering the ones that recur."""

    def __init__(self) -> None:
        self._firsts: dict[bytes, bytes] = {}
        self._nexts: dict[tuple[bytes, bytes, bool], bytes] = {}

    def first(self, client_meta: bytes) -> bytes:
        """Return the meta block of a first step that is not the last one: without ``Accept``.

        The client's wish is about the last answer; what steps say among themselves is theirs.
        """
        meta = self._firsts.get(client_meta)
        if meta is None:
            headers = decode_meta(client_meta)
            headers.pop("accept", None)
            meta = _remember(self._firsts, client_meta, encode_meta(headers))
        return meta

    def next(self, client_meta: bytes, reply_meta: bytes, *, is_last: bool) -> bytes:
        """Return the meta block for what one step answered, as the next one's request.

        Args:
            client_meta: Of the client's request.
            reply_meta: Of the step's answer. Its Content-Type replaces the client's; without one
                the request has none either, for nobody knows what the body is.
            is_last: Whether the next step is the last, which is asked for what the client accepts.
        """
        key = (client_meta, reply_meta, is_last)
        meta = self._nexts.get(key)
        if meta is None:
            headers = decode_meta(client_meta)
            headers.pop("content-type", None)
            if not is_last:
                headers.pop("accept", None)
            content_type = decode_meta(reply_meta).get("content-type")
            if content_type is not None:
                headers["content-type"] = content_type
            meta = _remember(self._nexts, key, encode_meta(headers))
        return meta


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
        pipelines: Pipelines,
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


def _wanted_containers(invocation: Invocation, instance: PipelineInstance) -> tuple[Container, ...]:
    """Return the containers that an invocation goes through."""
    name = invocation.target_container
    if not instance.is_direct:
        if name is not None:
            raise InvalidRequest(NOT_DIRECT)
        return instance.containers
    if name is None:
        raise InvalidRequest(
            "The TargetContainerHostname parameter is required for endpoints with a "
            f"multi-container model in Direct mode. {_known(instance)}"
        )
    container = instance.container_named(name)
    if container is None:
        raise InvalidRequest(
            f"TargetContainerHostname {name} not found for endpoint {invocation.endpoint}. "
            f"{_known(instance)}"
        )
    return (container,)


NOT_DIRECT = (
    "The TargetContainerHostname parameter is only allowed for endpoints with a multi-container "
    "model in Direct mode."
)


def _known(instance: PipelineInstance) -> str:
    return f"Its containers are {', '.join(c.name for c in instance.containers)}."


def _announced_length(meta: bytes) -> int:
    """Return the length that a reply in parts has announced, 0 where it has not."""
    text = decode_meta(meta).get("content-length", "")
    return int(text) if text.isdecimal() else 0


def _in_words(limit: int) -> str:
    return f"{limit // MEGABYTE} MB" if limit % MEGABYTE == 0 else f"{limit} bytes"


def _remember(cache: dict[Key, bytes], key: Key, value: bytes) -> bytes:
    if len(cache) >= MAX_REMEMBERED:
        cache.clear()
    cache[key] = value
    return value
