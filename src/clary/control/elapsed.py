"""How long ago something was written, by a clock that does not jump.

What must survive a restart is a wall time in the store. Within one life of control, time since then
is measured by the monotonic clock: a clock that is set cuts no bake short, and draws none out.
"""

from datetime import datetime

from clary.clock import Clock


class Elapsed:
    """Ages of moments, by owner and name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, dict[str, tuple[datetime, float, float]]] = {}

    def since(self, owner: str, name: str, moment: datetime) -> float:
        """Return how long ago a moment was, in seconds, 0 or more.

        Only the first time that a moment is seen, it is compared with the wall clock.
        """
        known = self._seen.setdefault(owner, {})
        monotonic = self._clock.monotonic()
        if name not in known or known[name][0] != moment:
            age_s = max((self._clock.now() - moment).total_seconds(), 0.0)
            known[name] = moment, age_s, monotonic
        _, age_s, seen_at = known[name]
        return age_s + monotonic - seen_at

    def forget(self, owner: str) -> None:
        """Forget the moments of an owner."""
        self._seen.pop(owner, None)
