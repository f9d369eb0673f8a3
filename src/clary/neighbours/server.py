"""The neighbours' process as the gateway sees it: requests in, calls, answers out.

The gateway has checked the signature, and says for which service it was. Only links in messages of
SNS, below one path of their own, come unsigned.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clary.neighbours.calls import KEPT_HEADERS, SERVICES, Answer, Call
from clary.neighbours.services import Services
from clary.signing.sigv4 import scope_of

PUBLIC_PATH = "/_clary/sns"


def build_neighbours(services: Services, *, region: str, authority: str) -> ASGIApp:
    """Return the application.

    Args:
        services: Does the calls.
        region: Of requests whose signature names none.
        authority: Host and port of this server, for requests without a Host.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = request.headers.get("x-clary-request-id", "")
        host = request.headers.get("host", authority)
        if request.url.path.startswith(PUBLIC_PATH):
            answer = await services.answer_public(
                request.url.path, request.url.query, host, request_id
            )
        elif request.headers.get("x-clary-service") not in SERVICES:
            answer = Answer(status=404, body=b"no such service", content_type="text/plain")
        else:
            answer = await services.answer(await _call(request, host, region), request_id)
        response = Response(answer.body, answer.status, media_type=None)
        response.headers["content-type"] = answer.content_type
        if answer.query_error:
            response.headers["x-amzn-query-error"] = answer.query_error
        if request_id:
            response.headers["x-amzn-requestid"] = request_id
        await response(scope, receive, send)

    return app


async def _call(request: Request, host: str, region: str) -> Call:
    raw = {name: value for name, value in request.scope["headers"]}
    scope = scope_of(raw, request.scope["query_string"])
    body = await request.body()
    return Call(
        service=request.headers["x-clary-service"],
        region=scope.region if scope is not None and scope.region else region,
        host=host,
        path=request.url.path,
        headers={name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
        # A query request may come as GET.
        body=body or request.scope["query_string"],
    )
