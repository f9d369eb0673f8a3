"""One request of a transform job to one instance, and how often it is tried."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from clary.errors import (
    Error,
    InvalidRequest,
    InvocationError,
    InvocationTimeout,
    NotFound,
    Overloaded,
)
from clary.messages import encode_meta
from clary.router.invocation import Invocation
from clary.router.router import Router
from clary.router.table import Variant

RETRY_PAUSES_S = (0.1, 0.5, 2.0)
BUSY_PAUSE_S = 0.2
"""Between attempts while the instance has no worker: it is being mended."""


class InstanceGone(Error):
    """The instance is not in the route any more; another one may take the file."""


class CallFailed(Error):
    """The model did not do it, however often it was tried.

    Args:
        message: For the job's log.
        status: What the container answered; 0: nothing.
        body: What it said.
    """

    def __init__(self, message: str, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body

    @property
    def is_clients_fault(self) -> bool:
        """Whether the container found the request bad, so that trying again is of no use."""
        return 400 <= self.status < 500


class TransformCall(Invocation):
    """A request whose answer is read as it comes."""

    __slots__ = ("_changed", "_is_over", "_parts", "_writable", "error", "status")

    def __init__(self, endpoint: str, meta: bytes, body: bytes, deadline: float) -> None:
        super().__init__(endpoint, meta, body, deadline)
        self.status = 0
        self.error: InvocationError | None = None
        self._parts: deque[bytes] = deque()
        self._is_over = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self.status = status
        self.on_part(200, body, more)

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if status != 200:
            self.status = status
        self._parts.append(body)
        self._is_over = not more
        self._changed.set()

    def on_failure(self, error: InvocationError) -> None:
        self.error = error
        self._is_over = True
        self._changed.set()
        self._writable.set()

    def on_writable(self) -> None:
        self._writable.set()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer's body.

        Raises:
            InvocationError: There is none, or no more of it.
        """
        while True:
            while self._parts:
                part = self._parts.popleft()
                yield part
                if self.channel is not None:
                    self.channel.credit(self, len(part))
            if self._is_over:
                break
            await self._changed.wait()
            self._changed.clear()
        if self.error is not None:
            raise self.error

    async def writable(self) -> None:
        """Return when the way to the model takes more of the body."""
        await self._writable.wait()
        self._writable.clear()

    @property
    def is_over(self) -> bool:
        """Whether the whole answer, or its failure, is here."""
        return self._is_over


class Caller:
    """Makes the requests of one job.

    Args:
        router: Knows where the instances are.
        route: Name of the job's route.
        content_type: Of requests.
        accept: Of replies.
        timeout_s: For one request.
        max_retries: How often one is made again.
    """

    def __init__(
        self,
        router: Router,
        route: str,
        *,
        content_type: str | None,
        accept: str | None,
        timeout_s: float,
        max_retries: int,
    ) -> None:
        headers = {}
        if content_type:
            headers["content-type"] = content_type
        if accept:
            headers["accept"] = accept
        self._meta = encode_meta(headers)
        self._router = router
        self._route = route
        self._timeout_s = timeout_s
        self._max_retries = max_retries

    def instances(self) -> list[str]:
        """Return the instances that take requests now."""
        variant = self._variant()
        return [] if variant is None else [instance.id for instance in variant.instances]

    def _variant(self) -> Variant | None:
        endpoint = self._router.find(self._route)
        return None if endpoint is None else endpoint.variants[0]

    async def call(self, instance_id: str, body: bytes) -> bytes:
        """Return the model's answer.

        Raises:
            CallFailed: It has none.
            InstanceGone: The instance is not there any more.
        """

        async def once() -> bytes:
            call = await self._submit(instance_id, body)
            return b"".join([part async for part in self._answer(call)])

        return await self._retried(once)

    async def stream(
        self, instance_id: str, body: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Send a body as it is read, and yield the answer as it comes. Tried once.

        Raises:
            CallFailed: There is no answer, or no more of it.
            InstanceGone: The instance is not there any more.
        """
        first = await anext(body, b"")
        call = await self._submit(instance_id, first, is_streamed=True)
        sending = asyncio.create_task(_send(call, body))
        try:
            async for part in self._answer(call):
                yield part
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if sending.done() and not sending.cancelled() and (error := sending.exception()):
            raise error

    async def _retried(self, once: Callable[[], Awaitable[bytes]]) -> bytes:
        attempt = 0
        while True:
            try:
                return await once()
            except CallFailed as error:
                if error.is_clients_fault or attempt >= self._max_retries:
                    raise
            await asyncio.sleep(RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)])
            attempt += 1

    async def _submit(
        self, instance_id: str, body: bytes, *, is_streamed: bool = False
    ) -> TransformCall:
        """Hand a request to an instance, as soon as that has a worker for it."""
        while True:
            variant = self._variant()
            instances = () if variant is None else variant.instances
            instance = next((i for i in instances if i.id == instance_id), None)
            if variant is None or instance is None:
                raise InstanceGone(instance_id)
            deadline = time.monotonic() + self._timeout_s
            call = TransformCall(self._route, self._meta, body, deadline)
            if is_streamed:
                call.is_streamed = True
                call.body_length = -1
            try:
                self._router.submit_to(call, variant, instance)
            except Overloaded:
                await asyncio.sleep(BUSY_PAUSE_S)
            except (NotFound, InvalidRequest) as error:
                raise InstanceGone(instance_id) from error
            else:
                return call

    async def _answer(self, call: TransformCall) -> AsyncGenerator[bytes, None]:
        kept: list[bytes] = []
        try:
            async for part in call.parts():
                if 200 <= call.status < 300:
                    yield part
                else:
                    kept.append(part)
        except InvocationTimeout as error:
            raise CallFailed(
                "Model server did not respond to /invocations request within "
                f"{self._timeout_s:.0f} seconds"
            ) from error
        except InvocationError as error:
            raise CallFailed(f"The model's server ended: {error.message}") from error
        finally:
            if not call.is_over:
                self._router.cancel(call)
        if not 200 <= call.status < 300:
            text = b"".join(kept)
            raise CallFailed(f"The container answered {call.status}", call.status, text)


async def _send(call: TransformCall, body: AsyncIterator[bytes]) -> None:
    async for data in body:
        if call.channel is None or call.is_over:
            return
        if not call.channel.send_body(call, data, True):
            await call.writable()
    if call.channel is not None and not call.is_over:
        call.channel.send_body(call, b"", False)
