"""Carries out what alarms ask for: a table from the service in an action's ARN to who does it.

An action of a transition is on a list in the store until it was done, so that a restart finds it;
whether it worked stands in the alarm's history, as CloudWatch writes it. It is done at least once:
a crash between doing it and writing that down does it again.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from clary.clock import Clock
from clary.errors import Error
from clary.resources.alarm import Alarm, AlarmState, Transition
from clary.resources.alarm_events import notification
from clary.resources.alarm_history import acted
from clary.resources.names import Namespace
from clary.store.alarm_history import PendingAction
from clary.store.alarms import Alarms

REPEATED = frozenset({"autoscaling"})
"""Services whose actions are carried out again at each evaluation that finds the alarm on."""

TIMEOUT_S = 20.0
MAX_AT_ONCE = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmAction:
    """One action, for one transition of one alarm."""

    arn: str
    alarm: Alarm
    old: AlarmState
    new: AlarmState
    value: float | None
    """Newest data point of the alarm's metric; None where it is not known."""

    is_repeated: bool = False
    """Whether the alarm was in this state already."""


class ActionTarget(Protocol):
    """Carries out the actions of one service."""

    async def __call__(self, action: AlarmAction) -> None:
        """Do it.

        Raises:
            Error: It cannot be done; the message goes into the alarm's history.
        """
        ...


class Notifier(Protocol):
    """Publishes to topics."""

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Hand a message to a topic.

        Raises:
            Error: There is no such topic, or it cannot be reached.
        """
        ...


class TopicTarget:
    """The actions that are SNS topics: the message that CloudWatch would send."""

    def __init__(self, notifier: Notifier, namespace: Namespace) -> None:
        self._notifier = notifier
        self._namespace = namespace

    async def __call__(self, action: AlarmAction) -> None:
        # The alarm may be known as it was before the transition, or after a later one.
        alarm = replace(action.alarm, state=action.new)
        transition = Transition(alarm=alarm, old=action.old)
        subject, message = notification(transition, self._namespace)
        await self._notifier.publish(action.arn, subject, json.dumps(message))


class AlarmActions:
    """The actions of all alarms.

    Args:
        alarms: Where the list and the history are.
        targets: By the service that an ARN names: ``autoscaling``, ``sns``. May be filled later.
        clock: For the history.
    """

    def __init__(self, alarms: Alarms, targets: Mapping[str, ActionTarget], clock: Clock) -> None:
        self._alarms = alarms
        self._targets = targets
        self._clock = clock
        self._limit = asyncio.Semaphore(MAX_AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self._repeating: set[tuple[str, str]] = set()

    async def carry_out(self, find: Callable[[str], Alarm | None]) -> None:
        """Do all that is on the list; those of one alarm in order, several alarms side by side.

        Args:
            find: Returns an alarm by its name; of one that is gone nothing is done any more.
        """
        by_alarm: dict[str, list[PendingAction]] = {}
        for action in await self._alarms.history.pending():
            by_alarm.setdefault(action.alarm_name, []).append(action)
        async with asyncio.TaskGroup() as tasks:
            for name, actions in by_alarm.items():
                tasks.create_task(self._carry_out(find(name), actions))

    def repeat(self, alarm: Alarm, value: float | None) -> None:
        """Do those actions again that go on while an alarm is in its state. Does not wait."""
        if not alarm.actions_enabled:
            return
        for arn in alarm.actions(alarm.state.value):
            key = (alarm.name, arn)
            if service_of(arn) not in REPEATED or key in self._repeating:
                continue
            self._repeating.add(key)
            action = AlarmAction(
                arn=arn,
                alarm=alarm,
                old=alarm.state,
                new=alarm.state,
                value=value,
                is_repeated=True,
            )
            task = asyncio.get_running_loop().create_task(self._repeat(action))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Give up what is being repeated."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _carry_out(self, alarm: Alarm | None, actions: Sequence[PendingAction]) -> None:
        for pending in actions:
            item = None
            if alarm is not None:
                action = AlarmAction(
                    arn=pending.action,
                    alarm=alarm,
                    old=pending.old,
                    new=pending.new,
                    value=latest_value(pending.new.reason_data),
                )
                async with self._limit:
                    error = await self._try(action)
                item = acted(
                    alarm,
                    pending.action,
                    pending.new.transitioned_at,
                    self._clock.now(),
                    error,
                )
            await self._alarms.history.finish(pending, item)

    async def _repeat(self, action: AlarmAction) -> None:
        try:
            async with self._limit:
                error = await self._try(action)
            if error is not None:
                _log.warning("alarm %s: %s: %s", action.alarm.name, action.arn, error)
        finally:
            self._repeating.discard((action.alarm.name, action.arn))

    async def _try(self, action: AlarmAction) -> str | None:
        """Return why an action failed; None: it did not."""
        service = service_of(action.arn)
        target = self._targets.get(service)
        if target is None:
            return f"This server carries out no actions of {service or 'this kind'}."
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await target(action)
        except Error as error:
            return error.message
        except TimeoutError:
            return f"It took longer than {TIMEOUT_S:g} seconds."
        except Exception:  # noqa: BLE001 - a target's mistake is written down like any failure
            _log.exception("alarm %s: %s failed", action.alarm.name, action.arn)
            return "The server failed; its log has the details."
        return None


def service_of(arn: str) -> str:
    """Return the service that an ARN names; empty when it is none."""
    parts = arn.split(":", 5)
    return parts[2] if len(parts) == 6 and parts[0] == "arn" else ""


def latest_value(reason_data: str | None) -> float | None:
    """Return the newest data point of a ``StateReasonData``; None where it has none."""
    try:
        data: Any = json.loads(reason_data or "null")
        recent = data.get("recentDatapoints") if isinstance(data, dict) else None
        return float(recent[-1]) if recent else None
    except (ValueError, TypeError, KeyError):
        return None
