"""Alarms over a real store of metrics, on a clock that the test moves."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import NAMESPACE
from clary.control.alarm_actions import AlarmAction, AlarmActions, TopicTarget
from clary.control.alarm_points import AlarmPoints
from clary.control.alarms import LAG_S, AlarmLoops
from clary.errors import Error, NotFound
from clary.metrics.key import MetricKey
from clary.metrics.series import MetricStore
from clary.resources.alarm import AlarmType, AlarmValue
from clary.settings import MetricSettings
from clary.store import Store
from clary.store.alarm_history import HistoryQuery

POLICY = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:x:resource/sagemaker/y"
TOPIC = "arn:aws:sns:us-east-1:123456789012:oncall"
OK, ALARM, NO_DATA = AlarmValue.OK, AlarmValue.ALARM, AlarmValue.INSUFFICIENT_DATA


class MovedClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
        self.uptime = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.uptime

    def move(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.uptime += seconds

    def jump(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


class Bench:
    """A store, its metrics, and the loops, without their timers."""

    def __init__(self, path: Path) -> None:
        self.clock = MovedClock()
        self.path = path
        self.done: list[AlarmAction] = []
        self.published: list[tuple[str, str, str]] = []
        self.failure: Error | None = None
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.path, NAMESPACE, self.clock)
        self.metrics = MetricStore(self.store.database, self.clock, MetricSettings())
        targets = {"autoscaling": self._scale, "sns": TopicTarget(self, NAMESPACE)}
        self.actions = AlarmActions(self.store.alarms, targets, self.clock)
        self.loops = AlarmLoops(
            self.store.alarms,
            self.store.changes,
            AlarmPoints(self.metrics),
            self.actions,
            self.clock,
        )
        self.changed = self.store.changes.subscribe()

    async def start(self) -> None:
        await self.metrics.open()
        await self.loops.open()
        await self.settle()

    async def restart(self) -> None:
        await self.metrics.flush()
        self.store.close()
        self.open()
        await self.start()

    async def _scale(self, action: AlarmAction) -> None:
        self.done.append(action)
        if self.failure is not None:
            raise self.failure

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        if topic_arn != TOPIC:
            raise NotFound("Topic does not exist")
        self.published.append((topic_arn, subject, message))

    async def settle(self) -> None:
        """Do all that follows from what has changed."""
        while not self.changed.empty():
            names = set()
            while not self.changed.empty():
                names.add(self.changed.get_nowait()[1])
            await self.loops.refresh(names)
        await self.actions.carry_out(self.loops.find)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def tick(self, seconds: float = 0.0) -> None:
        self.clock.move(seconds)
        await self.loops.tick()
        await self.settle()

    async def put(self, name: str = "a", **definition: Any) -> None:
        wanted = {
            "Namespace": "N",
            "MetricName": "m",
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 5.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **definition,
        }
        await self.store.alarms.put(name, AlarmType.METRIC, wanted)
        await self.settle()

    async def put_composite(self, name: str, *watched: str, **definition: Any) -> None:
        await self.store.alarms.put(name, AlarmType.COMPOSITE, definition, children=watched)
        await self.settle()

    def add(self, value: float, *, ago_s: float = 0.0, name: str = "m", **fields: Any) -> None:
        at = self.clock.now() - timedelta(seconds=ago_s)
        self.metrics.add(MetricKey("N", name), at=at, value=value, **fields)

    async def value(self, name: str = "a") -> AlarmValue:
        return (await self.store.alarms.states([name]))[name].value

    async def history(self, name: str = "a", item_type: str | None = None) -> list[str]:
        page = await self.store.alarms.history.list(
            HistoryQuery(
                alarm_name=name, types=tuple(AlarmType), item_type=item_type, descending=False
            )
        )
        return [item.summary for item in page.items]


Story = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    """Runs a story on a fresh bench."""
    benches: list[Bench] = []

    def run(story: Story) -> None:
        async def whole() -> None:
            bench = Bench(tmp_path / "state.sqlite")
            benches.append(bench)
            await bench.start()
            await story(bench)
            await bench.actions.close()

        asyncio.run(whole())

    yield run
    for bench in benches:
        bench.store.close()


def test_an_alarm_follows_its_metric(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(OKActions=[TOPIC], AlarmActions=[TOPIC, TOPIC + "-gone"])
        assert await bench.value() is NO_DATA
        bench.add(9.0)
        await bench.tick(60)  # the period is over, but what belongs to it may still come
        assert await bench.value() is NO_DATA
        await bench.tick(LAG_S)
        assert await bench.value() is ALARM
        state = (await bench.store.alarms.states(["a"]))["a"]
        assert state.reason == (
            "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (02/01/26 03:00:00)] was "
            "greater than the threshold (5.0) (minimum 1 datapoint for OK -> ALARM transition)."
        )
        bench.add(1.0)
        await bench.tick(60)
        assert await bench.value() is OK
        await bench.tick(600)
        assert await bench.value() is NO_DATA
        assert await bench.history() == [
            'Alarm "a" created',
            "Alarm updated from INSUFFICIENT_DATA to ALARM",
            f"Successfully executed action {TOPIC}",
            f'Failed to execute action {TOPIC}-gone. Received error: "Topic does not exist"',
            "Alarm updated from ALARM to OK",
            f"Successfully executed action {TOPIC}",
            "Alarm updated from OK to INSUFFICIENT_DATA",
        ]
        (_, subject, text), _second = bench.published
        message = json.loads(text)
        assert subject == 'ALARM: "a" in US East (N. Virginia)'
        assert (message["OldStateValue"], message["NewStateValue"]) == (NO_DATA, ALARM)
        assert message["Trigger"]["MetricName"] == "m"

    tell(story)


def test_a_changed_alarm_is_judged_at_once(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        bench.add(9.0)
        bench.clock.move(63)
        await bench.put()
        assert await bench.value() is ALARM
        await bench.put(Threshold=10.0)
        assert await bench.value() is OK

    tell(story)


def test_periods_slide_with_the_clock(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(Period=300, Statistic="Sum", Threshold=8.0)
        bench.clock.move(240)
        bench.add(5.0)  # at minute 4, and
        bench.clock.move(60)
        bench.add(5.0)  # at minute 5: no period of the clock's has both
        await bench.tick(60 + LAG_S)
        assert await bench.value() is ALARM

    tell(story)


@pytest.mark.parametrize(
    ("statistic", "namespaced", "within_s"), [("Maximum", "N", 5), ("Average", "N", 12)]
)
def test_a_high_resolution_breach_is_seen_within_ten_seconds_of_its_point(
    tell: Callable[[Story], None], statistic: str, namespaced: str, within_s: int
) -> None:
    """A maximum at once; an average is only known when its period, ten seconds, is over."""

    async def story(bench: Bench) -> None:
        await bench.put(Period=10, Statistic=statistic, AlarmActions=[POLICY])
        await bench.tick(3)
        bench.add(9.0, resolution_s=10)
        waited = 0
        while not bench.done:
            assert waited < within_s
            await bench.tick(1)
            waited += 1
        assert bench.done[0].value == 9.0

    tell(story)


def test_an_unfinished_period_says_nothing_but_a_certain_breach(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(
            Period=10, Statistic="Maximum", EvaluationPeriods=2, TreatMissingData="notBreaching"
        )
        await bench.tick(3)
        assert await bench.value() is OK
        bench.add(9.0, resolution_s=10)
        await bench.tick(10)
        assert await bench.value() is OK
        bench.add(1.0, resolution_s=10)
        await bench.tick(5)
        assert await bench.value() is OK
        bench.add(9.0, resolution_s=10)
        await bench.tick(5)
        assert await bench.value() is ALARM

    tell(story)


def test_scaling_policies_are_called_again_while_the_alarm_is_on(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(AlarmActions=[POLICY, TOPIC])
        for value in (9.0, 8.0, 7.0, 1.0, 1.0):
            bench.add(value)
            await bench.tick(60 + LAG_S)
            await bench.tick(1)
            bench.clock.move(-LAG_S - 1)
        assert [(a.value, a.is_repeated) for a in bench.done] == [
            (9.0, False),
            (8.0, True),
            (7.0, True),
        ]
        assert len(bench.published) == 1
        actions = await bench.history(item_type="Action")
        assert len(actions) == 2

    tell(story)


def test_disabled_actions_are_not_repeated(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(AlarmActions=[POLICY], TreatMissingData="breaching")
        await bench.tick(60)
        called = len(bench.done)
        assert called
        await bench.store.alarms.set_actions_enabled(["a"], enabled=False)
        await bench.settle()
        await bench.tick(60)
        await bench.tick(60)
        assert len(bench.done) == called

    tell(story)


def test_actions_of_unknown_services_and_broken_targets_fail_in_the_history(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        bench.failure = NotFound("No such policy")
        stop = "arn:aws:automate:us-east-1:ec2:stop"
        await bench.put(AlarmActions=[stop, POLICY])
        await bench.store.alarms.set_state("a", ALARM, "by hand")
        await bench.settle()
        assert [line.partition("Received error: ")[2] for line in await bench.history()][-2:] == [
            '"This server carries out no actions of automate."',
            '"No such policy"',
        ]

    tell(story)


def test_a_restart_repeats_no_transition_and_finishes_what_was_begun(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(AlarmActions=[TOPIC])
        bench.add(9.0)
        await bench.tick(62)
        assert len(bench.published) == 1
        await bench.restart()
        assert await bench.value() is ALARM
        await bench.tick(1)
        assert len(bench.published) == 1

        # Control dies between the transition and its action.
        await bench.store.alarms.set_state("a", OK, "by hand")
        await bench.store.alarms.set_state("a", ALARM, "by hand")
        assert len(bench.published) == 1
        await bench.restart()
        assert len(bench.published) == 2
        await bench.restart()
        assert len(bench.published) == 2

    tell(story)


def test_what_was_set_by_hand_lasts_until_the_next_step(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(TreatMissingData="notBreaching")
        await bench.tick(3)
        assert await bench.value() is OK
        await bench.store.alarms.set_state("a", ALARM, "by hand")
        await bench.settle()
        await bench.tick(1)
        assert await bench.value() is ALARM
        await bench.tick(60)
        assert await bench.value() is OK

    tell(story)


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0])
def test_a_jump_of_the_clock_is_no_news(tell: Callable[[Story], None], jump_s: float) -> None:
    async def story(bench: Bench) -> None:
        await bench.put("quiet", EvaluationPeriods=3)
        await bench.put("strict", EvaluationPeriods=3, TreatMissingData="breaching")
        for _ in range(4):
            bench.add(1.0)
            await bench.tick(60)
        await bench.tick(LAG_S)
        assert {await bench.value("quiet"), await bench.value("strict")} == {OK}
        bench.clock.jump(jump_s)
        for _ in range(3):
            bench.add(1.0)
            await bench.tick(60)
            assert {await bench.value("quiet"), await bench.value("strict")} == {OK}
        for _ in range(5):
            await bench.tick(60)
        assert await bench.value("quiet") is NO_DATA
        assert await bench.value("strict") is ALARM

    tell(story)


def test_a_percentile_of_few_samples_changes_nothing_where_the_alarm_minds(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        p90: dict[str, Any] = {"ExtendedStatistic": "p90", "Statistic": None}
        await bench.put("eager", **p90)
        await bench.put("patient", **p90, EvaluateLowSampleCountPercentile="ignore")
        bench.add(9.0, count=99)
        await bench.tick(62)
        assert await bench.value("eager") is ALARM
        assert await bench.value("patient") is NO_DATA
        bench.add(9.0, count=100)
        await bench.tick(60)
        assert await bench.value("patient") is ALARM

    tell(story)


def test_an_expression_is_judged_like_a_metric(tell: Callable[[Story], None]) -> None:
    def query(id: str, name: str) -> dict[str, Any]:
        metric = {"Namespace": "N", "MetricName": name}
        stat = {"Metric": metric, "Period": 60, "Stat": "Sum"}
        return {"Id": id, "MetricStat": stat, "ReturnData": False}

    async def story(bench: Bench) -> None:
        ratio = {"Id": "e", "Expression": "100 * m1 / m2", "ReturnData": True}
        await bench.store.alarms.put(
            "a",
            AlarmType.METRIC,
            {
                "Metrics": [query("m1", "errors"), query("m2", "calls"), ratio],
                "EvaluationPeriods": 1,
                "Threshold": 5.0,
                "ComparisonOperator": "GreaterThanThreshold",
            },
        )
        bench.add(1.0, name="errors")
        bench.add(10.0, name="calls")
        await bench.settle()
        await bench.tick(62)
        assert await bench.value() is ALARM
        bench.add(1.0, name="errors")
        bench.add(30.0, name="calls")
        await bench.tick(60)
        assert await bench.value() is OK

    tell(story)


def test_a_composite_alarm_follows_others(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put("a")
        await bench.put("b", MetricName="other", TreatMissingData="notBreaching")
        await bench.put_composite("both", "a", "b", AlarmRule="ALARM(a) AND NOT ALARM(b)")
        assert await bench.value("both") is OK
        await bench.put_composite(
            "top", "both", AlarmRule="ALARM(both)", AlarmActions=[TOPIC], OKActions=[TOPIC]
        )
        bench.add(9.0)
        await bench.tick(62)
        assert await bench.value("both") is ALARM
        assert await bench.value("top") is ALARM
        reason = (await bench.store.alarms.states(["both"]))["both"].reason
        assert reason.startswith("arn:aws:cloudwatch:us-east-1:123456789012:alarm:a transitioned")

        # What is set by hand stays until one of the others changes.
        await bench.store.alarms.set_state("both", OK, "by hand")
        await bench.settle()
        await bench.tick(1)
        assert await bench.value("both") is OK
        assert await bench.value("top") is OK
        assert [subject.partition(":")[0] for _, subject, _ in bench.published] == [
            "OK",
            "ALARM",
            "OK",
        ]
        await bench.put_composite("both", "a", "b", AlarmRule="FALSE OR ALARM(a)")
        assert await bench.value("both") is ALARM
        assert "was updated and its alarm rule evaluates to ALARM" in (
            (await bench.store.alarms.states(["both"]))["both"].reason
        )

    tell(story)


def test_a_composite_alarm_hears_after_a_restart_what_it_missed(
    tell: Callable[[Story], None],
) -> None:
    async def story(bench: Bench) -> None:
        await bench.put("a")
        await bench.put_composite("all", "a", AlarmRule="ALARM(a)")
        bench.clock.move(1)
        await bench.store.alarms.set_state("a", ALARM, "by hand")
        await bench.restart()
        assert await bench.value("all") is ALARM

    tell(story)


def test_a_suppressor_holds_actions_back(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put("a")
        await bench.put("quiet")
        await bench.put_composite(
            "all",
            *("a", "quiet"),
            AlarmRule="ALARM(a)",
            AlarmActions=[TOPIC],
            ActionsSuppressor="quiet",
            ActionsSuppressorWaitPeriod=20,
            ActionsSuppressorExtensionPeriod=30,
        )
        await bench.tick(30)

        async def set_by_hand(name: str, value: AlarmValue) -> None:
            await bench.store.alarms.set_state(name, value, "by hand")
            await bench.settle()

        await set_by_hand("a", ALARM)
        await bench.tick(5)
        assert not bench.published
        await set_by_hand("quiet", ALARM)
        alarm = await bench.store.alarms.find("all")
        assert alarm is not None
        assert alarm.withheld is not None
        assert alarm.withheld.by == "Alarm"
        await set_by_hand("quiet", OK)
        bench.clock.move(10)
        await bench.tick()
        assert not bench.published
        assert await bench.value("all") is ALARM

    tell(story)


def test_what_a_notice_did_not_tell_is_found_by_the_sweep(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put("a", TreatMissingData="breaching")
        await bench.put("b")
        bench.store.changes.unsubscribe(bench.changed)
        await bench.store.alarms.delete(["b"])
        await bench.store.alarms.set_state("a", OK, "by hand")
        await bench.loops.sweep()
        assert bench.loops.find("b") is None
        found = bench.loops.find("a")
        assert found is not None
        assert found.state.value is OK

    tell(story)


def test_an_alarm_that_is_gone_asks_for_nothing_more(tell: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        await bench.put(AlarmActions=[TOPIC])
        await bench.store.alarms.set_state("a", ALARM, "by hand")
        await bench.store.alarms.delete(["a"])
        await bench.settle()
        assert bench.published == []
        assert await bench.store.alarms.history.pending() == []

    tell(story)
