"""The models of one instance of a multi-model endpoint: where they lie, and who holds them.

Two ways to hold models, behind one interface (``ModelHolder``):

- ``HostedModels``: the built-in handlers. Each model is a worker process of the instance's host,
  which gets ``load`` and ``unload`` and says in its status what has become of them.
- ``ServedModels``: a server of the user's own that implements SageMaker's multi-model API
  (``/models``, container.md 7).

What is loaded when, and what has to go for it, is decided in ``control/models.py``.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Protocol

from clary.errors import ModelNotLoaded, TransientError
from clary.fleet.capacity import Reservation
from clary.fleet.containers import code_in_model
from clary.fleet.launchers.base import FINAL, InstanceState, InstanceStatus, ModelStatus
from clary.messages import parse_address
from clary.resources.model import ContainerDefinition
from clary.settings import Settings

PINNED_VARIABLE = "CLARY_PINNED_MODELS"
"""Model's Environment: names of models, separated by commas, that are never unloaded for others."""

MACHINE_SHARE = 0.8
"""Part of the machine's memory for models where no setting says how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiModel:
    """What makes an instance one of a multi-model endpoint; kept in ``spec.json``."""

    prefix: str
    """``ModelDataUrl``: where the models lie."""
    style: str
    caches_models: bool
    pinned: tuple[str, ...]
    memory_kib: int
    """Memory for loaded models, and for the process that waits for the next one."""
    max_models: int
    """Most loaded models; 0: no limit."""
    load_timeout_s: float

    def url_of(self, name: str) -> str:
        """Return where a model lies."""
        return f"{self.prefix.rstrip('/')}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A model that is loaded and takes calls."""

    name: str
    address: str
    path: str = ""
    """Where a user's own server takes its calls; empty: its worker has no other model."""
    memory_kib: int = 0
    """0 where nobody can tell, as for models inside a user's own server."""


class OutOfModelMemory(Exception):
    """A container has no room for another model (507): unload one, and try again."""


class ModelHolder(Protocol):
    """Loads and unloads models of one instance."""

    def held(self) -> tuple[HeldModel, ...]:
        """Return the models that take calls now."""
        ...

    def spare_memory_kib(self) -> int:
        """Return what the holder itself takes of the memory for models, to load the next one."""
        ...

    async def load(self, name: str, directory: Path) -> None:
        """Load a model; return when it takes calls.

        Raises:
            ModelNotLoaded: It cannot be loaded; the text says why.
            OutOfModelMemory: Not without unloading another one first.
            TransientError: The instance cannot be reached now.
        """
        ...

    async def unload(self, name: str) -> None:
        """Unload a model; return when its memory is free."""
        ...

    def changed(self) -> None:
        """Look again: the instance's status has changed."""
        ...


def multi_model_of(
    definition: ContainerDefinition, style: str, settings: Settings, reservation: Reservation
) -> MultiModel:
    """Return what an instance has to know about its models, from its container's definition."""
    fleet = settings.fleet
    pinned = definition.environment.get(PINNED_VARIABLE, "")
    memory_mib = fleet.multi_model_memory_mib
    if not memory_mib and fleet.capacity == "strict":
        memory_mib = reservation.memory_mib
    return MultiModel(
        prefix=definition.model_data_url or "",
        style=style,
        caches_models=definition.caches_models,
        pinned=tuple(name.strip() for name in pinned.split(",") if name.strip()),
        memory_kib=memory_mib * 1024 if memory_mib else int(_machine_kib() * MACHINE_SHARE),
        max_models=fleet.multi_model_max_models,
        load_timeout_s=fleet.model_load_timeout_s,
    )


def _machine_kib() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1])


def model_id(name: str) -> str:
    """Return what stands for a model's name in paths and in URLs of the multi-model API."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def read_multi_model(spec: Mapping[str, Any]) -> MultiModel | None:
    """Return what ``spec.json`` says of models; None for an instance of one model."""
    facts = spec.get("multi_model")
    return None if facts is None else MultiModel(**{**facts, "pinned": tuple(facts["pinned"])})


class HostedModels:
    """Models as worker processes of the instance's host.

    Args:
        spec: ``spec.json`` of the instance.
        directory: The instance's directory.
        status: Returns what the host said last.
        tell: Sends the host a request.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        directory: Path,
        status: Callable[[], InstanceStatus | None],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._container = spec["containers"][0]
        self._directory = directory
        self._status = status
        self._tell = tell
        self._changed = asyncio.Event()

    def held(self) -> tuple[HeldModel, ...]:
        status = self._status()
        if status is None:
            return ()
        return tuple(
            HeldModel(name=model.name, address=model.address, memory_kib=model.memory_kib)
            for model in status.models
            if model.state == "ready"
        )

    def spare_memory_kib(self) -> int:
        status = self._status()
        return 0 if status is None else status.spare_memory_kib

    async def load(self, name: str, directory: Path) -> None:
        self._tell({"op": "unload", "model": name})  # forgets why it failed the last time
        self._tell({"op": "load", "model": name, "spec": self._spec_of(directory)})
        # The host takes requests in order, so that a failure seen before is not an old one only
        # once the model has been seen on its way.
        was_seen = False
        while True:
            state, reason = self._state_of(name)
            if state == "ready":
                return
            if state == "failed" and was_seen:
                self._tell({"op": "unload", "model": name})
                raise ModelNotLoaded(reason)
            was_seen = was_seen or state != "failed"
            await self._next_change()

    async def unload(self, name: str) -> None:
        # By its address, for the same model may be loaded again meanwhile.
        address = next((model.address for model in self.held() if model.name == name), None)
        self._tell({"op": "unload", "model": name})
        while any(model.address == address for model in self._models()):
            await self._next_change()

    def changed(self) -> None:
        self._changed.set()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _models(self) -> Sequence[ModelStatus]:
        status = self._status()
        if status is None or status.state in FINAL or status.state is InstanceState.STOPPING:
            raise TransientError("the instance is gone")
        return status.models

    def _state_of(self, name: str) -> tuple[str | None, str]:
        for model in self._models():
            if model.name == name and model.state != "unloading":
                return model.state, model.reason
        return None, ""

    def _spec_of(self, directory: Path) -> dict[str, Any]:
        """Return what a waiting worker has to know about its model."""
        container = self._container
        model_dir = directory / "model"
        code = code_in_model(model_dir, container["program"], is_command=False)
        code_dir = str(code or container["code_dir"])
        # The container's own directories in values of variables become the model's.
        moved = {container["model_dir"]: str(model_dir), container["code_dir"]: code_dir}
        environment = {}
        for variable, value in container["environment"].items():
            new = value
            for old, place in moved.items():
                new = new.replace(old, place)
            if new != value:
                environment[variable] = new
        environment["SAGEMAKER_BASE_DIR"] = str(directory)
        return {"model_dir": str(model_dir), "code_dir": code_dir, "environment": environment}


class ServedModels:
    """Models inside a server of the user's own, by its multi-model API.

    Args:
        directory: The instance's directory.
        address: Returns where the server listens now; None while it does not.
        timeout_s: Time for one call of the API.
    """

    def __init__(
        self, directory: Path, address: Callable[[], str | None], timeout_s: float
    ) -> None:
        self._directory = directory
        self._address = address
        self._timeout_s = timeout_s
        self._loaded: dict[str, str] = {}
        """Name of each model, and the address of the server that has it."""

    def held(self) -> tuple[HeldModel, ...]:
        now = self._address()
        return tuple(
            HeldModel(name=name, address=address, path=f"/models/{model_id(name)}/invoke")
            for name, address in self._loaded.items()
            if address == now  # a server that was started anew has another port, and no model
        )

    def spare_memory_kib(self) -> int:
        return 0  # nothing waits

    async def adopt(self) -> None:
        """Ask the server which models it has, after control was started anew."""
        status, body = await self._call("GET", "/models?limit=1000")
        if status != 200:
            return
        names = {}
        for file in (self._directory / "models").glob("*/name"):
            name = file.read_text()
            names[model_id(name)] = name
        address = self._address()
        try:
            for entry in json.loads(body)["models"]:
                known = names.get(entry["modelName"])
                if known is not None and address is not None:
                    self._loaded[known] = address
        except (ValueError, KeyError, TypeError):
            return  # it lists nothing that could be understood: models are loaded again (409)

    async def load(self, name: str, directory: Path) -> None:
        address = self._address()
        body = {"model_name": model_id(name), "url": str(directory / "model")}
        status, answer = await self._call("POST", "/models", body)
        if status == 507:
            raise OutOfModelMemory
        # 409: it is loaded already (container.md 7).
        if status not in (200, 409) or address is None:
            text = answer.decode("utf-8", "replace")[:1024]
            raise ModelNotLoaded(f"the container answered {status} to POST /models: {text}")
        self._loaded[name] = address

    async def unload(self, name: str) -> None:
        self._loaded.pop(name, None)
        await self._call("DELETE", f"/models/{model_id(name)}")

    def changed(self) -> None:
        """Nothing waits for a status."""

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        address = self._address()
        if address is None:
            raise TransientError("the model's server does not listen")
        _, host, port = parse_address(address)
        return await asyncio.to_thread(self._call_now, method, f"{host}:{port}", path, body)

    def _call_now(
        self, method: str, host: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        connection = HTTPConnection(host, timeout=self._timeout_s)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, HTTPException) as error:
            raise TransientError(f"the model's server broke the connection: {error!r}") from error
        finally:
            connection.close()
