"""What has to be done later, for a program with one thread and a selector."""

import time
from collections.abc import Callable


class Timers:
    """Actions with their moments."""

    def __init__(self) -> None:
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._timers.append((time.monotonic() + seconds, action))

    def run(self) -> float | None:
        """Do what is due; return how many seconds there are until the next, None for none."""
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, action in due:
            action()
        if not self._timers:
            return None
        return max(0.0, min(at for at, _ in self._timers) - time.monotonic())
