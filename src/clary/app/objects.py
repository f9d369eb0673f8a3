"""The objects process: the embedded S3."""

import asyncio
import os

from clary.app.keys import ServerKeys
from clary.app.role import Context, run_role
from clary.app.serving import serve_unix
from clary.objects.server import build_objects_app

NICENESS = 10


async def run_objects(context: Context) -> None:
    """Serve S3 until told to stop."""
    # Hashing an upload takes all of a core for seconds; invocations go first.
    os.nice(NICENESS)
    settings = context.settings
    keys = ServerKeys(settings.data_dir, context.run_dir)
    app = build_objects_app(
        settings.data_dir,
        region=settings.server.region,
        account=settings.server.account,
        keys=keys.load,
        auth_is_on=settings.auth_is_on,
        hosts=settings.server.allowed_hosts,
    )
    serving = asyncio.create_task(serve_unix(app, context.run_dir / "objects.sock"))
    await context.stopping.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await asyncio.to_thread(app.close)


if __name__ == "__main__":
    run_role("objects", run_objects)
