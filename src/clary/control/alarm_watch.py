"""What control has to do for one alarm: its definition, read once and made ready. Pure.

Periods are aligned to the moment of evaluation, as CloudWatch's are: a range of 5-minute points
that is read at 17:03 ends at 17:03. So every alarm is judged at every step of the clock, which is a
minute, or ten seconds for an alarm of less than a minute's period. The points of an expression
begin at multiples of their period, and it is judged at those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clary.control.alarm_rule import (
    AlarmRule,
    MissingData,
    is_certain,
    samples_needed,
)
from clary.metrics.expressions import MetricQuery, MetricStat
from clary.metrics.key import MetricKey
from clary.resources.alarm import Alarm, alarm_name
from clary.resources.alarm_expression import Rule, children, parse_rule

FINE_STEP_S = 10
STEP_S = 60


@dataclass(slots=True, kw_only=True)
class MetricWatch:
    """A metric alarm, and what control keeps of it between two evaluations."""

    alarm: Alarm
    rule: AlarmRule
    period_s: int
    key: MetricKey | None
    """None: it watches an expression."""

    statistic: str
    """Empty for an expression."""

    unit: str | None
    queries: Sequence[MetricQuery]
    """Of the expression; empty for a metric."""

    result: str
    """Which of the queries is watched."""

    samples: float | None
    """How many samples a percentile needs, where the alarm minds; else None."""

    is_certain: bool
    """Whether a breach in an unfinished period counts."""

    latest: float | None = None
    """Newest point that was read."""

    judged_end: int = 0
    """End of the range that was judged last, in seconds since 1970. 0: none since it was read."""

    looked_at: int = 0
    """When its unfinished period was last looked at, in seconds since 1970."""

    @property
    def step_s(self) -> int:
        """How often it is judged."""
        if self.queries:
            return self.period_s
        return FINE_STEP_S if self.period_s < STEP_S else STEP_S


@dataclass(slots=True, kw_only=True)
class CompositeWatch:
    """A composite alarm."""

    alarm: Alarm
    rule: Rule
    children: tuple[str, ...]
    """Names of the alarms in its rule."""

    suppressor: str | None = None


Watch = MetricWatch | CompositeWatch


@dataclass(slots=True)
class Watches:
    """All alarms by name, and which composite ones look at them."""

    by_name: dict[str, Watch] = field(default_factory=dict)
    parents: dict[str, set[str]] = field(default_factory=dict)

    def put(self, watch: Watch) -> None:
        """Add or replace an alarm."""
        self.remove(watch.alarm.name)
        self.by_name[watch.alarm.name] = watch
        if isinstance(watch, CompositeWatch):
            for child in watch.children:
                self.parents.setdefault(child, set()).add(watch.alarm.name)

    def remove(self, name: str) -> None:
        """Forget an alarm."""
        watch = self.by_name.pop(name, None)
        if isinstance(watch, CompositeWatch):
            for child in watch.children:
                parents = self.parents.get(child, set())
                parents.discard(name)
                if not parents:
                    self.parents.pop(child, None)


def read_metric_alarm(alarm: Alarm) -> MetricWatch:
    """Return what there is to do for a metric alarm."""
    definition = alarm.definition
    rule = AlarmRule(
        comparison=definition["ComparisonOperator"],
        threshold=float(definition["Threshold"]),
        periods=int(definition["EvaluationPeriods"]),
        datapoints=int(definition.get("DatapointsToAlarm", definition["EvaluationPeriods"])),
        missing=MissingData(definition.get("TreatMissingData", MissingData.MISSING)),
    )
    queries = definition.get("Metrics", ())
    if queries:
        result = next(query for query in queries if query.get("ReturnData", True))
        only = result.get("MetricStat") if len(queries) == 1 else None
        if only is None:
            return MetricWatch(
                alarm=alarm,
                rule=rule,
                period_s=expression_period(queries),
                key=None,
                statistic="",
                unit=None,
                queries=[_query(query) for query in queries],
                result=result["Id"],
                samples=None,
                is_certain=False,
            )
        source: Mapping[str, Any] = only["Metric"]
        statistic, period_s, unit = only["Stat"], only["Period"], only.get("Unit")
    else:
        source = definition
        statistic = definition.get("Statistic") or definition["ExtendedStatistic"]
        period_s, unit = definition["Period"], definition.get("Unit")
    minds = definition.get("EvaluateLowSampleCountPercentile") == "ignore"
    return MetricWatch(
        alarm=alarm,
        rule=rule,
        period_s=period_s,
        key=_key(source),
        statistic=statistic,
        unit=unit,
        queries=(),
        result="",
        samples=samples_needed(float(statistic[1:]) / 100)
        if minds and statistic.startswith("p")
        else None,
        is_certain=is_certain(rule.comparison, statistic, source["Namespace"]),
    )


def expression_period(queries: Sequence[Mapping[str, Any]]) -> int:
    """Return the period of an expression's points: the one that its metrics share, or its own."""
    periods = [q["MetricStat"]["Period"] for q in queries if "MetricStat" in q]
    own = [q["Period"] for q in queries if "Expression" in q and "Period" in q]
    return int(max(periods or own or [STEP_S]))


def _query(query: Mapping[str, Any]) -> MetricQuery:
    metric = None
    if "MetricStat" in query:
        stat = query["MetricStat"]
        metric = MetricStat(
            key=_key(stat["Metric"]),
            period_s=stat["Period"],
            statistic=stat["Stat"],
            unit=stat.get("Unit"),
        )
    return MetricQuery(
        id=query["Id"],
        metric=metric,
        expression=query.get("Expression"),
        period_s=query.get("Period"),
    )


def _key(source: Mapping[str, Any]) -> MetricKey:
    dimensions = {d["Name"]: d["Value"] for d in source.get("Dimensions", ())}
    return MetricKey.of(source["Namespace"], source["MetricName"], dimensions)


def read_composite_alarm(alarm: Alarm) -> CompositeWatch:
    """Return what there is to do for a composite alarm."""
    rule = parse_rule(alarm.definition["AlarmRule"])
    return CompositeWatch(
        alarm=alarm,
        rule=rule,
        children=children(rule),
        suppressor=suppressor_of(alarm),
    )


def suppressor_of(alarm: Alarm) -> str | None:
    """Return the name of the alarm that holds this one's actions back."""
    named = alarm.definition.get("ActionsSuppressor")
    return alarm_name(named) if named else None
