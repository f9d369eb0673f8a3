"""The jobs process: started when somebody first connects to ``jobs.sock``."""

import asyncio
import logging
import os

from clary.app.role import Context, run_role
from clary.app.serving import serve_inherited
from clary.app.storage import object_storage
from clary.clock import SystemClock
from clary.jobs.capture import CaptureWriter
from clary.jobs.server import build_jobs_app

NICENESS = 10
LAST_UPLOADS_S = 7.0
"""Time for the last objects at the end, in seconds: the supervisor gives 10."""


async def run_jobs(context: Context) -> None:
    """Serve until told to stop."""
    # What is done here can wait; invocations go first.
    os.nice(NICENESS)
    storage = object_storage(context.settings, context.run_dir)
    captures = CaptureWriter(context.settings.capture, storage, SystemClock())
    app = build_jobs_app(life=context.life, captures=captures)
    serving = asyncio.create_task(serve_inherited(app))
    writing = asyncio.create_task(captures.run())
    await context.stopping.wait()
    serving.cancel()
    writing.cancel()
    await asyncio.gather(serving, writing, return_exceptions=True)
    await captures.close(LAST_UPLOADS_S)
    if captures.is_uploading:
        # Threads that wait for an S3 that does not answer must not hold up the server's stop.
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    run_role("jobs", run_jobs)
