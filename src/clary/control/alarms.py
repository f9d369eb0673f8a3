"""Judges alarms: reads their points, asks the rules, writes down what has changed.

Metric alarms are judged together, at the steps of the clock: every ten seconds those with a period
of less than a minute, every minute the others, a moment after the step so that what belongs to it
has come in. All are held in memory, and their points are read from the metrics' memory, so that a
pass over ten thousand alarms asks the database nothing and writes only what has changed.

Three things come in between:

- An alarm that is put is judged at once.
- An unfinished period is looked at every five seconds where a breach in it is certain to stay
  (``alarm_rule.is_certain``) and the period is shorter than a minute.
- A composite alarm is judged when an alarm in its rule has changed, and not otherwise: what
  SetAlarmState made of it stays until then.

The wall clock may jump. Steps are then taken from the new time, but an alarm is left as it is until
all of its range lies after the jump: a gap in the points that only the clock made is no news.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from clary.clock import Clock
from clary.control.alarm_actions import AlarmActions
from clary.control.alarm_points import AlarmPoints, moment
from clary.control.alarm_reason import (
    Evaluation,
    composite_reason,
    composite_reason_data,
    metric_reason,
    metric_reason_data,
)
from clary.control.alarm_rule import Points, Verdict, judge
from clary.control.alarm_watch import (
    CompositeWatch,
    MetricWatch,
    Watches,
    read_composite_alarm,
    read_metric_alarm,
)
from clary.control.suppression import Suppressor, hold_of
from clary.errors import InvalidRequest, TransientError
from clary.resources.alarm import Alarm, AlarmState, AlarmType, AlarmValue
from clary.resources.alarm_expression import holds
from clary.store.alarm_transitions import Finding
from clary.store.alarms import KIND, Alarms, version_of
from clary.store.changes import Changes

TICK_S = 1.0
LAG_S = 2.0
"""How long after a step points may still come in."""

LOOK_S = 5
"""How often an unfinished period is looked at."""

JUMP_S = 10.0
"""A difference between the clocks from which on the wall clock has jumped. More than what a process
that was stopped for a moment makes of it."""

SWEEP_S = 60.0
PRUNE_EVERY = 60
"""Sweeps from one pruning of histories to the next."""

IN_ONE_TURN = 100
"""Alarms that are judged, and written in one transaction, before others get their turn."""

log = logging.getLogger(__name__)


class AlarmLoops:
    """Keeps all alarms what their metrics, or other alarms, say.

    Args:
        alarms: Where they are.
        changes: Says which were put, deleted, or set by hand.
        points: What they are judged by.
        actions: Who carries out what they ask for.
        clock: Both clocks.
    """

    def __init__(
        self,
        alarms: Alarms,
        changes: Changes,
        points: AlarmPoints,
        actions: AlarmActions,
        clock: Clock,
    ) -> None:
        self._alarms = alarms
        self._changes = changes
        self._points = points
        self._actions = actions
        self._clock = clock
        self._watches = Watches()
        self._undone = asyncio.Event()
        self._offset_s = self._clock_offset()
        self._valid_from = 0.0
        """Ranges that begin earlier are not judged, in seconds since 1970."""

    async def run(self) -> None:
        """Judge until cancelled."""
        changed = self._changes.subscribe()
        try:
            await self.open()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(changed))
                tasks.create_task(self._tick())
                tasks.create_task(self._sweep())
                tasks.create_task(self._act())
        finally:
            self._changes.unsubscribe(changed)
            await self._actions.close()

    # -- what there is ----------------------------------------------------------------------

    async def open(self) -> None:
        """Read all alarms, and do what a restart interrupted. Called by ``run``."""
        for alarm in await self._alarms.all():
            self._take(alarm)
        # A composite alarm that did not hear of the change that came before the end is told now.
        for watch in list(self._composites()):
            states = [s.transitioned_at for _, s in self._states_of(watch.children)]
            newest = max([watch.alarm.configured_at, *states])
            if newest >= watch.alarm.state.updated_at:
                is_new = watch.alarm.configured_at >= watch.alarm.state.updated_at
                await self._judge_composite(watch, is_new=is_new)
        self._undone.set()

    async def _follow(self, changed: asyncio.Queue[tuple[str, str]]) -> None:
        while True:
            kind, name = await changed.get()
            names = {name} if kind == KIND else set()
            while not changed.empty():
                kind, name = changed.get_nowait()
                if kind == KIND:
                    names.add(name)
            if names:
                await self._guarded("alarms were not read anew", self.refresh(names))

    async def refresh(self, names: Iterable[str]) -> None:
        """Read alarms anew, and do what follows from what has changed of them."""
        names = set(names)
        found = await self._alarms.load(list(names))
        fresh: list[str] = []
        moved: set[str] = set()
        for name in names:
            watch = self._watch(name)
            before = None if watch is None else watch.alarm
            alarm = found.get(name)
            if alarm is None:
                self._watches.remove(name)
                moved.add(name)
                continue
            self._take(alarm)
            if before is None or _is_other(before, alarm):
                fresh.append(name)
            if before is None or before.state != alarm.state:
                moved.add(name)
        parents = {p for name in moved for p in self._watches.parents.get(name, ())}
        await self._judge([w for n in fresh if isinstance(w := self._watch(n), MetricWatch)])
        for name in {*parents, *fresh}:
            watch = self._watch(name)
            if isinstance(watch, CompositeWatch):
                await self._judge_composite(watch, is_new=name in fresh)
        await self._settle_withheld()
        self._undone.set()

    def _take(self, alarm: Alarm) -> None:
        present = self._watches.by_name.get(alarm.name)
        if present is not None and not _is_other(present.alarm, alarm):
            present.alarm = alarm
            return
        try:
            if alarm.type is AlarmType.COMPOSITE:
                self._watches.put(read_composite_alarm(alarm))
            else:
                self._watches.put(read_metric_alarm(alarm))
        except (InvalidRequest, LookupError, ValueError):
            log.exception("alarm %s cannot be read; it stays as it is", alarm.name)
            self._watches.remove(alarm.name)

    def _watch(self, name: str) -> MetricWatch | CompositeWatch | None:
        return self._watches.by_name.get(name)

    def _composites(self) -> Iterable[CompositeWatch]:
        return (w for w in self._watches.by_name.values() if isinstance(w, CompositeWatch))

    # -- when -------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._guarded("alarms were not judged", self.tick())

    async def tick(self) -> None:
        """Judge the alarms whose time has come."""
        now = self._now()
        self._mind_jumps(now)
        await self._judge(
            [
                watch
                for watch in self._watches.by_name.values()
                if isinstance(watch, MetricWatch) and self._is_due(watch, now)
            ]
        )
        await self._settle_withheld()

    def _is_due(self, watch: MetricWatch, now: float) -> bool:
        if _step(now - LAG_S, watch.step_s) != watch.judged_end:
            return True
        return _looks_ahead(watch) and abs(now - watch.looked_at) >= LOOK_S

    def _mind_jumps(self, now: float) -> None:
        offset_s = self._clock_offset()
        if abs(offset_s - self._offset_s) > JUMP_S:
            log.warning("the clock jumped by %.0f s", offset_s - self._offset_s)
            self._valid_from = now
        self._offset_s = offset_s

    async def _sweep(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._guarded("a sweep failed", self.sweep())
            sweeps += 1
            if sweeps % PRUNE_EVERY == 1:
                await self._guarded("histories stay long", self._alarms.history.prune())

    async def sweep(self) -> None:
        """Find what a lost notice did not tell."""
        versions = await self._alarms.versions()
        known = {name: version_of(watch.alarm) for name, watch in self._watches.by_name.items()}
        differing = {
            name for name in versions.keys() | known.keys() if versions.get(name) != known.get(name)
        }
        if differing:
            await self.refresh(differing)
        self._undone.set()

    # -- metric alarms ----------------------------------------------------------------------

    async def _judge(self, watches: Sequence[MetricWatch]) -> None:
        for start in range(0, len(watches), IN_ONE_TURN):
            part = watches[start : start + IN_ONE_TURN]
            findings: list[Finding] = []
            for watch in part:
                try:
                    finding = await self._judge_metric(watch)
                except TransientError as error:
                    log.warning("alarm %s: %s", watch.alarm.name, error)
                except Exception:
                    log.exception("alarm %s was not judged", watch.alarm.name)
                else:
                    findings += [] if finding is None else [finding]
            if findings:
                await self._record(findings)
            await asyncio.sleep(0)

    async def _record(self, findings: Sequence[Finding]) -> None:
        try:
            await self._alarms.record(findings)
        except TransientError as error:
            log.warning("alarms are judged again, for their states were not written: %s", error)
            for finding in findings:
                watch = self._watch(finding.alarm.name)
                if isinstance(watch, MetricWatch):
                    watch.judged_end = 0

    async def _judge_metric(self, watch: MetricWatch) -> Finding | None:
        """Return the state that an alarm is found to be in, when it is another one."""
        now = self._now()
        end = _step(now - LAG_S, watch.step_s)
        is_due, watch.judged_end = end != watch.judged_end, end
        rule = watch.rule
        if end - watch.period_s * rule.periods < self._valid_from:
            return None
        if _looks_ahead(watch):
            watch.looked_at = int(now)
            ahead = _step(now, watch.step_s) + watch.step_s
            points = await self._points.read(watch, ahead)
            verdict = judge(rule, points, watch.alarm.state.value)
            newest = points[-1]
            if (
                verdict.value is AlarmValue.ALARM
                and not verdict.is_kept
                and newest is not None
                and rule.is_breaching(newest)
            ):
                return self._conclude(watch, points, ahead, verdict, is_due=is_due)
        if not is_due:
            return None
        try:
            points = await self._points.read(watch, end)
        except InvalidRequest as error:
            return self._failed(watch, error)
        if await self._points.is_insignificant(watch, points, end):
            return None
        return self._conclude(
            watch, points, end, judge(rule, points, watch.alarm.state.value), is_due=True
        )

    def _conclude(
        self, watch: MetricWatch, points: Points, end: int, verdict: Verdict, *, is_due: bool
    ) -> Finding | None:
        alarm = watch.alarm
        watch.latest = next((p for p in reversed(points) if p is not None), None)
        if verdict.value is not alarm.state.value:
            evaluation = Evaluation(
                rule=watch.rule,
                points=points,
                start=moment(end - watch.period_s * len(points)),
                period_s=watch.period_s,
                verdict=verdict,
                at=self._clock.now(),
                statistic=watch.statistic or None,
                unit=watch.unit,
            )
            return Finding(
                alarm=alarm,
                value=verdict.value,
                reason=metric_reason(evaluation),
                reason_data=metric_reason_data(evaluation),
            )
        if is_due and alarm.state.value is AlarmValue.ALARM:
            self._actions.repeat(alarm, watch.latest)
        return None

    def _failed(self, watch: MetricWatch, error: InvalidRequest) -> Finding | None:
        if watch.alarm.state.value is AlarmValue.INSUFFICIENT_DATA:
            return None
        reason = f"Insufficient Data: the alarm could not be evaluated: {error.message}"
        return Finding(alarm=watch.alarm, value=AlarmValue.INSUFFICIENT_DATA, reason=reason[:1023])

    # -- composite alarms -------------------------------------------------------------------

    async def _judge_composite(self, watch: CompositeWatch, *, is_new: bool) -> None:
        def state_of(name: str) -> AlarmValue:
            child = self._watch(name)
            return AlarmValue.INSUFFICIENT_DATA if child is None else child.alarm.state.value

        alarm = watch.alarm
        value = AlarmValue.ALARM if holds(watch.rule, state_of) else AlarmValue.OK
        if value is alarm.state.value:
            return
        states = self._states_of(watch.children)
        newest = max(states, key=lambda pair: pair[1].transitioned_at, default=None)
        trigger = None if is_new or newest is None else newest
        shown = states if trigger is None else [trigger]
        await self._alarms.record(
            [
                Finding(
                    alarm=alarm,
                    value=value,
                    reason=composite_reason(alarm, value, trigger),
                    reason_data=composite_reason_data(shown),
                )
            ]
        )

    def _states_of(self, names: Iterable[str]) -> list[tuple[str, AlarmState]]:
        found = (self._watch(name) for name in names)
        return [(w.alarm.arn, w.alarm.state) for w in found if w is not None]

    async def _settle_withheld(self) -> None:
        now = self._clock.now()
        for watch in list(self._composites()):
            withheld = watch.alarm.withheld
            if withheld is None:
                continue
            definition = watch.alarm.definition
            by = None if watch.suppressor is None else self._watch(watch.suppressor)
            suppressor = Suppressor(
                state=None if by is None else by.alarm.state,
                wait_s=definition.get("ActionsSuppressorWaitPeriod", 0),
                extension_s=definition.get("ActionsSuppressorExtensionPeriod", 0),
            )
            hold = hold_of(withheld, suppressor, now)
            if hold is None:
                await self._alarms.release(watch.alarm)
            elif hold.by is not withheld.by:
                await self._alarms.withhold(watch.alarm, hold.by)

    # -- the rest ---------------------------------------------------------------------------

    async def _act(self) -> None:
        while True:
            await self._undone.wait()
            self._undone.clear()
            await self._guarded("actions wait", self._actions.carry_out(self.find))

    def find(self, name: str) -> Alarm | None:
        """Return an alarm by its name, as it was last read."""
        watch = self._watch(name)
        return None if watch is None else watch.alarm

    def states(self) -> Mapping[AlarmValue, int]:
        """Return how many alarms are in which state, as they were last read."""
        return Counter(watch.alarm.state.value for watch in self._watches.by_name.values())

    async def _guarded(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TransientError as error:
            log.warning("%s: %s", what, error)
        except Exception:
            log.exception("%s", what)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _clock_offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()


def _is_other(one: Alarm, two: Alarm) -> bool:
    """Whether an alarm was changed, or deleted and made anew, which begins at revision 1 again."""
    return (one.revision, one.configured_at) != (two.revision, two.configured_at)


def _looks_ahead(watch: MetricWatch) -> bool:
    return watch.is_certain and watch.period_s < 60


def _step(seconds: float, step_s: int) -> int:
    return int(seconds // step_s * step_s)
