"""Speaks to the jobs process over ``jobs.sock``: connecting starts it where it does not run."""

import asyncio
from pathlib import Path

from clary.errors import TransientError

LOOK_TIMEOUT_S = 5.0


class JobsClient:
    """The jobs process, as control sees it."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    async def look(self, job_name: str) -> None:
        """Have it look at a transform job.

        Raises:
            TransientError: It does not answer.
        """
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                status = await self._post(f"/transform-jobs/{job_name}")
        except (OSError, TimeoutError) as error:
            raise TransientError(f"the jobs process does not answer: {error!r}") from error
        if b" 204 " not in status:
            raise TransientError(f"the jobs process answered {status!r}")

    async def _post(self, path: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._socket_path))
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: jobs\r\nContent-Length: 0\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode())
            return await reader.readline()
        finally:
            writer.close()
