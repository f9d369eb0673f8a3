"""What the ``spec.json`` of an instance that runs says of it, to a fleet that takes it over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clary.fleet.capacity import Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningInstance:
    """An instance that another life of this process has started."""

    endpoint_name: str
    variant_name: str
    container_names: tuple[str, ...]
    reservation: Reservation
    pythons: tuple[Path, ...]
    """Interpreters, which may be of environments in the cache."""
    links: tuple[Path, ...]
    """Directories of its containers, which may be links into the cache of artifacts."""


def read_running(spec: Mapping[str, Any]) -> RunningInstance:
    """Return what a spec says.

    Raises:
        KeyError: It is not whole.
        TypeError: It is no spec.
    """
    held = spec["reservation"]
    containers = spec["containers"]
    return RunningInstance(
        endpoint_name=spec["endpoint"],
        variant_name=spec["variant"],
        container_names=tuple(container["name"] for container in containers),
        reservation=Reservation(
            vcpus=held["vcpus"], memory_mib=held["memory_mib"], gpus=tuple(held["gpus"])
        ),
        pythons=tuple(Path(container["python"]) for container in containers),
        links=tuple(
            Path(container[name]) for container in containers for name in ("model_dir", "code_dir")
        ),
    )
