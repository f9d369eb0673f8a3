"""Delivers events from the store's outbox to their receivers.

Each receiver has a loop of its own, so that one that is away holds up no other, and gets events in
the order in which things happened. One that does not take an event is asked again, with pauses that
grow; what it never takes is passed over. An event may come twice, after a crash in between, with
the same id.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta

from clary.clock import Clock
from clary.control.event_receivers import EventReceiver
from clary.errors import PermanentError, TransientError
from clary.settings import EventSettings
from clary.store.changes import Changes
from clary.store.events import Events, StoredEvent

BATCH = 100
LOOK_S = 5.0
"""How often it is looked whether there is something, even when nobody says so."""

TRIM_S = 30.0
FIRST_PAUSE_S = 0.5

_log = logging.getLogger(__name__)


def pause_after(failures: int, *, longest_s: float) -> float:
    """Return how long to wait after so many failures in a row, in seconds; without jitter."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), longest_s)


class EventDelivery:
    """All receivers.

    Args:
        events: The outbox.
        changes: Says when there may be something new.
        receivers: Who gets it.
        clock: Wall time.
        settings: Limits.
    """

    def __init__(
        self,
        events: Events,
        changes: Changes,
        receivers: Sequence[EventReceiver],
        clock: Clock,
        settings: EventSettings,
    ) -> None:
        self._events = events
        self._changes = changes
        self._receivers = receivers
        self._clock = clock
        self._settings = settings
        self._something_new = {receiver.name: asyncio.Event() for receiver in receivers}

    async def register(self) -> None:
        """Say who the receivers are; before anything happens that they should hear of."""
        await self._events.register([receiver.name for receiver in self._receivers])

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._trim())
            for receiver in self._receivers:
                tasks.create_task(self._serve(receiver))

    async def _listen(self) -> None:
        changed = self._changes.subscribe()
        try:
            while True:
                await changed.get()
                for something_new in self._something_new.values():
                    something_new.set()
        finally:
            self._changes.unsubscribe(changed)

    async def _serve(self, receiver: EventReceiver) -> None:
        something_new = self._something_new[receiver.name]
        failures = 0
        while True:
            something_new.clear()
            try:
                batch = await self._events.pending(receiver.name, limit=BATCH)
                for event in batch:
                    await self._send(receiver, event)
                    failures = 0
            except TransientError as error:
                failures += 1
                pause_s = pause_after(failures, longest_s=self._settings.max_pause_s)
                _log.warning("%s: %s; again in %.1f s", receiver.name, error, pause_s)
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                continue
            except Exception:  # noqa: BLE001 - one receiver's bug ends no other
                failures += 1
                _log.exception("%s: delivery failed", receiver.name)
                await asyncio.sleep(pause_after(failures, longest_s=self._settings.max_pause_s))
                continue
            if len(batch) < BATCH:
                try:
                    await asyncio.wait_for(something_new.wait(), LOOK_S)
                except TimeoutError:
                    pass

    async def _send(self, receiver: EventReceiver, event: StoredEvent) -> None:
        try:
            await receiver.send(event.document)
        except PermanentError as error:
            _log.error("%s does not take event %s: %s", receiver.name, event.id, error)
        await self._events.delivered(receiver.name, event.seq)

    async def _trim(self) -> None:
        while True:
            try:
                lost = await self._events.trim(
                    max_age=timedelta(seconds=self._settings.max_age_s),
                    max_events=self._settings.max_pending,
                    now=self._clock.now(),
                )
                if lost:
                    _log.error("%d events were given up: too old, or too many", lost)
            except TransientError as error:
                _log.warning("events were not cleared away: %s", error)
            await asyncio.sleep(TRIM_S)
