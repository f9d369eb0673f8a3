"""CloudWatch alarms: what one is, the state it is in, and how its name becomes an ARN.

An alarm is written by a user (or by a scaling policy) and judged by control. Its ``definition`` is
the accepted request, so that Describe gives back what was put; the rest is what control found out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from clary.resources.names import Namespace, partition_of

INITIAL_REASON = "Unchecked: Initial alarm creation"
"""AWS's reason of an alarm that was never evaluated."""

_ARN = re.compile(r"arn:aws[a-z-]*:cloudwatch:[a-z0-9-]*:\d{12}:alarm:(?P<name>.+)\Z", re.DOTALL)


class AlarmValue(StrEnum):
    """The three states."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class AlarmType(StrEnum):
    """What an alarm watches: a metric (or an expression over several), or other alarms."""

    METRIC = "MetricAlarm"
    COMPOSITE = "CompositeAlarm"


class Suppression(StrEnum):
    """Why a composite alarm's actions wait."""

    WAIT_PERIOD = "WaitPeriod"
    EXTENSION_PERIOD = "ExtensionPeriod"
    ALARM = "Alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """What an alarm was last found to be."""

    value: AlarmValue
    reason: str
    reason_data: str | None = None
    """JSON, as AWS writes it."""

    updated_at: datetime
    """When value or reason were last written."""

    transitioned_at: datetime
    """When the value last changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Actions of a composite alarm's transition that its suppressor holds back."""

    announced: AlarmValue
    """The state that actions were last carried out for."""

    since: datetime
    """When the transition happened."""

    by: Suppression


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm."""

    name: str
    """Unique in its case: alarms ``a`` and ``A`` are two."""

    arn: str
    type: AlarmType
    definition: Mapping[str, Any]
    """The accepted request without name and tags, JSON types."""

    revision: int
    """1, and one more with each change of the definition."""

    configured_at: datetime
    state: AlarmState
    withheld: Withheld | None = None

    @property
    def actions_enabled(self) -> bool:
        """Whether transitions run actions."""
        return bool(self.definition.get("ActionsEnabled", True))

    def actions(self, value: AlarmValue) -> Sequence[str]:
        """Return the ARNs to act on when this state is entered, whether enabled or not."""
        return tuple(self.definition.get(ACTION_MEMBERS[value], ()))


ACTION_MEMBERS: Mapping[AlarmValue, str] = {
    AlarmValue.OK: "OKActions",
    AlarmValue.ALARM: "AlarmActions",
    AlarmValue.INSUFFICIENT_DATA: "InsufficientDataActions",
}
"""Which member of a request has the actions of a state."""


def alarm_arn(namespace: Namespace, name: str) -> str:
    """Return the ARN of an alarm; it keeps the name's case."""
    return (
        f"arn:{partition_of(namespace.region)}:cloudwatch:{namespace.region}:{namespace.account}"
        f":alarm:{name}"
    )


def alarm_name(name_or_arn: str) -> str:
    """Return the name of an alarm that was named by its name or by its ARN."""
    match = _ARN.match(name_or_arn)
    return name_or_arn if match is None else match["name"]


def metric_id(namespace: str, name: str, dimensions: Sequence[Mapping[str, str]]) -> str:
    """Return one text for a metric, equal for equal metrics: what alarms are looked up by."""
    pairs = sorted((d["Name"], d["Value"]) for d in dimensions)
    return "\x1f".join([namespace, name, *(f"{key}={value}" for key, value in pairs)])


def stamp(moment: datetime) -> str:
    """Return a time as CloudWatch writes it inside JSON: milliseconds, ``+0000``."""
    # Some thousand alarms may go off at once, and strftime is slow.
    return f"{moment.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}+0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An alarm came from one state into another."""

    alarm: Alarm
    """As it was when that happened, in its new state."""

    old: AlarmState

    @property
    def new(self) -> AlarmState:
        """The state it is in now."""
        return self.alarm.state
