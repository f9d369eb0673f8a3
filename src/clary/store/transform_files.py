"""Files of transform jobs: written by the jobs process, as the owner of the job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.resources.names import name_key
from clary.resources.transform_job import TransformFile
from clary.store.database import Database
from clary.store.schema import transform_files, transform_jobs

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformProgress:
    """How far a job is."""

    files: int
    done: int
    failed: int
    bytes: int
    done_bytes: int
    """Of the input objects: all of those that are done or failed, and what is through of others."""

    requests: int
    failures: tuple[tuple[str, str], ...]
    """``<bucket>/<key>`` and what was the matter, of the first that failed."""


class TransformFiles:
    """The files of all jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, job: str, owner: str, files: Sequence[TransformFile]) -> None:
        """Write the list of a job's files, all at once."""

        def apply(connection: Connection) -> None:
            if not _owns(connection, job, owner, transform_jobs.c.is_listed.is_(False)):
                return
            rows = [_row(job, file) for file in files]
            for start in range(0, len(rows), ROWS_AT_ONCE):
                connection.execute(transform_files.insert(), rows[start : start + ROWS_AT_ONCE])
            connection.execute(
                transform_jobs.update()
                .where(transform_jobs.c.name_key == name_key(job))
                .values(is_listed=True)
            )

        await self._database.write(apply)

    async def load(self, job: str) -> Sequence[TransformFile] | None:
        """Return a job's files in order; None: they have not been listed."""

        def query(connection: Connection) -> Sequence[TransformFile] | None:
            is_listed = connection.scalar(
                sa.select(transform_jobs.c.is_listed).where(
                    transform_jobs.c.name_key == name_key(job)
                )
            )
            if not is_listed:
                return None
            table = transform_files
            rows = connection.execute(
                sa.select(table).where(table.c.job_key == name_key(job)).order_by(table.c.position)
            )
            return [_load(row) for row in rows]

        return await self._database.read(query)

    async def record(
        self,
        job: str,
        owner: str,
        file: TransformFile,
        *,
        done_bytes: int,
        requests: int,
        failure: str | None = None,
    ) -> bool:
        """Write how far a file is; False when somebody else has taken the job over."""

        def apply(connection: Connection) -> bool:
            if not _owns(connection, job, owner, sa.true()):
                return False
            table = transform_files
            connection.execute(
                table.update()
                .where(table.c.job_key == name_key(job), table.c.position == file.position)
                .values(
                    state=file.state,
                    failure=failure,
                    done_bytes=done_bytes,
                    requests=requests,
                    upload_id=file.upload_id,
                    etags=list(file.etags),
                    offset=file.offset,
                )
            )
            return True

        return await self._database.write(apply)

    async def progress(self, job: str) -> TransformProgress:
        """Return how far a job is."""

        def query(connection: Connection) -> TransformProgress:
            table = transform_files
            mine = table.c.job_key == name_key(job)
            is_over = table.c.state != "pending"
            row = connection.execute(
                sa.select(
                    sa.func.count().label("files"),
                    sa.func.sum(sa.case((table.c.state == "done", 1), else_=0)).label("done"),
                    sa.func.sum(sa.case((table.c.state == "failed", 1), else_=0)).label("failed"),
                    sa.func.sum(table.c.size).label("bytes"),
                    sa.func.sum(sa.case((is_over, table.c.size), else_=table.c.done_bytes)).label(
                        "done_bytes"
                    ),
                    sa.func.sum(table.c.requests).label("requests"),
                ).where(mine)
            ).one()
            failures = connection.execute(
                sa.select(table.c.bucket, table.c.key, table.c.failure)
                .where(mine, table.c.state == "failed")
                .order_by(table.c.position)
                .limit(10)
            )
            return TransformProgress(
                files=int(row.files),
                done=int(row.done or 0),
                failed=int(row.failed or 0),
                bytes=int(row.bytes or 0),
                done_bytes=int(row.done_bytes or 0),
                requests=int(row.requests or 0),
                failures=tuple((f"{f.bucket}/{f.key}", f.failure or "") for f in failures),
            )

        return await self._database.read(query)


def _owns(connection: Connection, job: str, owner: str, condition: sa.ColumnElement[bool]) -> bool:
    statement = sa.select(transform_jobs.c.name_key).where(
        transform_jobs.c.name_key == name_key(job), transform_jobs.c.owner == owner, condition
    )
    return connection.scalar(statement) is not None


def _row(job: str, file: TransformFile) -> dict[str, Any]:
    return {
        "job_key": name_key(job),
        "position": file.position,
        "bucket": file.bucket,
        "key": file.key,
        "etag": file.etag,
        "size": file.size,
        "output_key": file.output_key,
        "state": file.state,
        "done_bytes": 0,
        "requests": 0,
        "etags": list(file.etags),
        "offset": file.offset,
    }


def _load(row: Row[Any]) -> TransformFile:
    return TransformFile(
        position=row.position,
        bucket=row.bucket,
        key=row.key,
        etag=row.etag,
        size=row.size,
        output_key=row.output_key,
        state=row.state,
        upload_id=row.upload_id,
        etags=tuple(row.etags),
        offset=row.offset,
    )
