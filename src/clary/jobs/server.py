"""HTTP on ``jobs.sock``: what other processes of this server ask of jobs.

=========================  ======================================================================
``GET /_clary/health``     how it is, as JSON
``POST /captures``         takes a batch of captured calls (``router/capture_records.py``); answers
                           ``{"refused": [positions of those that found no room]}``
``POST /wake``             there is something in the store to do; answers 204
``POST /transform-jobs/…`` sees what is to be done about a transform job
=========================  ======================================================================
"""

import os
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clary import __version__
from clary.jobs.capture import CaptureWriter


def build_jobs_app(
    *,
    life: str,
    captures: CaptureWriter,
    wake: Callable[[], None] = lambda: None,
    look_at_transform: Callable[[str], None] = lambda _: None,
) -> Starlette:
    """Return the application.

    Args:
        life: Name of this run of the server.
        captures: Takes captured calls.
        wake: Called when there is something in the store to do.
        look_at_transform: Takes names of transform jobs.
    """

    async def show_health(request: Request) -> Response:
        return JSONResponse(
            {
                "status": "ok",
                "version": __version__,
                "life": life,
                "pid": os.getpid(),
                "captures": {"held_bytes": captures.size, "lost": captures.lost},
            }
        )

    async def take_captures(request: Request) -> Response:
        try:
            return JSONResponse({"refused": await captures.take(await request.body())})
        except ValueError as error:
            return JSONResponse({"message": str(error)}, status_code=400)

    async def be_woken(request: Request) -> Response:
        wake()
        return Response(status_code=204)

    async def look_at_transform_job(request: Request) -> Response:
        look_at_transform(request.path_params["name"])
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/_clary/health", show_health),
            Route("/captures", take_captures, methods=["POST"]),
            Route("/wake", be_woken, methods=["POST"]),
            Route("/transform-jobs/{name}", look_at_transform_job, methods=["POST"]),
        ]
    )
