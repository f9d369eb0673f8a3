"""Alarms in the database: what is put, what is found, what follows from it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from clary.errors import InvalidRequest, LimitExceeded, NotFound
from clary.resources.alarm import AlarmType, AlarmValue, Suppression, metric_id
from clary.store import Store
from clary.store.alarm_filter import AlarmFilter
from clary.store.alarm_history import HistoryQuery
from clary.store.alarm_transitions import Finding

TOPIC = "arn:aws:sns:us-east-1:123456789012:oncall"
OK, ALARM, NO_DATA = AlarmValue.OK, AlarmValue.ALARM, AlarmValue.INSUFFICIENT_DATA


async def put(store: Store, name: str, **definition: Any) -> None:
    wanted = {
        "Namespace": "N",
        "MetricName": "m",
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanThreshold",
        **definition,
    }
    await store.alarms.put(name, AlarmType.METRIC, wanted, metric_id=metric_id("N", "m", []))


async def put_composite(store: Store, name: str, *children: str, **definition: Any) -> None:
    rule = " OR ".join(f"ALARM({child})" for child in children)
    wanted = {"AlarmRule": rule, **definition}
    suppressor = definition.get("ActionsSuppressor")
    watched = [*children, *([suppressor] if suppressor else [])]
    await store.alarms.put(name, AlarmType.COMPOSITE, wanted, children=watched)


async def summaries(store: Store, **query: Any) -> list[str]:
    page = await store.alarms.history.list(HistoryQuery(**query))
    return [item.summary for item in page.items]


def test_a_new_alarm_has_no_data_and_a_changed_one_keeps_its_state(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await put(store, "a")
        fresh = await store.alarms.find("a")
        assert fresh is not None
        assert fresh.state.value is NO_DATA
        assert fresh.state.reason == "Unchecked: Initial alarm creation"
        assert await store.alarms.record([Finding(alarm=fresh, value=ALARM, reason="crossed")])
        await put(store, "a", Threshold=2.0)
        changed = await store.alarms.find("a")
        assert changed is not None
        assert changed.revision == 2
        assert changed.state.value is ALARM
        assert (await store.alarms.states(["a", "nobody"])).keys() == {"a"}

    runner.run(story())


def test_a_state_computed_for_another_definition_or_state_is_not_written(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await put(store, "a")
        before = await store.alarms.find("a")
        assert before is not None
        await put(store, "a", Threshold=5.0)
        assert not await store.alarms.record([Finding(alarm=before, value=ALARM, reason="late")])
        now = await store.alarms.find("a")
        assert now is not None
        await store.alarms.set_state("a", OK, "by hand")
        assert not await store.alarms.record([Finding(alarm=now, value=ALARM, reason="late")])
        await store.alarms.delete(["a"])
        assert not await store.alarms.record([Finding(alarm=now, value=ALARM, reason="too late")])
        assert await store.alarms.find("a") is None

    runner.run(story())


def test_a_transition_is_one_transaction_with_history_actions_and_event(
    store: Store, runner: asyncio.Runner
) -> None:
    events: list[Mapping[str, Any]] = []
    store.alarms.append_events = lambda _connection, more: events.extend(more)

    async def story() -> None:
        await put(store, "a", AlarmActions=[TOPIC, TOPIC + "2"], OKActions=[TOPIC])
        await store.alarms.set_state("a", ALARM, "by hand", '{"why": 1}')
        first, second = await store.alarms.history.pending()
        assert (first.action, second.action) == (TOPIC, TOPIC + "2")
        assert (first.old.value, first.new.value) == (NO_DATA, ALARM)
        (event,) = events
        assert event["detail-type"] == "CloudWatch Alarm State Change"
        assert event["detail"]["state"]["value"] == "ALARM"
        assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"

        await store.alarms.set_state("a", ALARM, "again")
        assert len(await store.alarms.history.pending()) == 2
        assert len(events) == 1

        await store.alarms.history.finish(first, None)
        assert [p.id for p in await store.alarms.history.pending()] == [second.id]
        page = await store.alarms.history.list(HistoryQuery(alarm_name="a", descending=False))
        assert [item.item_type for item in page.items] == ["ConfigurationUpdate", "StateUpdate"]
        data = json.loads(page.items[1].data)
        assert data["newState"]["stateReasonData"] == {"why": 1}

    runner.run(story())


def test_an_event_that_cannot_be_written_takes_the_transition_back(
    store: Store, runner: asyncio.Runner
) -> None:
    def refuse(_connection: Connection, _event: Mapping[str, Any]) -> None:
        raise InvalidRequest("no room")

    store.alarms.append_events = refuse

    async def story() -> None:
        await put(store, "a", AlarmActions=[TOPIC])
        with pytest.raises(InvalidRequest, match="no room"):
            await store.alarms.set_state("a", ALARM, "by hand")
        assert (await store.alarms.states(["a"]))["a"].value is NO_DATA
        assert await store.alarms.history.pending() == []

    runner.run(story())


def test_disabled_actions_are_not_run(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await put(store, "a", AlarmActions=[TOPIC])
        await store.alarms.set_actions_enabled(["a", "nobody"], enabled=False)
        await store.alarms.set_state("a", ALARM, "by hand")
        assert await store.alarms.history.pending() == []
        await store.alarms.set_actions_enabled(["a"], enabled=True)
        await store.alarms.set_actions_enabled(["a"], enabled=True)
        assert await summaries(store) == [
            'Alarm "a" updated',
            "Alarm updated from INSUFFICIENT_DATA to ALARM",
            'Alarm "a" updated',
            'Alarm "a" created',
        ]

    runner.run(story())


@pytest.mark.parametrize(
    ("name", "watched", "text"),
    [
        ("top", ["nobody", "a"], r"alarms \[nobody\] in the alarm rule do not exist"),
        ("b", ["b"], "refers to itself"),
        ("b", ["c"], "leads back to itself"),
        ("a", ["c"], "exists already, and it is a MetricAlarm"),
    ],
)
def test_rules_that_cannot_be_are_refused(
    store: Store, runner: asyncio.Runner, name: str, watched: list[str], text: str
) -> None:
    async def story() -> None:
        await put(store, "a")
        await put_composite(store, "b", "a")
        await put_composite(store, "c", "b")
        with pytest.raises(InvalidRequest, match=text):
            await put_composite(store, name, *watched)
        assert len(await store.alarms.all()) == 3

    runner.run(story())


def test_what_a_composite_alarm_watches_stays(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await put(store, "a")
        await put_composite(store, "b", "a")
        with pytest.raises(InvalidRequest, match="Cannot delete a as there are composite alarm"):
            await store.alarms.delete(["a"])
        await store.alarms.delete(["a", "b"])
        await put(store, "a")
        with pytest.raises(NotFound, match="nobody"):
            await store.alarms.delete(["a", "nobody"])
        await store.alarms.delete(["nobody"], missing_ok=True)
        assert await store.alarms.all() == []
        assert len(await summaries(store, alarm_name="a")) == 4

    runner.run(story())


def test_a_suppressor_holds_actions_back_until_they_are_released(
    store: Store, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        await put(store, "a")
        await put(store, "quiet")
        await put_composite(
            store, "b", "a", ActionsSuppressor="quiet", AlarmActions=[TOPIC], OKActions=[TOPIC]
        )
        await store.alarms.set_state("b", ALARM, "a child")
        held = await store.alarms.find("b")
        assert held is not None
        assert held.withheld is not None
        assert held.withheld.announced is NO_DATA
        assert await store.alarms.history.pending() == []
        assert await store.alarms.withhold(held, Suppression.ALARM)

        held = await store.alarms.find("b")
        assert held is not None
        assert held.withheld is not None
        assert held.withheld.by is Suppression.ALARM
        assert await store.alarms.release(held)
        assert not await store.alarms.release(held)
        (action,) = await store.alarms.history.pending()
        assert (action.old.value, action.new.value) == (NO_DATA, ALARM)

        # There and back again while it is held: nobody needs to hear of it.
        await store.alarms.set_state("b", OK, "a child")
        await store.alarms.set_state("b", ALARM, "a child")
        held = await store.alarms.find("b")
        assert held is not None
        assert await store.alarms.release(held)
        assert len(await store.alarms.history.pending()) == 1

    runner.run(story())


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, "A a ab"),
        ({"names": ["a", "b"]}, "a"),
        ({"name_prefix": "a"}, "a ab"),
        ({"types": (AlarmType.COMPOSITE,)}, "b"),
        ({"value": ALARM}, "ab"),
        ({"action_prefix": "arn:aws:sns"}, "ab"),
        ({"types": tuple(AlarmType), "children_of": "b"}, "a ab"),
        ({"types": tuple(AlarmType), "parents_of": "a"}, "b"),
        ({"metric_id": metric_id("N", "m", [])}, "A a ab"),
        ({"metric_id": metric_id("N", "other", [])}, ""),
        ({"after": "a"}, "ab"),
        ({"name_prefix": "%"}, ""),
    ],
)
def test_alarms_are_found_by_every_filter(
    store: Store, runner: asyncio.Runner, wanted: dict[str, Any], names: str
) -> None:
    async def story() -> None:
        await put(store, "A")
        await put(store, "a")
        await put(store, "ab", OKActions=[TOPIC])
        await put_composite(store, "b", "a", "ab")
        await store.alarms.set_state("ab", ALARM, "by hand")
        page = await store.alarms.describe(AlarmFilter(**wanted))
        assert " ".join(alarm.name for alarm in page.items) == names
        assert page.next is None

    runner.run(story())


def test_pages_go_on_where_the_last_one_ended(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        for number in range(5):
            await put(store, f"a{number}", OKActions=[TOPIC] if number % 2 == 0 else [])
        first = await store.alarms.describe(AlarmFilter(limit=2, action_prefix="arn"))
        assert [alarm.name for alarm in first.items] == ["a0", "a2"]
        assert first.next is not None
        rest = AlarmFilter(limit=2, action_prefix="arn", after=first.next[1])
        assert [alarm.name for alarm in (await store.alarms.describe(rest)).items] == ["a4"]

        lines: list[str] = []
        after = None
        while True:
            page = await store.alarms.history.list(
                HistoryQuery(limit=2, descending=False, after=after)
            )
            lines += [item.alarm_name for item in page.items]
            if page.next is None:
                break
            after = (page.next[0], int(page.next[1]))
        assert lines == ["a0", "a1", "a2", "a3", "a4"]

    runner.run(story())


def test_histories_are_bounded(
    store: Store, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clary.store.alarm_history.MAX_ITEMS", 3)

    async def story() -> None:
        for number in range(5):
            await put(store, f"a{number}")
        await store.alarms.history.prune()
        assert await summaries(store) == [f'Alarm "a{n}" created' for n in (4, 3, 2)]

    runner.run(story())


def test_tags_live_with_the_alarm_in_its_case(store: Store, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await put(store, "A")
        await put(store, "a")
        await store.alarms.change_tags("a", {"x": "1", "b": "2"})
        await store.alarms.change_tags("a", {"x": "3"}, remove=["b", "never"])
        assert await store.alarms.tags("a") == {"x": "3"}
        assert await store.alarms.tags("A") == {}
        with pytest.raises(LimitExceeded):
            await store.alarms.change_tags("a", {f"k{n}": "v" for n in range(50)})
        with pytest.raises(NotFound):
            await store.alarms.tags("nobody")

    runner.run(story())
