"""What a serverless variant's host does about its workers."""

import signal
from typing import Any

from clary.worker.scaled_watch import KILL_AFTER_S, MEMORY_SIGNAL, ScaledWatch
from clary.worker.spec import parse_spec
from clary.worker.watching import Action, Ending, Key, Kill, Leave, Start

CRASH = Ending("it crashed")


def a_watch() -> ScaledWatch:
    spec = parse_spec(
        {
            "instance_id": "i-1",
            "run_dir": "/r",
            "log": "/log",
            "startup_timeout_s": 60.0,
            "ping_interval_s": 5.0,
            "ping_timeout_s": 2.0,
            "unhealthy_after": 3,
            "stop_timeout_s": 30.0,
            "load_attempts": 3,
            "load_attempts_within_s": 10.0,
            "invocation_timeout_s": 60.0,
            "hung_grace_s": 5.0,
            "containers": [
                {
                    "name": "primary",
                    "style": "handler",
                    "python": "python",
                    "cwd": "/",
                    "environment": {},
                    "model_dir": "/m",
                    "code_dir": "/c",
                    "workers": 1,
                    "scaled": True,
                    "memory_limit_mb": 1024,
                }
            ],
        }
    )
    return ScaledWatch(spec, 0.0, lambda key: None)


def started(watch: ScaledWatch, now: float) -> list[Key]:
    """Start what is due; return it."""
    keys = [action.key for action in watch.tick(now) if isinstance(action, Start)]
    for key in keys:
        watch.announced(key, f"unix:/r/w{key[1]}.sock")
        watch.started(key, 100 + key[1], now)
    return keys


def ready(watch: ScaledWatch, now: float) -> list[Key]:
    keys = started(watch, now)
    for key in keys:
        watch.answered(key, now)
    return keys


def shown(watch: ScaledWatch) -> list[str]:
    workers: list[dict[str, Any]] = watch.status()["containers"][0]["workers"]
    return [worker["address"] for worker in workers if worker["state"] == "ready"]


def kills(actions: list[Action]) -> list[tuple[Key, int]]:
    return [(a.key, a.signal) for a in actions if isinstance(a, Kill)]


def test_the_others_wait_for_the_first_and_then_start_together() -> None:
    watch = a_watch()
    assert watch.scale(3, [], 0.0) == []

    assert started(watch, 0.0) == [(0, 0)]
    assert started(watch, 1.0) == []
    watch.answered((0, 0), 1.0)

    assert ready(watch, 1.0) == [(0, 1), (0, 2)]
    assert watch.status()["wanted"] == 3


def test_to_zero_and_back() -> None:
    watch = a_watch()
    ready(watch, 0.0)

    actions = watch.scale(0, ["unix:/r/w0.sock"], 10.0)

    assert kills(actions) == [((0, 0), signal.SIGTERM)]
    assert shown(watch) == []
    assert watch.status()["state"] == "healthy"
    assert watch.ended((0, 0), CRASH, 11.0) == []
    assert watch.status()["state"] == "healthy"
    assert started(watch, 12.0) == []
    watch.scale(1, [], 20.0)
    assert watch.status()["state"] == "unhealthy"
    assert watch.status()["reason"] is None
    assert ready(watch, 20.0) == [(0, 0)]
    assert watch.status()["state"] == "healthy"


def test_a_worker_that_routes_name_is_not_ended_by_a_number_alone() -> None:
    watch = a_watch()
    ready(watch, 0.0)

    assert watch.scale(0, [], 10.0) == []

    assert shown(watch) == ["unix:/r/w0.sock"]


def test_a_leaving_worker_is_killed_when_it_takes_too_long() -> None:
    watch = a_watch()
    ready(watch, 0.0)
    watch.scale(0, ["unix:/r/w0.sock"], 10.0)

    assert kills(watch.tick(39.9)) == []
    assert kills(watch.tick(40.0)) == [((0, 0), signal.SIGKILL)]


def test_a_number_that_falls_while_workers_start_ends_those() -> None:
    watch = a_watch()
    ready(watch, 0.0)
    watch.scale(3, [], 1.0)
    started(watch, 1.0)

    actions = watch.scale(1, [], 1.1)

    assert kills(actions) == [((0, 2), signal.SIGTERM), ((0, 1), signal.SIGTERM)]
    assert shown(watch) == ["unix:/r/w0.sock"]


def test_a_worker_that_dies_while_it_is_not_wanted_any_more_is_forgotten() -> None:
    watch = a_watch()
    ready(watch, 0.0)
    watch.scale(0, [], 1.0)

    watch.ended((0, 0), CRASH, 2.0)

    assert watch.workers == {}
    assert watch.status()["state"] == "healthy"


def test_a_reason_is_told_for_loads_and_forgotten_with_the_next_start_from_zero() -> None:
    watch = a_watch()
    ready(watch, 0.0)
    watch.ended((0, 0), CRASH, 1.0)
    assert watch.status()["state"] == "unhealthy"
    assert watch.status()["reason"] is None  # its successor starts at once
    started(watch, 1.0)
    watch.ended((0, 0), CRASH, 1.5)
    assert watch.status()["reason"] == "it crashed"

    watch.scale(0, [], 2.0)
    watch.scale(1, [], 3.0)

    assert watch.status()["reason"] is None


def test_too_much_memory_is_said_then_it_is_killed_and_started_anew() -> None:
    watch = a_watch()
    ready(watch, 0.0)

    actions = watch.over_limit((0, 0), 2000, 1024, 1.0)

    assert kills(actions) == [((0, 0), MEMORY_SIGNAL)]
    assert watch.over_limit((0, 0), 2000, 1024, 1.1) == []
    assert shown(watch) == []
    assert kills(watch.tick(1.0 + KILL_AFTER_S)) == [((0, 0), signal.SIGKILL)]
    (note,) = watch.ended((0, 0), CRASH, 1.6)
    assert "2000 MB" in str(note)
    assert ready(watch, 1.6) == [(0, 0)]


def test_a_model_that_never_loads_fails_the_instance() -> None:
    watch = a_watch()
    for now in (0.0, 1.0, 2.0):
        started(watch, now)
        watch.ended((0, 0), CRASH, now)

    assert watch.status()["state"] == "failed"
    assert watch.scale(1, [], 3.0) == []
    assert watch.stop(3.0) == [Leave()]
