"""An endpoint: its wanted state, and how its status may change.

``TRANSITIONS`` is the specification (endpoints.md 1)::

    Creating ──READY──▶ InService ──UPDATE_REQUESTED──▶ Updating ──READY──▶ InService
       │                    │  ▲                            │
    GAVE_UP                 │  └──READY── RollingBack ◀──GAVE_UP
       ▼                    │                  │
     Failed ──┐      DELETE_REQUESTED       GAVE_UP
              │             ▼                  ▼
              └────────▶ Deleting ◀── UpdateRollbackFailed ──UPDATE_REQUESTED──▶ Updating

A pair that is not in the table is refused: above all, nothing may be asked of an endpoint that is
Creating, Updating, RollingBack, SystemUpdating or Deleting. Updating and RollingBack mean the same
for a change of counts and weights, and for a deployment: a new fleet beside the old one. All
changes of a status go through ``next_status``, from whatever module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from clary.errors import Error
from clary.resources.deployment_policy import DeploymentPolicy, parse_policy
from clary.resources.endpoint_config import EndpointConfig
from clary.resources.model import Model
from clary.resources.serverless import ServerlessState

MAX_FAILURE_REASON = 1024
"""Most characters of a FailureReason that DescribeEndpoint can carry (service model)."""


class EndpointStatus(StrEnum):
    """As AWS writes them."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    SYSTEM_UPDATING = "SystemUpdating"
    """Maintenance by the platform. This server never enters it."""
    ROLLING_BACK = "RollingBack"
    UPDATE_ROLLBACK_FAILED = "UpdateRollbackFailed"
    """Still serves, with a mix of configurations."""
    OUT_OF_SERVICE = "OutOfService"
    """No source says how it is entered; this server never does."""
    FAILED = "Failed"
    DELETING = "Deleting"


class EndpointEvent(StrEnum):
    """What can happen to an endpoint."""

    READY = "Ready"
    """All variants have the instances that the wanted state asks for."""
    GAVE_UP = "GaveUp"
    """The wanted state cannot be reached."""
    UPDATE_REQUESTED = "UpdateRequested"
    """Somebody asked for another configuration, count or weight."""
    DELETE_REQUESTED = "DeleteRequested"


_S = EndpointStatus
_E = EndpointEvent

TRANSITIONS: Mapping[tuple[EndpointStatus, EndpointEvent], EndpointStatus] = {
    (_S.CREATING, _E.READY): _S.IN_SERVICE,
    (_S.CREATING, _E.GAVE_UP): _S.FAILED,
    (_S.IN_SERVICE, _E.READY): _S.IN_SERVICE,  # still so: the usual answer of a pass
    (_S.IN_SERVICE, _E.UPDATE_REQUESTED): _S.UPDATING,
    (_S.IN_SERVICE, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.UPDATING, _E.READY): _S.IN_SERVICE,
    (_S.UPDATING, _E.GAVE_UP): _S.ROLLING_BACK,
    (_S.SYSTEM_UPDATING, _E.READY): _S.IN_SERVICE,
    (_S.ROLLING_BACK, _E.READY): _S.IN_SERVICE,
    (_S.ROLLING_BACK, _E.GAVE_UP): _S.UPDATE_ROLLBACK_FAILED,
    (_S.UPDATE_ROLLBACK_FAILED, _E.READY): _S.UPDATE_ROLLBACK_FAILED,
    (_S.UPDATE_ROLLBACK_FAILED, _E.UPDATE_REQUESTED): _S.UPDATING,
    (_S.UPDATE_ROLLBACK_FAILED, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.OUT_OF_SERVICE, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.FAILED, _E.GAVE_UP): _S.FAILED,  # a pass that ran again after a crash says the same
    (_S.FAILED, _E.DELETE_REQUESTED): _S.DELETING,
}

SERVING = frozenset(
    {_S.IN_SERVICE, _S.UPDATING, _S.SYSTEM_UPDATING, _S.ROLLING_BACK, _S.UPDATE_ROLLBACK_FAILED}
)
"""Statuses in which an endpoint takes invocations."""


class IllegalTransition(Error):
    """An event that cannot happen to an endpoint of this status."""


def next_status(status: EndpointStatus, event: EndpointEvent) -> EndpointStatus:
    """Return the status after an event.

    Raises:
        IllegalTransition: The pair is not in ``TRANSITIONS``.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(f"{event} cannot happen to an endpoint that is {status}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantState:
    """How much of a variant is wanted, and how much is there."""

    name: str
    desired_count: int
    """Instances that were asked for."""

    current_count: int
    """Instances that are healthy."""

    desired_weight: float
    current_weight: float
    """The weight that the routers use."""

    previous_count: int | None = None
    """Instances that were asked for before the last change, to which a failed one goes back. None:
    there was no change."""

    previous_weight: float | None = None
    """The same for the weight."""

    serverless: ServerlessState | None = None
    """Of a serverless variant, whose count is always 1: the host of its workers."""


class DeploymentPhase(StrEnum):
    """What a deployment does at one of its steps, in this order."""

    LAUNCHING = "Launching"
    """Instances are started, and waited for."""
    ACTIVATING = "ActivatingTraffic"
    """They get their share of the traffic."""
    BAKING = "Baking"
    """The alarms are watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a deployment has come."""

    phase: DeploymentPhase = DeploymentPhase.LAUNCHING
    step: int = 1
    """From 1."""

    rollback_step: int = 0
    """From 1 on the way back; 0 on the way forth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An update under way: the new fleet, and how far it has come (``control/deployment_plan.py``).

    The endpoint itself describes the old fleet until the update has ended.
    """

    fleet: int
    """Number of the new fleet: the generation that asked for it."""

    config: EndpointConfig
    models: Mapping[str, Model]
    variants: tuple[VariantState, ...]
    """One for each variant of ``config``, shadow variants last."""

    deployment_config: Mapping[str, Any] | None
    started_at: datetime
    progress: Progress = Progress()
    progress_at: datetime
    """When it came so far."""

    guest_fleet: int | None = None
    """A fleet that an update before this one left behind: it serves beside the old one to the end,
    and no instance of it is started again."""

    @property
    def policy(self) -> DeploymentPolicy:
        """The policy of ``deployment_config``."""
        return parse_policy(self.deployment_config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A name that takes invocations."""

    name: str
    arn: str
    status: EndpointStatus
    generation: int
    """Counts changes of the wanted state, from 1."""

    failure_reason: str | None
    """Why it failed, for people, or why the last update was rolled back."""

    config: EndpointConfig
    """Snapshot: clients delete the configuration first (client-flows.md 2)."""

    models: Mapping[str, Model]
    """Snapshot of the models that the configuration names, by name."""

    variants: tuple[VariantState, ...]
    """One for each production variant of ``config``, in its order."""

    shadow_variants: tuple[VariantState, ...] = ()
    """One for each shadow variant of ``config``."""

    deployment_config: Mapping[str, Any] | None = None
    """DeploymentConfig of the last request, JSON types; Describe returns it."""

    fleet: int = 1
    """Number of the instances that run ``config``: the generation that asked for it."""

    deployment: Deployment | None = None
    """The update that is under way, or whose way back has failed."""

    created_at: datetime
    modified_at: datetime
    """When the wanted state or the status last changed."""

    @property
    def all_variants(self) -> tuple[VariantState, ...]:
        """Production variants, then shadow variants: all that have instances."""
        return (*self.variants, *self.shadow_variants)
