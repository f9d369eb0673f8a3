"""Transform jobs: where the API writes what is wanted, jobs how it went, control what is so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from clary.clock import Clock
from clary.errors import InvalidRequest
from clary.resources.events import transform_job_event
from clary.resources.log_group import TRANSFORM_GROUP
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.resources.quotas import Quotas
from clary.resources.transform_job import (
    ACTIVE,
    Outcome,
    TransformJob,
    TransformJobStatus,
    final_status,
)
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.documents import dump_model, load_model
from clary.store.events import append_event
from clary.store.listing import Listing, Page, fetch_page
from clary.store.logs import ensure_group
from clary.store.models import MODELS
from clary.store.schema import tags, transform_jobs
from clary.store.tags import insert_tags

_KIND = ResourceKind.TRANSFORM_JOB
_ACTIVE = [status.value for status in ACTIVE]

Names = list[str]


@dataclass(frozen=True, slots=True)
class TransformJobSummary:
    """A line of a list."""

    name: str
    status: TransformJobStatus
    failure_reason: str | None
    created_at: datetime
    modified_at: datetime
    ended_at: datetime | None


class TransformJobs:
    """All transform jobs."""

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._clock = clock

    # Asked by the API.

    async def create(
        self,
        name: str,
        model_name: str,
        definition: Mapping[str, Any],
        *,
        quotas: Quotas,
        tags: Mapping[str, str],
    ) -> str:
        """Write a new job with a snapshot of its model: InProgress. Returns its ARN.

        Raises:
            AlreadyExists: The name was used before.
            NotFound: There is no such model.
            InvalidRequest: The model is one that no job can use.
            LimitExceeded: The account would have more instances than it may.
        """
        now = self._clock.now()
        resources = definition["TransformResources"]

        def apply(connection: Connection) -> str:
            model = MODELS.find(connection, model_name)
            if model is None:
                raise self._namespace.could_not_find(ResourceKind.MODEL, model_name)
            if not model.containers or any(c.mode == "MultiModel" for c in model.containers):
                raise InvalidRequest(
                    f'Model "{model.arn}" cannot be used by a transform job: it needs containers '
                    "in SingleModel mode."
                )
            wanted = {resources["InstanceType"]: int(resources["InstanceCount"])}
            quotas.check(wanted, _instances_in_use(connection), usage="transform job")
            try:
                connection.execute(
                    transform_jobs.insert().values(
                        name_key=name_key(name),
                        name=name,
                        status=TransformJobStatus.IN_PROGRESS,
                        instance_type=resources["InstanceType"],
                        instance_count=resources["InstanceCount"],
                        created_at=now,
                        modified_at=now,
                        model=dump_model(model),
                        definition=dict(definition),
                        is_listed=False,
                    )
                )
            except IntegrityError:
                raise self._namespace.already_exists(_KIND, name) from None
            insert_tags(connection, _KIND, name, tags)
            ensure_group(connection, TRANSFORM_GROUP, now)
            _append_event(connection, name)
            return self._namespace.arn(_KIND, name)

        return await self._database.write(apply, after_commit=lambda _: self._notify(name))

    async def request_stop(self, name: str) -> None:
        """Want a job to stop: Stopping.

        Raises:
            NotFound: There is none.
            InvalidRequest: It has ended.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            row = _find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(_KIND, name)
            if row.status not in _ACTIVE:
                # AWS's words for training jobs.
                raise InvalidRequest(
                    f"The request was rejected because the transform job is in status {row.status}."
                )
            if row.status == TransformJobStatus.STOPPING:
                return
            _update(connection, name, status=TransformJobStatus.STOPPING, modified_at=now)
            _append_event(connection, name)

        await self._database.write(apply, after_commit=lambda _: self._notify(name))

    async def get(self, name: str) -> TransformJob:
        """Return the job with exactly this name.

        Raises:
            NotFound: There is none.
        """
        job = await self.find(name)
        if job is None:
            raise self._namespace.could_not_find(_KIND, name)
        return job

    async def list(self, listing: Listing) -> Page[TransformJobSummary]:
        """Return one page of a list."""

        def query(connection: Connection) -> Page[TransformJobSummary]:
            names = ("name", "status", "failure_reason", "created_at", "modified_at", "ended_at")
            columns = [transform_jobs.c[name] for name in names]
            rows, following = fetch_page(connection, transform_jobs, columns, listing)
            items = (
                TransformJobSummary(name, TransformJobStatus(status), *rest)
                for name, status, *rest in rows
            )
            return Page(tuple(items), following)

        return await self._database.read(query)

    # Asked by all.

    async def find(self, name: str) -> TransformJob | None:
        """Return the job with exactly this name, or None."""

        def query(connection: Connection) -> TransformJob | None:
            row = _find_row(connection, name)
            return None if row is None else self._load(row)

        return await self._database.read(query)

    async def active_names(self) -> Names:
        """Return the names of jobs that have not ended."""

        def query(connection: Connection) -> Names:
            statement = sa.select(transform_jobs.c.name).where(transform_jobs.c.status.in_(_ACTIVE))
            return list(connection.scalars(statement))

        return await self._database.read(query)

    # Asked by control.

    async def record_start(self, name: str) -> None:
        """Write that a job's instances are there, unless that was written before."""
        now = self._clock.now()
        await self._change(name, transform_jobs.c.started_at.is_(None), started_at=now)

    async def record_end(self, name: str, outcome: Outcome, reason: str | None) -> bool:
        """Write the final status of a job that has not ended; return whether it had not."""
        now = self._clock.now()

        def apply(connection: Connection) -> bool:
            row = _find_row(connection, name)
            if row is None or row.status not in _ACTIVE:
                return False
            status = final_status(TransformJobStatus(row.status), outcome)
            values = {"status": status, "ended_at": now, "modified_at": now}
            if status is TransformJobStatus.FAILED:
                values["failure_reason"] = reason
            _update(connection, name, **values, owner=None)
            _append_event(connection, name)
            return True

        return await self._database.write(apply, after_commit=lambda _: self._notify(name))

    # Asked by jobs.

    async def take(self, name: str, owner: str) -> bool:
        """Become who moves a job's data, instead of whoever did; False when there is none to do."""
        is_open = transform_jobs.c.outcome.is_(None) & transform_jobs.c.status.in_(_ACTIVE)
        return await self._change(name, is_open, owner=owner)

    async def record_outcome(
        self, name: str, owner: str, outcome: Outcome, reason: str | None
    ) -> bool:
        """Write how the moving ended, as its owner; return whether this was still the owner."""
        is_mine = (transform_jobs.c.owner == owner) & transform_jobs.c.outcome.is_(None)
        return await self._change(name, is_mine, outcome=outcome, outcome_reason=reason)

    async def _change(self, name: str, condition: sa.ColumnElement[bool], **values: Any) -> bool:
        def apply(connection: Connection) -> bool:
            statement = transform_jobs.update().where(_is(name), condition).values(**values)
            return connection.execute(statement).rowcount > 0

        return await self._database.write(apply)

    def _load(self, row: Row[Any]) -> TransformJob:
        return TransformJob(
            name=row.name,
            arn=self._namespace.arn(_KIND, row.name),
            status=TransformJobStatus(row.status),
            failure_reason=row.failure_reason,
            outcome=None if row.outcome is None else Outcome(row.outcome),
            outcome_reason=row.outcome_reason,
            model=load_model(row.model),
            definition=row.definition,
            created_at=row.created_at,
            modified_at=row.modified_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    def _notify(self, name: str) -> None:
        self._changes.notify(_KIND, name)


def _is(name: str) -> sa.ColumnElement[bool]:
    return (transform_jobs.c.name_key == name_key(name)) & (transform_jobs.c.name == name)


def _find_row(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(sa.select(transform_jobs).where(_is(name))).one_or_none()


def _append_event(connection: Connection, name: str) -> None:
    """Write the event of a job that has come to another status, in that very transaction."""
    row = _find_row(connection, name)
    assert row is not None
    of_job = (tags.c.kind == _KIND) & (tags.c.name_key == name_key(name))
    found = connection.execute(sa.select(tags.c.key, tags.c.value).where(of_job))
    event = transform_job_event(
        row.name,
        status=row.status,
        definition=row.definition,
        failure_reason=row.failure_reason,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        at=row.modified_at,
        tags={key: value for key, value in found},
    )
    append_event(connection, event)


def _update(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(transform_jobs.update().where(_is(name)).values(**values))


def _instances_in_use(connection: Connection) -> Mapping[str, int]:
    table = transform_jobs
    rows = connection.execute(
        sa.select(table.c.instance_type, sa.func.sum(table.c.instance_count))
        .where(table.c.status.in_(_ACTIVE))
        .group_by(table.c.instance_type)
    )
    return {instance_type: int(count) for instance_type, count in rows}
