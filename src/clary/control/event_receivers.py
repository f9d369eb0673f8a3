"""Where events go: a file of JSON lines, webhooks, topics."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import urllib3

from clary import __version__
from clary.errors import PermanentError, TransientError

KEPT_FILES = 3
"""Earlier files that are kept beside the current one."""

_MAX_SUBJECT = 100


class EventReceiver(Protocol):
    """One place that is told of all events, in order."""

    name: str
    """Tells it from others, and is remembered in the database."""

    async def send(self, event: Mapping[str, Any]) -> None:
        """Deliver an event. The same one may come again after a crash.

        Raises:
            TransientError: It may be taken later.
            PermanentError: It will never be taken.
        """
        ...


class Notifier(Protocol):
    """Publishes to topics."""

    async def publish(
        self,
        topic_arn: str,
        subject: str,
        message: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Hand a message to a topic.

        Raises:
            TransientError: It may be taken later.
            PermanentError: There is no such topic.
        """
        ...


class EventFile:
    """A file, one event a line, cut off at a size.

    Args:
        path: The current file; earlier ones are ``<path>.1`` and so on.
        max_bytes: Size at which a new one is begun.
    """

    name = "file"

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes

    async def send(self, event: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._append, json.dumps(event) + "\n")

    def _append(self, line: str) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size + len(line) > self._max_bytes:
                self._rotate()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TransientError(f"{self._path} cannot be written: {error.strerror}") from error

    def _rotate(self) -> None:
        for number in range(KEPT_FILES, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = older.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)


class Webhook:
    """A URL that each event is posted to.

    Args:
        url: Where.
        timeout_s: Longest time that it may take, in seconds.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.name = f"webhook {url}"
        self._url = url
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=timeout_s)

    async def send(self, event: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._post, event)

    def _post(self, event: Mapping[str, Any]) -> None:
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=json.dumps(event).encode(),
                headers={
                    "content-type": "application/json",
                    "user-agent": f"clary/{__version__}",
                    "x-clary-event-id": str(event["id"]),
                },
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"{self._url} cannot be reached: {error}") from error
        status = response.status
        if 200 <= status < 300:
            return
        if status in (408, 429) or status >= 500:
            raise TransientError(f"{self._url} answered {status}")
        raise PermanentError(f"{self._url} answered {status}")


class EventTopic:
    """A topic that each event is published to, as EventBridge does.

    Args:
        topic_arn: Which.
        notifier: Who publishes.
    """

    def __init__(self, topic_arn: str, notifier: Notifier) -> None:
        self.name = f"topic {topic_arn}"
        self._topic_arn = topic_arn
        self._notifier = notifier

    async def send(self, event: Mapping[str, Any]) -> None:
        await self._notifier.publish(
            self._topic_arn,
            str(event["detail-type"])[:_MAX_SUBJECT],
            json.dumps(event),
            {"source": str(event["source"]), "detail-type": str(event["detail-type"])},
        )
