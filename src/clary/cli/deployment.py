"""What `clary deploy` was asked for, and the names that follow from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from clary.cli.failure import CommandFailed

HANDLER_IMAGE = "clary/python:latest"
SERVER_IMAGE = "clary/server:latest"

LONGEST_NAME = 63
_SUFFIX = len("-0123abcd-20260102030405678")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """No instance: workers from zero by the first call. Defaults are those of SageMaker's SDK."""

    memory_mb: int = 2048
    """Memory of a worker: 1024 to 6144, in steps of 1024."""

    max_concurrency: int = 5
    """Most calls at once; further ones are throttled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the user asked for."""

    source: Path
    """A directory, or a ``.tar.gz`` archive."""

    name: str
    """Name of the endpoint."""

    instances: int = 1
    instance_type: str = "ml.m5.large"
    serverless: Serverless | None = None
    """Instead of instances."""
    image: str = ""
    """Image URI; empty for the one that fits the kind of deployment."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the container."""

    app: str = ""
    """An ASGI application as ``module:attribute``."""

    command: str = ""
    """A command line that starts a server."""

    @property
    def capacity(self) -> dict[str, Any]:
        """What the variant runs on, as the API has it."""
        if self.serverless is not None:
            return {
                "ServerlessConfig": {
                    "MemorySizeInMB": self.serverless.memory_mb,
                    "MaxConcurrency": self.serverless.max_concurrency,
                }
            }
        return {"InitialInstanceCount": self.instances, "InstanceType": self.instance_type}

    @property
    def own_server(self) -> bool:
        """Whether the user brings a server, rather than handler functions."""
        return bool(self.app or self.command)

    @property
    def image_uri(self) -> str:
        """The container's image."""
        return self.image or (SERVER_IMAGE if self.own_server else HANDLER_IMAGE)

    @property
    def container_environment(self) -> dict[str, str]:
        """The container's variables, with those that tell the runner what to start."""
        environment = dict(self.environment)
        if self.app:
            environment["CLARY_APP"] = self.app
        if self.command:
            environment["CLARY_COMMAND"] = self.command
        return environment


def endpoint_name(source: Path) -> str:
    """Return a name for the endpoint of a directory or archive: letters, digits, hyphens."""
    base = source.absolute().name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    name = re.sub(r"[^a-zA-Z0-9]+", "-", base).strip("-")[:LONGEST_NAME].strip("-")
    if not name:
        raise CommandFailed(f"no name can be made of {source}; give one with --name", 2)
    return name


def resource_name(endpoint: str, digest: str, now: datetime) -> str:
    """Return a name for model and configuration that no earlier deployment has had."""
    stamp = f"{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03d}"
    return f"{name_prefix(endpoint)}{digest[:8]}-{stamp}"


def name_prefix(endpoint: str) -> str:
    """Return what the names of an endpoint's models and configurations begin with."""
    return endpoint[: LONGEST_NAME - _SUFFIX].rstrip("-") + "-"


def parse_variables(assignments: list[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` arguments; a value may hold ``=`` and be empty.

    Raises:
        CommandFailed: One has no ``=``, or no name.
    """
    variables = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key:
            raise CommandFailed(f"--env {assignment}: not of the form KEY=VALUE", 2)
        variables[key] = value
    return variables


def check_entry_point(wanted: Deployment, names: set[str]) -> None:
    """Stop here on what could only fail on the server, with a better word for it.

    Args:
        wanted: The deployment.
        names: Paths in the archive.

    Raises:
        CommandFailed: The file that is to be started is not there.
    """
    if wanted.app:
        module = wanted.app.partition(":")[0].replace(".", "/")
        if not {f"code/{module}.py", f"code/{module}/__init__.py"} & names:
            raise CommandFailed(f"--app {wanted.app}: {wanted.source} holds no {module}.py", 2)
    elif not (wanted.command or wanted.image or "SAGEMAKER_SUBMIT_DIRECTORY" in wanted.environment):
        program = wanted.environment.get("SAGEMAKER_PROGRAM", "inference.py")
        if not {program, f"code/{program}"} & names:
            raise CommandFailed(
                f"{wanted.source} holds no {program}. Add one (docs/deploying.md), or start a "
                "server of your own with --app or --command.",
                2,
            )
