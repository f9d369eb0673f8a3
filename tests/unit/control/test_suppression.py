from datetime import timedelta

import pytest

from builders import A_TIME
from clary.control.suppression import Hold, Suppressor, hold_of
from clary.resources.alarm import AlarmState, AlarmValue, Suppression, Withheld

OK, ALARM = AlarmValue.OK, AlarmValue.ALARM
WAIT, EXTENSION, BY_ALARM = (
    Suppression.WAIT_PERIOD,
    Suppression.EXTENSION_PERIOD,
    Suppression.ALARM,
)


@pytest.mark.parametrize(
    ("by", "suppressor", "left_at_s", "now_s", "expected"),
    [
        (WAIT, OK, -100, 0, Hold(WAIT, 30.0)),
        (WAIT, OK, -100, 29, Hold(WAIT, 1.0)),
        (WAIT, OK, -100, 30, None),
        (WAIT, ALARM, -100, 0, Hold(BY_ALARM, None)),
        (WAIT, ALARM, -100, 1000, Hold(BY_ALARM, None)),
        (BY_ALARM, OK, 50, 60, Hold(EXTENSION, 50.0)),
        (EXTENSION, OK, 50, 110, None),
        (EXTENSION, ALARM, 50, 60, Hold(BY_ALARM, None)),
        (BY_ALARM, None, 0, 60, None),
        (WAIT, None, 0, 10, Hold(WAIT, 20.0)),
        (WAIT, OK, -100, -500, Hold(WAIT, 30.0)),
    ],
)
def test_actions_wait_for_the_suppressor(
    by: Suppression,
    suppressor: AlarmValue | None,
    left_at_s: int,
    now_s: int,
    expected: Hold | None,
) -> None:
    at = A_TIME + timedelta(seconds=left_at_s)
    state = suppressor and AlarmState(
        value=suppressor, reason="", updated_at=at, transitioned_at=at
    )
    found = hold_of(
        Withheld(announced=OK, since=A_TIME, by=by),
        Suppressor(state=state or None, wait_s=30, extension_s=0 if state is None else 60),
        A_TIME + timedelta(seconds=now_s),
    )
    assert found == expected
