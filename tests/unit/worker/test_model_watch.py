"""What a host decides about the models of a multi-model endpoint, as stories."""

import signal
from typing import Any

from clary.worker.model_watch import ModelWatch
from clary.worker.spec import ContainerSpec, InstanceSpec
from clary.worker.watching import Assign, Ending, Key, Kill, Leave, Note, Probe, Start

SPARE: Key = (0, 0)
NEXT: Key = (0, 1)


class Story:
    """A watch whose first spare is warm, and the time."""

    def __init__(self) -> None:
        container = ContainerSpec(
            "primary", "handler", "/p", (), "/c", {}, "/m", "/c", "x", 1, "/l", multi_model=True
        )
        spec = InstanceSpec(
            instance_id="i-1", run_dir="/r", log="/l", startup_timeout_s=100.0,
            ping_interval_s=5.0, ping_timeout_s=2.0, unhealthy_after=3, stop_timeout_s=30.0,
            load_attempts=3, load_attempts_within_s=10.0, invocation_timeout_s=60.0,
            hung_grace_s=5.0, containers=(container,),
        )  # fmt: skip
        self.now = 1000.0
        self.watch = ModelWatch(spec, self.now, lambda key: None)

    def due(self) -> list[Any]:
        return [a for a in self.watch.tick(self.now) if not isinstance(a, (Note, Probe))]

    def warm(self, key: Key) -> None:
        """A spare is started, and is warm."""
        assert Start(key) in self.due()
        self.watch.announced(key, f"unix:/r/w{key[1]}.sock")
        self.watch.started(key, 100 + key[1], self.now)
        self.watch.answered(key, self.now)

    def load(self, name: str) -> None:
        self.watch.load(name, {"name": name}, self.now)

    def ended(self, key: Key, text: str = "why") -> list[Any]:
        return self.watch.ended(key, Ending(text, "Last lines"), self.now)

    def models(self) -> dict[str, str]:
        return {model["name"]: model["state"] for model in self.watch.status()["models"]}

    @property
    def state(self) -> str:
        return str(self.watch.status()["state"])


def a_loaded_model(name: str = "a") -> Story:
    story = Story()
    story.warm(SPARE)
    story.load(name)
    story.due()
    story.watch.answered(SPARE, story.now)
    return story


def test_an_instance_is_healthy_once_a_spare_is_warm():
    story = Story()
    assert story.state == "starting"
    story.warm(SPARE)
    assert story.state == "healthy"
    assert story.models() == {}


def test_a_load_turns_the_spare_into_the_model_and_then_starts_another_spare():
    story = Story()
    story.warm(SPARE)
    story.load("a")
    assert story.watch.next_at() <= story.now
    assert story.due() == [Assign(SPARE, {"name": "a"})]
    assert story.models() == {"a": "loading"}
    assert story.due() == []  # the processor belongs to the load
    assert story.state == "healthy"
    story.watch.answered(SPARE, story.now)
    assert story.models() == {"a": "ready"}
    assert story.due() == [Start(NEXT)]


def test_a_second_load_waits_for_the_next_spare():
    story = Story()
    story.warm(SPARE)
    story.load("a")
    story.load("b")
    assert story.due() == [Assign(SPARE, {"name": "a"})]
    assert story.models() == {"b": "loading", "a": "loading"}
    story.warm(NEXT)
    assert story.due() == [Assign(NEXT, {"name": "b"})]


def test_a_model_that_is_here_or_on_its_way_is_not_loaded_twice():
    story = a_loaded_model()
    story.load("a")
    story.warm(NEXT)
    assert story.due() == []
    assert story.models() == {"a": "ready"}


def test_a_load_that_fails_says_why_until_it_is_asked_for_again():
    story = Story()
    story.warm(SPARE)
    story.load("a")
    story.due()
    story.ended(SPARE, "no weights")
    (model,) = story.watch.status()["models"]
    assert (model["state"], model["reason"]) == ("failed", "no weights\nLast lines")
    assert story.state == "healthy"
    story.warm(NEXT)
    story.load("a")
    assert story.due() == [Assign(NEXT, {"name": "a"})]
    assert story.models() == {"a": "loading"}


def test_a_load_that_takes_too_long_is_killed():
    story = Story()
    story.warm(SPARE)
    story.now += 3600  # how long it was a spare does not count
    story.load("a")
    story.due()
    story.now += 90
    assert story.due() == []
    story.now += 10
    assert Kill(SPARE, signal.SIGKILL) in story.due()


def test_a_model_that_dies_is_gone_and_not_started_again():
    story = a_loaded_model()
    story.warm(NEXT)
    story.ended(SPARE)
    assert story.models() == {}
    assert story.due() == []


def test_an_unloaded_model_is_asked_to_leave_and_then_made_to():
    story = a_loaded_model()
    story.warm(NEXT)
    assert story.watch.unload("a", story.now) == [Kill(SPARE, signal.SIGTERM)]
    assert story.models() == {"a": "unloading"}
    story.load("a")  # a new process, whatever becomes of the old one
    assert story.due() == [Assign(NEXT, {"name": "a"})]
    story.now += 30
    assert Kill(SPARE, signal.SIGKILL) in story.due()
    story.ended(SPARE)
    assert story.models() == {"a": "loading"}


def test_memory_is_told_when_it_has_changed_by_a_mebibyte():
    story = a_loaded_model()

    def told() -> int:
        return int(story.watch.status()["models"][0]["memory_kib"])

    story.watch.measured(SPARE, 20_000)
    assert told() == 20_000
    story.watch.measured(SPARE, 20_900)
    assert told() == 20_000
    story.watch.measured(SPARE, 21_100)
    assert told() == 21_100


def test_the_memory_of_the_spare_is_told_also_between_two_spares():
    story = Story()
    story.warm(SPARE)
    story.watch.measured(SPARE, 9_000)
    assert story.watch.status()["spare_memory_kib"] == 9_000
    story.load("a")
    story.due()
    story.watch.answered(SPARE, story.now)
    story.watch.measured(SPARE, 30_000)  # by now it is a model
    assert story.watch.status()["spare_memory_kib"] == 9_000
    assert story.watch.status()["models"][0]["memory_kib"] == 30_000


def test_an_instance_whose_spares_keep_dying_is_unhealthy_but_its_models_serve():
    story = a_loaded_model()
    for _ in range(3):
        while Start(NEXT) not in story.due():
            story.now += 0.5
        story.watch.started(NEXT, 7, story.now)
        story.ended(NEXT)
    assert story.state == "unhealthy"
    assert story.models() == {"a": "ready"}


def test_stopping_ends_models_and_spare():
    story = a_loaded_model()
    story.warm(NEXT)
    actions = story.watch.stop(story.now)
    assert {a.key for a in actions if isinstance(a, Kill)} == {SPARE, NEXT}
    assert story.ended(SPARE) == []
    assert story.ended(NEXT) == [Leave()]
