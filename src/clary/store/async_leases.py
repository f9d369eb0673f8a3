"""Leases on asynchronous invocations: the side of the queue of who works on them.

An invocation is claimed for a time, and claimed again by somebody else when that time passed
without a word. Each claim counts ``attempt`` up, and whatever is written names the attempt that it
was claimed with, so that one who was away for too long changes nothing any more::

    queued ──claim──▶ running ──finish──▶ done | failed
       ▲                 │
       └──release, or the lease ended
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.store.async_rows import AsyncState, Lease, Result, load_lease
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.gathering import Gathering
from clary.store.outbox import KIND as OUTBOX_KIND
from clary.store.outbox import Notification, insert_notifications
from clary.store.schema import Timestamp, async_invocations

ENDINGS_PAUSE_S = 0.01
"""How long ends gather before they are written, in seconds. An output is there before that."""

Leases = list[Lease]
Names = list[str]

_Table = async_invocations.c

# Made once: to make a statement takes longer than to run it.
_QUEUED = _Table.state == AsyncState.QUEUED


def _waiting() -> sa.Select[tuple[str]]:
    """Endpoints that have something due: from name to name, for rows may be very many."""
    names = sa.select(sa.func.min(_Table.endpoint).label("name")).where(_QUEUED)
    known = names.cte("known", recursive=True)
    following = sa.select(sa.func.min(_Table.endpoint)).where(
        _QUEUED, _Table.endpoint > known.c.name
    )
    known = known.union_all(sa.select(following.scalar_subquery()).where(known.c.name.is_not(None)))
    is_due = _Table.due_at <= sa.bindparam("now", type_=Timestamp)
    due = sa.select(_Table.seq).where(_QUEUED, _Table.endpoint == known.c.name, is_due)
    return sa.select(known.c.name).where(known.c.name.is_not(None), due.exists())


_WAITING = _waiting()
_OLDEST = (
    sa.select(_Table.seq)
    .where(
        _QUEUED,
        _Table.endpoint == sa.bindparam("name"),
        _Table.due_at <= sa.bindparam("now", type_=Timestamp),
    )
    .order_by(_Table.seq)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
_THESE = _Table.seq.in_(sa.bindparam("seqs", expanding=True))
_TAKE = (
    async_invocations.update()
    .where(_THESE)
    .values(
        state=AsyncState.RUNNING.value,
        owner=sa.bindparam("by"),
        leased_until=sa.bindparam("until", type_=Timestamp),
        attempt=_Table.attempt + 1,
        started_at=sa.func.coalesce(_Table.started_at, sa.bindparam("now", type_=Timestamp)),
    )
)
_TAKEN = sa.select(async_invocations).where(_THESE).order_by(_Table.seq)
_HELD = (
    sa.select(_Table.seq, _Table.attempt)
    .where(_THESE, _Table.state == AsyncState.RUNNING)
    .with_for_update()
)
_LAST_ENDED = sa.select(sa.func.max(_Table.ended_seq))
_FINISH = (
    async_invocations.update()
    .where(_Table.seq == sa.bindparam("this"))
    .values(
        {name: sa.bindparam(f"new_{name}") for name in ("state", "ended_seq", "result", "ended_at")}
        | {"owner": None, "leased_until": None, "body": None}
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of an invocation, with what is to be told of it."""

    lease: Lease
    result: Result
    notifications: tuple[Notification, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An invocation goes back into the queue."""

    lease: Lease
    pause: timedelta = timedelta(0)
    """How long nobody is to claim it."""

    is_loss: bool = False
    """Whether a worker ended under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedInvocation:
    """One that has ended, for metrics."""

    ended_seq: int
    endpoint: str
    accepted_at: datetime
    started_at: datetime
    ended_at: datetime
    result: Result


Ended = list[EndedInvocation]


class AsyncLeases:
    """Claims, and what becomes of them."""

    def __init__(self, database: Database, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._endings: Gathering[Finish | Release, bool] = Gathering(
            database, self._write_endings, self._ended, pause_s=ENDINGS_PAUSE_S
        )

    async def waiting(self) -> Names:
        """Return the endpoints that have something to claim."""
        now = {"now": self._clock.now()}
        return await self._database.read(lambda connection: list(connection.scalars(_WAITING, now)))

    async def claim(self, owner: str, wanted: Mapping[str, int], lease: timedelta) -> Leases:
        """Claim invocations, the oldest first.

        Args:
            owner: Who claims.
            wanted: Most invocations by endpoint.
            lease: For how long.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Leases:
            seqs: list[int] = []
            for endpoint, count in wanted.items():
                asked = {"name": endpoint, "now": now, "most": count}
                seqs += connection.scalars(_OLDEST, asked)
            return _take(connection, seqs, owner, now, lease)

        return await self._database.write(apply)

    async def claim_expired(self, owner: str, limit: int, lease: timedelta) -> Leases:
        """Claim invocations that were in the queue for too long, of whatever endpoint."""
        table = async_invocations
        now = self._clock.now()
        late = (
            sa.select(table.c.seq)
            .where(table.c.state == AsyncState.QUEUED, table.c.expires_at <= now)
            .limit(limit)
        )
        if not await self._database.read(lambda connection: list(connection.scalars(late))):
            return []

        def apply(connection: Connection) -> Leases:
            seqs = list(connection.scalars(late.with_for_update(skip_locked=True)))
            return _take(connection, seqs, owner, now, lease)

        return await self._database.write(apply)

    async def renew(self, owner: str, lease: timedelta) -> None:
        """Keep all that an owner has for so much longer from now on."""
        table = async_invocations
        until = self._clock.now() + lease
        statement = (
            table.update()
            .where(table.c.state == AsyncState.RUNNING, table.c.owner == owner)
            .values(leased_until=until)
        )
        await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def free(self, owners: str, *, but: str = "") -> int:
        """Put back what owners have whose names begin so; return how many there were.

        Args:
            owners: Beginning of their names.
            but: One whose invocations stay as they are.
        """
        table = async_invocations
        return await self._put_back(
            table.c.owner.startswith(owners, autoescape=True) & (table.c.owner != but)
        )

    async def free_overdue(self) -> int:
        """Put back what nobody renewed in time; return how many there were."""
        return await self._put_back(async_invocations.c.leased_until <= self._clock.now())

    async def finish(self, finish: Finish) -> bool:
        """Write the end of an invocation, and its notifications with it.

        Returns:
            Whether it was so: False when the lease was lost meanwhile, and nothing was written.
        """
        return await self._endings.add(finish)

    async def release(self, release: Release) -> bool:
        """Put an invocation back into the queue; False when the lease was lost meanwhile."""
        return await self._endings.add(release)

    async def ended_after(self, ended_seq: int, limit: int) -> Ended:
        """Return invocations that have ended after another one, in order."""
        table = async_invocations
        query = (
            sa.select(
                table.c.ended_seq,
                table.c.endpoint,
                table.c.accepted_at,
                table.c.started_at,
                table.c.ended_at,
                table.c.result,
            )
            .where(table.c.ended_seq > ended_seq)
            .order_by(table.c.ended_seq)
            .limit(limit)
        )

        def read(connection: Connection) -> Ended:
            return [
                EndedInvocation(
                    ended_seq=row.ended_seq,
                    endpoint=row.endpoint,
                    accepted_at=row.accepted_at,
                    started_at=row.started_at,
                    ended_at=row.ended_at,
                    result=Result.from_json(row.result),
                )
                for row in connection.execute(query)
            ]

        return await self._database.read(read)

    async def forget_ended(self, before: datetime, limit: int) -> int:
        """Remove invocations that ended before a time, but the last one; return how many."""
        table = async_invocations
        last = sa.select(sa.func.max(table.c.ended_seq)).scalar_subquery()
        old = (
            sa.select(table.c.seq)
            .where(table.c.ended_seq < last, table.c.ended_at < before)
            .order_by(table.c.ended_seq)
            .limit(limit)
        )
        if not await self._database.read(lambda connection: connection.scalar(old.limit(1))):
            return 0
        return await self._database.write(
            lambda connection: (
                connection.execute(table.delete().where(table.c.seq.in_(old))).rowcount
            )
        )

    async def _put_back(self, condition: sa.ColumnElement[bool]) -> int:
        table = async_invocations
        overdue = sa.select(table.c.seq).where(table.c.state == AsyncState.RUNNING, condition)
        if not await self._database.read(lambda connection: connection.scalar(overdue.limit(1))):
            return 0
        statement = (
            table.update()
            .where(table.c.state == AsyncState.RUNNING, condition)
            .values(state=AsyncState.QUEUED.value, owner=None, leased_until=None)
        )
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    def _ended(self, group: Sequence[Finish | Release]) -> None:
        if any(isinstance(each, Finish) and each.notifications for each in group):
            self._changes.notify(OUTBOX_KIND, "")

    def _write_endings(
        self, connection: Connection, group: Sequence[Finish | Release]
    ) -> Sequence[bool | Exception]:
        table = async_invocations
        now = self._clock.now()
        held = connection.execute(_HELD, {"seqs": [each.lease.seq for each in group]})
        tokens = {(row.seq, row.attempt) for row in held}
        is_held = [(each.lease.seq, each.lease.attempt) in tokens for each in group]
        mine = [each for each, held_now in zip(group, is_held, strict=True) if held_now]
        finished = [each for each in mine if isinstance(each, Finish)]
        released = [each for each in mine if isinstance(each, Release)]
        if finished:
            last = connection.scalar(_LAST_ENDED) or 0
            connection.execute(
                _FINISH,
                [_finished_row(each, last + 1 + index, now) for index, each in enumerate(finished)],
            )
            insert_notifications(
                connection, [n for each in finished for n in each.notifications], now
            )
        for each in released:
            connection.execute(
                table.update()
                .where(table.c.seq == each.lease.seq)
                .values(
                    state=AsyncState.QUEUED.value,
                    owner=None,
                    leased_until=None,
                    due_at=now + each.pause,
                    losses=table.c.losses + each.is_loss,
                )
            )
        return is_held


def _finished_row(finish: Finish, ended_seq: int, now: datetime) -> dict[str, Any]:
    is_good = finish.result.status == "Completed"
    return {
        "this": finish.lease.seq,
        "new_state": (AsyncState.DONE if is_good else AsyncState.FAILED).value,
        "new_ended_seq": ended_seq,
        "new_result": finish.result.to_json(),
        "new_ended_at": now,
    }


def _take(
    connection: Connection, seqs: Sequence[int], owner: str, now: datetime, lease: timedelta
) -> Leases:
    if not seqs:
        return []
    these = {"seqs": seqs}
    connection.execute(_TAKE, {**these, "by": owner, "until": now + lease, "now": now})
    return [load_lease(row) for row in connection.execute(_TAKEN, these)]
