"""What a host decides, as stories of events and moments."""

import signal
from typing import Any

import pytest

from clary.worker.spec import ContainerSpec, InstanceSpec
from clary.worker.watching import (
    FAIL_TOGETHER_S,
    RESTART_PAUSES_S,
    Ending,
    Key,
    Kill,
    Leave,
    Note,
    Probe,
    Start,
    Watch,
    WriteStacks,
)

FIRST: Key = (0, 0)
SECOND: Key = (0, 1)


class Story:
    """A watch, the time, and what it wants done."""

    def __init__(self, workers: int = 1, containers: int = 1, **members: Any) -> None:
        made = [
            ContainerSpec(
                "primary" if containers == 1 else f"container-{number}",
                "handler", "/p", (), "/c", {}, "/m", "/c", "x", workers, "/l",
            )
            for number in range(1, containers + 1)
        ]  # fmt: skip
        values: dict[str, Any] = {
            "instance_id": "i-1", "run_dir": "/r", "log": "/l", "startup_timeout_s": 100.0,
            "ping_interval_s": 5.0, "ping_timeout_s": 2.0, "unhealthy_after": 3,
            "stop_timeout_s": 30.0, "load_attempts": 3, "load_attempts_within_s": 10.0,
            "invocation_timeout_s": 60.0, "hung_grace_s": 5.0,
            "containers": tuple(made), **members,
        }  # fmt: skip
        self.now = 1000.0
        self.blocked: dict[Key, float] = {}
        self.watch = Watch(InstanceSpec(**values), self.now, self.blocked.get)
        self.pid = 0

    def due(self) -> list[Any]:
        """What is due now, without notes."""
        return [a for a in self.watch.tick(self.now) if not isinstance(a, Note)]

    def next(self) -> list[Any]:
        """Go to the next moment at which something is due, and return that."""
        for _ in range(100):
            moment = self.watch.next_at()
            assert moment is not None, "nothing will ever be due"
            self.now = max(self.now, moment)
            if actions := self.due():
                return actions
        raise AssertionError("the watch spins")

    def until(self, wanted: type) -> Any:
        """Go on, letting all probes fail silently, until an action of some kind is due."""
        for _ in range(1000):
            for action in self.next():
                if isinstance(action, wanted):
                    return action
        raise AssertionError(f"no {wanted}")

    def started(self, key: Key = FIRST) -> None:
        self.pid += 1
        self.watch.started(key, self.pid, self.now)

    def answered(self, key: Key = FIRST) -> None:
        self.watch.answered(key, self.now)

    def ended(self, key: Key = FIRST, text: str = "why", is_final: bool = False) -> list[Any]:
        actions = self.watch.ended(key, Ending(text, "Last lines", is_final), self.now)
        return [a for a in actions if not isinstance(a, Note)]

    def ready(self, key: Key = FIRST) -> None:
        self.until(Start)
        self.started(key)
        self.answered(key)

    @property
    def state(self) -> str:
        return str(self.watch.status()["state"])


def test_the_first_worker_starts_alone_and_the_others_when_it_is_ready() -> None:
    story = Story(workers=3)
    assert story.due() == [Start(FIRST)]
    story.started()
    assert story.next() == [Probe(FIRST)]
    assert story.state == "starting"
    story.answered()
    assert story.state == "healthy"
    assert story.due() == [Start((0, 1)), Start((0, 2))]


def test_every_container_needs_a_ready_worker() -> None:
    story = Story(containers=2)
    assert story.due() == [Start((0, 0)), Start((1, 0))]
    story.started((0, 0))
    story.started((1, 0))
    story.answered((0, 0))
    assert story.state == "starting"
    story.answered((1, 0))
    assert story.state == "healthy"


def test_a_starting_worker_is_probed_more_and_more_slowly() -> None:
    story = Story()
    story.due()
    story.started()
    pauses = []
    for _ in range(20):
        before = story.now
        assert story.next() == [Probe(FIRST)]
        pauses.append(story.now - before)
        story.watch.unanswered(FIRST, story.now, [])
    assert pauses[0] == pytest.approx(0.005)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("lifetimes", "is_final", "starts"),
    [
        pytest.param([0.2, 0.2, 0.2], False, 3, id="quick-three-times"),
        pytest.param([6.0, 6.0], False, 2, id="slow-until-the-time-is-over"),
        pytest.param([11.0], False, 1, id="so-slow-that-once-is-enough"),
        pytest.param([0.2], True, 1, id="would-end-the-same-way"),
    ],
)
def test_a_load_that_ends_fails_after_few_attempts(
    lifetimes: list[float], is_final: bool, starts: int
) -> None:
    story = Story()
    for lifetime in lifetimes:
        assert story.state == "starting"
        story.until(Start)
        story.started()
        story.now += lifetime
        story.ended(text="ImportError: flowers", is_final=is_final)
    status = story.watch.status()
    assert status["state"] == "failed"
    assert status["reason"] == "ImportError: flowers\nLast lines"
    assert status["containers"][0]["workers"][0]["starts"] == starts
    assert story.watch.next_at() is None


def test_silence_while_loading_waits_for_its_limit_then_shows_the_stack_and_fails() -> None:
    story = Story()
    story.due()
    story.started()
    begun = story.now
    assert story.until(WriteStacks) == WriteStacks(FIRST)
    assert story.now - begun == pytest.approx(99)
    assert story.until(Kill) == Kill(FIRST, signal.SIGKILL)
    assert story.now - begun == pytest.approx(100)
    story.ended(text="signal 9")
    assert story.state == "failed"
    assert "not ready 100 s" in story.watch.status()["reason"]


def test_a_failed_load_stops_the_other_containers_and_waits_to_be_told_to_leave() -> None:
    story = Story(containers=2)
    story.due()
    story.started((0, 0))
    story.started((1, 0))
    begun = story.now
    assert story.ended((0, 0), is_final=True) == []  # the other one may fail as well
    assert story.until(Kill) == Kill((1, 0), signal.SIGTERM)
    assert story.now - begun == pytest.approx(FAIL_TOGETHER_S)
    assert story.until(Kill) == Kill((1, 0), signal.SIGKILL)
    assert story.ended((1, 0)) == []
    assert story.state == "failed"
    assert Leave() in story.watch.stop(story.now)


def test_an_instance_fails_at_once_when_all_is_known_of_its_containers() -> None:
    story = Story(containers=3)
    story.due()
    for container in range(3):
        story.started((container, 0))
    assert story.ended((0, 0), text="no numpy", is_final=True) == []
    assert story.ended((2, 0), text="no file", is_final=True) == []
    begun = story.now
    story.watch.answered((1, 0), story.now)
    assert story.until(Kill) == Kill((1, 0), signal.SIGTERM)
    assert story.now == begun
    status = story.watch.status()
    assert [container["has_failed"] for container in status["containers"]] == [True, False, True]
    assert status["reason"].startswith("container-1: no numpy\n")
    assert "\ncontainer-3: no file" in status["reason"]


def test_a_worker_that_served_is_started_again_with_growing_pauses() -> None:
    story = Story()
    story.ready()
    pauses = []
    for _ in range(len(RESTART_PAUSES_S) + 1):
        died_at = story.now
        story.ended(text="signal 9")
        assert story.state == "unhealthy"
        assert "signal 9" in story.watch.status()["reason"]
        assert story.watch.status()["containers"][0]["workers"][0]["state"] == "dead"
        story.until(Start)
        pauses.append(story.now - died_at)
        story.started()
        story.answered()
        assert story.state == "healthy"
        assert story.watch.status()["reason"] is None
    assert pauses == pytest.approx([*RESTART_PAUSES_S, RESTART_PAUSES_S[-1]])


def test_a_long_life_forgets_earlier_deaths() -> None:
    story = Story()
    story.ready()
    for _ in range(4):
        story.ended()
        story.until(Start)
        story.started()
        story.answered()
    story.now += 61
    story.ended()
    died_at = story.now
    story.until(Start)
    assert story.now == died_at


def test_one_of_two_workers_may_die_without_the_instance_being_unhealthy() -> None:
    story = Story(workers=2)
    story.ready(FIRST)
    story.ready(SECOND)
    story.ended(FIRST)
    assert story.state == "healthy"


def test_a_second_worker_that_cannot_load_does_not_fail_a_healthy_instance() -> None:
    story = Story(workers=2)
    story.ready(FIRST)
    for _ in range(5):
        while story.until(Start) != Start(SECOND):
            pass
        story.started(SECOND)
        story.ended(SECOND)
    assert story.state == "healthy"


def test_a_ready_worker_is_pinged_at_its_interval() -> None:
    story = Story()
    story.ready()
    before = story.now
    assert story.next() == [Probe(FIRST)]
    assert story.now - before == 5
    story.answered()
    before = story.now
    assert story.next() == [Probe(FIRST)]
    assert story.now - before == 5


def test_pings_failed_in_a_row_replace_a_worker_and_one_answer_forgives() -> None:
    story = Story()
    story.ready()
    for _ in range(2):
        story.watch.unanswered(FIRST, story.now, [])
    story.answered()
    actions: list[Any] = []
    for _ in range(3):
        assert actions == []
        story.watch.unanswered(FIRST, story.now, actions)
    assert Kill(FIRST, signal.SIGKILL) in actions
    assert story.watch.next_at() is None
    story.ended(text="signal 9")
    assert "failed 3 pings in a row" in story.watch.status()["reason"]


def test_a_silent_worker_is_left_alone_while_its_call_is_within_the_limit() -> None:
    story = Story()
    story.ready()
    began = story.now + 3
    story.blocked[FIRST] = began
    assert story.until(WriteStacks) == WriteStacks(FIRST)
    assert story.now == pytest.approx(began + 64)
    assert story.until(Kill) == Kill(FIRST, signal.SIGKILL)
    assert story.now == pytest.approx(began + 65)
    story.ended()
    assert "hanging in one call for 65.0 s" in story.watch.status()["reason"]


def test_a_new_call_has_a_limit_of_its_own() -> None:
    story = Story()
    story.ready()
    story.blocked[FIRST] = story.now
    story.until(WriteStacks)
    second_call = story.now + 0.5
    story.blocked[FIRST] = second_call
    assert story.until(Kill) == Kill(FIRST, signal.SIGKILL)
    assert story.now == pytest.approx(second_call + 65)


def test_an_answer_ends_the_suspicion() -> None:
    story = Story()
    story.ready()
    story.blocked[FIRST] = story.now
    story.until(WriteStacks)
    story.blocked.clear()
    story.answered()
    assert story.next() == [Probe(FIRST)]


def test_stopping_is_terminate_then_kill_then_leave() -> None:
    story = Story(workers=2)
    story.ready(FIRST)
    story.until(Start)
    story.started(SECOND)
    stopped_at = story.now
    terminations = [Kill(FIRST, signal.SIGTERM), Kill(SECOND, signal.SIGTERM)]
    assert story.watch.stop(story.now) == terminations
    assert story.state == "stopping"
    assert story.watch.stop(story.now) == []
    assert story.ended(FIRST) == []
    assert story.until(Kill) == Kill(SECOND, signal.SIGKILL)
    assert story.now - stopped_at == 30
    assert story.ended(SECOND) == [Leave()]


def test_a_connection_that_ends_while_its_worker_stops_is_no_failed_ping() -> None:
    story = Story()
    story.ready()
    story.watch.stop(story.now)
    actions: list[Any] = []
    for _ in range(3):
        story.watch.unanswered(FIRST, story.now, actions)
    assert actions == []
    assert story.next() == [Kill(FIRST, signal.SIGKILL)]
    assert story.watch.next_at() is None


def test_stopping_with_no_process_leaves_at_once() -> None:
    story = Story(workers=2)
    assert story.watch.stop(story.now) == [Leave()]
    assert story.watch.next_at() is None


def test_events_of_a_process_that_is_being_killed_change_nothing() -> None:
    story = Story()
    story.ready()
    for _ in range(3):
        story.watch.unanswered(FIRST, story.now, [])
    story.answered()
    actions: list[Any] = []
    story.watch.unanswered(FIRST, story.now, actions)
    assert actions == []
    assert story.watch.next_at() is None
