"""Works on one asynchronous invocation, from its lease to its end.

Input, container, output, end: each step may meet a killed process, so each can be done again. What
makes it one visible result:

- The end and its notification are written in one transaction, by who has the lease.
- Output objects that have a name of our own are only written where there is none. Who works on an
  invocation after somebody else looks first whether that one wrote an output, or a failure; then
  only the end is missing, and no container is asked again.
- What the container answered, error or not, is the answer. It is asked again only when it died
  under the call, or had not begun. After such a death the call has an instance for itself: it may
  be what ends workers, and is not to be taken for the cause because of a neighbour.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from clary.clock import Clock
from clary.errors import (
    Error,
    InvalidRequest,
    InvocationError,
    InvocationTimeout,
    ModelNotReady,
    Overloaded,
    PermanentError,
    PlatformFault,
    TransientError,
    WorkerLost,
)
from clary.jobs.async_call import Answer, AsyncCall
from clary.jobs.async_files import AsyncFiles, Fetched
from clary.jobs.async_lanes import Lane
from clary.jobs.async_messages import Outcome, model_failure, notification, wants_answer
from clary.jobs.async_plan import container_headers, pause_s
from clary.jobs.data_log import DataLog, Ended
from clary.messages import encode_meta
from clary.resources.async_inference import MAX_RESPONSE_IN_MESSAGE
from clary.router.router import Router
from clary.settings import AsyncSettings
from clary.store.async_leases import AsyncLeases, Finish, Release
from clary.store.async_rows import Lease, Result

PLACE_WAIT_S = 5.0
"""How long a claimed invocation waits for its place; then it waits in the queue."""

BUSY_PAUSE_S = 0.2
STATUS = "clary-status"
CAUSE = "clary-cause"
MAX_ERROR_BYTES = 1024 * 1024
"""Longest error of a container that is kept."""


class Again(Exception):
    """The invocation goes back into the queue.

    Args:
        pause_s: How long nobody is to claim it, in seconds.
        is_loss: Whether a worker ended under it.
    """

    def __init__(self, pause_s: float = BUSY_PAUSE_S, *, is_loss: bool = False) -> None:
        super().__init__()
        self.pause_s = pause_s
        self.is_loss = is_loss


class Failure(Exception):
    """The invocation has failed.

    Args:
        cause: As ``Result.cause``.
        reason: For people, and messages.
        body: For the failure object.
        content_type: Of that.
        status: What the container answered; 0: nothing, or it was not asked.
        variant: Which was asked.
    """

    def __init__(
        self,
        cause: str,
        reason: str,
        *,
        body: bytes | None = None,
        content_type: str = "text/plain",
        status: int = 0,
        variant: str = "",
    ) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason
        self.body = reason.encode() if body is None else body
        self.content_type = content_type
        self.status = status
        self.variant = variant


class AsyncWork:
    """Does what is to be done for an invocation.

    Args:
        router: Knows the workers.
        leases: The queue.
        files: Inputs and outputs.
        data_log: What is written of each into its endpoint's log.
        settings: Limits.
        clock: Wall time.
        region: For messages.
    """

    def __init__(
        self,
        router: Router,
        leases: AsyncLeases,
        files: AsyncFiles,
        data_log: DataLog,
        settings: AsyncSettings,
        clock: Clock,
        *,
        region: str,
    ) -> None:
        self._router = router
        self._leases = leases
        self._files = files
        self._data_log = data_log
        self._settings = settings
        self._clock = clock
        self._region = region

    def forget(self, lease: Lease) -> None:
        """Remove what was kept of an invocation while it was worked on."""
        self._files.remove(lease)

    async def do(self, lease: Lease, lane: Lane, on_end: Callable[[], None]) -> None:
        """Bring an invocation to its end, or back into the queue.

        Args:
            lease: The invocation.
            lane: Its endpoint's places.
            on_end: Called when messages were written.
        """
        try:
            result, outcome = await self._result(lease, lane)
        except Again as again:
            pause = timedelta(seconds=again.pause_s)
            await self._leases.release(Release(lease=lease, pause=pause, is_loss=again.is_loss))
            return
        message = notification(lease, outcome, region=self._region, now=self._clock.now())
        finish = Finish(
            lease=lease, result=result, notifications=(message,) if message is not None else ()
        )
        if await self._leases.finish(finish) and message is not None:
            on_end()

    async def _result(self, lease: Lease, lane: Lane) -> tuple[Result, Outcome]:
        try:
            if not lease.is_first:
                earlier = await self._earlier(lease)
                if earlier is not None:
                    return earlier
            if lease.expires_at <= self._clock.now():
                raise _expired()
            return await self._invoke(lease, lane, await self._fetch(lease))
        except Failure as failure:
            return await self._failed(lease, failure)
        except TransientError as error:
            raise Again(pause_s(lease.attempt)) from error

    async def _fetch(self, lease: Lease) -> Fetched:
        try:
            return await self._files.fetch(lease)
        except (TransientError, OSError) as error:
            raise Again(pause_s(lease.attempt)) from error
        except Error as error:
            reason = f"ClientError: The input cannot be read. {error.message}"
            raise Failure("download", reason) from error

    async def _invoke(self, lease: Lease, lane: Lane, fetched: Fetched) -> tuple[Result, Outcome]:
        call, instance_id, took_s = await self._call(lease, lane, fetched)
        answer = call.answer.result()
        if not answer.is_good:
            raise Failure(
                "model",
                model_failure(answer.status),
                body=answer.beginning(MAX_ERROR_BYTES),
                content_type=answer.content_type or "text/plain",
                status=answer.status,
                variant=call.variant,
            )
        upload_us = await self._write_output(lease, answer, call.variant)
        kept = None
        if wants_answer(lease, is_good=True, size=answer.size):
            kept = answer.beginning(MAX_RESPONSE_IN_MESSAGE)
        self._data_log.note(
            Ended(lease, call.variant, instance_id, int(took_s * 1e6), fetched.took_us, upload_us)
        )
        return (
            Result(
                status="Completed",
                cause="",
                variant=call.variant,
                download_us=fetched.took_us,
                upload_us=upload_us,
            ),
            Outcome(
                is_good=True,
                content_type=answer.content_type,
                location=lease.order.output_location,
                answer=kept,
            ),
        )

    async def _call(
        self, lease: Lease, lane: Lane, fetched: Fetched
    ) -> tuple[AsyncCall, str, float]:
        """Return a call that was answered, and by which instance in how many seconds."""
        wait_s = (lease.expires_at - self._clock.now()).total_seconds()
        is_suspect = lease.losses > 0
        # Who is to have an instance alone is not to lose its turn while the calls there end.
        limit_s = lease.order.timeout_s if is_suspect and lane.limit else PLACE_WAIT_S
        try:
            async with asyncio.timeout(min(wait_s, limit_s)):
                place = await lane.enter(alone=is_suspect)
        except TimeoutError:
            if wait_s <= limit_s:
                raise _expired() from None
            raise Again from None
        began = time.monotonic()
        took_s: float | None = None
        call = AsyncCall(
            lease.endpoint,
            encode_meta(container_headers(lease.order, lease.inference_id)),
            fetched.body,
            began + lease.order.timeout_s,
            make_file=lambda: self._files.path(lease, "out"),
            max_bytes=self._settings.max_body_bytes,
        )
        try:
            self._router.submit_to(call, place.variant, place.instance)
            await call.send_source()
            await call.answer
            took_s = time.monotonic() - began
            return call, place.instance.id, took_s
        except asyncio.CancelledError:
            self._router.cancel(call)
            raise
        except (InvocationError, InvalidRequest, PermanentError, OSError) as error:
            raise self._meaning(error, lease, call.variant) from error
        finally:
            call.discard_unless_answered()
            lane.leave(place, took_s)

    def _meaning(self, error: Exception, lease: Lease, variant: str) -> Exception:
        """Return what becomes of an invocation whose call got no answer."""
        if isinstance(error, (Overloaded, ModelNotReady)):
            return Again()
        if isinstance(error, OSError):  # the disk is full: it may not be, later
            return Again(pause_s(lease.attempt + 3))
        if isinstance(error, (WorkerLost, PlatformFault)):
            if lease.losses + 1 < self._settings.max_worker_losses:
                return Again(is_loss=True)
            body = f"{lease.losses + 1} workers ended while they worked on it. {error.message}"
            return Failure("model", model_failure(0), body=body.encode(), variant=variant)
        if isinstance(error, InvocationTimeout):
            body = f"The container did not answer within {lease.order.timeout_s} s."
            return Failure("model", model_failure(0), body=body.encode(), variant=variant)
        return Failure("model", f"ClientError: {error}", variant=variant)

    async def _write_output(self, lease: Lease, answer: Answer, variant: str) -> int | None:
        location = lease.order.output_location
        if location is None:
            return None
        try:
            return await self._files.write(
                location,
                answer.body,
                lease,
                content_type=answer.content_type,
                is_new=not lease.order.is_named,
            )
        except (Error, OSError) as error:
            reason = f"ClientError: The output cannot be written. {error}"
            raise Failure("upload", reason, variant=variant) from error

    async def _failed(self, lease: Lease, failure: Failure) -> tuple[Result, Outcome]:
        location = lease.order.failure_location
        if location is not None:
            facts = {CAUSE: failure.cause, STATUS: str(failure.status)}
            try:
                await self._files.write(
                    location,
                    failure.body,
                    lease,
                    content_type=failure.content_type,
                    facts=facts,
                )
            except (Error, OSError) as error:
                self._data_log.complain(lease, f"The failure cannot be written. {error}")
                location = None
        self._data_log.complain(lease, f"Inference request failed. {failure.reason}")
        is_answer = failure.status > 0
        return (
            Result(
                status="Failed",
                cause=failure.cause,
                reason=failure.reason,
                variant=failure.variant,
            ),
            Outcome(
                is_good=False,
                reason=failure.reason,
                content_type=failure.content_type if is_answer else "",
                location=location,
                answer=(
                    failure.body
                    if is_answer and wants_answer(lease, is_good=False, size=len(failure.body))
                    else None
                ),
            ),
        )

    async def _earlier(self, lease: Lease) -> tuple[Result, Outcome] | None:
        """Return the end of an invocation whose object an earlier attempt has written."""
        order = lease.order
        written = await self._files.find(order.output_location, lease)
        if written is not None and order.output_location is not None:
            kept = None
            if wants_answer(lease, is_good=True, size=written.size):
                kept = await self._files.read(order.output_location)
            return (
                Result(status="Completed", cause=""),
                Outcome(
                    is_good=True,
                    content_type=written.content_type,
                    location=order.output_location,
                    answer=kept,
                ),
            )
        written = await self._files.find(order.failure_location, lease)
        if written is None or order.failure_location is None:
            return None
        body = await self._files.read(order.failure_location)
        status = int(written.metadata.get(STATUS, "0"))
        cause = written.metadata.get(CAUSE, "model")
        reason = model_failure(status) if cause == "model" else body.decode("utf-8", "replace")
        return (
            Result(status="Failed", cause=cause, reason=reason),
            Outcome(
                is_good=False,
                reason=reason,
                content_type=written.content_type if status else "",
                location=order.failure_location,
                answer=(
                    body if status and wants_answer(lease, is_good=False, size=len(body)) else None
                ),
            ),
        )


def _expired() -> Failure:
    return Failure(
        "expired", "ClientError: The request was in the queue for longer than RequestTTLSeconds."
    )
