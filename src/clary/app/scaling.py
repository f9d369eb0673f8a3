"""Application Auto Scaling, put together: one loop, and what API and loop both use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clary.clock import Clock
from clary.control.scaling import ScalingLoop
from clary.resources.quotas import Quotas
from clary.resources.scaling import COMPONENT_COPIES
from clary.resources.tracking_alarms import AlarmPeriods
from clary.settings import Settings
from clary.store import Store
from clary.store.scalable_components import ComponentCopies
from clary.store.scalable_resources import ScalableResource, scalable_resources
from clary.store.scaling_alarms import PolicyAlarms


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Its parts."""

    loop: ScalingLoop
    resources: Mapping[str, ScalableResource]
    alarms: PolicyAlarms


def build_scaling(store: Store, quotas: Quotas, settings: Settings, clock: Clock) -> Autoscaling:
    """Return the parts, not yet running."""
    wanted = settings.autoscaling
    periods = AlarmPeriods(
        period_s=wanted.period_s,
        high_resolution_period_s=wanted.high_resolution_period_s,
        out_periods=wanted.out_periods,
        in_periods=wanted.in_periods,
    )
    resources: dict[str, ScalableResource] = {
        **scalable_resources(store.endpoints, quotas),
        COMPONENT_COPIES: ComponentCopies(store.inference_components),
    }
    alarms = PolicyAlarms(store.alarms, store.namespace, periods)

    async def alarm_states(names: Sequence[str]) -> Mapping[str, str]:
        states = await store.alarms.states(names)
        return {name: state.value for name, state in states.items()}

    loop = ScalingLoop(
        store.scaling_duty,
        store.scalable_targets,
        store.scaling_policies,
        store.scaling_activities,
        alarms,
        resources,
        alarm_states,
        store.changes,
        clock,
        wanted,
    )
    return Autoscaling(loop, resources, alarms)
