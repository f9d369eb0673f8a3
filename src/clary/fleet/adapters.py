"""Adapters of inference components: brought to the copies of their base, and made known to them.

An adapter's files lie in ``D/instances/<id>/adapters/<name>`` (a link into the cache), a directory
that the copy knows as ``SAGEMAKER_ADAPTERS_DIR``. A handler reads it when an invocation names the
adapter. A user's own server is told by the adapter API of SageMaker's containers::

    POST /adapters {"name": "...", "src": "<directory>"}      DELETE /adapters/<name>

What is loaded is known from the mark that is written after it, ``adapters/.<name>.loaded``, so that
another life of control does not load it again. A server that was started anew has no adapter any
more: its address is part of the mark.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal

from clary.errors import Error, NotFound, PermanentError, TransientError
from clary.fleet.artifacts import Artifacts, ArtifactSource
from clary.fleet.cache import Cache, remove_tree
from clary.fleet.failures import download_failed, unusable_data
from clary.fleet.preparation import link
from clary.messages import parse_address

log = logging.getLogger(__name__)

DIRECTORY = "adapters"
CALL_TIMEOUT_S = 60.0
RETRY_S = 1.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterState:
    """An adapter on one copy."""

    revision: int
    state: Literal["loading", "ready", "failed"]
    server: str = ""
    """Address of the user's own server that was told of it; empty for a handler."""

    reason: str = ""
    """Why it failed: a whole sentence."""


class Adapters:
    """The adapters of this machine's copies.

    Args:
        instances_dir: ``D/instances``.
        artifacts: Where they come from.
        cache: Where they are kept.
        server_of: Returns the address of a copy's own server, empty for a handler, None while it
            does not listen.
        on_change: Called with a copy's id when an adapter on it has changed.
    """

    def __init__(
        self,
        instances_dir: Path,
        artifacts: Artifacts,
        cache: Cache,
        server_of: Callable[[str], str | None],
        on_change: Callable[[str], None],
    ) -> None:
        self._instances_dir = instances_dir
        self._artifacts = artifacts
        self._cache = cache
        self._server_of = server_of
        self._on_change = on_change
        self._states: dict[str, dict[str, AdapterState]] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def adopt(self, instance_id: str) -> None:
        """Take over what a copy that runs has loaded."""
        for mark in self._directory(instance_id).glob(".*.loaded"):
            name = mark.name[1 : -len(".loaded")]
            try:
                state = AdapterState(**json.loads(mark.read_text()))
                target = (self._directory(instance_id) / name).readlink()
            except (OSError, ValueError, TypeError):
                continue  # it is loaded again
            self._states.setdefault(instance_id, {})[name] = state
            if target.is_relative_to(self._cache.directory):
                key = target.relative_to(self._cache.directory).parts[0]
                self._cache.hold(key, _holder(instance_id, name))

    def on(self, instance_id: str) -> Mapping[str, AdapterState]:
        """Return the adapters of a copy by name: those of a server that is gone are left out."""
        server = self._server_of(instance_id)
        return {
            name: state
            for name, state in self._states.get(instance_id, {}).items()
            if state.state != "ready" or state.server == server
        }

    def load(self, instance_id: str, name: str, revision: int, url: str) -> None:
        """Begin to load an adapter, unless that was begun; ``on`` says what becomes of it."""
        if (instance_id, name) in self._tasks:
            return
        states = self._states.setdefault(instance_id, {})
        states[name] = AdapterState(revision=revision, state="loading")
        self._begin(instance_id, name, self._load(instance_id, name, revision, url))

    def unload(self, instance_id: str, name: str) -> None:
        """Begin to unload an adapter that is there."""
        task = self._tasks.pop((instance_id, name), None)
        if task is not None:
            task.cancel()
        if self._states.get(instance_id, {}).pop(name, None) is not None:
            self._begin(instance_id, name, self._unload(instance_id, name))

    def forget(self, instance_id: str) -> None:
        """Let go of a copy that is gone."""
        for key in [key for key in self._tasks if key[0] == instance_id]:
            self._tasks.pop(key).cancel()
        self._states.pop(instance_id, None)
        self._cache.release_all(_holder(instance_id, ""))

    async def close(self) -> None:
        """Stop loading. What is loaded stays."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, instance_id: str, name: str, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = self._tasks[instance_id, name] = asyncio.create_task(work)
        task.add_done_callback(partial(self._ended, (instance_id, name)))

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and task.exception() is not None:
            log.error("adapter %s on %s", key[1], key[0], exc_info=task.exception())
        self._on_change(key[0])

    async def _load(self, instance_id: str, name: str, revision: int, url: str) -> None:
        reason = ""
        try:
            server = await self._bring(instance_id, name, url)
            state = AdapterState(revision=revision, state="ready", server=server)
            mark = self._mark(instance_id, name)
            await asyncio.to_thread(mark.write_text, json.dumps(asdict(state)))
        except TransientError as error:
            log.warning("adapter %s on %s: %s; trying again", name, instance_id, error)
            await asyncio.sleep(RETRY_S)
            self._states.get(instance_id, {}).pop(name, None)
            return
        except Error as error:
            reason = error.message
        except OSError as error:
            reason = f'Adapter "{name}" could not be brought to a copy: {error}.'
        if reason:
            state = AdapterState(revision=revision, state="failed", reason=reason)
        self._states.setdefault(instance_id, {})[name] = state

    async def _bring(self, instance_id: str, name: str, url: str) -> str:
        """Fetch an adapter and tell the copy; return the address of its server, or nothing."""
        place = self._directory(instance_id) / name
        holder = _holder(instance_id, name)
        for pause in (*_PAUSES_S, None):
            try:
                artifact = await self._artifacts.fetch(ArtifactSource(url=url), holder=holder)
                break
            except NotFound as error:
                raise PermanentError(download_failed(name, url, error.message)) from error
            except PermanentError as error:
                raise PermanentError(unusable_data(name, url, error.message)) from error
            except TransientError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        self._mark(instance_id, name).unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        await asyncio.to_thread(link, place, artifact.directory)
        server = self._server_of(instance_id)
        if server is None:
            raise TransientError(f"copy {instance_id} does not listen")
        if server:
            await self._call(server, "DELETE", f"/adapters/{name}", None)
            status, answer = await self._call(
                server, "POST", "/adapters", {"name": name, "src": str(place)}
            )
            if not 200 <= status < 300:
                raise PermanentError(
                    f'Adapter "{name}" could not be loaded: the container answered {status} to '
                    f"POST /adapters. {answer}"
                )
        return server

    async def _unload(self, instance_id: str, name: str) -> None:
        self._mark(instance_id, name).unlink(missing_ok=True)
        server = self._server_of(instance_id)
        if server:
            try:
                await self._call(server, "DELETE", f"/adapters/{name}", None)
            except TransientError as error:
                log.warning("adapter %s on %s: %s", name, instance_id, error)
        await asyncio.to_thread(remove_tree, self._directory(instance_id) / name)
        self._cache.release(_holder(instance_id, name))

    def _directory(self, instance_id: str) -> Path:
        return self._instances_dir / instance_id / DIRECTORY

    def _mark(self, instance_id: str, name: str) -> Path:
        return self._directory(instance_id) / f".{name}.loaded"

    async def _call(
        self, server: str, method: str, path: str, body: Mapping[str, str] | None
    ) -> tuple[int, str]:
        return await asyncio.to_thread(_call_now, server, method, path, body)


def _holder(instance_id: str, name: str) -> str:
    return f"{instance_id} adapter {name}"


def _call_now(
    server: str, method: str, path: str, body: Mapping[str, str] | None
) -> tuple[int, str]:
    _, host, port = parse_address(server)
    connection = HTTPConnection(f"{host}:{port}", timeout=CALL_TIMEOUT_S)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read(4096).decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        raise TransientError(f"the model's server broke the connection: {error!r}") from error
    finally:
        connection.close()
