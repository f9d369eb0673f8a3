"""Schedules: ``at(...)``, ``rate(...)`` and ``cron(...)`` as Application Auto Scaling writes them.

Cron expressions have AWS's six fields (minutes, hours, day of month, month, day of week, year), or
seven with seconds in front. No cron library reads this dialect: ``?``, ``W`` with a day, years, and
weeks that count from SUN=1.

Wall time is what a schedule names. A time that a change of clocks leaves out is skipped, and one
that comes twice counts once, the first time.

Pure: the time is an argument.
"""

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from clary.errors import InvalidRequest

FIRST_YEAR, LAST_YEAR = 1970, 2199

_MONTHS = {name.upper(): i for i, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: i for i, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_UNITS_S = {"minute": 60, "hour": 3600, "day": 86400}
_AT = re.compile(r"at\((?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?)\)\Z")
_RATE = re.compile(r"rate\((?P<value>\d+) (?P<unit>minute|hour|day)(?P<plural>s?)\)\Z")
_CRON = re.compile(r"cron\((?P<fields>[^()]*)\)\Z")
_ITEM = re.compile(r"(?P<low>\*|\w+)(-(?P<high>\w+))?(/(?P<step>\d+))?\Z")


class Schedule(Protocol):
    """When something is to be done."""

    def next_after(self, moment: datetime, start: datetime) -> datetime | None:
        """Return the first time after ``moment``, in UTC; None: never again.

        Args:
            moment: Aware.
            start: From when on the schedule counts: a rate's first time.
        """
        ...


def parse_schedule(text: str, timezone: str | None = None) -> Schedule:
    """Read a schedule.

    Args:
        text: Such as ``cron(0 10 * * ? *)``.
        timezone: IANA name of the zone whose wall time is meant. None: UTC.

    Raises:
        InvalidRequest: It is none, or its zone is not known.
    """
    zone = _parse_zone(timezone)
    if match := _AT.match(text):
        try:
            wall = datetime.fromisoformat(match["time"])
        except ValueError as error:
            raise InvalidRequest(f"Invalid Schedule Expression {text}: {error}.") from None
        return At(_instant(wall, zone) or wall.replace(tzinfo=zone).astimezone(UTC))
    if match := _RATE.match(text):
        value = int(match["value"])
        if value < 1 or (value == 1) == bool(match["plural"]):
            raise InvalidRequest(
                f"Invalid Schedule Expression {text}: the value must be positive, and the unit "
                "singular with 1 and plural otherwise."
            )
        try:
            return Rate(timedelta(seconds=value * _UNITS_S[match["unit"]]))
        except OverflowError:
            raise InvalidRequest(f"Invalid Schedule Expression {text}: it never fires.") from None
    if match := _CRON.match(text):
        try:
            return parse_cron(match["fields"], zone)
        except ValueError as error:
            raise InvalidRequest(f"Invalid Schedule Expression {text}: {error}.") from None
    raise InvalidRequest(
        f"Invalid Schedule Expression {text}: at(yyyy-mm-ddThh:mm:ss), rate(value unit) or "
        "cron(fields) is wanted."
    )


def next_time(
    schedule: Schedule,
    after: datetime,
    *,
    created_at: datetime,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> datetime | None:
    """Return when a scheduled action is due next; None: never.

    One that recurs is due at its start, whatever the schedule says, and then by the schedule.

    Args:
        schedule: By which it recurs.
        after: The time to look from.
        created_at: When the action was made: a rate counts from here.
        starts_at: Not earlier than this.
        ends_at: Not later than this.
    """
    found: datetime | None
    if starts_at is not None and after < starts_at and not isinstance(schedule, At):
        found = starts_at
    else:
        found = schedule.next_after(after, starts_at or created_at)
    return None if found is None or (ends_at is not None and found > ends_at) else found


@dataclass(frozen=True, slots=True)
class At:
    """Once."""

    moment: datetime

    def next_after(self, moment: datetime, start: datetime) -> datetime | None:
        return self.moment if self.moment > moment and self.moment >= start else None


@dataclass(frozen=True, slots=True)
class Rate:
    """At its start, and again and again after it."""

    every: timedelta

    def next_after(self, moment: datetime, start: datetime) -> datetime | None:
        if moment < start:
            return start
        try:
            return start + ((moment - start) // self.every + 1) * self.every
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Cron:
    """By the calendar of a zone."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: "DayRule"
    months: frozenset[int]
    years: frozenset[int]
    zone: ZoneInfo

    def next_after(self, moment: datetime, start: datetime) -> datetime | None:
        after = max(moment, start - timedelta(microseconds=1))
        # Wall times a while back may still lie ahead, where clocks were put back.
        local = (after - timedelta(hours=3)).astimezone(self.zone)
        for day in self._dates(local.date()):
            for wall in self._times(day, local.replace(tzinfo=None)):
                instant = _instant(wall, self.zone)
                if instant is not None and instant > after:
                    return instant
        return None

    def _dates(self, first: date) -> Iterator[date]:
        for year in sorted(year for year in self.years if year >= first.year):
            for month in sorted(self.months):
                if (year, month) < (first.year, first.month):
                    continue
                for day in self.days.of_month(year, month):
                    found = date(year, month, day)
                    if found >= first:
                        yield found

    def _times(self, day: date, not_before: datetime) -> Iterator[datetime]:
        is_first = day == not_before.date()
        for hour in self.hours:
            if is_first and hour < not_before.hour:
                continue
            for minute in self.minutes:
                for second in self.seconds:
                    yield datetime.combine(day, time(hour, minute, second))


@dataclass(frozen=True, slots=True)
class DayRule:
    """Which days of a month: by their number, or by their day of the week."""

    numbers: frozenset[int] = frozenset()
    """Days of the month, 1 to 31."""
    is_last: bool = False
    """The last day of the month too."""
    nearest_weekdays: frozenset[int] = frozenset()
    """The working days nearest to these days, in the same month. 0: the last working day."""
    weekdays: frozenset[int] = frozenset()
    """Days of the week, SUN=1."""
    last_weekdays: frozenset[int] = frozenset()
    """The last such day of the week in the month."""
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()
    """Day of the week, and the how manieth in the month."""

    def of_month(self, year: int, month: int) -> list[int]:
        """Return the days, in order."""
        first, length = calendar.monthrange(year, month)  # first: Monday is 0
        return [day for day in range(1, length + 1) if self._matches(day, first, length)]

    def _matches(self, day: int, first: int, length: int) -> bool:
        weekday = _weekday(day, first)
        if day in self.numbers or weekday in self.weekdays:
            return True
        if self.is_last and day == length:
            return True
        if weekday in self.last_weekdays and day + 7 > length:
            return True
        if (weekday, (day - 1) // 7 + 1) in self.nth_weekdays:
            return True
        return any(
            day == _nearest_weekday(wanted or length, first, length)
            for wanted in self.nearest_weekdays
            if wanted <= length
        )


def parse_cron(fields: str, zone: ZoneInfo) -> Cron:
    """Read the fields of a cron expression.

    Raises:
        ValueError: They are none, with what is wrong.
    """
    parts = fields.upper().split()
    if len(parts) not in (6, 7):
        raise ValueError("a cron expression has six fields, or seven with seconds")
    seconds, minutes, hours, day, month, weekday, year = ["0", *parts][-7:]
    if (day == "?") == (weekday == "?"):
        raise ValueError("exactly one of day-of-month and day-of-week must be ?")
    return Cron(
        seconds=_sorted(seconds, 0, 59),
        minutes=_sorted(minutes, 0, 59),
        hours=_sorted(hours, 0, 23),
        days=_parse_weekdays(weekday) if day == "?" else _parse_days(day),
        months=_parse_field(month, 1, 12, _MONTHS),
        years=_parse_field(year, FIRST_YEAR, LAST_YEAR),
        zone=zone,
    )


def _parse_days(field: str) -> DayRule:
    plain, nearest, is_last = [], set(), False
    for item in field.split(","):
        if item == "L":
            is_last = True
        elif item == "LW":
            nearest.add(0)
        elif item.endswith("W"):
            nearest.add(_number(item[:-1], 1, 31))
        else:
            plain.append(item)
    numbers = _parse_field(",".join(plain), 1, 31) if plain else frozenset()
    return DayRule(numbers=numbers, is_last=is_last, nearest_weekdays=frozenset(nearest))


def _parse_weekdays(field: str) -> DayRule:
    plain, last, nth = [], set(), set()
    for item in field.split(","):
        if "#" in item:
            day, _, count = item.partition("#")
            nth.add((_number(day, 1, 7, _DAYS), _number(count, 1, 5)))
        elif item == "L":
            plain.append("7")
        elif item.endswith("L"):
            last.add(_number(item[:-1], 1, 7, _DAYS))
        else:
            plain.append(item)
    weekdays = _parse_field(",".join(plain), 1, 7, _DAYS) if plain else frozenset()
    return DayRule(weekdays=weekdays, last_weekdays=frozenset(last), nth_weekdays=frozenset(nth))


def _parse_field(
    field: str, low: int, high: int, names: Mapping[str, int] | None = None
) -> frozenset[int]:
    found: set[int] = set()
    for item in field.split(","):
        match = _ITEM.match(item)
        if match is None:
            raise ValueError(f"{item!r} is no value of a field")
        step = int(match["step"] or 1)
        if step < 1:
            raise ValueError(f"{item!r} has a step of 0")
        if match["low"] == "*":
            if match["high"]:
                raise ValueError(f"{item!r} is no value of a field")
            first, last = low, high
        else:
            first = _number(match["low"], low, high, names)
            last = first
            if match["high"]:
                last = _number(match["high"], low, high, names)
            elif match["step"]:
                last = high
        if first <= last:
            found.update(range(first, last + 1, step))
        elif names is None:
            raise ValueError(f"{item!r} runs backwards")
        else:  # FRI-MON goes over the end of the week
            found.update((*range(first, high + 1), *range(low, last + 1))[::step])
    return frozenset(found)


def _sorted(field: str, low: int, high: int) -> tuple[int, ...]:
    return tuple(sorted(_parse_field(field, low, high)))


def _number(text: str, low: int, high: int, names: Mapping[str, int] | None = None) -> int:
    if names and text in names:
        return names[text]
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not between {low} and {high}")
    return int(text)


def _weekday(day: int, first: int) -> int:
    """Return the day of the week, SUN=1, of a day in a month whose first has this one (MON=0)."""
    return (first + day) % 7 + 1


def _nearest_weekday(wanted: int, first: int, length: int) -> int:
    """Return the working day nearest to a day, without leaving the month."""
    weekday = _weekday(wanted, first)
    if weekday == _DAYS["SAT"]:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == _DAYS["SUN"]:
        return wanted + 1 if wanted < length else wanted - 2
    return wanted


def _parse_zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(f"Invalid timezone: {name}.") from None


def _instant(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """Return when it is this wall time, in UTC; None: never, for clocks are put forward over it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    return instant if instant.astimezone(zone).replace(tzinfo=None) == wall else None
