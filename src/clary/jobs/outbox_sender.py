"""Sends notifications from the outbox: each until its topic has it."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Protocol

from clary.clock import Clock
from clary.errors import PermanentError, TransientError
from clary.jobs.async_plan import NOTIFICATION_PAUSES_S, pause_s
from clary.settings import AsyncSettings
from clary.store.outbox import Outbox, WaitingNotification

AT_ONCE = 100
"""Messages that are read together."""

SENDING = 8
"""Messages that are on their way at once."""

POLL_S = 5.0

_log = logging.getLogger(__name__)


class Fate(Enum):
    """What became of a message."""

    TAKEN = 1
    WAITS = 2
    GIVEN_UP = 3


class TopicPublisher(Protocol):
    """Who publishes to topics (``neighbours/publishing.py``)."""

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Publish a message; return once the topic has taken it.

        Raises:
            PermanentError: The topic will not take it.
            TransientError: It may, later.
        """
        ...


class OutboxSender:
    """Empties the outbox.

    Args:
        outbox: What is to be sent.
        publisher: Takes it.
        settings: How long a message is tried.
        clock: Wall time.
        are_failures_counted: Whether somebody counts what was given up, and then forgets it.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: TopicPublisher,
        settings: AsyncSettings,
        clock: Clock,
        *,
        are_failures_counted: bool,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._settings = settings
        self._clock = clock
        self._are_failures_counted = are_failures_counted
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(SENDING)

    def wake(self) -> None:
        """Look into the outbox now."""
        self._woken.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            self._woken.clear()
            pause = POLL_S
            try:
                while messages := await self._outbox.due(AT_ONCE):
                    pause = min(pause, await self._send(messages))
            except TransientError as error:
                _log.warning("notifications wait: %s", error)
                pause = 1.0
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def _send(self, messages: Sequence[WaitingNotification]) -> float:
        """Send messages; return in how many seconds to look for those that were not taken."""
        fates = await asyncio.gather(*(self._publish(message) for message in messages))
        later = [
            (message, pause_s(message.attempts, NOTIFICATION_PAUSES_S))
            for message, fate in zip(messages, fates, strict=True)
            if fate is Fate.WAITS
        ]

        def ids(wanted: Fate) -> list[int]:
            pairs = zip(messages, fates, strict=True)
            return [message.id for message, fate in pairs if fate is wanted]

        await self._outbox.remove(ids(Fate.TAKEN))
        if self._are_failures_counted:
            await self._outbox.give_up(ids(Fate.GIVEN_UP))
        else:
            await self._outbox.remove(ids(Fate.GIVEN_UP))
        await self._outbox.postpone(
            [(message.id, timedelta(seconds=pause)) for message, pause in later]
        )
        return min((pause for _, pause in later), default=POLL_S)

    async def _publish(self, message: WaitingNotification) -> Fate:
        """Publish one; return what became of it."""
        try:
            async with self._places:
                await self._publisher.publish(message.topic, "", message.message)
        except PermanentError as error:
            _log.error("%s does not take a notification: %s", message.topic, error)
            return Fate.GIVEN_UP
        except (TransientError, OSError) as error:
            age_s = (self._clock.now() - message.created_at).total_seconds()
            if age_s < self._settings.notify_for_s:
                if message.attempts == 0:
                    _log.warning("a notification for %s waits: %s", message.topic, error)
                return Fate.WAITS
            _log.error("a notification for %s is dropped: %s", message.topic, error)
            return Fate.GIVEN_UP
        return Fate.TAKEN
