"""All that this server tells Prometheus and OpenTelemetry of itself, gathered from where it is."""

import asyncio
import logging

from clary.clock import Clock
from clary.control.process_families import ProcessFamilies
from clary.control.store_families import StoreFamilies
from clary.control.variant_families import VariantFamilies
from clary.errors import TransientError
from clary.metrics.families import Family

_log = logging.getLogger(__name__)


class Telemetry:
    """Gathers families.

    Args:
        variants: Of endpoints' variants.
        stored: Of what the store knows.
        processes: Of the server's own processes.
        clock: The monotonic clock.
    """

    def __init__(
        self,
        variants: VariantFamilies,
        stored: StoreFamilies,
        processes: ProcessFamilies,
        clock: Clock,
    ) -> None:
        self._variants = variants
        self._stored = stored
        self._processes = processes
        self._clock = clock

    async def collect(self) -> list[Family]:
        """Return all families as they are now; without the store's when it does not answer."""
        families = self._variants.families(self._clock.monotonic())
        try:
            families += await self._stored.families()
        except TransientError as error:
            _log.warning("metrics of the store are left out: %s", error)
        families += await asyncio.to_thread(self._processes.families)
        return families
