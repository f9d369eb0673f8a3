"""The worked cases of CloudWatch's guide, and what lies between them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.control.alarm_rule import (
    EXTRA_PERIODS,
    AlarmRule,
    MissingData,
    is_certain,
    judge,
    samples_needed,
)
from clary.resources.alarm import AlarmValue

POINTS = {"0": 0.0, "X": 9.0, "-": None}
KEEP = "keep"

STATES = {"OK": AlarmValue.OK, "ALARM": AlarmValue.ALARM, "NO": AlarmValue.INSUFFICIENT_DATA}


def a_rule(periods: int, datapoints: int, missing: str = "missing") -> AlarmRule:
    return AlarmRule(
        comparison="GreaterThanThreshold",
        threshold=5.0,
        periods=periods,
        datapoints=datapoints,
        missing=MissingData(missing),
    )


def judged(text: str, datapoints: int, missing: str, current: AlarmValue) -> AlarmValue:
    points = [POINTS[letter] for letter in text]
    return judge(a_rule(3, datapoints, missing), points, current).value


# Points oldest left, M of N = 3, and the state by: missing, ignore, breaching, notBreaching.
CASES = [
    # The table for "3 out of 3".
    ("0-X-X", 3, "OK OK OK OK"),
    ("0----", 3, "OK OK OK OK"),
    ("-----", 3, "NO keep ALARM OK"),
    ("0XX-X", 3, "ALARM ALARM ALARM ALARM"),
    ("--X--", 3, "ALARM keep ALARM OK"),
    # The table for "2 out of 3".
    ("0-X-X", 2, "ALARM ALARM ALARM ALARM"),
    ("00X0X", 2, "ALARM ALARM ALARM ALARM"),
    ("0-X--", 2, "OK OK ALARM OK"),
    ("----0", 2, "OK OK ALARM OK"),
    ("---X-", 2, "ALARM keep ALARM OK"),
    # An alarm that comes too early: the points to come may still say otherwise.
    ("----X", 3, "keep keep ALARM OK"),
    ("---X-", 3, "keep keep ALARM OK"),
    ("--XX-", 3, "ALARM keep ALARM OK"),
    ("---XX", 3, "keep keep ALARM OK"),
    ("----X", 2, "keep keep ALARM OK"),
    # One point that speaks against it is enough.
    ("-0X--", 3, "OK OK OK OK"),
    ("--X0-", 3, "OK OK OK OK"),
    # Enough breaching ones are enough, however many are missing.
    ("---XX", 2, "ALARM ALARM ALARM ALARM"),
    ("----X", 1, "ALARM ALARM ALARM ALARM"),
    # With N real points the setting does not matter.
    ("XX000", 3, "OK OK OK OK"),
    ("X-X-X", 3, "ALARM ALARM ALARM ALARM"),
    ("XXX0-", 3, "OK OK OK OK"),
    ("XXX0-", 2, "ALARM ALARM ALARM ALARM"),
]


@pytest.mark.parametrize(("text", "datapoints", "states"), CASES)
@pytest.mark.parametrize("current", list(AlarmValue))
def test_worked_cases(text: str, datapoints: int, states: str, current: AlarmValue) -> None:
    for missing, state in zip(
        ("missing", "ignore", "breaching", "notBreaching"), states.split(), strict=True
    ):
        wanted = current if state == KEEP else STATES[state]
        assert judged(text, datapoints, missing, current) is wanted, missing


@given(
    st.lists(st.sampled_from("0X-"), min_size=5, max_size=5),
    st.integers(1, 3),
    st.sampled_from(list(MissingData)),
    st.sampled_from(list(AlarmValue)),
)
def test_more_breaching_points_never_end_an_alarm(
    letters: list[str], datapoints: int, missing: MissingData, current: AlarmValue
) -> None:
    before = judged("".join(letters), datapoints, missing, current)
    if before is AlarmValue.ALARM:
        for index, letter in enumerate(letters):
            if letter == "0":
                more = [*letters[:index], "X", *letters[index + 1 :]]
                assert judged("".join(more), datapoints, missing, current) is AlarmValue.ALARM


def test_only_missing_data_may_leave_an_alarm_without_a_state() -> None:
    for letters in product("0X-", repeat=5):
        for missing in MissingData:
            found = judged("".join(letters), 2, missing, AlarmValue.OK)
            if found is AlarmValue.INSUFFICIENT_DATA:
                assert "".join(letters) == "-----"
                assert missing is MissingData.MISSING


def test_a_range_is_a_little_longer_than_the_periods() -> None:
    assert a_rule(3, 3).range == 5 == 3 + EXTRA_PERIODS


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [
        ("GreaterThanOrEqualToThreshold", False, True, True),
        ("GreaterThanThreshold", False, False, True),
        ("LessThanThreshold", True, False, False),
        ("LessThanOrEqualToThreshold", True, True, False),
    ],
)
def test_a_threshold_belongs_to_the_side_that_the_comparison_says(
    comparison: str, below: bool, at: bool, above: bool
) -> None:
    rule = AlarmRule(comparison=comparison, threshold=5.0, periods=1, datapoints=1)
    assert [rule.is_breaching(value) for value in (4.0, 5.0, 6.0)] == [below, at, above]


@pytest.mark.parametrize(
    ("comparison", "statistic", "namespace", "expected"),
    [
        ("GreaterThanThreshold", "Maximum", "Mine", True),
        ("GreaterThanOrEqualToThreshold", "SampleCount", "Mine", True),
        ("GreaterThanThreshold", "Sum", "AWS/SageMaker", True),
        ("GreaterThanThreshold", "Sum", "Mine", False),
        ("GreaterThanThreshold", "Average", "AWS/SageMaker", False),
        ("GreaterThanThreshold", "p99", "AWS/SageMaker", False),
        ("LessThanThreshold", "Minimum", "Mine", True),
        ("LessThanThreshold", "Maximum", "Mine", False),
        ("LessThanThreshold", "Sum", "AWS/SageMaker", False),
    ],
)
def test_only_what_cannot_be_taken_back_is_certain_early(
    comparison: str, statistic: str, namespace: str, expected: bool
) -> None:
    assert is_certain(comparison, statistic, namespace) is expected


@pytest.mark.parametrize(
    ("percentile", "samples"),
    [(0.99, 1000), (0.5, 20), (0.1, 100), (1.0, float("inf")), (0.0, float("inf"))],
)
def test_a_percentile_needs_samples_beyond_it(percentile: float, samples: float) -> None:
    assert samples_needed(percentile) == pytest.approx(samples)
