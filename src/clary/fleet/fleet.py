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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from clary.errors import Error, PermanentError, TransientError
from clary.fleet.adapters import Adapters
from clary.fleet.artifacts import Artifacts
from clary.fleet.cache import Cache, remove_tree
from clary.fleet.capacity import Capacity, Machine, Reservation
from clary.fleet.environments import Environments
from clary.fleet.fleet_instance import FleetInstance, observed
from clary.fleet.instance import InstanceOrder, ObservedInstance, Phase
from clary.fleet.instance_models import InstanceModels
from clary.fleet.launchers.base import InstanceState, Launcher, LaunchOrder
from clary.fleet.launchers.process import ProcessLauncher
from clary.fleet.launchers.supervisor_client import SupervisorClient
from clary.fleet.leftovers import kill_leftovers
from clary.fleet.preparation import InstanceFiles, Preparation
from clary.fleet.running import read_running
from clary.fleet.unpack import UnpackLimits
from clary.objects.client import ObjectStorage
from clary.resources.instance_types import instance_type
from clary.settings import Settings

log = logging.getLogger(__name__)

_LAUNCH_PAUSES_S = (0.1, 0.3, 1.0, 3.0)
_UNPACK_THREADS = 4


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
        self._instances: dict[str, FleetInstance] = {}
        fleet = settings.fleet
        self._artifacts = Artifacts(
            self._artifact_cache,
            storage,
            UnpackLimits(
                max_bytes=fleet.max_artifact_bytes,
                max_files=fleet.max_artifact_files,
                max_ratio=fleet.max_compression_ratio,
            ),
            settings.storage.file_roots,
            self._executor,
        )
        self.models = InstanceModels(
            self._instances,
            self._instances_dir,
            self._launcher,
            self._artifacts,
            self._artifact_cache,
        )
        self.adapters = Adapters(
            self._instances_dir,
            self._artifacts,
            self._artifact_cache,
            self._own_server_of,
            self._adapters_changed,
        )
        self._watchers: list[Callable[[str], None]] = []
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
        self._preparation = Preparation(
            self._settings,
            self._artifacts,
            Environments(self._environment_cache, find_uv_bin(), self._environ),
            base_python=self._base_python,
            cores=machine.cores,
            model_variables=self._model_variables,
            environ=self._environ,
        )
        running = await self._launcher.open()
        for instance_id in running:
            self._adopt(instance_id)
        for instance in self._instances.values():
            await self.models.adopt(instance)
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
            instance = FleetInstance(
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

    # One instance -------------------------------------------------------------------------

    def _files(self, instance_id: str, log_path: str = "") -> InstanceFiles:
        return InstanceFiles(
            directory=self._instances_dir / instance_id,
            run_dir=self._run_dir / "i" / instance_id,
            log=self._log_dir / (log_path or f"endpoints/{instance_id}.log"),
        )

    async def _start(self, instance: FleetInstance, order: InstanceOrder) -> None:
        files = self._files(order.id, order.log_path)
        try:
            reservation = await self._reserve(order)
            await self._preparation.prepare(
                order, files, reservation, lambda phase: self._enter(instance, phase)
            )
            await self._launch(order, files)
            self.models.use(instance, json.loads(files.spec.read_text()))
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

    def _look_at_start(self, instance: FleetInstance, task: asyncio.Task[None]) -> None:
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

    async def _stop(self, instance: FleetInstance) -> None:
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
        try:
            spec = json.loads(self._files(instance_id).spec.read_text())
            running = read_running(spec)
        except (OSError, ValueError, KeyError, TypeError) as error:
            # It runs, but nobody knows what it is; `discard` will stop it.
            log.warning("instance %s has no usable spec.json: %r", instance_id, error)
            self._instances[instance_id] = FleetInstance(instance_id, "", "")
            return
        instance = FleetInstance(
            instance_id,
            running.endpoint_name,
            running.variant_name,
            phase=Phase.LOADING,
            container_names=running.container_names,
        )
        self._instances[instance_id] = instance
        self.models.use(instance, spec)
        self.models.hold(instance_id)
        self.adapters.adopt(instance_id)
        self._capacity.restore(instance_id, running.reservation)
        for shared in running.links:
            if shared.is_symlink():
                self._artifact_cache.hold_path(shared.readlink(), instance_id)
        for python in running.pythons:
            self._environment_cache.hold_path(python, instance_id)

    def _give_back(self, instance_id: str) -> None:
        self._capacity.release(instance_id)
        self._artifact_cache.release(instance_id)
        self.models.let_go(instance_id)
        self.adapters.forget(instance_id)
        self._environment_cache.release(instance_id)

    def _observe(self, instance: FleetInstance) -> ObservedInstance:
        return observed(instance, self._launcher.status(instance.id))

    # Telling others -----------------------------------------------------------------------

    def _enter(self, instance: FleetInstance, phase: Phase) -> None:
        if instance.phase is not phase:
            instance.phase = phase
            self._changed(instance)

    def _launcher_changed(self, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None:
            return
        if instance.models is None or self.models.changed(instance, self._observe(instance)):
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

    def _changed(self, instance: FleetInstance) -> None:
        for watcher in list(self._watchers):
            watcher(instance.endpoint_name)
