"""A day of traffic on a fake clock, scaled by the real alarm rule and the real policy code.

    python -m benchmarks.scaling_sim                     a table, and scaling_sim.png
    python -m benchmarks.scaling_sim --no-plot           the table alone
    python -m benchmarks.scaling_sim --target 400        another target value

Three days are played: one that rises and falls, one with a spike, and one with a flash crowd. The
policy is target tracking of ``SageMakerVariantInvocationsPerInstance``. What is made up is the
world: how much an instance can do, and how long a new one takes to start. The picture needs
matplotlib (``uv sync --group bench``, or ``uv pip install matplotlib``).
"""

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clary.control.alarm_rule import EXTRA_PERIODS, AlarmRule, judge
from clary.control.scaling_policy import Call, PolicyView, Watch, cooled, decide
from clary.resources.alarm import AlarmValue
from clary.resources.instance_types import instance_type
from clary.resources.names import Namespace
from clary.resources.scaling import (
    VARIANT_INSTANCES,
    ScalableTarget,
    ScalingPolicy,
    TargetName,
)
from clary.resources.scaling_policies import TARGET_TRACKING, parse_tracking
from clary.resources.tracking_alarms import AlarmPeriods, define_alarms, name_alarms

MINUTES = 24 * 60
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
TYPE = "ml.m5.large"

Traffic = Callable[[int], float]
"""From the minute of the day to calls in it."""


def diurnal(minute: int) -> float:
    return 3000.0 - 2600.0 * math.cos(2 * math.pi * (minute - 240) / MINUTES)


def spike(minute: int) -> float:
    return 1000.0 + (9000.0 if 720 <= minute < 735 else 0.0)


def flash_crowd(minute: int) -> float:
    crowd = 0.0 if minute < 600 else 12000.0 * math.exp(-(minute - 600) / 150)
    return 1000.0 + crowd * min(1.0, max(0, minute - 600) / 5)


TRAFFICS: dict[str, Traffic] = {
    "diurnal": diurnal,
    "spike": spike,
    "flash crowd": flash_crowd,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is not Clary."""

    target: float = 600.0
    """Target value: calls per instance and minute."""

    able: float = 900.0
    """Calls that an instance can do in a minute."""

    start_minutes: int = 2
    minimum: int = 1
    maximum: int = 20
    noise: float = 0.05
    out_cooldown_s: int = 60
    in_cooldown_s: int = 300


@dataclass(slots=True)
class Day:
    """What happened, by minute."""

    demand: list[float] = field(default_factory=list)
    capacity: list[int] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    cost_usd: list[float] = field(default_factory=list)
    changes: int = 0

    def summary(self) -> dict[str, float]:
        total = sum(self.demand)
        return {
            "calls": total,
            "most instances": max(self.capacity),
            "instance hours": sum(self.capacity) / 60,
            "cost USD": self.cost_usd[-1],
            "changes": self.changes,
            "longest queue": max(self.queue),
            "minutes with a queue": sum(queue > 0 for queue in self.queue),
        }


class Scaler:
    """A policy, its two alarms and its target, as control has them."""

    def __init__(self, world: World) -> None:
        name = TargetName("endpoint/simulated/variant/AllTraffic", VARIANT_INSTANCES)
        self.target = ScalableTarget(
            id="simulated",
            name=name,
            min_capacity=world.minimum,
            max_capacity=world.maximum,
            role_arn="",
            created_at=MIDNIGHT,
        )
        policy = ScalingPolicy(
            id="simulated",
            target=name,
            target_id="simulated",
            name="simulated",
            type=TARGET_TRACKING,
            configuration={
                "TargetValue": world.target,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                },
                "ScaleOutCooldown": world.out_cooldown_s,
                "ScaleInCooldown": world.in_cooldown_s,
            },
            alarms=name_alarms(name, may_scale_in=True),
            created_at=MIDNIGHT,
        )
        self.rule = parse_tracking(policy.configuration)
        definitions = define_alarms(policy, Namespace("123456789012", "us-east-1"), AlarmPeriods())
        self.alarms = [
            AlarmRule(
                comparison=definition["ComparisonOperator"],
                threshold=definition["Threshold"],
                periods=definition["EvaluationPeriods"],
                datapoints=definition["EvaluationPeriods"],
            )
            for definition in definitions.values()
        ]
        self.states = [AlarmValue.INSUFFICIENT_DATA] * 2
        self.points: list[float] = []

    def look(self, value: float, capacity: int, now: datetime) -> int | None:
        """Take the metric's newest point; return another capacity where one is decided on."""
        self.points.append(value)
        calls = []
        for number, alarm in enumerate(self.alarms):
            size = alarm.periods + EXTRA_PERIODS
            known: list[float | None] = [*self.points[-size:]]
            points = [None] * (size - len(known)) + known
            self.states[number] = judge(alarm, points, self.states[number]).value
            if self.states[number] is AlarmValue.ALARM:
                is_above = alarm.comparison.startswith("GreaterThan")
                calls.append(
                    Call(
                        alarm="high" if is_above else "low",
                        state="ALARM",
                        value=value,
                        threshold=alarm.threshold,
                        is_above=is_above,
                    )
                )
        high, low = (state is AlarmValue.ALARM for state in self.states)
        watch = Watch.HIGH if high else Watch.LOW if low else Watch.BETWEEN
        view = PolicyView(name="simulated", rule=self.rule, calls=calls, watch=watch)
        decision = decide(self.target, capacity, [view], now)
        return None if decision is None or decision.reason is not None else decision.capacity

    def done(self, previous: int, capacity: int, at: datetime) -> None:
        """Begin the cooldown of a change that was made."""
        cooling = cooled(
            self.target.cooling,
            previous=previous,
            capacity=capacity,
            cooldown_s=self.rule.out_cooldown_s,
            at=at,
        )
        self.target = replace(self.target, cooling=cooling)


def play(traffic: Traffic, world: World, seed: int = 1) -> Day:
    """Return a day."""
    noise = random.Random(seed)
    price = instance_type(TYPE).price_usd_per_hour or 0.0
    scaler, day = Scaler(world), Day()
    capacity, queue, cost = world.minimum, 0.0, 0.0
    under_way: tuple[int, int] | None = None
    for minute in range(MINUTES):
        now = MIDNIGHT + timedelta(minutes=minute)
        if under_way is not None and minute >= under_way[0]:
            scaler.done(capacity, under_way[1], now)
            capacity, under_way = under_way[1], None
            day.changes += 1
        demand = traffic(minute) * (1 + noise.uniform(-world.noise, world.noise))
        queue = max(0.0, queue + demand - capacity * world.able)
        wanted = scaler.look(demand / capacity, capacity, now + timedelta(minutes=1))
        if wanted is not None and under_way is None:
            delay = world.start_minutes if wanted > capacity else 1
            under_way = (minute + delay, wanted)
        # An instance costs from when it is wanted, not from when it serves.
        paid = max(capacity, under_way[1]) if under_way else capacity
        cost += paid * price / 60
        day.demand.append(demand)
        day.capacity.append(capacity)
        day.queue.append(queue)
        day.cost_usd.append(cost)
    return day


def plot(days: dict[str, Day], world: World, path: Path) -> None:
    """Draw demand, capacity, queueing and cost of each day."""
    try:
        import matplotlib  # an extra of the benchmarks
    except ImportError:
        raise SystemExit("The picture needs matplotlib: uv pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        4, len(days), figsize=(5 * len(days), 10), sharex=True, squeeze=False
    )
    hours = [minute / 60 for minute in range(MINUTES)]
    for column, (name, day) in enumerate(days.items()):
        demand, capacity, queue, cost = (grid[row][column] for row in range(4))
        demand.set_title(name)
        demand.plot(hours, day.demand, color="tab:blue", label="calls per minute")
        able = [count * world.able for count in day.capacity]
        demand.plot(hours, able, color="tab:gray", label="what the instances can do")
        demand.legend(loc="upper left", fontsize="small")
        capacity.step(hours, day.capacity, where="post", color="tab:green")
        needed = [max(world.minimum, math.ceil(d / world.target)) for d in day.demand]
        capacity.plot(hours, needed, color="tab:orange", linewidth=0.5, label="demand / target")
        capacity.legend(loc="upper left", fontsize="small")
        queue.fill_between(hours, day.queue, color="tab:red")
        cost.plot(hours, day.cost_usd, color="tab:purple")
        cost.set_xlabel("hour")
        cost.set_xticks(range(0, 25, 4))
    for row, label in enumerate(("calls/minute", "instances", "calls that wait", "USD so far")):
        grid[row][0].set_ylabel(label)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", type=float, default=600.0)
    parser.add_argument("--maximum", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("scaling_sim.png"))
    parser.add_argument("--no-plot", action="store_true")
    chosen: Any = parser.parse_args(arguments)
    world = World(target=chosen.target, maximum=chosen.maximum)
    days = {name: play(traffic, world) for name, traffic in TRAFFICS.items()}
    columns = list(next(iter(days.values())).summary())
    print("| day | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, day in days.items():
        print(f"| {name} | " + " | ".join(f"{v:,.0f}" for v in day.summary().values()) + " |")
    if not chosen.no_plot:
        plot(days, world, chosen.out)
        print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
