"""Do the actions of a composite alarm wait for its suppressor? Pure.

::

                      the suppressor is in ALARM
    transition ──────────────────────────────────────────────► Alarm
        │ it is not yet                          ▲                │ it leaves ALARM
        ▼                         in ALARM again │                ▼
    WaitPeriod ── so long, and it never was ──┐  └───────── ExtensionPeriod
                                              ▼                   │ so long
                                            act ◄─────────────────┘
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from clary.resources.alarm import AlarmState, AlarmValue, Suppression, Withheld


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressor:
    """The alarm that holds actions back, and how patient it makes the other one."""

    state: AlarmState | None
    """None: it is gone."""

    wait_s: float
    extension_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """The actions wait."""

    by: Suppression
    check_again_in_s: float | None
    """When time alone can change that; None: never."""


def hold_of(withheld: Withheld, suppressor: Suppressor, now: datetime) -> Hold | None:
    """Return what actions wait for, or None when they are to be carried out."""
    state = suppressor.state
    if state is not None and state.value is AlarmValue.ALARM:
        return Hold(Suppression.ALARM, None)
    if withheld.by is not Suppression.WAIT_PERIOD:
        left = now if state is None else state.transitioned_at
        return _until(left, suppressor.extension_s, now, Suppression.EXTENSION_PERIOD)
    return _until(withheld.since, suppressor.wait_s, now, Suppression.WAIT_PERIOD)


def _until(since: datetime, limit_s: float, now: datetime, by: Suppression) -> Hold | None:
    # A clock that was set back must not make the wait longer than it is.
    passed_s = max(now - since, timedelta(0)).total_seconds()
    left_s = limit_s - passed_s
    return Hold(by, left_s) if left_s > 0 else None
