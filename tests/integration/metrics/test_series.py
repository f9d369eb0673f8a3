"""The metric store over a real database: what is added is read, after restarts as well."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clary.errors import LimitExceeded
from clary.metrics.series import MetricKey, MetricPoint, MetricStore
from clary.metrics.statistics import StatisticSet
from clary.settings import MetricSettings
from clary.store.database import Database, StoreFailed

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
KEY = MetricKey.of("AWS/SageMaker", "Invocations", {"VariantName": "A", "EndpointName": "digits"})
LATENCY = MetricKey.of("AWS/SageMaker", "ModelLatency", {"EndpointName": "digits"})


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def go_on(self, **time: float) -> None:
        self.moment += timedelta(**time)


class Place:
    """A database, and stores opened on it one after another."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.sqlite"
        self.clock = Clock()
        self.settings = MetricSettings()

    def run(self, *steps: Callable[[MetricStore], Awaitable[Any]], close: bool = True) -> Any:
        """Open a store, do the steps, and close it, or leave it as ``kill -9`` does."""

        async def all_steps() -> Any:
            database = Database.open(self.path)
            store = MetricStore(database, self.clock, self.settings)
            await store.open()
            try:
                result = None
                for step in steps:
                    result = await step(store)
                if close:
                    await store.close()
                return result
            finally:
                await asyncio.to_thread(database.close)

        return asyncio.run(all_steps())

    async def sums(
        self, store: MetricStore, key: MetricKey = KEY, **given: Any
    ) -> dict[int, float]:
        """Sum by minutes before the start of the current minute."""
        current = self.clock.moment.replace(second=0)
        found = await store.statistics(
            key,
            **{
                "start": current - timedelta(minutes=60),
                "end": current + timedelta(minutes=1),
                "period_s": 60,
                "statistics": ["Sum"],
                **given,
            },
        )
        return {int((current - at).total_seconds() // 60): values["Sum"] for at, values in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def point(value: float, *, at: datetime = NOW, **more: Any) -> MetricPoint:
    return MetricPoint(key=KEY, at=at, values=StatisticSet.of(value), **more)


def test_what_is_added_is_read_at_once(place: Place) -> None:
    async def story(store: MetricStore) -> None:
        store.add(KEY, at=NOW, value=2.0)
        store.add(KEY, at=NOW, value=1.0, count=3)
        store.add(KEY, at=NOW - timedelta(minutes=7), value=1.0)
        assert await place.sums(store) == {0: 5.0, 7: 1.0}
        place.clock.go_on(minutes=1)
        store.add(KEY, at=place.clock.moment, value=7.0)
        assert await place.sums(store) == {0: 7.0, 1: 5.0, 8: 1.0}

    place.run(story)


def test_added_values_are_there_after_a_restart_once_they_are_flushed(place: Place) -> None:
    async def first(store: MetricStore) -> None:
        store.add(KEY, at=NOW, value=2.0)
        await store.flush()
        store.add(KEY, at=NOW, value=40.0)  # lost with the process

    async def second(store: MetricStore) -> None:
        store.add(KEY, at=NOW, value=3.0)  # the same minute goes on
        assert await place.sums(store) == {0: 5.0}

    place.run(first, close=False)
    place.run(second)
    assert place.run(place.sums) == {0: 5.0}


def test_what_is_put_is_durable_when_it_returns(place: Place) -> None:
    async def put(store: MetricStore) -> None:
        await store.put([point(1.0), point(2.0), point(4.0, at=NOW - timedelta(hours=2))])

    place.run(put, close=False)
    assert place.run(place.sums) == {0: 3.0}
    assert place.run(lambda store: store.list_metrics()) == [KEY]


def test_many_who_put_at_once_are_all_counted(place: Place) -> None:
    async def put_all(store: MetricStore) -> dict[int, float]:
        await asyncio.gather(*(store.put([point(1.0)]) for _ in range(50)))
        return await place.sums(store)

    assert place.run(put_all, close=False) == {0: 50.0}
    assert place.run(place.sums) == {0: 50.0}


def test_distributions_survive(place: Place) -> None:
    async def add(store: MetricStore) -> None:
        for value in range(1, 101):
            store.add(LATENCY, at=NOW, value=float(value), unit="Microseconds")

    async def read(store: MetricStore) -> float:
        ((_, values),) = await store.statistics(
            LATENCY,
            start=NOW - timedelta(hours=1),
            end=NOW + timedelta(hours=1),
            period_s=3600,
            statistics=["p90"],
            unit="Microseconds",
        )
        return values["p90"]

    place.run(add)
    assert place.run(read) == pytest.approx(90, rel=0.02)


def test_a_present_series_is_zero_where_it_has_no_value(place: Place) -> None:
    async def story(store: MetricStore) -> None:
        store.set_present(KEY, None, at=NOW - timedelta(minutes=5), is_present=True)
        store.add(KEY, at=NOW - timedelta(minutes=3), value=1.0, count=9)
        assert await place.sums(store) == {5: 0, 4: 0, 3: 9, 2: 0, 1: 0}
        ((_, values),) = await store.statistics(
            KEY,
            start=NOW - timedelta(minutes=5, seconds=30),
            end=NOW,
            period_s=300,
            statistics=["SampleCount", "Minimum", "Maximum"],
            begins_at_start=True,
        )
        assert values == {"SampleCount": 13.0, "Minimum": 0.0, "Maximum": 1.0}
        place.clock.go_on(minutes=2)
        store.set_present(KEY, None, at=place.clock.moment, is_present=False)
        place.clock.go_on(minutes=2)
        assert await place.sums(store) == {9: 0, 8: 0, 7: 9, 6: 0, 5: 0, 4: 0, 3: 0}

    place.run(story)
    assert place.run(place.sums) == {9: 0, 8: 0, 7: 9, 6: 0, 5: 0, 4: 0, 3: 0}


def test_while_the_server_is_away_nothing_is_present(place: Place) -> None:
    async def begin(store: MetricStore) -> None:
        store.set_present(KEY, None, at=NOW, is_present=True)
        place.clock.go_on(minutes=2)
        await store.flush()

    async def again(store: MetricStore) -> dict[int, float]:
        store.set_present(KEY, None, at=place.clock.moment, is_present=True)
        place.clock.go_on(minutes=2)
        return await place.sums(store)

    place.run(begin, close=False)
    place.clock.go_on(minutes=10)
    assert place.run(again, close=False) == {14: 0, 13: 0, 2: 0, 1: 0}


def test_an_old_database_row_and_new_values_of_its_minute_are_one(place: Place) -> None:
    early = NOW - timedelta(days=3)

    async def put(store: MetricStore) -> None:
        await store.put([point(1.0, at=early)])

    async def read(store: MetricStore) -> list[Any]:
        return await store.statistics(
            KEY, start=early - timedelta(minutes=1), end=early, period_s=60, statistics=["Sum"]
        )

    place.run(put)
    place.run(put)
    ((_, values),) = place.run(read)
    assert values == {"Sum": 2.0}


def test_memory_is_bounded_and_what_left_it_is_still_read(place: Place) -> None:
    place.settings = replace(place.settings, memory_points=50, memory_s=3600)

    async def story(store: MetricStore) -> None:
        for _ in range(200):
            place.clock.go_on(minutes=1)
            store.add(KEY, at=place.clock.moment, value=1.0)
            await store.flush()
            store.trim()
            assert store.points_in_memory <= 50
        found = await store.statistics(
            KEY,
            start=NOW,
            end=place.clock.moment + timedelta(minutes=1),
            period_s=60,
            statistics=["Sum"],
        )
        assert len(found) == 200

    place.run(story)


def test_points_become_coarser_with_age_and_keep_their_sum(place: Place) -> None:
    begin = NOW

    async def add(store: MetricStore) -> None:
        for second in range(0, 600, 5):
            at = NOW + timedelta(seconds=second)
            store.add(LATENCY, at=at, value=float(second), resolution_s=1)

    async def read(store: MetricStore) -> list[tuple[datetime, dict[str, float]]]:
        await store.roll_up()
        return await store.statistics(
            LATENCY,
            start=begin - timedelta(days=1),
            end=begin + timedelta(days=1),
            period_s=1,
            statistics=["Sum", "SampleCount", "Maximum", "p50"],
        )

    place.run(add)
    fine = place.run(read)
    assert len(fine) == 120
    for age, most in ((timedelta(hours=4), 11), (timedelta(days=16), 3), (timedelta(days=64), 1)):
        place.clock.moment = begin + age
        coarse = place.run(read)
        assert 0 < len(coarse) <= most
        assert sum(values["Sum"] for _, values in coarse) == sum(range(0, 600, 5))
        assert sum(values["SampleCount"] for _, values in coarse) == 120
        assert max(values["Maximum"] for _, values in coarse) == 595
    assert coarse[0][1]["p50"] == pytest.approx(295, rel=0.03)
    place.clock.moment = begin + timedelta(days=456)
    assert place.run(read) == []
    assert place.run(lambda store: store.list_metrics(active_since=NOW)) == []


def test_more_series_than_allowed_are_refused_as_a_whole(place: Place) -> None:
    place.settings = replace(place.settings, max_series=2)

    async def story(store: MetricStore) -> None:
        keys = [MetricKey("N", f"m{n}") for n in range(3)]
        values = StatisticSet.of(1.0)
        with pytest.raises(LimitExceeded, match="at most 2 metrics"):
            await store.put([MetricPoint(key=key, at=NOW, values=values) for key in keys])
        await store.put([MetricPoint(key=key, at=NOW, values=values) for key in keys[:2]])
        assert await store.list_metrics() == keys[:2]

    place.run(story)


def test_metrics_without_a_value_for_two_weeks_are_not_listed(place: Place) -> None:
    async def put(store: MetricStore) -> None:
        await store.put([point(1.0)])

    place.run(put)
    place.clock.go_on(days=13)
    assert place.run(lambda store: store.list_metrics(namespace="AWS/SageMaker")) == [KEY]
    assert place.run(lambda store: store.list_metrics(namespace="Other")) == []
    place.clock.go_on(days=2)
    assert place.run(lambda store: store.list_metrics()) == []


def test_marks_are_written_with_what_was_added(place: Place) -> None:
    async def first(store: MetricStore) -> None:
        store.add(KEY, at=NOW, value=1.0)
        store.mark("gateway", "digits", {"invocations": 1})
        store.mark("old", "digits", {})
        await store.flush()
        store.add(KEY, at=NOW, value=1.0)
        store.mark("gateway", "digits", {"invocations": 2})
        store.forget_marks("old")

    async def second(store: MetricStore) -> None:
        assert store.marks("gateway") == {("gateway", "digits"): {"invocations": 1}}
        assert store.marks("old") == {("old", "digits"): {}}
        assert await place.sums(store) == {0: 1.0}

    place.run(first, close=False)
    place.run(second)


def test_a_write_that_fails_is_made_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(store: MetricStore) -> None:
        write = Database.write

        async def fail(*_: Any, **__: Any) -> None:
            raise StoreFailed("disk full")

        store.add(KEY, at=NOW, value=2.0)
        monkeypatch.setattr(Database, "write", fail)
        with pytest.raises(StoreFailed):
            await store.flush()
        with pytest.raises(StoreFailed):
            await store.put([point(100.0)])
        store.add(KEY, at=NOW, value=1.0)
        monkeypatch.setattr(Database, "write", write)
        await store.flush()

    place.run(story, close=False)
    assert place.run(place.sums) == {0: 3.0}
