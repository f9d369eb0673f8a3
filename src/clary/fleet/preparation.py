"""Makes everything ready that an instance needs before it can be launched.

Artifact → code → runner → environment → ``spec.json``. Each step is cached or idempotent, so that a
preparation that was cut off is simply done again. The instance's directory stands for ``/opt/ml``::

    D/instances/<id>/model       the artifact (a link into the cache)
    D/instances/<id>/code        the user's code (a link into an artifact)
    D/instances/<id>/tmp
    D/instances/<id>/spec.json   written last, in one step: when it is there, all of it is there

The containers of a pipeline have these directories each for itself, in
``D/instances/<id>/containers/<name>/``, and a log of their own.
"""

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from clary.errors import AccessDenied, NotFound, PermanentError, TransientError
from clary.fleet.artifacts import Artifact, Artifacts, ArtifactSource
from clary.fleet.cache import remove_tree
from clary.fleet.capacity import Reservation, count_workers
from clary.fleet.containers import (
    Places,
    code_in_model,
    container_variables,
    has_program,
    move_paths,
    program_of,
)
from clary.fleet.environments import Environments
from clary.fleet.failures import download_failed, no_code, not_prepared, owner_of, unusable_data
from clary.fleet.instance import InstanceOrder, Phase
from clary.fleet.models import multi_model_of
from clary.fleet.runners import Runner, choose_runner, find_row
from clary.resources.model import ContainerDefinition
from clary.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Variables of serverless workers, unless the image or the model has others: they scale by workers,
and a process whose libraries have started threads cannot be forked (``worker/template.py``)."""

_RETRY_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFiles:
    """Where the files of one instance lie."""

    directory: Path
    run_dir: Path
    log: Path

    @property
    def spec(self) -> Path:
        return self.directory / "spec.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Container:
    """One container of an instance: what it is made of, and where its files lie."""

    name: str
    definition: ContainerDefinition
    places: Places
    log: Path
    count: int
    """How many containers share the instance."""


@dataclass(frozen=True, slots=True)
class _Code:
    directory: Path | None
    key: str


class Preparation:
    """Prepares instances.

    Args:
        settings: All of them.
        artifacts: Where models come from.
        environments: Where interpreters come from.
        base_python: Interpreter of rows that name none.
        cores: Of this machine.
        model_variables: Variables of every model: AWS endpoint, region, credentials.
        environ: The server's own variables.
    """

    def __init__(
        self,
        settings: Settings,
        artifacts: Artifacts,
        environments: Environments,
        *,
        base_python: str,
        cores: int,
        model_variables: Mapping[str, str],
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._environments = environments
        self._base_python = base_python
        self._cores = cores
        self._model_variables = dict(model_variables)
        self._environ = dict(environ)

    async def prepare(
        self,
        order: InstanceOrder,
        files: InstanceFiles,
        reservation: Reservation,
        on_phase: Callable[[Phase], None],
    ) -> None:
        """Bring an instance to where ``spec.json`` is written.

        Args:
            order: What is to run.
            files: Where it goes. What another try has left there is replaced.
            reservation: Its share of the machine.
            on_phase: Called when the next phase begins.

        Raises:
            PermanentError: It cannot be run. The message is a whole FailureReason.
        """
        containers = _containers_of(order, files)
        _make_directories(files, containers)
        on_phase(Phase.DOWNLOADING)
        limit = order.download_timeout_s or self._settings.fleet.download_timeout_s
        models = await _all_or_every_reason(
            self._fetch_in_time(container, order.id, limit) for container in containers
        )
        for container, model in zip(containers, models, strict=True):
            link(container.places.model_dir, model.directory if model else None)
        specs = await _all_or_every_reason(
            self._prepare_container(order, reservation, container, model, limit, on_phase)
            for container, model in zip(containers, models, strict=True)
        )
        on_phase(Phase.LOADING)
        spec = self._spec(order, files, reservation, specs)
        first = containers[0].definition
        if first.mode == "MultiModel":
            facts = multi_model_of(first, specs[0]["style"], self._settings, reservation)
            spec["multi_model"] = asdict(facts)
        _write_atomically(files.spec, json.dumps(spec, indent=1))

    async def _fetch_in_time(
        self, container: _Container, holder: str, limit: float
    ) -> Artifact | None:
        try:
            async with asyncio.timeout(limit):
                if container.definition.mode == "MultiModel":
                    return None  # its models are fetched one by one, when they are asked for
                return await self._fetch_model(container.definition, container.name, holder)
        except TimeoutError:
            url = _source_of(container.definition)
            raise PermanentError(
                download_failed(
                    container.name, url.url if url else "", f"not done within {limit:.0f} s"
                )
            ) from None

    async def _fetch_model(
        self, definition: ContainerDefinition, name: str, holder: str
    ) -> Artifact | None:
        source = _source_of(definition)
        if source is None:
            return None
        try:
            return await self._fetch(source, holder)
        except (NotFound, AccessDenied) as error:
            raise PermanentError(
                download_failed(name, source.url, error.message or "nothing is there")
            ) from error
        except PermanentError as error:
            raise PermanentError(unusable_data(name, source.url, error.message)) from error

    async def _fetch(self, source: ArtifactSource, holder: str) -> Artifact:
        """Fetch, and try again while the storage is away; the caller's time limit ends it."""
        attempt = 0
        while True:
            try:
                return await self._artifacts.fetch(source, holder=holder)
            except TransientError as error:
                log.warning("instance %s: %s: %s; trying again", holder, source.url, error)
                await asyncio.sleep(_RETRY_PAUSES_S[min(attempt, len(_RETRY_PAUSES_S) - 1)])
                attempt += 1

    async def _prepare_container(
        self,
        order: InstanceOrder,
        reservation: Reservation,
        container: _Container,
        model: Artifact | None,
        limit: float,
        on_phase: Callable[[Phase], None],
    ) -> dict[str, Any]:
        try:
            return await self._make_container(order, reservation, container, model, limit, on_phase)
        except PermanentError as error:
            raise PermanentError(
                not_prepared(
                    container.name,
                    owner_of(order.endpoint_name, order.variant_name),
                    error.message,
                )
            ) from error

    async def _make_container(
        self,
        order: InstanceOrder,
        reservation: Reservation,
        container: _Container,
        model: Artifact | None,
        limit: float,
        on_phase: Callable[[Phase], None],
    ) -> dict[str, Any]:
        definition, places = container.definition, container.places
        row = find_row(definition.image or "", self._settings.runners)
        own = {**(row.environment if row else {}), **definition.environment}
        program = program_of(own)
        is_command = row is not None and row.runner == "command"
        try:
            async with asyncio.timeout(limit):
                code = await self._find_code(
                    own, model, row.code if row else "", program, order.id, is_command=is_command
                )
        except TimeoutError:
            raise PermanentError(f"its code could not be fetched within {limit:.0f} s") from None
        link(places.code_dir, code.directory)
        runner = choose_runner(
            definition.image or "",
            definition.environment,
            self._settings.runners,
            base_python=self._base_python,
            has_program=has_program(places.code_dir, program) or bool(own.get("SAGEMAKER_PROGRAM")),
        )
        is_multi_model = definition.mode == "MultiModel"
        if (
            runner.style == "handler"
            and model is None
            and code.directory is None
            and not is_multi_model
        ):
            raise PermanentError(no_code(definition.environment))
        on_phase(Phase.ENVIRONMENT)
        python = await self._environments.python_for(
            runner.python, places.code_dir, code_key=code.key, holder=order.id
        )
        is_serverless = order.serverless_memory_mb is not None
        variables = container_variables(
            model=definition.environment,
            image={**(ONE_THREAD if is_serverless else {}), **runner.environment},
            platform={
                **self._model_variables,
                **({"SAGEMAKER_MULTI_MODEL": "true"} if is_multi_model else {}),
                **(places.adapter_variables if order.share is not None else {}),
            },
            inherited=self._environ,
            places=places,
            python=python,
            gpus=reservation.gpus,
        )
        return {
            "name": container.name,
            "log": str(container.log),
            "style": runner.style,
            "python": python,
            "argv": _argv(runner, python, places),
            "cwd": str(places.code_dir),
            "environment": variables,
            "model_dir": str(places.model_dir),
            "code_dir": str(places.code_dir),
            "program": program,
            "multi_model": is_multi_model and runner.style == "handler",
            "scaled": is_serverless,
            "template": is_serverless and self._settings.serverless.templates,
            "memory_limit_mb": order.serverless_memory_mb or 0,
            "workers": 1
            if is_multi_model or is_serverless
            else count_workers(
                own,
                order.size,
                is_command=runner.style == "command",
                cores=self._cores,
                max_workers=self._settings.fleet.max_workers,
                containers=container.count,
            ),
        }

    async def _find_code(
        self,
        environment: Mapping[str, str],
        model: Artifact | None,
        image_code: str,
        program: str,
        holder: str,
        *,
        is_command: bool,
    ) -> _Code:
        """Return where the code is: named by the model, inside the artifact, or the image's."""
        named = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "").strip()
        if named.startswith("/opt/ml/model") and model is not None:
            inside = model.directory / named.removeprefix("/opt/ml/model").strip("/")
            if inside.resolve().is_relative_to(model.directory.resolve()) and inside.is_dir():
                return _Code(inside, model.key)
        elif named and not named.startswith("/opt/ml/"):
            code = await self._fetch_code(named, "SAGEMAKER_SUBMIT_DIRECTORY", holder)
            return _Code(code.directory, code.key)
        if model is not None:
            found = code_in_model(model.directory, program, is_command=is_command)
            if found is not None and not (image_code and found == model.directory):
                return _Code(found, model.key)
        if image_code:
            path = os.path.abspath(Path(image_code).expanduser())
            code = await self._fetch_code(path, "code of the image's row in clary.toml", holder)
            return _Code(code.directory, code.key)
        return _Code(None, "")

    async def _fetch_code(self, url: str, what: str, holder: str) -> Artifact:
        try:
            return await self._fetch(ArtifactSource(url=url), holder)
        except (NotFound, AccessDenied, PermanentError) as error:
            raise PermanentError(f"{what} ({url}) cannot be used: {error.message}") from error

    def _spec(
        self,
        order: InstanceOrder,
        files: InstanceFiles,
        reservation: Reservation,
        containers: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        fleet = self._settings.fleet
        return {
            "instance_id": order.id,
            "endpoint": order.endpoint_name,
            "variant": order.variant_name,
            "run_dir": str(files.run_dir),
            "log": str(files.log),
            "log_max_bytes": self._settings.logs.max_stream_bytes,
            "startup_timeout_s": order.startup_timeout_s or fleet.startup_timeout_s,
            "ping_interval_s": fleet.ping_interval_s,
            "ping_timeout_s": fleet.ping_timeout_s,
            "unhealthy_after": fleet.unhealthy_after,
            "stop_timeout_s": fleet.stop_timeout_s,
            "load_attempts": fleet.load_attempts,
            "load_attempts_within_s": fleet.load_attempts_within_s,
            "invocation_timeout_s": (
                order.invocation_timeout_s or self._settings.router.invocation_timeout_s
            ),
            "hung_grace_s": fleet.hung_grace_s,
            "containers": list(containers),
            # For the fleet itself, when it adopts the instance in another life of control.
            "reservation": asdict(reservation),
        }


def _source_of(definition: ContainerDefinition) -> ArtifactSource | None:
    source = definition.model_data_source
    if source is not None:
        if source.compression == "Gzip":
            return ArtifactSource(url=source.uri, form="archive")
        form = "tree" if source.data_type == "S3Prefix" else "object"
        return ArtifactSource(url=source.uri, form=form)  # type: ignore[arg-type]
    if definition.model_data_url:
        return ArtifactSource(url=definition.model_data_url)
    return None


def _argv(runner: Runner, python: str, places: Places) -> list[str]:
    if runner.style != "command":
        return []
    return [move_paths(word, places) for word in runner.argv(python)]


def _containers_of(order: InstanceOrder, files: InstanceFiles) -> list[_Container]:
    """Return what the model's containers are made of; the only one of a model has short paths."""
    definitions = order.containers
    containers = []
    for index, definition in enumerate(definitions):
        name = order.container_names[index]
        is_only = len(definitions) == 1
        base = files.directory if is_only else files.directory / "containers" / name
        places = Places(
            base_dir=base, model_dir=base / "model", code_dir=base / "code", tmp_dir=base / "tmp"
        )
        log = files.log if is_only else files.log.with_suffix("") / f"{name}.log"
        containers.append(
            _Container(
                name=name, definition=definition, places=places, log=log, count=len(definitions)
            )
        )
    return containers


async def _all_or_every_reason(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do the same for several containers; return what each gave.

    Raises:
        PermanentError: Some cannot be run. It gives the reason of each, for people mend them all
            at once.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    reasons = []
    for result in results:
        if isinstance(result, PermanentError):
            reasons.append(result)
        elif isinstance(result, BaseException):
            raise result
    if reasons:
        raise PermanentError(" ".join(reason.message for reason in reasons)) from reasons[0]
    return [result for result in results if not isinstance(result, BaseException)]


def _make_directories(files: InstanceFiles, containers: Iterable[_Container]) -> None:
    files.directory.mkdir(parents=True, exist_ok=True)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    for container in containers:
        container.places.tmp_dir.mkdir(parents=True, exist_ok=True)
        container.log.parent.mkdir(parents=True, exist_ok=True)
    remove_tree(files.run_dir)  # sockets of another life
    files.run_dir.mkdir(mode=0o700, parents=True)


def link(path: Path, target: Path | None) -> None:
    """Make ``path`` a link to a directory of the cache, or an empty directory of its own."""
    if path.is_symlink() or path.exists():
        remove_tree(path)
    if target is None:
        path.mkdir()
    else:
        path.symlink_to(target, target_is_directory=True)


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    # It holds the model's variables, which people use for secrets.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    partial.replace(path)
