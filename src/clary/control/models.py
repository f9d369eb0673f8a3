"""Loads and unloads the models of multi-model endpoints, when gateways ask for them.

A gateway that gets a call for a model that is not loaded asks here, over ``publish.sock``; the
answer is a publication to all gateways: the model's address, or why there is none. Warm calls never
come here. How one load goes::

    fetch from S3 → make room (model_cache.py decides) → load → measured? too much: make room again
                        └ each model that goes is first released by the gateways: one with an open
                          call is not, and the next in the order has to go instead

What is loaded is not written down: the hosts know it, and tell a control process that was started
anew.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clary.control.model_cache import LoadedModel, Room, eviction_order, is_full, is_over
from clary.errors import AccessDenied, Error, ModelNotLoaded, NotFound, PermanentError
from clary.fleet.models import HeldModel, MultiModel, OutOfModelMemory

log = logging.getLogger(__name__)

FETCH_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
BUSY_PAUSE_S = 0.02
"""Pause before models that all had open calls are looked at again."""


class ModelFleet(Protocol):
    """Who holds models (``fleet/instance_models.py``)."""

    def multi_model(self, instance_id: str) -> MultiModel | None: ...

    def instances(self, endpoint_name: str | None = None) -> list[str]: ...

    def held(self, instance_id: str) -> tuple[HeldModel, ...]: ...

    def spare_memory_kib(self, instance_id: str) -> int: ...

    async def fetch(self, instance_id: str, name: str) -> None: ...

    async def load(self, instance_id: str, name: str) -> None: ...

    async def unload(self, instance_id: str, name: str) -> None: ...

    async def forget(self, instance_id: str, name: str) -> None: ...


class ModelPublisher(Protocol):
    """Who tells gateways of models (``control/publish.py``)."""

    def models(self, instance_id: str) -> Mapping[str, Mapping[str, Any]]: ...

    async def publish_model(
        self, instance_id: str, name: str, place: Mapping[str, Any] | None
    ) -> None: ...

    async def refuse_model(self, instance_id: str, name: str, error: Mapping[str, Any]) -> None: ...

    async def release_model(self, instance_id: str, name: str) -> bool: ...


@dataclass(slots=True)
class _Counts:
    loads: int = 0
    misses: int = 0
    """Calls that had it loaded, and have not been counted yet."""
    evictions: int = 0
    calls: int = 0
    last_used: float = 0.0


@dataclass(slots=True, eq=False)
class _Instance:
    """What is going on with the models of one instance."""

    loading: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    in_room: set[str] = field(default_factory=set)
    """Those of ``loading`` that room was made for."""
    trouble: dict[str, str] = field(default_factory=dict)
    """Those of ``loading`` that could not be fetched, and are tried again; and why."""
    unloading: dict[str, asyncio.Task[bool]] = field(default_factory=dict)
    lost: dict[str, bool] = field(default_factory=dict)
    """Models that their server did not know any more, and whether it was for want of memory."""
    making_room: asyncio.Lock = field(default_factory=asyncio.Lock)
    counts: dict[str, _Counts] = field(default_factory=dict)

    def count(self, name: str) -> _Counts:
        return self.counts.setdefault(name, _Counts())


class ModelLoads:
    """All loads and unloads.

    Args:
        models: Who does them.
        publisher: Who tells the gateways.
    """

    def __init__(self, models: ModelFleet, publisher: ModelPublisher) -> None:
        self._models = models
        self._publisher = publisher
        self._instances: dict[str, _Instance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_time: Callable[[str, str, float], None] = lambda instance_id, name, seconds: None
        """Takes an instance, the name of a metric, and how long that took, in seconds."""
        self.on_calls: Callable[[str, int, int], None] = lambda instance_id, calls, misses: None
        """Takes an instance, calls of a model, and how many of them had it loaded first."""

    async def adopt(self) -> None:
        """Publish the models that are loaded already."""
        for instance_id in self._models.instances():
            for held in self._models.held(instance_id):
                await self._publish(instance_id, held)

    async def close(self) -> None:
        """Give up what is under way. Models that are loaded stay."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What gateways say --------------------------------------------------------------------

    def take(self, message: Mapping[str, Any]) -> None:
        """Take what a gateway says about models."""
        kind = message.get("type")
        if kind == "load":
            self._want(message["instance"], message["model"])
        elif kind == "used":
            for instance_id, name, used_at, calls in message["models"]:
                counts = self._instance(instance_id).count(name)
                counts.last_used = max(counts.last_used, used_at)
                counts.calls += calls
                misses = min(counts.misses, calls)
                counts.misses -= misses
                self.on_calls(instance_id, calls, misses)
        elif kind == "lost":
            instance = self._instance(message["instance"])
            instance.lost[message["model"]] = message["is_full"]
        elif kind == "idle":
            # Its endpoint keeps no model after a call (ModelCacheSetting).
            self._start(self._unload_unwanted(message["instance"], message["model"]))

    def _want(self, instance_id: str, name: str) -> None:
        instance = self._instance(instance_id)
        # Whoever asks while it is being loaded hears of it with all others.
        if name not in instance.loading:
            instance.count(name).misses += 1
            instance.loading[name] = self._start(self._load_and_tell(instance, instance_id, name))

    # What hosts say -----------------------------------------------------------------------

    def look(self, instance_id: str) -> None:
        """Tell gateways of models that have ended by themselves."""
        held = {model.name: model.address for model in self._models.held(instance_id)}
        for name, place in list(self._publisher.models(instance_id).items()):
            if held.get(name) != place["address"]:
                self._start(self._publisher.publish_model(instance_id, name, None))

    # One load -----------------------------------------------------------------------------

    async def _load_and_tell(self, instance: _Instance, instance_id: str, name: str) -> None:
        try:
            held = await self._load(instance, instance_id, name)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it is, somebody waits to hear of it
            refusal = _refusal(name, error)
            if not isinstance(error, Error):
                log.exception("model %s on instance %s", name, instance_id)
            else:
                log.warning("model %s on instance %s: %s", name, instance_id, refusal["message"])
            del instance.loading[name]
            await self._publisher.refuse_model(instance_id, name, refusal)
            return
        finally:
            instance.in_room.discard(name)
            instance.trouble.pop(name, None)
            if instance.loading.get(name) is asyncio.current_task():
                del instance.loading[name]
        await self._publish(instance_id, held)
        # It may have ended before gateways were told where it was.
        self.look(instance_id)

    async def _load(self, instance: _Instance, instance_id: str, name: str) -> HeldModel:
        facts = self._models.multi_model(instance_id)
        if facts is None:
            raise ModelNotLoaded(f"instance {instance_id} is gone")
        leaving = instance.unloading.get(name)
        if leaving is not None:
            await asyncio.wait([leaving])
        room = Room(
            memory_kib=facts.memory_kib,
            spare_kib=self._models.spare_memory_kib(instance_id),
            max_models=facts.max_models,
            pinned=frozenset(facts.pinned),
        )
        if name in instance.lost:
            is_full = instance.lost.pop(name)
            await self._publisher.publish_model(instance_id, name, None)
            await self._models.unload(instance_id, name)
            if is_full:
                await self._evict_one(instance, instance_id, room, keep={name})
        held = self._find(instance_id, name)
        if held is not None:
            return held
        try:
            async with asyncio.timeout(facts.load_timeout_s):
                began = time.monotonic()
                await self._fetch(instance, instance_id, name)
                fetched = time.monotonic()
                await self._make_room(instance, instance_id, room, name)
                has_room = time.monotonic()
                await self._load_now(instance, instance_id, room, name)
                ended = time.monotonic()
                self.on_time(instance_id, "ModelDownloadingTime", fetched - began)
                self.on_time(instance_id, "ModelLoadingTime", ended - has_room)
                self.on_time(instance_id, "ModelLoadingWaitTime", ended - began)
                held = self._find(instance_id, name)
                if held is None:
                    raise ModelNotLoaded("its process ended as soon as it was loaded")
                instance.count(name).loads += 1
                instance.count(name).last_used = time.monotonic()
                instance.in_room.discard(name)  # counts as loaded from here on
                await self._settle(instance, instance_id, room, held)
        except TimeoutError:
            await self._forget(instance_id, name)
            text = f"it could not be loaded within {facts.load_timeout_s:g} s"
            trouble = instance.trouble.get(name)
            raise ModelNotLoaded(f"{text}: {trouble}" if trouble else text) from None
        return held

    async def _fetch(self, instance: _Instance, instance_id: str, name: str) -> None:
        """Fetch, and try again while S3 is away; the caller's time limit ends it."""
        attempt = 0
        while True:
            try:
                await self._models.fetch(instance_id, name)
                instance.trouble.pop(name, None)
                return
            except (NotFound, PermanentError, AccessDenied):
                raise
            except Error as error:
                log.warning("model %s: %s; trying again", name, error)
                instance.trouble[name] = str(error)
                await asyncio.sleep(FETCH_PAUSES_S[min(attempt, len(FETCH_PAUSES_S) - 1)])
                attempt += 1

    async def _load_now(self, instance: _Instance, instance_id: str, room: Room, name: str) -> None:
        while True:
            try:
                await self._models.load(instance_id, name)
                return
            except OutOfModelMemory:
                # The container knows better than our arithmetic (507, container.md 7).
                if not await self._evict_one(instance, instance_id, room, keep={name}):
                    raise ModelNotLoaded(
                        "the container has no memory for it (507), and no other model can be "
                        "unloaded"
                    ) from None
            except ModelNotLoaded:
                await self._models.forget(instance_id, name)
                raise

    # Room ---------------------------------------------------------------------------------

    async def _make_room(
        self, instance: _Instance, instance_id: str, room: Room, name: str
    ) -> None:
        async with instance.making_room:
            while True:
                loading = len(instance.in_room) + 1
                if not is_full(self._loaded(instance, instance_id), room, loading=loading):
                    break
                if await self._evict_one(instance, instance_id, room, keep=()):
                    continue
                if not self._has_busy(instance, instance_id, room) and not instance.in_room:
                    break  # only pinned ones are left: measured once it is loaded
                await asyncio.sleep(BUSY_PAUSE_S)
            instance.in_room.add(name)

    async def _settle(
        self, instance: _Instance, instance_id: str, room: Room, held: HeldModel
    ) -> None:
        """Unload others, now that it is known how large the model is; or itself, if it must be."""
        while is_over(self._loaded(instance, instance_id), room):
            if await self._evict_one(instance, instance_id, room, keep={held.name}):
                continue
            if held.memory_kib <= room.models_kib and self._has_busy(
                instance, instance_id, room, keep={held.name}
            ):
                await asyncio.sleep(BUSY_PAUSE_S)
                continue
            await self._models.unload(instance_id, held.name)
            raise ModelNotLoaded(
                f"it takes {held.memory_kib // 1024} MiB, and does not fit into the "
                f"{room.memory_kib // 1024} MiB that the instance has for models beside what is "
                "pinned and the process that waits for the next one (507)"
            )

    async def _evict_one(
        self, instance: _Instance, instance_id: str, room: Room, *, keep: set[str] | tuple[()]
    ) -> bool:
        """Unload the first in order that no call needs; False when there is none."""
        for name in eviction_order(self._loaded(instance, instance_id), room, keep=keep):
            if name in instance.unloading or name in instance.loading:
                continue
            if await self._unload(instance, instance_id, name):
                instance.count(name).evictions += 1
                return True
        return False

    def _has_busy(
        self,
        instance: _Instance,
        instance_id: str,
        room: Room,
        *,
        keep: set[str] | tuple[()] = (),
    ) -> bool:
        """Whether a model may go once its calls have ended."""
        return bool(eviction_order(self._loaded(instance, instance_id), room, keep=keep))

    async def _unload(self, instance: _Instance, instance_id: str, name: str) -> bool:
        """Unload a model unless a call needs it; a load of the same one waits until then."""

        async def work() -> bool:
            if not await self._publisher.release_model(instance_id, name):
                return False
            began = time.monotonic()
            await self._models.unload(instance_id, name)
            self.on_time(instance_id, "ModelUnloadingTime", time.monotonic() - began)
            return True

        task = instance.unloading[name] = asyncio.create_task(work())
        try:
            return await asyncio.shield(task)
        finally:
            instance.unloading.pop(name, None)

    async def _unload_unwanted(self, instance_id: str, name: str) -> None:
        instance = self._instance(instance_id)
        if name not in instance.unloading and self._find(instance_id, name) is not None:
            await self._unload(instance, instance_id, name)

    # Looking ------------------------------------------------------------------------------

    def describe(self, endpoint_name: str) -> list[dict[str, Any]]:
        """Return an endpoint's models with their numbers, as JSON types, for people."""
        now = time.monotonic()
        rows = []
        for instance_id in self._models.instances(endpoint_name):
            instance = self._instance(instance_id)
            held = {model.name: model for model in self._models.held(instance_id)}
            facts = self._models.multi_model(instance_id)
            for name in sorted({*held, *instance.loading, *instance.counts}):
                counts = instance.count(name)
                state = "loaded" if name in held else "unloaded"
                rows.append(
                    {
                        "model": name,
                        "instance": instance_id,
                        "state": "loading" if name in instance.loading else state,
                        "pinned": facts is not None and name in facts.pinned,
                        "memory_mib": held[name].memory_kib // 1024 if name in held else 0,
                        "idle_s": round(now - counts.last_used, 1) if counts.last_used else None,
                        "calls": counts.calls,
                        "loads": counts.loads,
                        "hits": max(counts.calls - counts.loads, 0),
                        "evictions": counts.evictions,
                    }
                )
        return rows

    def _loaded(self, instance: _Instance, instance_id: str) -> Sequence[LoadedModel]:
        return [
            LoadedModel(
                name=model.name,
                memory_kib=model.memory_kib,
                used_at=instance.count(model.name).last_used,
            )
            for model in self._models.held(instance_id)
            if model.name not in instance.loading or model.name not in instance.in_room
        ]

    def _find(self, instance_id: str, name: str) -> HeldModel | None:
        held = self._models.held(instance_id)
        return next((model for model in held if model.name == name), None)

    def _instance(self, instance_id: str) -> _Instance:
        return self._instances.setdefault(instance_id, _Instance())

    def forget_gone(self) -> None:
        """Drop what is known of instances that are not there any more."""
        living = set(self._models.instances())
        for instance_id in self._instances.keys() - living:
            if not self._instances[instance_id].loading:
                del self._instances[instance_id]

    async def _forget(self, instance_id: str, name: str) -> None:
        """Stop a load that takes too long."""
        await self._models.unload(instance_id, name)

    async def _publish(self, instance_id: str, held: HeldModel) -> None:
        facts = self._models.multi_model(instance_id)
        place = {
            "address": held.address,
            "path": held.path,
            "keep": facts is None or facts.caches_models,
        }
        await self._publisher.publish_model(instance_id, held.name, place)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a model could not be unloaded or told of", exc_info=task.exception())


def _refusal(name: str, error: Exception) -> dict[str, Any]:
    """Return what gateways are told of a load that failed."""
    text = str(error) or type(error).__name__
    if isinstance(error, NotFound):
        message = f"Model {name} cannot be found: {text or 'there is no such object'}."
        return {"kind": "missing", "message": message}
    return {"kind": "failed", "message": f"Model {name} cannot be loaded: {text}"}
