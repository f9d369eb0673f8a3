"""The neighbours process: IAM, SNS, SQS and ECR. Started when somebody first calls one of them."""

import asyncio
from urllib.parse import urlsplit

from clary.app.role import Context, run_role
from clary.app.serving import serve_inherited
from clary.clock import SystemClock
from clary.neighbours.server import build_neighbours
from clary.neighbours.services import Services


async def run_neighbours(context: Context) -> None:
    """Serve the neighbour services until told to stop."""
    settings = context.settings
    services = Services(
        settings.data_dir / "neighbours",
        account=settings.server.account,
        region=settings.server.region,
        endpoint_urls=settings.neighbours.endpoint_urls,
        clock=SystemClock(),
    )
    app = build_neighbours(
        services, region=settings.server.region, authority=urlsplit(context.url).netloc
    )
    serving = asyncio.create_task(serve_inherited(app))
    await context.stopping.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await services.close()


if __name__ == "__main__":
    run_role("neighbours", run_neighbours)
