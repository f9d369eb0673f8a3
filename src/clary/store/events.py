"""The outbox of events: written in the transaction of what they tell, kept until delivered.

Each receiver (a file, a webhook, a topic) has a number of its own: it has everything up to there.
What all have, and what is too old or too much, is removed.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.resources.endpoint import Deployment, Endpoint, VariantState
from clary.resources.endpoint_descriptions import serialize_deployment
from clary.resources.events import complete, deployment_event, endpoint_event
from clary.resources.names import Namespace, ResourceKind
from clary.resources.variant_status import variant_status
from clary.store.database import Database
from clary.store.schema import endpoint_variants, event_receivers, events, tags


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event, ready to be sent."""

    seq: int
    at: datetime
    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The same at each delivery of the event."""
        return str(self.document["id"])


Batch = Sequence[StoredEvent]


def append_event(connection: Connection, event: Mapping[str, Any]) -> None:
    """Write an event, in the transaction of what it tells.

    Args:
        connection: Of that transaction.
        event: In EventBridge's shape; ``resources/events.complete`` says what may be left out.
    """
    append_events(connection, [event])


def append_events(connection: Connection, new: Sequence[Mapping[str, Any]]) -> None:
    """Write several events, as ``append_event`` does."""
    at = datetime.now(UTC)
    rows = [
        {"id": str(event.get("id") or uuid.uuid4()), "at": at, "document": dict(event)}
        for event in new
    ]
    if rows:
        connection.execute(events.insert(), rows)


def append_endpoint_event(connection: Connection, row: Row[Any]) -> None:
    """Write the event of an endpoint that has come to another status.

    Args:
        connection: Of the transaction in which it did.
        row: Of the table ``endpoints``, as it is now.
    """
    append_event(connection, _event_of(connection, row))


def append_deployment_event(
    connection: Connection, row: Row[Any], endpoint: Endpoint, deployment: Deployment
) -> None:
    """Write the event of a deployment that has begun, come further, or turned back.

    Args:
        connection: Of the transaction in which it did.
        row: Of the table ``endpoints``, as it is now.
        endpoint: The same.
        deployment: Its deployment, as it is now.
    """
    found = {state.name: variant_status(endpoint, state) for state in endpoint.all_variants}
    append_event(
        connection,
        deployment_event(
            _event_of(connection, row),
            pending=serialize_deployment(endpoint, deployment),
            statuses={name: [status] for name, status in found.items() if status},
            at=deployment.progress_at,
        ),
    )


def _event_of(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    table = endpoint_variants
    states = [
        VariantState(
            name=state.name,
            desired_count=state.desired_count,
            current_count=state.current_count,
            desired_weight=state.desired_weight,
            current_weight=state.current_weight,
        )
        for state in connection.execute(
            sa.select(table).where(table.c.endpoint_key == row.name_key).order_by(table.c.position)
        )
    ]
    of_endpoint = (tags.c.kind == ResourceKind.ENDPOINT) & (tags.c.name_key == row.name_key)
    found = connection.execute(sa.select(tags.c.key, tags.c.value).where(of_endpoint))
    production = len(row.config["variants"])
    return endpoint_event(
        row.name,
        config_name=row.config["name"],
        status=row.status,
        variants=states[:production],
        shadow_variants=states[production:],
        failure_reason=row.failure_reason,
        created_at=row.created_at,
        modified_at=row.modified_at,
        tags={key: value for key, value in found},
    )


class Events:
    """What still has to be delivered."""

    def __init__(self, database: Database, namespace: Namespace) -> None:
        self._database = database
        self._namespace = namespace

    async def register(self, names: Sequence[str]) -> None:
        """Make these the receivers. A new one begins with what happens from now on."""

        def apply(connection: Connection) -> None:
            known = set(connection.scalars(sa.select(event_receivers.c.name)))
            newest = connection.scalar(sa.select(sa.func.max(events.c.seq))) or 0
            connection.execute(
                event_receivers.delete().where(event_receivers.c.name.not_in(list(names)))
            )
            for name in names:
                if name not in known:
                    connection.execute(event_receivers.insert().values(name=name, seq=newest))

        await self._database.write(apply)

    async def pending(self, receiver: str, *, limit: int) -> Batch:
        """Return what a receiver does not have yet, oldest first."""

        def query(connection: Connection) -> list[StoredEvent]:
            seen = (
                sa.select(event_receivers.c.seq)
                .where(event_receivers.c.name == receiver)
                .scalar_subquery()
            )
            rows = connection.execute(
                sa.select(events).where(events.c.seq > seen).order_by(events.c.seq).limit(limit)
            )
            return [
                StoredEvent(
                    seq=row.seq,
                    at=row.at,
                    document=complete(row.document, event_id=row.id, namespace=self._namespace),
                )
                for row in rows
            ]

        return await self._database.read(query)

    async def delivered(self, receiver: str, seq: int) -> None:
        """Remember that a receiver has everything up to a number."""
        await self._database.write(
            lambda connection: connection.execute(
                event_receivers.update()
                .where(event_receivers.c.name == receiver, event_receivers.c.seq < seq)
                .values(seq=seq)
            )
        )

    async def trim(self, *, max_age: timedelta, max_events: int, now: datetime) -> int:
        """Remove what all receivers have, and what is too old or too much.

        Returns:
            How many events were removed that some receiver does not have.
        """

        def apply(connection: Connection) -> int:
            slowest = connection.scalar(sa.select(sa.func.min(event_receivers.c.seq)))
            newest = connection.scalar(sa.select(sa.func.max(events.c.seq))) or 0
            done = newest if slowest is None else slowest
            connection.execute(events.delete().where(events.c.seq <= done))
            expired = (events.c.seq <= newest - max_events) | (events.c.at < now - max_age)
            return connection.execute(events.delete().where(expired)).rowcount

        return await self._database.write(apply)
