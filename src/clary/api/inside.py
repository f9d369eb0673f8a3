"""Clary's own resources under ``/_clary``: what AWS has no operation for.

======================================  =========================================================
``GET /_clary/endpoints/{name}``        an endpoint with its instances and counters, as JSON
``GET /_clary/endpoints/{name}/models`` the models of a multi-model endpoint, with their numbers
``GET /_clary/transform-jobs/{name}``   a transform job with its progress, as JSON
``GET /_clary/logs/{endpoint}``         logs of its instances, as text; ``variant``, ``instance``,
                                        ``lines`` (default 100), ``follow=1`` for an endless reply
``GET /_clary/async/{endpoint}/{id}``   an asynchronous invocation: where it is, and its times
======================================  =========================================================

Errors are JSON objects with a ``message``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from clary.errors import InvalidRequest, NotFound
from clary.logs.files import Follower, LogFile, find_log_files, read_end
from clary.resources.transform_job import route_name
from clary.store import Store

ObserveInstances = Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
"""Return what is known of an endpoint's instances now, as JSON types, by the endpoint's name."""

ReadCounters = Callable[[str], Mapping[str, Mapping[str, int]]]
"""Return what gateways have counted of an endpoint since they started, by variant, by its name."""

ObserveModels = Callable[[str], Sequence[Mapping[str, Any]]]
"""Return the models of a multi-model endpoint with their numbers, as JSON types, by its name."""

DEFAULT_LINES = 100
_POLL_S = 0.2
"""How often followed files are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The pages and what they show."""

    store: Store
    log_root: Path
    """Directory of endpoints' logs: ``<endpoint>/<variant>/<instance>.log``."""

    observe_instances: ObserveInstances
    read_counters: ReadCounters
    observe_models: ObserveModels

    def routes(self) -> list[BaseRoute]:
        """Return the routes of these pages, and the one for all others under ``/_clary``."""
        return [
            Route("/_clary/endpoints/{name}", self.show_endpoint),
            Route("/_clary/endpoints/{name}/models", self.show_models),
            Route("/_clary/transform-jobs/{name}", self.show_transform_job),
            Route("/_clary/logs/{endpoint}", self.show_logs),
            Route("/_clary/async/{endpoint}/{inference_id:path}", self.show_invocation),
            Route("/_clary{rest:path}", _unknown, methods=None),
        ]

    async def show_endpoint(self, request: Request) -> Response:
        """Answer with an endpoint and its instances."""
        try:
            endpoint = await self.store.endpoints.get(request.path_params["name"])
        except NotFound as error:
            return _refusal(404, error.message)
        return JSONResponse(
            {
                "name": endpoint.name,
                "arn": endpoint.arn,
                "status": endpoint.status,
                "generation": endpoint.generation,
                "failure_reason": endpoint.failure_reason,
                "config": endpoint.config.name,
                "instances": [dict(i) for i in await self.observe_instances(endpoint.name)],
                "counters": {
                    variant: dict(counters)
                    for variant, counters in self.read_counters(endpoint.name).items()
                },
            }
        )

    async def show_models(self, request: Request) -> Response:
        """Answer with the models of a multi-model endpoint; none for any other."""
        try:
            endpoint = await self.store.endpoints.get(request.path_params["name"])
        except NotFound as error:
            return _refusal(404, error.message)
        return JSONResponse({"models": [dict(m) for m in self.observe_models(endpoint.name)]})

    async def show_invocation(self, request: Request) -> Response:
        """Answer with an asynchronous invocation: the newest one of this id."""
        endpoint, inference_id = (request.path_params[n] for n in ("endpoint", "inference_id"))
        found = await self.store.async_queue.find(endpoint, inference_id)
        if found is None:
            return _refusal(404, f"There is no invocation {inference_id!r} of {endpoint!r}.")
        return JSONResponse(found.to_json())

    async def show_transform_job(self, request: Request) -> Response:
        """Answer with a transform job and how far it is."""
        name = request.path_params["name"]
        try:
            job = await self.store.transform_jobs.get(name)
        except NotFound as error:
            return _refusal(404, error.message)
        progress = await self.store.transform_files.progress(name)
        instances = await self.observe_instances(route_name(name))
        return JSONResponse(
            {
                "name": job.name,
                "arn": job.arn,
                "status": job.status,
                "failure_reason": job.failure_reason,
                "instances": [dict(instance) for instance in instances],
                "files": {
                    "all": progress.files,
                    "done": progress.done,
                    "failed": progress.failed,
                },
                "bytes": {"all": progress.bytes, "done": progress.done_bytes},
                "requests": progress.requests,
                "failures": [
                    {"file": file, "reason": reason} for file, reason in progress.failures
                ],
            }
        )

    async def show_logs(self, request: Request) -> Response:
        """Answer with the ends of logs, and go on with what comes."""
        query = request.query_params
        endpoint = request.path_params["endpoint"]
        variant, instance_id = query.get("variant") or None, query.get("instance") or None

        def find() -> list[LogFile]:
            return find_log_files(self.log_root, endpoint, variant=variant, instance_id=instance_id)

        try:
            lines = _parse_lines(query.get("lines"))
            logs = await asyncio.to_thread(find)
        except InvalidRequest as error:
            return _refusal(400, error.message)
        if not logs and await self.store.endpoints.find(endpoint) is None:
            return _refusal(404, f"There is no endpoint {endpoint!r}, and no log of one.")
        if query.get("follow") in ("1", "true"):
            return StreamingResponse(follow_logs(find, lines), media_type="text/plain")
        return PlainTextResponse(await asyncio.to_thread(_read_ends, logs, lines))


async def follow_logs(find: Callable[[], list[LogFile]], lines: int) -> AsyncIterator[bytes]:
    """Give the ends of logs, then what is appended to them, and all of logs that appear later.

    Ends only when it is cancelled or closed.

    Args:
        find: Returns the logs that there are now; called again and again.
        lines: How many lines of each log that is there already.
    """
    followers: dict[Path, Follower] = {}
    is_first = True
    named = False
    while True:
        logs = await asyncio.to_thread(find)
        # Once there were several, lines stay prefixed: a reader would not know the change.
        named = named or len(logs) > 1
        is_quiet = True
        for log in logs:
            pieces: list[bytes] = []
            if log.path not in followers:
                followers[log.path] = Follower(log.path)
                if is_first:
                    end = await asyncio.to_thread(read_end, log.path, lines)
                    pieces += end.lines
                    followers[log.path] = Follower(log.path, end.position)
            pieces += await asyncio.to_thread(followers[log.path].read_lines)
            if pieces:
                is_quiet = False
                yield _with_names(log, pieces, named=named)
        is_first = False
        if is_quiet:
            await asyncio.sleep(_POLL_S)


def _read_ends(logs: Sequence[LogFile], lines: int) -> bytes:
    pieces = []
    for log in logs:
        end = read_end(log.path, lines)
        shown = [*end.lines, end.rest] if end.rest else end.lines
        pieces.append(_with_names(log, shown[-lines:] if lines else [], named=len(logs) > 1))
    return b"".join(pieces)


def _with_names(log: LogFile, lines: Sequence[bytes], *, named: bool) -> bytes:
    prefix = f"{log.stream}  ".encode() if named else b""
    return b"".join(prefix + line + b"\n" for line in lines)


def _parse_lines(text: str | None) -> int:
    if text is None:
        return DEFAULT_LINES
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"lines must be a number from 0; it is {text[:40]!r}.")
    return int(text)


async def _unknown(request: Request) -> Response:
    return _refusal(404, f"There is no {request.url.path}.")


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status)
