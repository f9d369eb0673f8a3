"""Alarms: where users and scaling policies put them, and control writes what it found.

Control's writes name the revision and the state that they were computed from; when either has
moved on meanwhile, the write does nothing. A transition, its history, the event that tells of it
and the actions that follow from it are one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.errors import InvalidRequest, LimitExceeded, NotFound
from clary.resources.alarm import (
    INITIAL_REASON,
    Alarm,
    AlarmState,
    AlarmType,
    AlarmValue,
    Suppression,
)
from clary.resources.alarm_history import configured
from clary.resources.names import Namespace
from clary.store.alarm_filter import AlarmFilter, acts_on, conditions
from clary.store.alarm_history import AlarmHistory, insert_actions, insert_items
from clary.store.alarm_links import check_children, check_parents
from clary.store.alarm_rows import dump_withheld, find, get, select, state_values, to_alarm
from clary.store.alarm_transitions import AppendEvents, Finding, write_states
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.events import append_events
from clary.store.listing import Page
from clary.store.schema import alarm_children, alarms
from clary.store.tags import MAX_TAGS

KIND = "alarm"
"""What the change feed calls them."""

_IN_ONE_QUERY = 500
"""Most names in one ``IN``: databases bound the parameters of a statement."""

Version: TypeAlias = tuple[int, AlarmValue, datetime]
"""Revision, value, and time of the state."""


class Alarms:
    """All alarms."""

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._clock = clock
        self.history = AlarmHistory(database, changes, clock)
        self.append_events: AppendEvents = append_events
        """Where the events of transitions go; None: nowhere."""

    # -- what is wanted ---------------------------------------------------------------------

    async def put(
        self,
        name: str,
        alarm_type: AlarmType,
        definition: Mapping[str, Any],
        *,
        metric_id: str | None = None,
        children: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Create an alarm, in INSUFFICIENT_DATA, or change one, which keeps its state.

        Args:
            name: Its name.
            alarm_type: What it watches; an alarm cannot become one of another type.
            definition: The request without name and tags, JSON types.
            metric_id: Its metric, from ``resources.alarm.metric_id``, where it has just one.
            children: Names of the alarms that a composite one watches, its suppressor included.
            tags: Of a new alarm; those of an existing one stay as they are.

        Raises:
            InvalidRequest: It is there with another type, it would watch itself, directly or
                through others, or an alarm that it watches is not there.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            present = find(connection, self._namespace, name)
            if present is not None and present.type is not alarm_type:
                raise InvalidRequest(
                    f"An alarm with the name {name} exists already, and it is a {present.type}."
                )
            check_children(connection, name, children)
            values = {
                "definition": dict(definition),
                "metric_id": metric_id,
                "configured_at": now,
            }
            if present is None:
                initial = AlarmState(
                    value=AlarmValue.INSUFFICIENT_DATA,
                    reason=INITIAL_REASON,
                    updated_at=now,
                    transitioned_at=now,
                )
                connection.execute(
                    alarms.insert().values(
                        name=name,
                        type=alarm_type.value,
                        revision=1,
                        tags=dict(tags or {}),
                        **values,
                        **state_values(initial),
                    )
                )
            else:
                connection.execute(
                    alarms.update()
                    .where(alarms.c.name == name)
                    .values(revision=present.revision + 1, **values)
                )
            connection.execute(alarm_children.delete().where(alarm_children.c.parent == name))
            for child in dict.fromkeys(children):
                connection.execute(alarm_children.insert().values(parent=name, child=child))
            verb = "Create" if present is None else "Update"
            insert_items(
                connection, [configured(get(connection, self._namespace, name), verb, now)]
            )

        await self._database.write(apply, after_commit=lambda _: self._notify([name]))

    async def delete(self, names: Sequence[str], *, missing_ok: bool = False) -> None:
        """Remove alarms; their history stays.

        Raises:
            NotFound: One is not there; the others were removed all the same, as AWS does.
            InvalidRequest: A composite alarm that stays watches one of them; none was removed.
        """
        wanted = list(dict.fromkeys(names))
        now = self._clock.now()

        def apply(connection: Connection) -> list[str]:
            found = select(connection, self._namespace, alarms.c.name.in_(wanted))
            check_parents(connection, [alarm.name for alarm in found])
            for alarm in found:
                # Of a database that does not mind foreign keys, too.
                connection.execute(
                    alarm_children.delete().where(alarm_children.c.parent == alarm.name)
                )
                connection.execute(alarms.delete().where(alarms.c.name == alarm.name))
                insert_items(connection, [configured(alarm, "Delete", now)])
            return [alarm.name for alarm in found]

        gone = await self._database.write(apply, after_commit=self._notify)
        missing = [name for name in wanted if name not in set(gone)]
        if missing and not missing_ok:
            raise NotFound(f"Unable to find alarms: {', '.join(missing)}")

    async def set_actions_enabled(self, names: Sequence[str], *, enabled: bool) -> None:
        """Switch the actions of alarms on or off; names that are not there are passed over."""
        now = self._clock.now()

        def apply(connection: Connection) -> list[str]:
            changed = []
            for alarm in select(connection, self._namespace, alarms.c.name.in_(list(names))):
                if alarm.actions_enabled is enabled:
                    continue
                definition = {**alarm.definition, "ActionsEnabled": enabled}
                connection.execute(
                    alarms.update()
                    .where(alarms.c.name == alarm.name)
                    .values(definition=definition, revision=alarm.revision + 1, configured_at=now)
                )
                after = replace(alarm, definition=definition, configured_at=now)
                insert_items(connection, [configured(after, "Update", now)])
                changed.append(alarm.name)
            return changed

        await self._database.write(apply, after_commit=self._notify)

    # -- what was found ---------------------------------------------------------------------

    async def set_state(
        self, name: str, value: AlarmValue, reason: str, reason_data: str | None = None
    ) -> None:
        """Put an alarm into a state by hand, with all that follows from a transition.

        Raises:
            NotFound: There is no such alarm.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            alarm = get(connection, self._namespace, name)
            finding = Finding(alarm=alarm, value=value, reason=reason, reason_data=reason_data)
            self._write(connection, [finding], now)

        await self._database.write(apply, after_commit=lambda _: self._notify([name]))

    async def record(self, findings: Sequence[Finding]) -> Sequence[str]:
        """Write states that were found; return the names of the alarms that were written.

        An alarm whose definition or state has become another one since it was judged stays as it
        is, and so does one that is gone.
        """
        wanted = {finding.alarm.name: finding for finding in findings}
        now = self._clock.now()

        def apply(connection: Connection) -> list[str]:
            current = [
                replace(finding, alarm=alarm)
                for alarm in self._named(connection, list(wanted))
                if version_of(alarm) == version_of((finding := wanted[alarm.name]).alarm)
            ]
            self._write(connection, current, now)
            return [finding.alarm.name for finding in current]

        return await self._database.write(apply, after_commit=self._notify)

    async def withhold(self, alarm: Alarm, by: Suppression) -> bool:
        """Write down what an alarm's actions wait for now; return whether they still do."""
        return await self._settle(alarm, by)

    async def release(self, alarm: Alarm) -> bool:
        """Have the actions that were held back carried out, if it came to another state at all."""
        return await self._settle(alarm, None)

    async def _settle(self, alarm: Alarm, by: Suppression | None) -> bool:
        def apply(connection: Connection) -> bool:
            present = find(connection, self._namespace, alarm.name)
            if (
                present is None
                or present.withheld is None
                or version_of(present) != version_of(alarm)
            ):
                return False
            held = None if by is None else replace(present.withheld, by=by)
            connection.execute(
                alarms.update()
                .where(alarms.c.name == alarm.name)
                .values(withheld=None if held is None else dump_withheld(held))
            )
            announced = present.withheld.announced
            if held is None and announced is not present.state.value and present.actions_enabled:
                new = present.state
                old = replace(new, value=announced)
                actions = [(present.name, arn, old, new) for arn in present.actions(new.value)]
                insert_actions(connection, actions)
            return True

        return await self._database.write(
            apply, after_commit=lambda done: self._notify([alarm.name] if done else [])
        )

    def _write(self, connection: Connection, findings: Sequence[Finding], now: datetime) -> None:
        write_states(connection, findings, now, self._namespace, self.append_events)

    # -- reading ----------------------------------------------------------------------------

    async def load(self, names: Sequence[str]) -> dict[str, Alarm]:
        """Return alarms by name; those that are not there are left out."""
        wanted = list(dict.fromkeys(names))
        found = await self._database.read(lambda c: self._named(c, wanted))
        return {alarm.name: alarm for alarm in found}

    def _named(self, connection: Connection, names: Sequence[str]) -> list[Alarm]:
        found: list[Alarm] = []
        for start in range(0, len(names), _IN_ONE_QUERY):
            part = names[start : start + _IN_ONE_QUERY]
            found += select(connection, self._namespace, alarms.c.name.in_(part))
        return found

    async def states(self, names: Sequence[str]) -> dict[str, AlarmState]:
        """Return the states of alarms by name; those that are not there are left out."""
        return {name: alarm.state for name, alarm in (await self.load(names)).items()}

    async def find(self, name: str) -> Alarm | None:
        """Return an alarm by its name, or None."""
        return await self._database.read(lambda c: find(c, self._namespace, name))

    async def all(self) -> Sequence[Alarm]:
        """Return all alarms, by name."""
        return await self._database.read(lambda c: select(c, self._namespace))

    async def versions(self) -> Mapping[str, Version]:
        """Return the versions of all alarms by name: what a sweep needs."""
        table = alarms.c
        columns = (table.name, table.revision, table.state_value, table.state_updated_at)

        def query(connection: Connection) -> dict[str, Version]:
            return {
                row.name: (row.revision, AlarmValue(row.state_value), row.state_updated_at)
                for row in connection.execute(sa.select(*columns))
            }

        return await self._database.read(query)

    async def describe(self, wanted: AlarmFilter) -> Page[Alarm]:
        """Return one page of alarms, by name. ``Page.next`` is for ``AlarmFilter.after``.

        Raises:
            NotFound: The alarm whose children are asked for is not there.
        """

        def query(connection: Connection) -> Page[Alarm]:
            if wanted.children_of is not None:
                get(connection, self._namespace, wanted.children_of)
            found: list[Alarm] = []
            rows = connection.execute(
                sa.select(alarms).where(*conditions(wanted)).order_by(alarms.c.name)
            )
            for row in rows:
                alarm = to_alarm(self._namespace, row)
                if acts_on(alarm, wanted.action_prefix):
                    if len(found) == wanted.limit:
                        return Page(tuple(found), (found[-1].name, found[-1].name))
                    found.append(alarm)
            return Page(tuple(found), None)

        return await self._database.read(query)

    # -- tags -------------------------------------------------------------------------------

    async def tags(self, name: str) -> Mapping[str, str]:
        """Return the tags of an alarm, sorted by key.

        Raises:
            NotFound: There is no such alarm.
        """

        def query(connection: Connection) -> Mapping[str, str]:
            return dict(sorted(_tags(connection, name).items()))

        return await self._database.read(query)

    async def change_tags(
        self, name: str, add: Mapping[str, str], remove: Sequence[str] = ()
    ) -> None:
        """Set tags, and remove others; keys that are not there are passed over.

        Raises:
            NotFound: There is no such alarm.
            LimitExceeded: It would have more than 50; none was set.
        """

        def apply(connection: Connection) -> None:
            kept = {k: v for k, v in _tags(connection, name).items() if k not in remove}
            tags = {**kept, **add}
            if len(tags) > MAX_TAGS:
                raise LimitExceeded(f"A resource can have at most {MAX_TAGS} tags.")
            connection.execute(alarms.update().where(alarms.c.name == name).values(tags=tags))

        await self._database.write(apply)

    def _notify(self, names: Sequence[str]) -> None:
        for name in names:
            self._changes.notify(KIND, name)


def _tags(connection: Connection, name: str) -> dict[str, str]:
    tags = connection.scalar(sa.select(alarms.c.tags).where(alarms.c.name == name))
    if tags is None:
        raise NotFound(f"Unable to find an alarm with the name {name}")
    return dict(tags)


def version_of(alarm: Alarm) -> Version:
    """Return what differs when an alarm was changed, or came into another state."""
    return alarm.revision, alarm.state.value, alarm.state.updated_at
