"""Starts, watches and stops instances on this machine.

The control loop asks ``observe`` how things are and says ``start`` and ``stop``; none of them waits
for an instance. Each instance goes its way in the background::

    start ─▶ reserve ─▶ prepare (download, environment) ─▶ launch ─▶ starting ─▶ healthy
                 └──────────────┴── failed, with a reason                  └──▶ failed, lost
    stop  ─▶ stopping ─▶ files removed ─▶ not observed any more

Nothing here is durable but files that can be made again: what should run is in the store, and the
loop says it again after a restart. An instance that already runs is then adopted as it is.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from clary.errors import Error, PermanentError, TransientError
from clary.fleet.adapters import Adapters
from clary.fleet.artifacts import Artifacts, ArtifactSource
from clary.fleet.cache import Cache, remove_tree
from clary.fleet.capacity import Capacity, Machine, Reservation
from clary.fleet.environments import Environments
from clary.fleet.failures import owner_of, ping_failed
from clary.fleet.instance import InstanceOrder, ObservedInstance, Phase
from clary.fleet.launchers.base import FINAL, InstanceState, InstanceStatus, Launcher, LaunchOrder
from clary.fleet.launchers.process import ProcessLauncher
from clary.fleet.launchers.supervisor_client import SupervisorClient
from clary.fleet.leftovers import kill_leftovers
from clary.fleet.models import (
    HeldModel,
    HostedModels,
    ModelHolder,
    MultiModel,
    ServedModels,
    model_id,
    read_multi_model,
)
from clary.fleet.preparation import InstanceFiles, Preparation, link
from clary.fleet.unpack import UnpackLimits
from clary.objects.client import ObjectStorage
from clary.resources.instance_types import instance_type
from clary.resources.routing_table import ContainerRoute
from clary.settings import Settings

log = logging.getLogger(__name__)

_LAUNCH_PAUSES_S = (0.1, 0.3, 1.0, 3.0)
_UNPACK_THREADS = 4


@dataclass(slots=True, eq=False)
class _Instance:
    id: str
    endpoint_name: str
    variant_name: str
    phase: Phase = Phase.DOWNLOADING
    failure: str | None = None
    """Why it could not be launched."""
    container_names: tuple[str, ...] = ("primary",)
    starting: asyncio.Task[None] | None = None
    stopping: asyncio.Task[None] | None = None
    multi_model: MultiModel | None = None
    models: ModelHolder | None = None
    """With ``multi_model``, once it is launched."""
    told: ObservedInstance | None = None
    """What watchers were told of last."""


class Fleet:
    """The instances of this machine.

    Args:
        settings: All of them.
        run_dir: ``R``, where sockets lie.
        storage: Where ``s3://`` artifacts are.
        host_command: Interpreter and program of an instance host.
        base_python: Interpreter for models whose image names none.
        model_variables: Variables that every model gets: where AWS is, region, credentials.
        environ: The server's own variables, of which models get very few.
    """

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        storage: ObjectStorage,
        *,
        host_command: Sequence[str],
        model_variables: Mapping[str, str],
        environ: Mapping[str, str],
        base_python: str = sys.executable,
    ) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._storage = storage
        self._base_python = base_python
        self._model_variables = dict(model_variables)
        self._environ = dict(environ)
        data_dir = settings.data_dir
        self._instances_dir = data_dir / "instances"
        self._log_dir = data_dir / "logs"
        self._artifact_cache = Cache(data_dir / "artifacts")
        self._environment_cache = Cache(data_dir / "environments")
        self._executor = ThreadPoolExecutor(_UNPACK_THREADS, thread_name_prefix="artifacts")
        host_variables = {n: environ[n] for n in ("PATH", "HOME", "LANG", "TZ") if n in environ}
        self._launcher: Launcher = ProcessLauncher(
            SupervisorClient(run_dir / "supervisor.sock"),
            run_dir,
            host_command,
            host_variables,
            stop_timeout_s=settings.fleet.stop_timeout_s,
            on_change=self._launcher_changed,
            on_usage=self._measured,
        )
        self._instances: dict[str, _Instance] = {}
        self._watchers: list[Callable[[str], None]] = []
        self._model_watchers: list[Callable[[str], None]] = []
        self.on_usage: Callable[[str, str, str, Mapping[str, Any]], None] = lambda *_: None
        """Takes an endpoint, a variant, an instance of it by its id, and what that uses."""

    # Life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Adopt what runs, end what is left of another life, and make ready to start more.

        Raises:
            TransientError: The supervisor does not answer.
            OSError: The data directory cannot be written.
        """
        for directory in (self._instances_dir, self._run_dir / "i"):
            directory.mkdir(parents=True, exist_ok=True)
        machine = await Machine.measure()
        self._capacity = Capacity(machine, self._settings.fleet.capacity)
        await asyncio.to_thread(self._artifact_cache.open)
        await asyncio.to_thread(self._environment_cache.open)
        fleet = self._settings.fleet
        limits = UnpackLimits(
            max_bytes=fleet.max_artifact_bytes,
            max_files=fleet.max_artifact_files,
            max_ratio=fleet.max_compression_ratio,
        )
        self._artifacts = Artifacts(
            self._artifact_cache,
            self._storage,
            limits,
            self._settings.storage.file_roots,
            self._executor,
        )
        self._preparation = Preparation(
            self._settings,
            self._artifacts,
            Environments(self._environment_cache, find_uv_bin(), self._environ),
            base_python=self._base_python,
            cores=machine.cores,
            model_variables=self._model_variables,
            environ=self._environ,
        )
        self.adapters = Adapters(
            self._instances_dir,
            self._artifacts,
            self._artifact_cache,
            self._own_server_of,
            self._adapters_changed,
        )
        running = await self._launcher.open()
        for instance_id in running:
            self._adopt(instance_id)
        for instance in self._instances.values():
            if isinstance(instance.models, ServedModels):
                with contextlib.suppress(TransientError):
                    await instance.models.adopt()
        strangers = {path.name for path in self._instances_dir.iterdir()} - set(running)
        specs = {self._instances_dir / name / "spec.json" for name in strangers}
        killed = await asyncio.to_thread(kill_leftovers, specs)
        if killed:
            log.warning("killed processes that another life left behind: %s", killed)

    async def close(self) -> None:
        """Stop watching and preparing. Instances that run go on."""
        tasks = [
            task
            for instance in self._instances.values()
            for task in (instance.starting, instance.stopping)
            if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.adapters.close()
        await self._artifact_cache.close()
        await self._environment_cache.close()
        await self._launcher.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have ``watcher`` called with an endpoint's name when one of its instances changes."""
        self._watchers.append(watcher)

    # What the control loop uses -----------------------------------------------------------

    async def observe(self, endpoint_name: str) -> tuple[ObservedInstance, ...]:
        """Return all instances of an endpoint that were started and are not gone yet."""
        return tuple(
            self._observe(instance)
            for instance in self._instances.values()
            if instance.endpoint_name == endpoint_name
        )

    async def start(self, order: InstanceOrder) -> None:
        """Start an instance, unless one of this id was started and is not gone yet."""
        if order.id not in self._instances:
            instance = _Instance(
                order.id,
                order.endpoint_name,
                order.variant_name,
                container_names=order.container_names,
            )
            self._instances[order.id] = instance
            instance.starting = asyncio.create_task(self._start(instance, order))
            instance.starting.add_done_callback(partial(self._look_at_start, instance))

    async def stop(self, instance_id: str) -> None:
        """Have an instance stop, whatever it is doing, and its files removed. Idempotent."""
        instance = self._instances.get(instance_id)
        if instance is not None and instance.stopping is None:
            instance.stopping = asyncio.create_task(self._stop(instance))

    def scale(self, instance_id: str, workers: int, ending: Collection[str]) -> None:
        """Want a number of workers on an instance of a serverless variant.

        Args:
            instance_id: The instance.
            workers: How many; its status says what was heard.
            ending: Addresses of those that end; no route may name them any more.
        """
        with contextlib.suppress(TransientError):  # it is said again when it can be reached
            request = {"op": "scale", "workers": workers, "end": sorted(ending)}
            self._launcher.tell(instance_id, request)

    def ids(self) -> set[str]:
        """Return the ids of all instances, and of those that only left files here."""
        names = {
            path.name
            for directory in (self._instances_dir, self._run_dir / "i")
            for path in directory.iterdir()
        }
        return names | set(self._instances)

    async def discard(self, ids: Collection[str]) -> None:
        """Stop instances that no record knows, and remove their files.

        They come from a database that was restored or removed: whatever is started is written
        there first, and stays there until it is gone.
        """
        for instance_id in ids:
            if instance_id in self._instances:
                log.warning("instance %s is in no record: stopping it", instance_id)
                await self.stop(instance_id)
            else:
                files = self._files(instance_id)
                for directory in (files.directory, files.run_dir):
                    await asyncio.to_thread(remove_tree, directory)

    async def collect(self) -> None:
        """Remove artifacts and environments that nobody has used for long, or that are too many."""
        fleet = self._settings.fleet
        for cache in (self._artifact_cache, self._environment_cache):
            await cache.collect(max_age_s=fleet.cache_max_age_s, max_bytes=fleet.cache_max_bytes)

    def reserve_host(self, instance_id: str, type_name: str) -> None:
        """Reserve an instance that only holds copies of inference components, which choose GPUs.

        Raises:
            PermanentError: It does not fit.
        """
        self._capacity.reserve(instance_id, replace(instance_type(type_name), gpus=0))

    def release_host(self, instance_id: str) -> None:
        """Give back what ``reserve_host`` took."""
        self._capacity.release(instance_id)

    # Models of multi-model endpoints ------------------------------------------------------

    def watch_models(self, watcher: Callable[[str], None]) -> None:
        """Have ``watcher`` called with an instance's id when its models may have changed."""
        self._model_watchers.append(watcher)

    def multi_model(self, instance_id: str) -> MultiModel | None:
        """Return what to know about an instance's models; None where it has none to load."""
        instance = self._instances.get(instance_id)
        return None if instance is None else instance.multi_model

    def model_instances(self, endpoint_name: str | None = None) -> list[str]:
        """Return the instances that models can be loaded on: of one endpoint, or all."""
        return [
            instance.id
            for instance in self._instances.values()
            if instance.models is not None and endpoint_name in (None, instance.endpoint_name)
        ]

    def held_models(self, instance_id: str) -> tuple[HeldModel, ...]:
        """Return the models of an instance that take calls now."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.models is None or instance.stopping is not None:
            return ()
        return instance.models.held()

    def spare_memory_kib(self, instance_id: str) -> int:
        """Return what an instance's memory for models holds beside models."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.models is None:
            return 0
        return instance.models.spare_memory_kib()

    async def fetch_model(self, instance_id: str, name: str) -> None:
        """Bring a model's files to an instance.

        Raises:
            NotFound: There is no such model.
            AccessDenied: The server's credentials do not do.
            PermanentError: It cannot be used: no archive, or too large.
            TransientError: The storage, or the instance, is away.
        """
        instance = self._of_models(instance_id)
        assert instance.multi_model is not None
        source = ArtifactSource(url=instance.multi_model.url_of(name))
        artifact = await self._artifacts.fetch(source, holder=_model_holder(instance_id, name))
        place = self._model_place(instance_id, name)
        place.mkdir(parents=True, exist_ok=True)
        (place / "name").write_text(name)
        link(place / "model", artifact.directory)

    async def load_model(self, instance_id: str, name: str) -> None:
        """Load a model that was fetched; return when it takes calls.

        Raises:
            ModelNotLoaded: It cannot be loaded; the text says why.
            OutOfModelMemory: Not without unloading another one first.
            TransientError: The instance is away.
        """
        holder = self._of_models(instance_id).models
        assert holder is not None
        await holder.load(name, self._model_place(instance_id, name))

    async def unload_model(self, instance_id: str, name: str) -> None:
        """Unload a model; return when its memory is free. Its files stay in the cache.

        Raises:
            TransientError: The instance is away.
        """
        holder = self._of_models(instance_id).models
        assert holder is not None
        await holder.unload(name)
        await self.forget_model(instance_id, name)

    async def forget_model(self, instance_id: str, name: str) -> None:
        """Let go of a model's files."""
        await asyncio.to_thread(remove_tree, self._model_place(instance_id, name))
        self._artifact_cache.release(_model_holder(instance_id, name))

    def _of_models(self, instance_id: str) -> _Instance:
        instance = self._instances.get(instance_id)
        if instance is None or instance.models is None or instance.stopping is not None:
            raise TransientError(f"instance {instance_id} is gone")
        return instance

    def _model_place(self, instance_id: str, name: str) -> Path:
        return self._instances_dir / instance_id / "models" / model_id(name)

    def _use_models(self, instance: _Instance, spec: Mapping[str, Any]) -> None:
        """Make an instance ready for models, if it is one of a multi-model endpoint."""
        facts = read_multi_model(spec)
        if facts is None:
            return
        instance.multi_model = facts
        directory = self._instances_dir / instance.id

        def status() -> InstanceStatus | None:
            return self._launcher.status(instance.id)

        def tell(request: Mapping[str, Any]) -> None:
            self._launcher.tell(instance.id, request)

        def address() -> str | None:
            now = status()
            workers = now.containers[0].workers if now is not None and now.containers else ()
            return workers[0] if workers else None

        if facts.style == "handler":
            instance.models = HostedModels(spec, directory, status, tell)
        else:
            instance.models = ServedModels(directory, address, facts.load_timeout_s)

    # One instance -------------------------------------------------------------------------

    def _files(self, instance_id: str, log_path: str = "") -> InstanceFiles:
        return InstanceFiles(
            directory=self._instances_dir / instance_id,
            run_dir=self._run_dir / "i" / instance_id,
            log=self._log_dir / (log_path or f"endpoints/{instance_id}.log"),
        )

    async def _start(self, instance: _Instance, order: InstanceOrder) -> None:
        files = self._files(order.id, order.log_path)
        try:
            reservation = await self._reserve(order)
            await self._preparation.prepare(
                order, files, reservation, lambda phase: self._enter(instance, phase)
            )
            await self._launch(order, files)
            self._use_models(instance, json.loads(files.spec.read_text()))
        except PermanentError as error:
            log.warning("instance %s cannot be run: %s", order.label, error)
            instance.failure = error.message
            self._give_back(order.id)
        except (Error, OSError) as error:
            log.exception("instance %s cannot be started", order.id)
            instance.failure = f"The instance could not be started: {error}"
            self._give_back(order.id)
        self._changed(instance)

    async def _reserve(self, order: InstanceOrder) -> Reservation:
        """Reserve a share; where it does not fit, wait for what is just stopping."""
        while True:
            try:
                return self._capacity.reserve(order.id, order.reserved)
            except PermanentError:
                stopping = [i.stopping for i in self._instances.values() if i.stopping is not None]
                if not stopping:
                    raise
                await asyncio.wait(stopping, return_when=asyncio.FIRST_COMPLETED)

    def _look_at_start(self, instance: _Instance, task: asyncio.Task[None]) -> None:
        """Turn a fault of ours into a failure that somebody sees, for nobody awaits the task."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("instance %s cannot be started", instance.id, exc_info=error)
            instance.failure = f"The instance could not be started: {error!r}"
            self._give_back(instance.id)
            self._changed(instance)

    async def _launch(self, order: InstanceOrder, files: InstanceFiles) -> None:
        launch = LaunchOrder(
            instance_id=order.id,
            label=order.label,
            spec_file=files.spec,
            run_dir=files.run_dir,
            log=files.log,
        )
        for pause in (*_LAUNCH_PAUSES_S, None):
            try:
                await self._launcher.start(launch)
                return
            except TransientError as error:
                if pause is None:
                    raise
                log.warning("instance %s: %s; trying again", order.id, error)
                await asyncio.sleep(pause)

    async def _stop(self, instance: _Instance) -> None:
        self._changed(instance)
        if instance.starting is not None:
            instance.starting.cancel()
            await asyncio.wait([instance.starting])
        gone = asyncio.Event()

        def look(endpoint_name: str) -> None:
            if self._launcher.status(instance.id) is None:
                gone.set()

        self._watchers.append(look)
        try:
            await self._launcher.stop(instance.id)
            look("")
            await gone.wait()
        finally:
            self._watchers.remove(look)
        files = self._files(instance.id)
        for directory in (files.directory, files.run_dir):
            await asyncio.to_thread(remove_tree, directory)
        self._give_back(instance.id)
        del self._instances[instance.id]
        self._changed(instance)

    def _adopt(self, instance_id: str) -> None:
        """Take over an instance that runs; what it holds is read from its own files."""
        files = self._files(instance_id)
        try:
            spec = json.loads(files.spec.read_text())
            instance = _Instance(
                instance_id, spec["endpoint"], spec["variant"], phase=Phase.LOADING
            )
            held = spec["reservation"]
            reservation = Reservation(
                vcpus=held["vcpus"], memory_mib=held["memory_mib"], gpus=tuple(held["gpus"])
            )
            containers = spec["containers"]
            instance.container_names = tuple(container["name"] for container in containers)
            pythons = [container["python"] for container in containers]
            links = [
                Path(container[name])
                for container in containers
                for name in ("model_dir", "code_dir")
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            # It runs, but nobody knows what it is; `discard` will stop it.
            log.warning("instance %s has no usable spec.json: %r", instance_id, error)
            self._instances[instance_id] = _Instance(instance_id, "", "")
            return
        self._instances[instance_id] = instance
        self._use_models(instance, spec)
        self.adapters.adopt(instance_id)
        for place in (files.directory / "models").glob("*"):
            with contextlib.suppress(OSError):
                holder = _model_holder(instance_id, (place / "name").read_text())
                self._hold(self._artifact_cache, (place / "model").readlink(), holder)
        self._capacity.restore(instance_id, reservation)
        for shared in links:
            if shared.is_symlink():
                self._hold(self._artifact_cache, shared.readlink(), instance_id)
        for python in pythons:
            self._hold(self._environment_cache, Path(python), instance_id)

    def _hold(self, cache: Cache, path: Path, instance_id: str) -> None:
        if path.is_relative_to(cache.directory):
            cache.hold(path.relative_to(cache.directory).parts[0], instance_id)

    def _give_back(self, instance_id: str) -> None:
        self._capacity.release(instance_id)
        self._artifact_cache.release(instance_id)
        self._artifact_cache.release_all(_model_holder(instance_id, ""))
        self.adapters.forget(instance_id)
        self._environment_cache.release(instance_id)

    def _observe(self, instance: _Instance) -> ObservedInstance:
        status = self._launcher.status(instance.id)
        phase = None
        if instance.stopping is not None:
            status = InstanceStatus(state=InstanceState.STOPPING)
        elif instance.failure is not None:
            status = InstanceStatus(state=InstanceState.FAILED, reason=instance.failure)
        elif status is None:
            status = InstanceStatus(state=InstanceState.STARTING)
        elif status.state in FINAL:
            # A host that was lost says nothing of its containers: all of them are gone.
            names = status.failed_containers or instance.container_names
            owner = owner_of(instance.endpoint_name, instance.variant_name)
            reason = ping_failed(names, owner, status.reason)
            status = replace(status, reason=reason)
        if status.state is InstanceState.STARTING:
            phase = instance.phase
        if instance.multi_model is not None:
            status = _without_workers(instance.id, status)
        return ObservedInstance(
            id=instance.id,
            endpoint_name=instance.endpoint_name,
            variant_name=instance.variant_name,
            state=status.state,
            phase=phase,
            reason=status.reason,
            containers=status.containers,
            wanted_workers=status.wanted_workers,
        )

    # Telling others -----------------------------------------------------------------------

    def _enter(self, instance: _Instance, phase: Phase) -> None:
        if instance.phase is not phase:
            instance.phase = phase
            self._changed(instance)

    def _launcher_changed(self, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None:
            return
        if instance.models is not None:
            instance.models.changed()
            for watcher in list(self._model_watchers):
                watcher(instance_id)
            # Models come and go by the second, and are no business of the endpoint's loop.
            now = self._observe(instance)
            if now == instance.told:
                return
            instance.told = now
        self._changed(instance)

    def _own_server_of(self, instance_id: str) -> str | None:
        """Return where a user's own server listens; empty for a handler, None while it does not."""
        status = self._launcher.status(instance_id)
        workers = status.containers[0].workers if status and status.containers else ()
        if not workers:
            return None
        return workers[0] if workers[0].startswith("http:") else ""

    def _adapters_changed(self, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is not None:
            self._changed(instance)

    def ask_usage(self) -> None:
        """Ask all instances that run what they use; the answers go to ``on_usage``."""
        for instance in self._instances.values():
            status = self._launcher.status(instance.id)
            if status is not None and status.state is InstanceState.HEALTHY:
                with contextlib.suppress(TransientError):  # it is about to be replaced
                    self._launcher.tell(instance.id, {"op": "usage"})

    def _measured(self, instance_id: str, usage: Mapping[str, Any]) -> None:
        instance = self._instances.get(instance_id)
        if instance is None or instance.stopping is not None:
            return
        self.on_usage(instance.endpoint_name, instance.variant_name, instance_id, usage)

    def _changed(self, instance: _Instance) -> None:
        for watcher in list(self._watchers):
            watcher(instance.endpoint_name)


def _model_holder(instance_id: str, name: str) -> str:
    """Return who holds the files of one model in the cache."""
    return f"{instance_id} {name}"


def _without_workers(instance_id: str, status: InstanceStatus) -> InstanceStatus:
    """Return the status of an instance whose models have the addresses, not the instance itself.

    Gateways hear of models by themselves; what they route to is "the models of this instance".
    """
    containers: tuple[ContainerRoute, ...] = ()
    if status.state is InstanceState.HEALTHY:
        workers = (f"models:{instance_id}",)
        containers = tuple(replace(container, workers=workers) for container in status.containers)
    return replace(status, containers=containers, models=())
