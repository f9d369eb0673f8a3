"""Endpoints with a deployment, for tests of plans."""

from datetime import datetime
from typing import Any

from builders import A_TIME, a_model, a_variant, a_variant_state, an_endpoint_config
from clary.control.instances import KnownInstance
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import Deployment, Endpoint, EndpointStatus, Progress
from clary.resources.instance import InstanceRecord
from clary.resources.routing_table import ContainerRoute

OLD, NEW = 1, 2
"""Numbers of the fleets."""

AT_THE_START = Progress()


def size(value: int, kind: str = "INSTANCE_COUNT") -> dict[str, Any]:
    return {"Type": kind, "Value": value}


def canary(value: int = 50, wait_s: int = 60, last_wait_s: int = 30) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": wait_s,
                "CanarySize": size(value, "CAPACITY_PERCENT"),
            },
            "TerminationWaitInSeconds": last_wait_s,
            "MaximumExecutionTimeoutInSeconds": 600,
        }
    }


def rolling(batch: int = 1, rollback: int | None = None, wait_s: int = 60) -> dict[str, Any]:
    policy = {"MaximumBatchSize": size(batch), "WaitIntervalInSeconds": wait_s}
    if rollback is not None:
        policy["RollbackMaximumBatchSize"] = size(rollback)
    return {"RollingUpdatePolicy": policy}


def alarmed(*names: str) -> dict[str, Any]:
    return {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in names]}}


def an_update(
    policy: dict[str, Any] | None = None,
    *,
    old: int = 2,
    new: int = 2,
    status: EndpointStatus = EndpointStatus.UPDATING,
    progress: Progress = AT_THE_START,
    progress_at: datetime = A_TIME,
    guest_fleet: int | None = None,
    names: tuple[str, str] = ("AllTraffic", "AllTraffic"),
    **new_variant: Any,
) -> Endpoint:
    old_name, new_name = names
    variants = (a_variant(old_name, initial_instance_count=old),)
    return Endpoint(
        name="digits",
        arn="arn",
        status=status,
        generation=NEW,
        failure_reason=None,
        config=an_endpoint_config("old", variants=variants),
        models={"digits": a_model()},
        variants=(a_variant_state(old_name, desired_count=old, current_count=old),),
        fleet=OLD,
        deployment=Deployment(
            fleet=NEW,
            config=an_endpoint_config("new", variants=(a_variant(new_name, **new_variant),)),
            models={"digits": a_model()},
            variants=(a_variant_state(new_name, desired_count=new),),
            deployment_config=policy,
            started_at=A_TIME,
            progress=progress,
            progress_at=progress_at,
            guest_fleet=guest_fleet,
        ),
        created_at=A_TIME,
        modified_at=A_TIME,
    )


def seen(
    id: str,
    fleet: int,
    state: InstanceState | None = InstanceState.HEALTHY,
    *,
    variant: str = "AllTraffic",
    created_at: datetime = A_TIME,
    stopping: bool = False,
) -> KnownInstance:
    """An instance that the fleet sees in a state; None: that it does not see."""
    record = InstanceRecord(
        id=id,
        endpoint_name="digits",
        variant_name=variant,
        generation=fleet,
        fleet=fleet,
        created_at=created_at,
        stopping=stopping,
    )
    if state is None:
        return KnownInstance(record=record, observed=None)
    containers = (ContainerRoute(name="primary", workers=(f"unix:/{id}",)),)
    return KnownInstance(
        record=record,
        observed=ObservedInstance(
            id=id,
            endpoint_name="digits",
            variant_name=variant,
            state=state,
            reason=f"{id} is ill." if state is InstanceState.FAILED else None,
            containers=containers if state is InstanceState.HEALTHY else (),
        ),
    )


def fleet_of(count: int, fleet: int, **options: Any) -> list[KnownInstance]:
    return [seen(f"i-{fleet}-{n}", fleet, **options) for n in range(count)]
