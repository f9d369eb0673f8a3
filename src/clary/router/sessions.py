"""Stateful sessions: the id that a client keeps says where its session lives.

A container opens a session under an id of its own. The gateway hands the client that id with a tag
that names the place, so that any gateway can send the next call there, and none has to remember::

    ada-1-5d0c7e61b2f4a1c2e3f4684a3b2c
    │     │           │       └ its end, in seconds since 1970; 0: none
    │     │           └ the worker's life
    │     └ the instance
    └ the container's id

The container gets its own id back, without the tag. Instances and workers are named by what never
comes again: a worker that was started anew has another life and none of the old one's sessions.

The tag is no secret and is not signed: whoever makes one up reaches a worker of an endpoint that
they may call anyway.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from clary.errors import InvalidRequest

NEW_SESSION = "NEW_SESSION"
"""Value of ``SessionId`` that asks for a new one."""

MAX_ID = 256
"""Most characters of the header that opens a session (service model)."""

_INSTANCE, _LIFE, _END = 12, 8, 8
_ID = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_TAG = re.compile(rf"[0-9a-f]{{{_INSTANCE + _LIFE + _END}}}")
_EXPIRES = re.compile(r";\s*expires=(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session lives."""

    instance_tag: str
    worker_life: int


@dataclass(frozen=True, slots=True)
class Session:
    """What a client's ``SessionId`` says."""

    id: str
    """As the client has it: the container's id with the tag, or ``NEW_SESSION``."""

    container_id: str
    """As the container has it."""

    place: Place | None
    """None: the session is to be opened, wherever there is room."""

    ends_at: int = 0
    """In seconds since 1970; 0: when the container says so."""


class ClosedSessions:
    """Sessions that were closed by way of this gateway, the last ones.

    A courtesy: their clients get a clear answer. Another gateway does not know them and asks the
    container, which has the last word on its sessions.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._ids

    def add(self, session_id: str) -> None:
        """Remember one, and forget the oldest when there are too many."""
        self._ids[session_id] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]


def instance_tag(instance_id: str) -> str:
    """Return what stands for an instance in session ids."""
    return hashlib.blake2s(instance_id.encode(), digest_size=_INSTANCE // 2).hexdigest()


def parse_session(session_id: str, now: float) -> Session:
    """Return what a ``SessionId`` says.

    Args:
        session_id: As the client sent it.
        now: Seconds since 1970.

    Raises:
        InvalidRequest: It is none that a gateway has given out, or the session has ended.
    """
    if session_id == NEW_SESSION:
        return Session(session_id, session_id, None)
    if _ID.fullmatch(session_id) is None:
        raise InvalidRequest(
            f"1 validation error detected: Value '{session_id}' at 'sessionId' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: "
            "^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$"
        )
    container_id, _, tag = session_id.rpartition("-")
    if not container_id or _TAG.fullmatch(tag) is None:
        raise InvalidRequest(
            f"Session {session_id} is unknown. Open one with SessionId={NEW_SESSION}."
        )
    life, end = tag[_INSTANCE : _INSTANCE + _LIFE], tag[_INSTANCE + _LIFE :]
    ends_at = int(end, 16)
    if ends_at and ends_at <= now:
        raise InvalidRequest(
            f"Session {session_id} has expired. Open another with SessionId={NEW_SESSION}."
        )
    return Session(session_id, container_id, Place(tag[:_INSTANCE], int(life, 16)), ends_at)


def session_header(from_container: str, place: Place) -> str:
    """Return the header that tells the client of its new session.

    Args:
        from_container: ``<id>; Expires=<UTC time>`` as the container sent it. Of an id that breaks
            the service model's pattern, or is too long to be tagged, nothing is changed; it cannot
            be used.
        place: The worker that sent it.
    """
    container_id, semicolon, rest = from_container.partition(";")
    container_id = container_id.strip()
    if _ID.fullmatch(container_id) is None:
        return from_container
    ends_at = _end(semicolon + rest)
    tag = f"{place.instance_tag}{place.worker_life:0{_LIFE}x}{ends_at:0{_END}x}"
    header = f"{container_id}-{tag}{semicolon}{rest}"
    return header if len(header) <= MAX_ID else from_container


def gone(session_id: str) -> InvalidRequest:
    """Return the refusal for a session whose instance or worker is not there any more."""
    return InvalidRequest(
        f"Session {session_id} is gone: the instance that had it was stopped or started anew. Open "
        f"another with SessionId={NEW_SESSION}."
    )


def closed(session_id: str) -> InvalidRequest:
    """Return the refusal for a session that its container has closed."""
    return InvalidRequest(
        f"Session {session_id} was closed. Open another with SessionId={NEW_SESSION}."
    )


def _end(attributes: str) -> int:
    match = _EXPIRES.match(attributes)
    if match is None:
        return 0
    try:
        moment = datetime.strptime(match[1].strip(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return 0  # not the time format of the service model: the container minds it itself
    return min(max(int(moment.timestamp()), 1), 0xFFFFFFFF)
