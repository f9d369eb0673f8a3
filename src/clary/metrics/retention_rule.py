"""How long points of each resolution are kept, as CloudWatch keeps them. Pure.

Finer than a minute: 3 hours; a minute: 15 days; 5 minutes: 63 days; an hour: 455 days. What is
older becomes part of a coarser point.
"""

from dataclasses import dataclass

from clary.settings import MetricSettings

FINEST_S = (1, 10, 60)
"""Resolutions that values come in, in seconds."""


@dataclass(frozen=True, slots=True)
class RollUp:
    """Points of one resolution that become coarser."""

    resolution_s: int
    into_s: int
    """0: they are removed."""
    before: int
    """Those that begin before this, in seconds since 1970."""


def due_roll_ups(settings: MetricSettings, now: int) -> list[RollUp]:
    """Return what has to become coarser now, finest first."""
    steps = [
        (1, 60, settings.keep_fine_s),
        (10, 60, settings.keep_fine_s),
        (60, 300, settings.keep_60s_s),
        (300, 3600, settings.keep_5min_s),
        (3600, 0, settings.keep_1h_s),
    ]
    found = []
    for resolution_s, into_s, keep_s in steps:
        before = int(now - keep_s)
        found.append(RollUp(resolution_s, into_s, before - before % (into_s or resolution_s)))
    return found
