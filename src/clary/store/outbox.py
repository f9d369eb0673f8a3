"""Notifications that are still to be sent.

Written in the transaction of what they tell of, and kept until their topic has them. What is given
up stays a while, without its message, until it has been counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.schema import outbox

KIND = "outbox"
"""Kind of the change feed's notices: there is something to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message for a topic."""

    topic: str
    endpoint: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingNotification:
    """A message that nobody has yet."""

    id: int
    topic: str
    endpoint: str
    message: str
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A message that nobody will get."""

    endpoint: str
    at: datetime
    """When it was given up: later than all that were before."""


Waiting = list[WaitingNotification]
Lost = list[GivenUp]

_GIVEN_UP = -1
"""In place of a number of attempts. ``due_at`` then says since when."""


class Outbox:
    """All notifications that are still to be sent."""

    def __init__(self, database: Database, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock

    async def add(self, notifications: Sequence[Notification]) -> None:
        """Have messages sent; return when that is durable."""
        if not notifications:
            return
        now = self._clock.now()
        await self._database.write(
            lambda connection: insert_notifications(connection, notifications, now),
            after_commit=lambda _: self._changes.notify(KIND, ""),
        )

    async def due(self, limit: int) -> Waiting:
        """Return messages that are to be sent now, oldest first."""
        query = (
            sa.select(outbox)
            .where(outbox.c.attempts >= 0, outbox.c.due_at <= self._clock.now())
            .order_by(outbox.c.id)
            .limit(limit)
        )

        def read(connection: Connection) -> Waiting:
            return [
                WaitingNotification(
                    id=row.id,
                    topic=row.topic,
                    endpoint=row.endpoint,
                    message=row.message,
                    attempts=row.attempts,
                    created_at=row.created_at,
                )
                for row in connection.execute(query)
            ]

        return await self._database.read(read)

    async def remove(self, ids: Sequence[int]) -> None:
        """Forget messages: their topics have them."""
        if ids:
            statement = outbox.delete().where(outbox.c.id.in_(ids))
            await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def give_up(self, ids: Sequence[int]) -> None:
        """Try messages no more: their topics will never have them."""
        if not ids:
            return
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            last = connection.scalar(
                sa.select(sa.func.max(outbox.c.due_at)).where(outbox.c.attempts == _GIVEN_UP)
            )
            at = now if last is None else max(now, last + timedelta(microseconds=1))
            connection.execute(
                outbox.update()
                .where(outbox.c.id.in_(ids))
                .values(attempts=_GIVEN_UP, due_at=at, message="")
            )

        await self._database.write(apply)

    async def given_up_after(self, at: datetime) -> Lost:
        """Return messages that were given up after a time, in order."""
        query = (
            sa.select(outbox.c.endpoint, outbox.c.due_at)
            .where(outbox.c.attempts == _GIVEN_UP, outbox.c.due_at > at)
            .order_by(outbox.c.due_at)
        )

        def read(connection: Connection) -> Lost:
            return [
                GivenUp(endpoint=row.endpoint, at=row.due_at) for row in connection.execute(query)
            ]

        return await self._database.read(read)

    async def forget_given_up(self, before: datetime) -> int:
        """Remove messages that were given up before a time; return how many."""
        old = (outbox.c.attempts == _GIVEN_UP) & (outbox.c.due_at < before)
        some = sa.select(outbox.c.id).where(old).limit(1)
        if await self._database.read(lambda connection: connection.scalar(some)) is None:
            return 0
        return await self._database.write(
            lambda connection: connection.execute(outbox.delete().where(old)).rowcount
        )

    async def postpone(self, pauses: Sequence[tuple[int, timedelta]]) -> None:
        """Try messages again later.

        Args:
            pauses: Id, and how much later, each.
        """
        if not pauses:
            return
        now = self._clock.now()
        statement = (
            outbox.update()
            .where(outbox.c.id == sa.bindparam("this"))
            .values(due_at=sa.bindparam("later"), attempts=outbox.c.attempts + 1)
        )
        rows = [{"this": each, "later": now + pause} for each, pause in pauses]
        await self._database.write(lambda connection: connection.execute(statement, rows).rowcount)


def insert_notifications(
    connection: Connection, notifications: Sequence[Notification], now: datetime
) -> None:
    """Write messages in a transaction of somebody else."""
    if notifications:
        connection.execute(
            outbox.insert(),
            [
                {
                    "topic": each.topic,
                    "endpoint": each.endpoint,
                    "created_at": now,
                    "due_at": now,
                    "attempts": 0,
                    "message": each.message,
                }
                for each in notifications
            ],
        )
