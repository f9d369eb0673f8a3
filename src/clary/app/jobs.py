"""The jobs process: started when somebody first connects to ``jobs.sock``."""

import asyncio
import os

from clary.app.role import Context, run_role
from clary.app.serving import serve_inherited
from clary.jobs.server import build_jobs_app

NICENESS = 10


async def run_jobs(context: Context) -> None:
    """Serve until told to stop."""
    # What is done here can wait; invocations go first.
    os.nice(NICENESS)
    serving = asyncio.create_task(serve_inherited(build_jobs_app(life=context.life)))
    await context.stopping.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


if __name__ == "__main__":
    run_role("jobs", run_jobs)
