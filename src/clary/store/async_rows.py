"""Rows of the queue of asynchronous invocations, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.resources.async_inference import AsyncOrder
from clary.store.schema import async_invocations

NO_ENDPOINT = ""
"""Whose an invocation is whose endpoint has been removed."""


class AsyncState(StrEnum):
    """Where an invocation is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An invocation that its owner may work on until the lease ends."""

    seq: int
    attempt: int
    """Names this lease: nobody gets the same one again."""

    endpoint: str
    inference_id: str
    accepted_at: datetime
    expires_at: datetime
    losses: int
    order: AsyncOrder
    body: bytes | None

    @property
    def is_first(self) -> bool:
        """Whether nobody has worked on it before."""
        return self.attempt == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an invocation ended, for who asks and for metrics."""

    status: str
    """``Completed`` or ``Failed``, as messages have it."""

    cause: str
    """What failed: ``model``, ``download``, ``upload``, ``expired``; empty: nothing."""

    reason: str = ""
    """For people."""

    variant: str = ""
    """Which variant answered; empty: none was asked."""

    download_us: int | None = None
    upload_us: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON types, without what is not there."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in (None, "")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Result":
        """Return the value that ``to_json`` wrote."""
        return cls(**{"cause": "", **data})


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationInfo:
    """An invocation, for who asks."""

    endpoint: str
    inference_id: str
    state: AsyncState
    position: int | None
    """How many of its endpoint come before it, while it is queued."""

    attempt: int
    accepted_at: datetime
    expires_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: Result | None
    order: AsyncOrder

    def to_json(self) -> dict[str, Any]:
        """Return what people are shown, without what is not there."""
        shown: dict[str, Any] = {
            "endpoint": self.endpoint,
            "inference_id": self.inference_id,
            "state": self.state,
            "position": self.position,
            "attempts": self.attempt,
            "accepted_at": _shown(self.accepted_at),
            "started_at": _shown(self.started_at),
            "ended_at": _shown(self.ended_at),
            "expires_at": _shown(self.expires_at) if self.ended_at is None else None,
            "input_location": self.order.input_location,
            "output_location": self.order.output_location,
            "failure_location": self.order.failure_location,
            "reason": (self.result.reason or None) if self.result is not None else None,
        }
        return {name: value for name, value in shown.items() if value is not None}


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def load_lease(row: Row[Any]) -> Lease:
    """Return a row that has been claimed."""
    return Lease(
        seq=row.seq,
        attempt=row.attempt,
        endpoint=row.endpoint,
        inference_id=row.inference_id,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        losses=row.losses,
        order=AsyncOrder.from_json(row.order),
        body=row.body,
    )


def load_info(row: Row[Any], position: int | None) -> InvocationInfo:
    """Return a row for who asks."""
    return InvocationInfo(
        endpoint=row.endpoint,
        inference_id=row.inference_id,
        state=AsyncState(row.state),
        position=position,
        attempt=row.attempt,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        result=None if row.result is None else Result.from_json(row.result),
        order=AsyncOrder.from_json(row.order),
    )


def drop_invocations(connection: Connection, endpoint: str) -> None:
    """Forget all invocations of an endpoint that is removed: a later one of its name is another.

    The one that ended last of all stays, without its endpoint: ``ended_seq`` counts up from it.
    """
    table = async_invocations
    last = sa.select(sa.func.max(table.c.ended_seq)).scalar_subquery()
    mine = table.c.endpoint == endpoint
    connection.execute(
        table.update().where(mine, table.c.ended_seq == last).values(endpoint=NO_ENDPOINT)
    )
    connection.execute(table.delete().where(mine))
