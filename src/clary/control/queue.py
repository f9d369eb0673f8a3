"""Which keys a loop has to look at, and when.

Keys, not objects: equal keys merge, and a key that is worked on is handed out again only after that
pass has ended. Failures put a key off, longer each time, with jitter so that neighbours that failed
together do not come back together.
"""

import asyncio
import random
from dataclasses import dataclass, field

FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 60.0


def retry_pause(failures: int, jitter: float) -> float:
    """Return how long to put a key off, in seconds.

    Args:
        failures: How often it failed in a row, from 1.
        jitter: Between 0 and 1: which part of the second half of the pause to take.
    """
    pause = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), MAX_PAUSE_S)
    return pause / 2 + pause / 2 * jitter


@dataclass(slots=True)
class KeyQueue:
    """Keys that wait for a pass. To be used on one event loop."""

    jitter: random.Random = field(default_factory=random.Random)
    _ready: dict[str, None] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: str) -> None:
        """Have a key looked at as soon as may be; at once after its pass when it is in one."""
        self._cancel_timer(key)
        if key in self._busy:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._wakeup.set()

    async def get(self) -> str:
        """Return the next key; it is busy until ``done`` or ``failed``. Cancelling is safe."""
        while not self._ready:
            self._wakeup.clear()
            await self._wakeup.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._busy.add(key)
        return key

    def done(self, key: str, check_again_in_s: float | None = None) -> None:
        """End a pass that worked; look again so much later, or when somebody adds the key."""
        self._failures.pop(key, None)
        self._release(key, check_again_in_s)

    def failed(self, key: str) -> float:
        """End a pass that failed, and return how long the key is put off, in seconds.

        A key that was added meanwhile is put off too: a change is no reason to hope, and a thing
        that changes all the time would defeat the pause.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = retry_pause(failures, self.jitter.random())
        self._again.discard(key)
        self._release(key, pause)
        return pause

    def close(self) -> None:
        """Drop all timers."""
        for key in list(self._timers):
            self._cancel_timer(key)

    def _release(self, key: str, pause: float | None) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif pause is not None and key not in self._ready:
            self._cancel_timer(key)
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(pause, self.add, key)

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
