"""HTTP on ``jobs.sock``: what other processes of this server ask of jobs.

=========================  ======================================================================
``GET /_clary/health``     how it is, as JSON
=========================  ======================================================================
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clary import __version__


def build_jobs_app(*, life: str) -> Starlette:
    """Return the application.

    Args:
        life: Name of this run of the server.
    """

    async def show_health(request: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": __version__, "life": life, "pid": os.getpid()}
        )

    return Starlette(routes=[Route("/_clary/health", show_health)])
