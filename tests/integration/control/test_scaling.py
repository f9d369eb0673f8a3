"""The loop of autoscaling over a real store: what becomes of activities, whatever happens to it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import A_TIME, NAMESPACE
from clary.control.scaling import ScalingLoop
from clary.control.scaling_policy import Call
from clary.errors import InUse, LimitExceeded
from clary.resources.scaling import VARIANT_INSTANCES, ScheduledAction, TargetName, policy_arn
from clary.resources.scaling_activities import into_bounds
from clary.resources.scaling_policies import STEP, TARGET_TRACKING
from clary.resources.tracking_alarms import AlarmPeriods, name_alarms
from clary.settings import AutoscalingSettings
from clary.store import Store
from clary.store.scalable_resources import Capacity
from clary.store.scaling_activities import ActivityFilter
from clary.store.scaling_alarms import PolicyAlarms

NAME = TargetName("endpoint/e/variant/v", VARIANT_INSTANCES)
TRACKING = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
}


class Clock:
    def __init__(self):
        self.time = A_TIME
        self.jumped_s = 0.0

    def now(self):
        self.time += timedelta(microseconds=1)
        return self.time

    def monotonic(self):
        return (self.now() - A_TIME).total_seconds() - self.jumped_s

    def move(self, seconds):
        self.time += timedelta(seconds=seconds)

    def jump(self, seconds):
        """Somebody sets the wall clock."""
        self.jumped_s += seconds
        self.move(seconds)


class Things:
    """One thing whose number is scaled; a change takes until somebody calls ``settle``."""

    def __init__(self, count=2):
        self.capacity = Capacity(desired=count, current=count, is_active=True, is_free=True)
        self.changes = []
        self.refusal = None

    async def check(self, _resource_id, _minimum):
        return self.capacity

    async def read(self, resource_ids):
        return {NAME.resource_id: self.capacity} if self.capacity and resource_ids else {}

    async def change(self, _resource_id, capacity):
        if self.refusal is not None:
            raise self.refusal
        self.changes.append(capacity)
        self.capacity = replace(self.capacity, desired=capacity, is_free=False)

    def settle(self, **how):
        self.capacity = replace(self.capacity, current=self.capacity.desired, is_free=True, **how)


def an_hourly_action():
    return ScheduledAction(
        id="",
        target=NAME,
        target_id="",
        name="hourly",
        schedule="rate(1 hour)",
        min_capacity=3,
        created_at=A_TIME,
        next_at=A_TIME + timedelta(hours=1),
    )


class World:
    def __init__(self, store, clock):
        self.store, self.clock, self.things = store, clock, Things()
        self.states = {}
        self.alarms = PolicyAlarms(store.alarms, NAMESPACE, AlarmPeriods())
        self.loop = self.new_loop()

    def new_loop(self):
        async def states(names):
            return {name: self.states[name] for name in names if name in self.states}

        store = self.store
        return ScalingLoop(
            store.scaling_duty,
            store.scalable_targets,
            store.scaling_policies,
            store.scaling_activities,
            self.alarms,
            {VARIANT_INSTANCES: self.things},
            states,
            store.changes,
            self.clock,
            AutoscalingSettings(),
        )

    async def register(self, minimum=1, maximum=10):
        return await self.store.scalable_targets.register(
            NAME,
            role_arn="",
            min_capacity=minimum,
            max_capacity=maximum,
            enforce=lambda target: into_bounds(
                target, self.things.capacity.desired, self.clock.now()
            ),
        )

    async def put(self, name="p", policy_type=TARGET_TRACKING, configuration=TRACKING):
        is_tracking = policy_type == TARGET_TRACKING
        return await self.store.scaling_policies.put(
            NAME,
            name,
            policy_type=policy_type,
            configuration=configuration,
            alarms=lambda: name_alarms(NAME, may_scale_in=True) if is_tracking else (),
        )

    def call(self, policy, value, *, above=True):
        alarm = policy.alarms[0 if above else 1] if policy.alarms else "own"
        self.states |= dict.fromkeys(policy.alarms, "OK")
        self.states[alarm] = "ALARM"
        self.loop._calls.add(
            policy_arn(NAMESPACE, policy),
            Call(alarm=alarm, state="ALARM", value=value, threshold=100.0, is_above=above),
        )

    async def activities(self):
        page = await self.store.scaling_activities.list(ActivityFilter(includes_not_scaled=True))
        return page.items


@pytest.fixture
def run(tmp_path):
    """Run a coroutine function with a world of its own."""
    clock = Clock()
    store = Store.open(tmp_path / "state.sqlite", NAMESPACE, clock)

    async def in_world(story):
        return await story(World(store, clock))

    yield lambda story: asyncio.run(in_world(story))
    store.close()


def test_a_call_becomes_an_activity_that_is_seen_to_its_end(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.call(policy, 250.0)
        assert await world.loop.pass_once() == 1.0
        [activity] = await world.activities()
        assert (activity.status, world.things.changes) == ("InProgress", [5])
        assert activity.status_message == (
            "Successfully set desired instance count to 5. Waiting for change to be fulfilled by "
            "sagemaker."
        )
        world.call(policy, 900.0)
        await world.loop.pass_once()
        assert world.things.changes == [5], "nothing new while a change is under way"
        world.things.settle()
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Successful"
        target = await world.store.scalable_targets.get(NAME)
        assert target.cooling.out_added == 3
        world.call(policy, 150.0)
        await world.loop.pass_once()
        assert world.things.changes == [5], "the cooldown has added that already"
        world.clock.move(301)
        world.call(policy, 150.0)
        await world.loop.pass_once()
        assert world.things.changes == [5, 8]

    run(story)


@pytest.mark.parametrize("was_asked", [True, False], ids=["after asking", "before asking"])
def test_a_restart_between_intent_and_record_finishes_what_was_begun(run, was_asked):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.things.refusal = InUse("busy")
        world.call(policy, 250.0)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Pending"
        world.things.refusal = None
        if was_asked:
            await world.things.change(NAME.resource_id, 5)
        world.loop = world.new_loop()
        await world.loop.pass_once()
        world.things.settle()
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Successful"
        assert world.things.changes == [5]

    run(story)


def test_a_change_that_is_rolled_back_fails_and_gives_a_minute_of_peace(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.call(policy, 250.0)
        await world.loop.pass_once()
        world.things.settle()
        world.things.capacity = replace(world.things.capacity, desired=2, trouble="No memory.")
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert (activity.status, activity.status_message) == (
            "Failed",
            "Failed to set desired instance count to 5. Reason: No memory.",
        )
        world.call(policy, 250.0)
        await world.loop.pass_once()
        assert world.things.changes == [5]
        world.clock.move(61)
        world.call(policy, 250.0)
        await world.loop.pass_once()
        assert world.things.changes == [5, 5]

    run(story)


def test_a_refusal_fails_the_activity_with_its_code(run):
    async def story(world):
        await world.register()
        world.things.refusal = LimitExceeded("Too many.")
        world.call(await world.put(), 250.0)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Failed"
        assert "Error Code: ResourceLimitExceeded" in activity.status_message

    run(story)


def test_a_count_that_somebody_else_set_meanwhile_overrides_the_activity(run):
    async def story(world):
        await world.register()
        world.call(await world.put(), 250.0)
        await world.loop.pass_once()
        world.things.settle()
        world.things.capacity = replace(world.things.capacity, desired=7)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Overridden"

    run(story)


def test_newer_bounds_override_what_waits(run):
    async def story(world):
        world.things.refusal = InUse("busy")
        await world.register(minimum=4)
        await world.loop.pass_once()
        await world.register(minimum=6)
        await world.loop.pass_once()
        newest, oldest = await world.activities()
        assert (newest.status, oldest.status) == ("Pending", "Overridden")
        assert newest.cause == "minimum capacity was set to 6"

    run(story)


def test_a_change_that_takes_too_long_is_unfulfilled(run):
    async def story(world):
        await world.register(minimum=4)
        await world.loop.pass_once()
        world.clock.move(3601)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Unfulfilled"

    run(story)


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0])
def test_a_clock_that_is_set_ends_no_change_and_starts_none(run, jump_s):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.call(policy, 250.0)
        await world.loop.pass_once()
        world.clock.jump(jump_s)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "InProgress", "it has not taken too long"
        world.things.settle()
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.status == "Successful"
        world.clock.jump(-jump_s)
        world.call(policy, 900.0)
        await world.loop.pass_once()
        world.clock.move(3601)
        await world.loop.pass_once()
        assert (await world.activities())[0].status == "Unfulfilled"

    run(story)


@pytest.mark.parametrize("jump_s", [3000.0, -86400.0])
def test_a_clock_that_is_set_back_runs_no_schedule_twice(run, jump_s):
    async def story(world):
        await world.register()
        await world.store.scheduled_actions.put(NAME, "hourly", lambda _: an_hourly_action())
        await world.loop.pass_once()
        assert not await world.activities()
        world.clock.move(3600)
        await world.loop.pass_once()
        world.things.settle()
        await world.loop.pass_once()
        ran = await world.activities()
        assert len(ran) == 2
        world.clock.jump(jump_s)
        await world.loop.pass_once()
        world.clock.jump(-jump_s)
        await world.loop.pass_once()
        assert await world.activities() == ran

    run(story)


def test_a_reason_not_to_scale_is_written_once_until_something_is_scaled(run):
    async def story(world):
        await world.register(maximum=2)
        policy = await world.put("s", STEP, STEPS)
        for _ in range(3):
            world.call(policy, 150.0)
            await world.loop.pass_once()
        assert len(await world.activities()) == 1
        await world.register(maximum=3)
        world.call(policy, 150.0)
        await world.loop.pass_once()
        world.things.settle()
        world.clock.move(301)
        await world.loop.pass_once()
        world.call(policy, 150.0)
        await world.loop.pass_once()
        found = [
            a.not_scaled[0]["Code"] if a.not_scaled else a.status for a in await world.activities()
        ]
        assert found == ["AlreadyAtMaxCapacity", "Successful", "AlreadyAtMaxCapacity"]

    run(story)  # fmt: skip


def test_while_others_change_the_thing_policies_say_that_it_cannot_be_scaled(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.things.capacity = replace(world.things.capacity, is_free=False)
        world.call(policy, 250.0)
        await world.loop.pass_once()
        [activity] = await world.activities()
        assert activity.not_scaled == [{"Code": "TargetServicePutResourceAsUnscalable"}]
        assert world.things.changes == []

    run(story)


def test_in_only_when_the_alarms_of_all_policies_have_called(run):
    async def story(world):
        world.things = Things(8)
        world.loop = world.new_loop()
        await world.register()
        first = await world.put("first")
        second = await world.put(
            "second",
            configuration={
                "TargetValue": 50.0,
                "CustomizedMetricSpecification": {
                    "MetricName": "M", "Namespace": "N", "Statistic": "Sum",
                },
            },
        )  # fmt: skip
        world.call(first, 20.0, above=False)
        await world.loop.pass_once()
        assert world.things.changes == []
        world.call(second, 25.0, above=False)
        await world.loop.pass_once()
        assert world.things.changes == [4]

    run(story)


def test_an_alarm_that_is_over_no_longer_counts(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        world.call(policy, 250.0)
        world.states[policy.alarms[0]] = "OK"
        await world.loop.pass_once()
        assert world.things.changes == []

    run(story)


def test_a_thing_that_is_gone_takes_target_policies_and_alarms_along(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        await world.alarms.put([policy])
        assert set(await world.store.alarms.states(policy.alarms)) == set(policy.alarms)
        world.things.capacity = None
        world.loop._touched.add("e")
        await world.loop.pass_once()
        assert await world.store.scalable_targets.find(NAME) is None
        assert await world.store.alarms.states(policy.alarms) == {}

    run(story)


def test_alarms_that_a_crash_left_out_are_put_when_the_loop_starts(run):
    async def story(world):
        await world.register()
        policy = await world.put()
        changed = world.store.changes.subscribe()
        running = asyncio.create_task(world.loop.run())
        while len(await world.store.alarms.states(policy.alarms)) < 2:
            await changed.get()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(story)


def test_activities_are_kept_for_six_weeks(run):
    async def story(world):
        await world.register(minimum=4)
        await world.loop.pass_once()
        world.things.settle()
        await world.loop.pass_once()
        world.clock.move(42 * 86400 - 60)
        await world.store.scaling_activities.prune()
        assert len(await world.activities()) == 1
        world.clock.move(120)
        await world.store.scaling_activities.prune()
        assert await world.activities() == ()

    run(story)
