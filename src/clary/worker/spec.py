"""What an instance is to run: ``spec.json``, and the names of the files beside it.

Written by the fleet, read by the host and by each worker. Tuples with names instead of
dataclasses: the import of ``dataclasses`` alone would cost every host a megabyte.
"""

import json
import os
from typing import Any, Dict, NamedTuple, Tuple

from clary.status_page import status_path


class ContainerSpec(NamedTuple):
    """One container of the model."""

    name: str
    style: str
    """``handler``: functions of a user's module; ``command``: a server of the user's own."""
    python: str
    argv: Tuple[str, ...]
    cwd: str
    environment: Dict[str, str]
    """All variables of the process; nothing is inherited."""
    model_dir: str
    code_dir: str
    program: str
    workers: int
    log: str
    """Where its output goes: the instance's log, or its own where there are several containers."""
    multi_model: bool = False
    """Whether its workers wait for models that are loaded on demand (handler style only)."""
    scaled: bool = False
    """Whether the number of its workers changes, down to none (``scaled_watch.py``)."""
    template: bool = False
    """With ``scaled``: whether workers are forked from a template, where that can be (handlers)."""
    memory_limit_mb: int = 0
    """Most memory of one worker, in MB; 0: no limit."""


class InstanceSpec(NamedTuple):
    """One instance. Fields ending in ``_s`` are seconds."""

    instance_id: str
    run_dir: str
    log: str
    startup_timeout_s: float
    ping_interval_s: float
    ping_timeout_s: float
    unhealthy_after: int
    stop_timeout_s: float
    load_attempts: int
    load_attempts_within_s: float
    invocation_timeout_s: float
    hung_grace_s: float
    containers: Tuple[ContainerSpec, ...]
    log_max_bytes: int = 0
    """Most bytes of one log with what was cut off it; 0: no limit."""


class WorkerFiles:
    """Where one worker listens, and what it leaves for its host in the run directory."""

    def __init__(self, run_dir: str, container_index: int, worker_index: int) -> None:
        # The first container's workers have the short names: nearly all models have only one,
        # and the path of a Unix socket is limited to 107 bytes.
        prefix = f"c{container_index}" if container_index else ""
        base = os.path.join(run_dir, f"{prefix}w{worker_index}")
        self.socket = base + ".sock"
        self.status = status_path(self.socket)
        self.failure = base + ".failure"
        self.address = base + ".address"


def read_spec(path: str) -> InstanceSpec:
    """Return the specification in a file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no specification.
    """
    with open(path, "rb") as file:
        return parse_spec(json.load(file))


def parse_spec(data: Dict[str, Any]) -> InstanceSpec:
    """Return the specification in decoded JSON; unknown members are left to newer readers.

    Raises:
        ValueError: A member is missing, or there is no container.
    """
    try:
        containers = tuple(
            ContainerSpec(
                name=entry["name"],
                style=entry["style"],
                python=entry["python"],
                argv=tuple(entry.get("argv") or ()),
                cwd=entry["cwd"],
                environment=dict(entry["environment"]),
                model_dir=entry["model_dir"],
                code_dir=entry["code_dir"],
                program=entry.get("program") or "inference",
                workers=int(entry["workers"]),
                log=entry.get("log") or data["log"],
                multi_model=bool(entry.get("multi_model")),
                scaled=bool(entry.get("scaled")),
                template=bool(entry.get("template")),
                memory_limit_mb=int(entry.get("memory_limit_mb") or 0),
            )
            for entry in data["containers"]
        )
        values = {
            name: data[name]
            for name in InstanceSpec._fields
            if name not in ("containers", "log_max_bytes")
        }
    except KeyError as error:
        raise ValueError(f"the specification of an instance lacks {error}") from error
    if not containers:
        raise ValueError("the specification of an instance names no container")
    # Hosts that another version of Clary started have none.
    log_max_bytes = int(data.get("log_max_bytes", 0))
    return InstanceSpec(containers=containers, log_max_bytes=log_max_bytes, **values)
