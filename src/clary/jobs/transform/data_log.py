"""The data log of a job: what AWS writes beside the container's own output."""

from datetime import UTC, datetime

from clary.clock import Clock
from clary.errors import Error
from clary.logs.groups import LogGroups
from clary.resources.log_group import TRANSFORM_GROUP


class DataLog:
    """The stream ``<job>/data-log`` of the transform jobs' group."""

    def __init__(self, groups: LogGroups, job_name: str, clock: Clock) -> None:
        self._groups = groups
        self._stream = f"{job_name}/data-log"
        self._clock = clock

    async def write(self, *texts: str) -> None:
        """Write lines that belong together; what cannot be written is no reason to fail."""
        now = self._clock.now()
        stamp = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}"
        events = [(_ms(now), f"{stamp}:[sagemaker logs]: {text}") for text in texts]
        try:
            await self._groups.append(TRANSFORM_GROUP, self._stream, events)
        except (Error, OSError):
            return


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
