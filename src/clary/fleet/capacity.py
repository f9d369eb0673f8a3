"""How much of this machine is taken, and how many workers an instance gets.

On one machine instance types are mostly names: they choose how many workers an instance gets, and
whether it sees GPUs. With ``fleet.capacity = "strict"`` they reserve vCPUs, memory and GPUs, and
what does not fit fails in AWS's words.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clary.errors import PermanentError
from clary.resources.instance_types import InstanceType

INSUFFICIENT_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
"""AWS's text (contract: endpoints.md 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    cores: int
    memory_mib: int
    gpus: int

    @classmethod
    async def measure(cls) -> "Machine":
        """Count cores, memory and NVIDIA GPUs of the machine that this process runs on."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
        cores = len(os.sched_getaffinity(0))
        return cls(cores=cores, memory_mib=memory, gpus=await _count_gpus())


async def _count_gpus() -> int:
    """Ask NVIDIA's tool, which knows without an import of anything. None where it is missing."""
    if shutil.which("nvidia-smi") is None:
        return 0
    process = await asyncio.create_subprocess_exec(
        "nvidia-smi",
        "-L",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 10)
    except TimeoutError:  # a driver that hangs must not hang the server
        process.kill()
        await process.wait()
        return 0
    return sum(line.startswith(b"GPU ") for line in output.splitlines())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A share of this machine."""

    vcpus: int = 0
    memory_mib: int = 0
    gpus: tuple[int, ...] = ()
    """Indices of GPUs, for ``CUDA_VISIBLE_DEVICES``."""


class Capacity:
    """Who has which share of the machine.

    Args:
        machine: What there is.
        mode: ``strict`` refuses what does not fit; ``labels`` shares cores and memory freely, and
            gives a GPU to several instances when there are not enough.
    """

    def __init__(self, machine: Machine, mode: Literal["labels", "strict"]) -> None:
        self._machine = machine
        self._mode = mode
        self._reservations: dict[str, Reservation] = {}

    @property
    def machine(self) -> Machine:
        return self._machine

    def restore(self, instance_id: str, reservation: Reservation) -> None:
        """Take a share as given: that of an instance that was adopted."""
        self._reservations[instance_id] = reservation

    def reserve(self, instance_id: str, wanted: InstanceType) -> Reservation:
        """Reserve a share for an instance; the same one when it has one already.

        Raises:
            PermanentError: It does not fit.
        """
        if (held := self._reservations.get(instance_id)) is not None:
            return held
        taken = self._reservations.values()
        memory_mib = int(wanted.memory_gib * 1024)
        if self._mode == "strict" and (
            sum(r.vcpus for r in taken) + wanted.vcpus > self._machine.cores
            or sum(r.memory_mib for r in taken) + memory_mib > self._machine.memory_mib
        ):
            raise PermanentError(INSUFFICIENT_CAPACITY)
        reservation = Reservation(
            vcpus=wanted.vcpus, memory_mib=memory_mib, gpus=self._choose_gpus(wanted.gpus)
        )
        self._reservations[instance_id] = reservation
        return reservation

    def release(self, instance_id: str) -> None:
        """Give a share back, if there is one."""
        self._reservations.pop(instance_id, None)

    def _choose_gpus(self, count: int) -> tuple[int, ...]:
        """Return the GPUs that the fewest instances have, in the order of their index."""
        users = {index: 0 for index in range(self._machine.gpus)}
        for reservation in self._reservations.values():
            for index in reservation.gpus:
                if index in users:
                    users[index] += 1
        if (
            self._mode == "strict"
            and sum(users_of_it == 0 for users_of_it in users.values()) < count
        ):
            raise PermanentError(INSUFFICIENT_CAPACITY)
        return tuple(sorted(sorted(users, key=lambda index: (users[index], index))[:count]))


def count_workers(
    environment: Mapping[str, str],
    wanted: InstanceType,
    *,
    is_command: bool,
    cores: int,
    max_workers: int,
    containers: int = 1,
) -> int:
    """Return how many workers an instance starts.

    ``SAGEMAKER_MODEL_SERVER_WORKERS`` decides where the model sets it; else there is one per vCPU
    of the instance type, but never more than cores of the machine or ``max_workers``. A type with
    GPUs gets one, for each worker would load the model onto them once more. The containers of a
    pipeline share the vCPUs, for their steps are one after another. A user's own server
    is always one process: it has a port of its own and its own idea of workers.

    Args:
        environment: The container's variables.
        wanted: The instance type.
        is_command: Whether the container is a user's own server.
        cores: Of this machine.
        max_workers: ``fleet.max_workers``; 0 for no limit but the cores.
        containers: How many share the instance.

    Raises:
        PermanentError: The variable holds no number of workers.
    """
    if is_command:
        return 1
    text = environment.get("SAGEMAKER_MODEL_SERVER_WORKERS", "").strip()
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= 256:
            raise PermanentError(
                f"SAGEMAKER_MODEL_SERVER_WORKERS={text!r} in the model's Environment is no number "
                "of workers: give one between 1 and 256."
            )
        return int(text)
    if wanted.gpus:
        return 1
    vcpus = -(-min(wanted.vcpus, cores) // containers)
    return max(1, min(vcpus, max_workers or vcpus))
