"""The loop that keeps logs within their limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from clary.errors import TransientError

SWEEP_S = 10.0

_log = logging.getLogger(__name__)


async def keep_logs(sweep: Callable[[], Awaitable[None]], pause_s: float = SWEEP_S) -> None:
    """Sweep again and again, until cancelled; what fails is tried again."""
    while True:
        try:
            await sweep()
        except (TransientError, OSError) as error:
            _log.warning("logs cannot be swept: %s", error)
        await asyncio.sleep(pause_s)
