"""The alarms of policies: put where all alarms are, found again, and taken away."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from clary.resources.alarm import Alarm, AlarmType, alarm_arn, metric_id
from clary.resources.names import Namespace
from clary.resources.scaling import ScalingPolicy, policy_arn
from clary.resources.scaling_policies import TARGET_TRACKING
from clary.resources.tracking_alarms import AlarmPeriods, define_alarms
from clary.store.alarm_filter import AlarmFilter
from clary.store.alarms import Alarms
from clary.store.scaling_rows import parts

_ALL = 1_000_000


class PolicyAlarms:
    """The alarms of policies.

    Args:
        alarms: Where they are kept.
        namespace: For the ARNs of policies.
        periods: How long a metric has to be off its target.
    """

    def __init__(self, alarms: Alarms, namespace: Namespace, periods: AlarmPeriods) -> None:
        self._alarms = alarms
        self._namespace = namespace
        self._periods = periods

    async def put(self, policies: Iterable[ScalingPolicy]) -> None:
        """Have the alarms of target tracking policies there, as the policies want them."""
        wanted: dict[str, dict[str, Any]] = {}
        for policy in policies:
            if policy.type == TARGET_TRACKING:
                wanted |= define_alarms(policy, self._namespace, self._periods)
        present = await self._present(list(wanted))
        for name, definition in wanted.items():
            if name not in present or present[name].definition != definition:
                await self._put(name, definition)

    async def remove(self, policy: ScalingPolicy) -> None:
        """Have the alarms of a policy gone; a user's own alarms only no longer act on it."""
        await self.remove_named(policy.alarms)
        arn = policy_arn(self._namespace, policy)
        for alarm in await self._acting_on(arn):
            if alarm.type is AlarmType.METRIC:
                kept = [a for a in alarm.definition.get("AlarmActions", ()) if a != arn]
                await self._put(alarm.name, {**alarm.definition, "AlarmActions": kept})

    async def remove_named(self, names: Collection[str]) -> None:
        """Have alarms gone."""
        if names:
            await self._alarms.delete(sorted(names), missing_ok=True)

    async def find(self, policies: Sequence[ScalingPolicy]) -> list[list[tuple[str, str]]]:
        """Return names and ARNs of the alarms that act on each of some policies."""
        stepping = [p for p in policies if p.type != TARGET_TRACKING]
        acting: Sequence[Alarm] = []
        if stepping:
            # One look at all alarms, however many policies are listed.
            arn = policy_arn(self._namespace, stepping[0])
            acting = await self._acting_on(arn[: arn.index("scalingPolicy:")])
        return [
            [
                (name, alarm_arn(self._namespace, name))
                for name in policy.alarms or _names(acting, policy_arn(self._namespace, policy))
            ]
            for policy in policies
        ]

    async def _put(self, name: str, definition: Mapping[str, Any]) -> None:
        watched = (
            metric_id(
                definition["Namespace"], definition["MetricName"], definition.get("Dimensions", ())
            )
            if "MetricName" in definition
            else None
        )
        await self._alarms.put(name, AlarmType.METRIC, definition, metric_id=watched)

    async def _present(self, names: Sequence[str]) -> dict[str, Alarm]:
        found: dict[str, Alarm] = {}
        for part in parts(names):
            page = await self._alarms.describe(AlarmFilter(names=part, limit=len(part)))
            found |= {alarm.name: alarm for alarm in page.items}
        return found

    async def _acting_on(self, arn: str) -> Sequence[Alarm]:
        types = (AlarmType.METRIC, AlarmType.COMPOSITE)
        wanted = AlarmFilter(action_prefix=arn, types=types, limit=_ALL)
        return (await self._alarms.describe(wanted)).items


def _names(alarms: Iterable[Alarm], arn: str) -> list[str]:
    return [a.name for a in alarms if arn in a.definition.get("AlarmActions", ())]
