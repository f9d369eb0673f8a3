"""Schedules: when they are due, and what is none."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.resources.schedule import next_time, parse_schedule

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(schedule, after=NOW, zone=None, count=1):
    found, start = [], after
    parsed = parse_schedule(schedule, zone)
    for _ in range(count):
        after = parsed.next_after(after, start)
        found.append(after)
        if after is None:
            break
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param("cron(0 10 * * ? *)", ["2026-11-24T10:00", "2026-11-25T10:00"], id="daily"),
        pytest.param(
            "cron(0 18 ? * MON-FRI *)", ["2026-11-23T18:00", "2026-11-24T18:00"], id="week days"
        ),
        pytest.param(
            "cron(0 18 ? * 2-6 *)", ["2026-11-23T18:00", "2026-11-24T18:00"], id="SUN is 1"
        ),
        pytest.param(
            "cron(0 8 1 * ? *)", ["2026-12-01T08:00", "2027-01-01T08:00"], id="first of the month"
        ),
        pytest.param(
            "cron(0/15 * * * ? *)", ["2026-11-23T12:15", "2026-11-23T12:30"], id="each quarter"
        ),
        pytest.param(
            "cron(0/5 8-17 ? * MON-FRI *)", ["2026-11-23T12:05", "2026-11-23T12:10"], id="5 min"
        ),
        pytest.param(
            "cron(30 6 ? * MON *)", ["2026-11-30T06:30", "2026-12-07T06:30"], id="mondays"
        ),
        pytest.param(
            "cron(0 0 L * ? *)", ["2026-11-30T00:00", "2026-12-31T00:00"], id="last day"
        ),
        pytest.param(
            "cron(0 0 ? * 6L *)", ["2026-11-27T00:00", "2026-12-25T00:00"], id="last Friday"
        ),
        pytest.param(
            "cron(0 0 ? * FRIL *)", ["2026-11-27T00:00", "2026-12-25T00:00"], id="last, by name"
        ),
        pytest.param(
            "cron(0 0 ? * L *)", ["2026-11-28T00:00", "2026-12-05T00:00"], id="L is Saturday"
        ),
        pytest.param(
            "cron(0 0 ? * 3#2 *)", ["2026-12-08T00:00", "2027-01-12T00:00"], id="second Tuesday"
        ),
        pytest.param(
            "cron(0 0 ? * MON#5 *)", ["2026-11-30T00:00", "2027-03-29T00:00"], id="fifth Monday"
        ),
        pytest.param(
            "cron(0 0 15W * ? *)", ["2026-12-15T00:00", "2027-01-15T00:00"], id="weekday itself"
        ),
        pytest.param(
            "cron(0 0 1W 8,5 ? *)", ["2027-05-03T00:00", "2027-08-02T00:00"],
            id="nearest weekday does not leave the month",
        ),
        pytest.param(
            "cron(0 0 31W 1,10 ? *)", ["2027-01-29T00:00", "2027-10-29T00:00"],
            id="nor at its end",
        ),
        pytest.param("cron(0 0 LW 1 ? 2027)", ["2027-01-29T00:00", None], id="last working day"),
        pytest.param("cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"], id="leap"),
        pytest.param("cron(0 0 1 1 ? 2030-2031)", ["2030-01-01T00:00", "2031-01-01T00:00"]),
        pytest.param("cron(0 0 1 JAN,mar ? *)", ["2027-01-01T00:00", "2027-03-01T00:00"]),
        pytest.param(
            "cron(0 0 ? * FRI-MON *)",
            ["2026-11-27T00:00", "2026-11-28T00:00", "2026-11-29T00:00", "2026-11-30T00:00",
             "2026-12-04T00:00"],
            id="over the end of the week",
        ),
        pytest.param(
            "cron(20/20 0 12 * * ? *)", ["2026-11-23T12:00:20", "2026-11-23T12:00:40",
             "2026-11-24T12:00:20"], id="seven fields",
        ),
        pytest.param("rate(5 minutes)", ["2026-11-23T12:05", "2026-11-23T12:10"]),
        pytest.param("rate(1 hour)", ["2026-11-23T13:00", "2026-11-23T14:00"]),
        pytest.param("rate(2 days)", ["2026-11-25T12:00", "2026-11-27T12:00"]),
        pytest.param("at(2030-12-31T22:00:00)", ["2030-12-31T22:00", None]),
        pytest.param("at(2030-12-31T22:00)", ["2030-12-31T22:00", None]),
        pytest.param("at(2020-12-31T22:00:00)", [None], id="over"),
        pytest.param("cron(0 0 31 2 ? *)", [None], id="no such day"),
        pytest.param("cron(0 0 1 1 ? 2020)", [None], id="no such year any more"),
    ],
)  # fmt: skip
def test_a_schedule_is_due(schedule, expected):
    wanted = [text and at(text) for text in expected]
    assert due(schedule, count=len(expected)) == wanted


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        pytest.param(
            "cron(0 9 * * ? *)", "Europe/Berlin", "2026-11-23T12:00", "2026-11-24T08:00", id="east"
        ),
        pytest.param(
            "cron(0 22 * * ? *)", "America/New_York", "2026-07-01T12:00", "2026-07-02T02:00",
            id="west, in summer, on the next day",
        ),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2027-03-27T12:00", "2027-03-29T00:30",
            id="a time that clocks leave out is skipped",
        ),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30",
            id="a time that comes twice: the first",
        ),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30",
            id="and only the first",
        ),
        pytest.param(
            "cron(0/30 * * * ? *)", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T02:00",
            id="the hour that is repeated has run",
        ),
        pytest.param(
            "at(2027-01-01T00:00:00)", "Pacific/Tahiti", "2026-11-23T12:00", "2027-01-01T10:00"
        ),
        pytest.param(
            "at(2027-01-01T00:00:00)", "Etc/GMT+9", "2026-11-23T12:00", "2027-01-01T09:00"
        ),
    ],
)  # fmt: skip
def test_wall_time_is_meant(schedule, zone, after, expected):
    assert due(schedule, at(after), zone) == [at(expected)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "at("),
        ("cron", "at("),
        ("cron()", "six fields"),
        ("cron(0 10 * * ?)", "six fields"),
        ("cron(0 10 * * * *)", "must be ?"),
        ("cron(0 10 ? * ? *)", "must be ?"),
        ("cron(60 10 * * ? *)", "not between 0 and 59"),
        ("cron(0 24 * * ? *)", "not between 0 and 23"),
        ("cron(0 0 0 * ? *)", "not between 1 and 31"),
        ("cron(0 0 32 * ? *)", "not between 1 and 31"),
        ("cron(0 0 32W * ? *)", "not between 1 and 31"),
        ("cron(0 0 1 13 ? *)", "not between 1 and 12"),
        ("cron(0 0 1 JANUARY ? *)", "not between 1 and 12"),
        ("cron(0 0 ? * 0 *)", "not between 1 and 7"),
        ("cron(0 0 ? * 8 *)", "not between 1 and 7"),
        ("cron(0 0 ? * MON#6 *)", "not between 1 and 5"),
        ("cron(0 0 1 1 ? 1969)", "not between 1970 and 2199"),
        ("cron(0 0 1 1 ? 2200)", "not between 1970 and 2199"),
        ("cron(0/0 0 1 1 ? *)", "step of 0"),
        ("cron(30-10 0 1 1 ? *)", "runs backwards"),
        ("cron(*-3 0 1 1 ? *)", "no value"),
        ("cron(1,,2 0 1 1 ? *)", "no value"),
        ("cron(٣ 0 1 1 ? *)", "not between"),
        ("cron(0 0 L-3 * ? *)", "not between"),
        ("rate(0 minutes)", "positive"),
        ("rate(1 minutes)", "singular"),
        ("rate(5 minute)", "singular"),
        ("rate(5 seconds)", "at("),
        ("rate(99999999999999999 days)", "never fires"),
        ("at(2030-13-31T22:00:00)", "month"),
        ("at(tomorrow)", "at("),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(text, complaint):
    with pytest.raises(InvalidRequest) as refused:
        parse_schedule(text)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe", "/etc/localtime"])
def test_unknown_zones_are_refused(zone):
    with pytest.raises(InvalidRequest, match="Invalid timezone"):
        parse_schedule("cron(0 10 * * ? *)", zone)


def test_what_recurs_is_due_at_its_start_and_then_by_its_schedule():
    start, end = at("2026-11-25T07:13"), at("2026-11-26T11:00")
    cron = parse_schedule("cron(0 10 * * ? *)")

    def following(after):
        return next_time(cron, after, created_at=NOW, starts_at=start, ends_at=end)

    assert following(NOW) == start
    assert following(start) == at("2026-11-25T10:00")
    assert following(at("2026-11-25T10:00")) == at("2026-11-26T10:00")
    assert following(at("2026-11-26T10:00")) is None


def test_a_rate_counts_from_its_start():
    rate = parse_schedule("rate(1 hour)")
    start = at("2026-11-25T07:13")
    assert next_time(rate, NOW, created_at=NOW, starts_at=start) == start
    after = at("2026-11-25T09:00")
    assert next_time(rate, after, created_at=NOW, starts_at=start) == at("2026-11-25T09:13")


def test_a_single_time_outside_start_and_end_is_never():
    single = parse_schedule("at(2026-12-01T00:00:00)")
    assert next_time(single, NOW, created_at=NOW, starts_at=at("2026-12-02T00:00")) is None
    assert next_time(single, NOW, created_at=NOW, ends_at=at("2026-11-30T00:00")) is None
    assert next_time(single, NOW, created_at=NOW, ends_at=at("2026-12-01T00:00")) is not None


def _values(low, high, *, step=True):
    number = st.integers(low, high).map(str)
    ordered = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    ranges = ordered.map(lambda pair: f"{pair[0]}-{pair[1]}")
    forms = [number, ranges, st.just("*")]
    if step:
        forms.append(st.tuples(number, st.integers(1, high)).map(lambda p: f"{p[0]}/{p[1]}"))
        forms.append(st.integers(1, high).map(lambda n: f"*/{n}"))
    return st.lists(st.one_of(forms), min_size=1, max_size=3).map(",".join)


DAYS = st.one_of(
    st.tuples(
        st.one_of(
            _values(1, 31), st.just("L"), st.just("LW"), st.integers(1, 28).map("{}W".format)
        ),
        st.just("?"),
    ),
    st.tuples(
        st.just("?"),
        st.one_of(
            _values(1, 7),
            st.integers(1, 7).map("{}L".format),
            st.tuples(st.integers(1, 7), st.integers(1, 4)).map(lambda p: f"{p[0]}#{p[1]}"),
        ),
    ),
)
CRONS = st.tuples(_values(0, 59), _values(0, 23), DAYS, _values(1, 12)).map(
    lambda p: f"cron({p[0]} {p[1]} {p[2][0]} {p[3]} {p[2][1]} *)"
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


@settings(deadline=None)
@given(CRONS, ZONES, MOMENTS)
def test_the_next_time_is_later_and_nothing_lies_between(text, zone, moment):
    schedule = parse_schedule(text, zone)
    found = schedule.next_after(moment, moment)
    if found is None:
        assert "31" in text or "30" in text or "29" in text
        return
    assert found > moment
    assert found.second == found.microsecond == 0
    # Whoever asks a moment before is told the same: times are neither skipped nor moved.
    assert schedule.next_after(found - timedelta(microseconds=1), moment) == found
    between = moment + (found - moment) / 2
    assert schedule.next_after(between, moment) == found


@settings(deadline=None)
@given(CRONS, ZONES, MOMENTS)
def test_the_time_that_is_found_has_the_fields_that_were_asked_for(text, zone, moment):
    found = parse_schedule(text, zone).next_after(moment, moment)
    if found is None:
        return
    minutes, hours, _, months, _, _ = text[5:-1].split()
    wall = found.astimezone(ZoneInfo(zone))
    for field, value, low, high in (
        (minutes, wall.minute, 0, 59),
        (hours, wall.hour, 0, 23),
        (months, wall.month, 1, 12),
    ):
        assert any(_holds(item, value, low, high) for item in field.split(",")), (field, value)


def _holds(item, value, low, high):
    """Another reading of a field, to hold the first against."""
    span, _, step = item.partition("/")
    if span == "*":
        first, last = low, high
    elif "-" in span:
        first, last = map(int, span.split("-"))
    else:
        first, last = int(span), high if step else int(span)
    return first <= value <= last and (value - first) % int(step or 1) == 0


@settings(deadline=None)
@given(st.text(alphabet="0123456789*?/,-LW#MONFRI ", max_size=40), ZONES)
def test_no_text_breaks_the_parser(fields, zone):
    try:
        schedule = parse_schedule(f"cron({fields})", zone)
    except InvalidRequest:
        return
    found = schedule.next_after(NOW, NOW)
    assert found is None or found > NOW
