"""Accepts asynchronous invocations, and tells of them: control's side of the queue.

Accepted means durable. A thousand a second are accepted because those that come while a commit is
under way are written together, and because what an endpoint's configuration says is kept here until
the endpoint changes, or for a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.clock import Clock
from clary.errors import InvalidRequest, NotFound
from clary.resources.async_inference import AsyncConfig, AsyncOrder
from clary.resources.endpoint import SERVING, EndpointStatus
from clary.resources.names import ResourceKind
from clary.store.async_rows import AsyncState, InvocationInfo, load_info
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.endpoints import Endpoints
from clary.store.gathering import Gathering
from clary.store.schema import async_invocations, endpoints, outbox

KIND = "async-invocation"
"""Kind of the change feed's notices: there is something to do."""

KNOWN_S = 1.0
"""How long a configuration is taken as known. A change by this process is seen at once; another
process's may be seen so much later."""

Backlogs = list["Backlog"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvocation:
    """One to be accepted."""

    endpoint: str
    inference_id: str
    accepted_at: datetime
    ttl: timedelta
    order: AsyncOrder
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What an endpoint still has to do."""

    endpoint: str
    queued: int
    running: int
    oldest_at: datetime
    """When the oldest of them was accepted."""


class AsyncQueue:
    """All asynchronous invocations."""

    def __init__(
        self, database: Database, changes: Changes, all_endpoints: Endpoints, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._endpoints = all_endpoints
        self._clock = clock
        self._known: dict[str, tuple[float, AsyncConfig]] = {}
        self._accepts: Gathering[NewInvocation, None] = Gathering(database, _insert, self._accepted)
        changes.listen(self._forget)

    async def config(self, endpoint: str) -> AsyncConfig:
        """Return how an endpoint takes asynchronous calls.

        Raises:
            NotFound: There is no such endpoint that takes invocations.
            InvalidRequest: It takes none that are asynchronous.
        """
        known = self._known.get(endpoint)
        now = self._clock.monotonic()
        if known is not None and now - known[0] < KNOWN_S:
            return known[1]
        found = await self._endpoints.find(endpoint)
        if found is None or found.status not in SERVING:
            raise NotFound(endpoint)
        config = found.config.asynchronous
        if config is None:
            raise InvalidRequest(
                f"Endpoint {endpoint} is not an asynchronous endpoint: its configuration has no "
                "AsyncInferenceConfig. Use InvokeEndpoint."
            )
        self._known[endpoint] = (now, config)
        return config

    async def accept(self, invocation: NewInvocation) -> None:
        """Put an invocation into the queue; return when it is durable.

        Raises:
            NotFound: The endpoint has gone meanwhile.
        """
        await self._accepts.add(invocation)

    async def find(self, endpoint: str, inference_id: str) -> InvocationInfo | None:
        """Return the newest invocation with this id, or None."""
        table = async_invocations

        def query(connection: Connection) -> InvocationInfo | None:
            row = connection.execute(
                sa.select(*[column for column in table.c if column is not table.c.body])
                .where(table.c.endpoint == endpoint, table.c.inference_id == inference_id)
                .order_by(table.c.seq.desc())
                .limit(1)
            ).one_or_none()
            if row is None:
                return None
            position = None
            if row.state == AsyncState.QUEUED:
                position = connection.scalar(
                    sa.select(sa.func.count())
                    .select_from(table)
                    .where(
                        table.c.state == AsyncState.QUEUED,
                        table.c.endpoint == endpoint,
                        table.c.seq < row.seq,
                    )
                )
            return load_info(row, position)

        return await self._database.read(query)

    async def backlogs(self) -> Backlogs:
        """Return what each endpoint has to do; those that have nothing are left out."""
        table = async_invocations

        def query(connection: Connection) -> Backlogs:
            found: dict[str, list[int]] = {}
            oldest: dict[str, int] = {}
            rows = connection.execute(
                sa.select(
                    table.c.state, table.c.endpoint, sa.func.count(), sa.func.min(table.c.seq)
                )
                .where(table.c.state.in_((AsyncState.QUEUED, AsyncState.RUNNING)))
                .group_by(table.c.state, table.c.endpoint)
            )
            for state, endpoint, count, seq in rows:
                counts = found.setdefault(endpoint, [0, 0])
                counts[state == AsyncState.RUNNING] = count
                oldest[endpoint] = min(oldest.get(endpoint, seq), seq)
            starts = sa.select(table.c.seq, table.c.accepted_at).where(
                table.c.seq.in_(list(oldest.values()))
            )
            times = {row.seq: row.accepted_at for row in connection.execute(starts)}
            return [
                Backlog(
                    endpoint=endpoint,
                    queued=queued,
                    running=running,
                    oldest_at=times[oldest[endpoint]],
                )
                for endpoint, (queued, running) in sorted(found.items())
            ]

        return await self._database.read(query)

    async def has_work(self) -> bool:
        """Whether anything is to be done: invocations, or notifications."""
        table = async_invocations

        def query(connection: Connection) -> bool:
            states = (AsyncState.QUEUED, AsyncState.RUNNING)
            open_ones = sa.select(table.c.seq).where(table.c.state.in_(states)).limit(1)
            unsent = sa.select(outbox.c.id).where(outbox.c.attempts >= 0).limit(1)
            return connection.scalar(open_ones) is not None or connection.scalar(unsent) is not None

        return await self._database.read(query)

    def _accepted(self, group: Sequence[NewInvocation]) -> None:
        for endpoint in {invocation.endpoint for invocation in group}:
            self._changes.notify(KIND, endpoint)

    def _forget(self, kind: str, name: str) -> None:
        if kind == ResourceKind.ENDPOINT:
            self._known.pop(name, None)


def _insert(connection: Connection, group: Sequence[NewInvocation]) -> Sequence[NotFound | None]:
    """Write invocations, but those whose endpoint is not there any more."""
    names = {invocation.endpoint for invocation in group}
    present = set(
        connection.scalars(
            sa.select(endpoints.c.name).where(
                endpoints.c.name.in_(names), endpoints.c.status != EndpointStatus.DELETING
            )
        )
    )
    rows = [
        {
            "endpoint": each.endpoint,
            "inference_id": each.inference_id,
            "state": AsyncState.QUEUED.value,
            "accepted_at": each.accepted_at,
            "expires_at": each.accepted_at + each.ttl,
            "due_at": each.accepted_at,
            "attempt": 0,
            "losses": 0,
            "order": each.order.to_json(),
            "body": each.body,
        }
        for each in group
        if each.endpoint in present
    ]
    if rows:
        connection.execute(async_invocations.insert(), rows)
    return [None if each.endpoint in present else NotFound(each.endpoint) for each in group]
