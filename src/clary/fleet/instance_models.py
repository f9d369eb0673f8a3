"""Models of multi-model endpoints: fetched to, loaded on and unloaded from the fleet's instances.

Who holds the models of one instance, and how, is in ``models.py``; what is loaded when, and what
has to go for it, is decided in ``control/models.py``.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clary.errors import TransientError
from clary.fleet.artifacts import Artifacts, ArtifactSource
from clary.fleet.cache import Cache, remove_tree
from clary.fleet.fleet_instance import FleetInstance
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceStatus, Launcher
from clary.fleet.models import (
    HeldModel,
    HostedModels,
    MultiModel,
    ServedModels,
    model_id,
    read_multi_model,
)
from clary.fleet.preparation import link


class InstanceModels:
    """The models of all instances of a fleet.

    Args:
        instances: The fleet's, by id.
        directory: Where instances have their files.
        launcher: Who runs them.
        artifacts: Fetches models.
        cache: Where their files are kept.
    """

    def __init__(
        self,
        instances: Mapping[str, FleetInstance],
        directory: Path,
        launcher: Launcher,
        artifacts: Artifacts,
        cache: Cache,
    ) -> None:
        self._instances = instances
        self._instances_dir = directory
        self._launcher = launcher
        self._artifacts = artifacts
        self._cache = cache
        self._watchers: list[Callable[[str], None]] = []

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have ``watcher`` called with an instance's id when its models may have changed."""
        self._watchers.append(watcher)

    def multi_model(self, instance_id: str) -> MultiModel | None:
        """Return what to know about an instance's models; None where it has none to load."""
        instance = self._instances.get(instance_id)
        return None if instance is None else instance.multi_model

    def instances(self, endpoint_name: str | None = None) -> list[str]:
        """Return the instances that models can be loaded on: of one endpoint, or all."""
        return [
            instance.id
            for instance in self._instances.values()
            if instance.models is not None and endpoint_name in (None, instance.endpoint_name)
        ]

    def held(self, instance_id: str) -> tuple[HeldModel, ...]:
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

    async def fetch(self, instance_id: str, name: str) -> None:
        """Bring a model's files to an instance.

        Raises:
            NotFound: There is no such model.
            AccessDenied: The server's credentials do not do.
            PermanentError: It cannot be used: no archive, or too large.
            TransientError: The storage, or the instance, is away.
        """
        instance = self._get(instance_id)
        assert instance.multi_model is not None
        source = ArtifactSource(url=instance.multi_model.url_of(name))
        artifact = await self._artifacts.fetch(source, holder=holder_of(instance_id, name))
        place = self._place(instance_id, name)
        place.mkdir(parents=True, exist_ok=True)
        (place / "name").write_text(name)
        link(place / "model", artifact.directory)

    async def load(self, instance_id: str, name: str) -> None:
        """Load a model that was fetched; return when it takes calls.

        Raises:
            ModelNotLoaded: It cannot be loaded; the text says why.
            OutOfModelMemory: Not without unloading another one first.
            TransientError: The instance is away.
        """
        holder = self._get(instance_id).models
        assert holder is not None
        await holder.load(name, self._place(instance_id, name))

    async def unload(self, instance_id: str, name: str) -> None:
        """Unload a model; return when its memory is free. Its files stay in the cache.

        Raises:
            TransientError: The instance is away.
        """
        holder = self._get(instance_id).models
        assert holder is not None
        await holder.unload(name)
        await self.forget(instance_id, name)

    async def forget(self, instance_id: str, name: str) -> None:
        """Let go of a model's files."""
        await asyncio.to_thread(remove_tree, self._place(instance_id, name))
        self._cache.release(holder_of(instance_id, name))

    def _get(self, instance_id: str) -> FleetInstance:
        instance = self._instances.get(instance_id)
        if instance is None or instance.models is None or instance.stopping is not None:
            raise TransientError(f"instance {instance_id} is gone")
        return instance

    def _place(self, instance_id: str, name: str) -> Path:
        return self._instances_dir / instance_id / "models" / model_id(name)

    def use(self, instance: FleetInstance, spec: Mapping[str, Any]) -> None:
        """Make an instance ready for models, if its spec is one of a multi-model endpoint."""
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

    async def adopt(self, instance: FleetInstance) -> None:
        """Take over the models of an instance that runs, from its server and its own files."""
        if isinstance(instance.models, ServedModels):
            with contextlib.suppress(TransientError):
                await instance.models.adopt()

    def hold(self, instance_id: str) -> None:
        """Keep the files in the cache that an instance which runs has links to."""
        for place in (self._instances_dir / instance_id / "models").glob("*"):
            with contextlib.suppress(OSError):
                holder = holder_of(instance_id, (place / "name").read_text())
                self._cache.hold_path((place / "model").readlink(), holder)

    def let_go(self, instance_id: str) -> None:
        """Release the files of all models of an instance that is gone."""
        self._cache.release_all(holder_of(instance_id, ""))

    def changed(self, instance: FleetInstance, now: ObservedInstance) -> bool:
        """Take that an instance with models has changed.

        Returns:
            Whether it has for its endpoint, too. Models come and go by the second, and are no
            business of the endpoint's loop.
        """
        assert instance.models is not None
        instance.models.changed()
        for watcher in list(self._watchers):
            watcher(instance.id)
        if now == instance.told:
            return False
        instance.told = now
        return True


def holder_of(instance_id: str, name: str) -> str:
    """Return who holds the files of one model in the cache."""
    return f"{instance_id} {name}"
