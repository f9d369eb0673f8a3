"""Operation handlers: how one is declared, what it is given, and how all are collected.

A handler is a coroutine function of a call and the validated request; it returns the reply as the
service model names it. It reads the request, checks it against what exists, writes the wanted
state and answers; it starts nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from clary.clock import Clock
from clary.logs.groups import LogGroups
from clary.metrics.series import MetricStore
from clary.resources.names import Namespace
from clary.resources.quotas import Quotas
from clary.signing.keys import AccessKey
from clary.store import Store
from clary.store.scalable_resources import ScalableResource
from clary.store.scaling_alarms import PolicyAlarms

Request = Mapping[str, Any]
"""Validated request, by AWS's member names; timestamps are aware ``datetime``."""

Reply = Mapping[str, Any]
"""By AWS's member names. Leave out what is absent: clients break on empty structures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What handlers work with; made once, by ``app.py``."""

    store: Store
    logs: LogGroups
    namespace: Namespace
    quotas: Quotas
    clock: Clock
    metrics: MetricStore
    scalable: Mapping[str, ScalableResource]
    """What can be scaled, by ``ScalableDimension``."""
    policy_alarms: PolicyAlarms
    find_key: Callable[[str], AccessKey | None]
    """Access key by id. None: unknown, as any key is in open mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, apart from its parameters."""

    backend: Backend
    request_id: str
    access_key_id: str
    """Who signed it, verified by the gateway. Empty: nobody, in open mode."""

    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers of the trace that it belongs to (``resources/trace_context.py``); empty: to none."""

    @property
    def store(self) -> Store:
        """All durable state."""
        return self.backend.store

    @property
    def namespace(self) -> Namespace:
        """Account and region."""
        return self.backend.namespace


Handler = Callable[[Call, Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A built operation of a service."""

    service: str
    """Name of the service model, such as ``sagemaker``."""

    name: str
    handle: Handler


def operation(service: str, name: str) -> Callable[[Handler], Operation]:
    """Declare a coroutine function to be the handler of an operation."""

    def declare(handle: Handler) -> Operation:
        return Operation(service, name, handle)

    return declare


def collect(modules: Iterable[ModuleType]) -> dict[tuple[str, str], Operation]:
    """Return the operations that modules declare, by service and name."""
    found: dict[tuple[str, str], Operation] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Operation):
                found[value.service, value.name] = value
    return found
