"""How an endpoint goes from one configuration to the next: DeploymentConfig as a value.

Pure: the policy that a request describes, whether it can be kept, and how much of the new fleet
takes traffic at each of its steps (endpoints.md 2)::

    ALL_AT_ONCE   1 step: everything
    CANARY        2 steps: the canary, then the rest
    LINEAR        as many equal steps as it takes
    ROLLING       the same, with instances that are started and stopped batch by batch
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from clary.errors import InvalidRequest

LARGEST_PERCENT = 50
"""Of a canary, a step or a batch."""


class Strategy(StrEnum):
    """How traffic moves."""

    ALL_AT_ONCE = "ALL_AT_ONCE"
    CANARY = "CANARY"
    LINEAR = "LINEAR"
    ROLLING = "ROLLING"


@dataclass(frozen=True, slots=True)
class CapacitySize:
    """A part of a variant's fleet."""

    is_percent: bool
    value: int

    def instances(self, total: int) -> int:
        """Return how many instances of ``total`` it is: rounded up, at least one."""
        if self.is_percent:
            return min(total, max(1, -(-total * self.value // 100)))
        return min(total, self.value)


WHOLE = CapacitySize(is_percent=True, value=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPolicy:
    """What to do in which order, and what calls it off."""

    strategy: Strategy = Strategy.ALL_AT_ONCE
    size: CapacitySize = WHOLE
    """Of the canary, of each step, or of each batch."""

    wait_s: float = 0.0
    """``WaitIntervalInSeconds``: bake after a step, in seconds."""

    termination_wait_s: float = 0.0
    """``TerminationWaitInSeconds``: the last bake, in seconds, before the old fleet stops."""

    timeout_s: float | None = None
    """``MaximumExecutionTimeoutInSeconds``. None: no limit but those of the instances' starts."""

    rollback_size: CapacitySize = WHOLE
    """Of each batch on the way back of a rolling update."""

    alarms: tuple[str, ...] = ()
    """Names of the alarms that roll it back."""

    @property
    def is_rolling(self) -> bool:
        """Whether old instances make room batch by batch, instead of standing by to the end."""
        return self.strategy is Strategy.ROLLING

    def steps(self, totals: Sequence[int]) -> int:
        """Return how many steps it takes.

        Args:
            totals: Instances of each variant of the new fleet.
        """
        if self.strategy is Strategy.ALL_AT_ONCE:
            return 1
        if self.strategy is Strategy.CANARY:
            return 2
        if self.strategy is Strategy.LINEAR and self.size.is_percent:
            return -(-100 // self.size.value)
        batches = (-(-total // self.size.instances(total)) for total in totals if total > 0)
        return max(batches, default=1)

    def share(self, step: int, total: int) -> float:
        """Return the share of a variant's traffic that the new fleet has at a step, 0 to 1.

        Args:
            step: From 1; 0 is before the first.
            total: Instances of the variant in the new fleet.
        """
        if step <= 0:
            return 0.0
        if total <= 0 or self.strategy is Strategy.ALL_AT_ONCE:
            return 1.0
        if self.strategy is Strategy.CANARY and step > 1:
            return 1.0
        if self.size.is_percent and not self.is_rolling:
            # The traffic can be parted more finely than the instances: 10 % of one instance's.
            return min(1.0, step * self.size.value / 100)
        return min(1.0, step * self.size.instances(total) / total)

    def new_instances(self, step: int, total: int) -> int:
        """Return how many instances of a variant the new fleet has at a step."""
        return min(total, step * self.size.instances(total)) if self.is_rolling else total

    def old_instances(self, step: int, old_total: int, new_total: int) -> int:
        """Return how many instances of a variant the old fleet still has at a step.

        With those of the new fleet that take traffic already they are never less than the whole.
        """
        if not self.is_rolling or new_total <= 0:
            return old_total
        left = new_total - self.new_instances(step - 1, new_total)
        return -(-old_total * left // new_total)

    def bake_s(self, step: int, steps: int) -> float:
        """Return how long to watch after a step, in seconds."""
        is_last = step >= steps
        if self.is_rolling:
            return self.wait_s
        waits = self.strategy is Strategy.LINEAR or not is_last
        return (self.wait_s if waits else 0.0) + (self.termination_wait_s if is_last else 0.0)


def parse_policy(config: Mapping[str, Any] | None) -> DeploymentPolicy:
    """Return the policy of a DeploymentConfig; without one it is blue/green, all at once, no bake.

    Raises:
        InvalidRequest: Its parts contradict each other, or a size is out of bounds.
    """
    config = config or {}
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    alarms = tuple(
        alarm["AlarmName"]
        for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        if "AlarmName" in alarm
    )
    if len(set(alarms)) < len(alarms):
        raise InvalidRequest("Alarm names must be unique in AutoRollbackConfiguration.")
    if blue_green is not None and rolling is not None:
        raise InvalidRequest(
            "Only one update policy can be used in a DeploymentConfig: BlueGreenUpdatePolicy or "
            "RollingUpdatePolicy."
        )
    if rolling is not None:
        rollback = rolling.get("RollbackMaximumBatchSize")
        return DeploymentPolicy(
            strategy=Strategy.ROLLING,
            size=_size("MaximumBatchSize", rolling["MaximumBatchSize"], 5),
            wait_s=rolling["WaitIntervalInSeconds"],
            timeout_s=rolling.get("MaximumExecutionTimeoutInSeconds"),
            rollback_size=(
                WHOLE if rollback is None else _size("RollbackMaximumBatchSize", rollback, 5, 100)
            ),
            alarms=alarms,
        )
    if blue_green is None:
        return DeploymentPolicy(alarms=alarms)
    routing = blue_green["TrafficRoutingConfiguration"]
    strategy = Strategy(routing["Type"])
    return DeploymentPolicy(
        strategy=strategy,
        size=_traffic_size(strategy, routing),
        wait_s=routing["WaitIntervalInSeconds"],
        termination_wait_s=blue_green.get("TerminationWaitInSeconds", 0),
        timeout_s=blue_green.get("MaximumExecutionTimeoutInSeconds"),
        alarms=alarms,
    )


def check_policy(policy: DeploymentPolicy, totals: Mapping[str, int]) -> None:
    """Refuse a policy that a fleet cannot keep.

    Args:
        policy: The policy.
        totals: Instances of each variant of the new fleet, by name.

    Raises:
        InvalidRequest: A number of instances is more than half of a variant's, or the waits
            together are longer than the deployment may take.
    """
    if not policy.size.is_percent:
        for name, total in totals.items():
            # One instance is the least there is, also where it is more than half.
            if policy.size.value > max(1, total * LARGEST_PERCENT // 100):
                raise InvalidRequest(
                    f"A size of {policy.size.value} instance(s) is more than {LARGEST_PERCENT}% "
                    f'of the {total} instance(s) of variant "{name}".'
                )
    steps = policy.steps(tuple(totals.values()))
    waits_s = sum(policy.bake_s(step, steps) for step in range(1, steps + 1))
    if policy.timeout_s is not None and waits_s > policy.timeout_s:
        raise InvalidRequest(
            f"MaximumExecutionTimeoutInSeconds is {policy.timeout_s:g}, and the waits of the "
            f"deployment alone take {waits_s:g} seconds. Give it more, or wait less."
        )


def _traffic_size(strategy: Strategy, routing: Mapping[str, Any]) -> CapacitySize:
    members = {Strategy.CANARY: ("CanarySize", 1), Strategy.LINEAR: ("LinearStepSize", 10)}
    wanted, least_percent = members.get(strategy, ("", 0))
    for member in ("CanarySize", "LinearStepSize"):
        if member in routing and member != wanted:
            raise InvalidRequest(f"{member} cannot be given with traffic routing {strategy}.")
    if not wanted:
        return WHOLE
    if wanted not in routing:
        raise InvalidRequest(f"{wanted} is required with traffic routing {strategy}.")
    return _size(wanted, routing[wanted], least_percent)


def _size(
    member: str, size: Mapping[str, Any], least_percent: int, most_percent: int = LARGEST_PERCENT
) -> CapacitySize:
    is_percent = size["Type"] == "CAPACITY_PERCENT"
    if is_percent and not least_percent <= size["Value"] <= most_percent:
        raise InvalidRequest(
            f"{member} must be between {least_percent}% and {most_percent}% of the capacity; it "
            f"is {size['Value']}%."
        )
    return CapacitySize(is_percent, size["Value"])
