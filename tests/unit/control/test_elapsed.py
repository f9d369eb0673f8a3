from datetime import datetime, timedelta

from builders import A_TIME
from clary.control.elapsed import Elapsed


class TwoClocks:
    def __init__(self) -> None:
        self.wall = A_TIME
        self.seconds = 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


def test_a_moment_of_an_earlier_life_is_as_old_as_the_wall_clock_says() -> None:
    clock = TwoClocks()
    assert Elapsed(clock).since("digits", "bake", A_TIME - timedelta(seconds=7)) == 7


def test_a_clock_that_is_set_changes_no_age() -> None:
    clock = TwoClocks()
    elapsed = Elapsed(clock)
    assert elapsed.since("digits", "bake", A_TIME) == 0
    clock.pass_by(5)
    clock.wall += timedelta(days=1)
    assert elapsed.since("digits", "bake", A_TIME) == 5
    clock.wall -= timedelta(days=30)
    assert elapsed.since("digits", "bake", A_TIME) == 5


def test_a_moment_in_the_future_is_now() -> None:
    clock = TwoClocks()
    assert Elapsed(clock).since("digits", "bake", A_TIME + timedelta(hours=1)) == 0


def test_each_moment_has_an_age_of_its_own() -> None:
    clock = TwoClocks()
    elapsed = Elapsed(clock)
    elapsed.since("digits", "bake", A_TIME)
    clock.pass_by(5)
    assert elapsed.since("digits", "bake", clock.wall) == 0  # the next bake
    assert elapsed.since("other", "bake", A_TIME) == 5
    elapsed.forget("digits")
    assert elapsed.since("digits", "bake", A_TIME) == 5
