"""The control API: one ASGI application for all services behind the one URL.

``AwsApi.answer`` is the chain that every AWS request goes through, readable top to bottom. Parsing,
validation and serialisation come from service models (``clary.aws``); what an operation does is a
handler of this package. Signatures were checked by the gateway, which names the service and the
caller in headers of its own.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from clary.api import logs, runtime, sts
from clary.api.autoscaling import activities, policies, scheduled_actions, targets
from clary.api.cloudwatch import (
    alarm_lists,
    alarm_tags,
    alarms,
    dashboards,
    metric_data,
    metric_statistics,
    put_metric_data,
)
from clary.api.faults import VALIDATION_CODES, fault_of, not_built
from clary.api.inside import Inside, ObserveInstances, ObserveModels, ReadCounters
from clary.api.metrics_page import METRICS_PATH, CollectMetrics, metrics_route
from clary.api.model_patches import MODEL_PATCHES
from clary.api.operations import Backend, Call, Operation, collect
from clary.api.sagemaker import (
    endpoint_configs,
    endpoints,
    inference_components,
    models,
    neighbours,
    tags,
    transform_jobs,
)
from clary.aws.dispatch import Match, find_operation
from clary.aws.fault import Fault
from clary.aws.http import HttpRequest, HttpResponse, unpacked
from clary.aws.protocols import PROTOCOLS
from clary.aws.service_models import ServiceModels, candidates
from clary.aws.validation import validate
from clary.resources.trace_context import TRACEPARENT, TRACESTATE, read_context
from clary.signing import sigv4

OPERATIONS: Mapping[tuple[str, str], Operation] = collect(
    (
        *(models, endpoint_configs, endpoints, inference_components),
        *(transform_jobs, tags, neighbours),
        *(targets, policies, scheduled_actions, activities),
        *(put_metric_data, metric_statistics, metric_data),
        *(dashboards, alarms, alarm_lists, alarm_tags),
        *(logs, runtime, sts),
    )
)
"""All built operations, by service and name."""


def build_api(
    backend: Backend,
    *,
    log_root: Path,
    observe_instances: ObserveInstances,
    read_counters: ReadCounters,
    observe_models: ObserveModels,
    collect_metrics: CollectMetrics,
) -> ASGIApp:
    """Return the ASGI application of control.

    Args:
        backend: What operation handlers work with.
        log_root: Directory of endpoints' logs.
        observe_instances: Tells of an endpoint's instances, for Clary's own pages.
        read_counters: Tells what gateways count of an endpoint, for the same.
        observe_models: Tells of the models of a multi-model endpoint, for the same.
        collect_metrics: Gathers what ``GET /metrics`` shows.
    """
    inside = Inside(
        store=backend.store,
        log_root=log_root,
        observe_instances=observe_instances,
        read_counters=read_counters,
        observe_models=observe_models,
    )
    aws = AwsApi(backend)
    own = [metrics_route(collect_metrics), *inside.routes()]
    pages = Starlette(routes=[*own, Mount("/", app=aws)])

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        # AWS's operations go by Starlette's router and its middleware, which would take a third of
        # the time of a short one.
        if scope["type"] == "http" and not scope["path"].startswith(("/_clary", METRICS_PATH)):
            await aws(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return answer


class AwsApi:
    """Answers AWS requests."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._models = ServiceModels(MODEL_PATCHES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve ASGI: everything but the chain itself."""
        body = await Request(scope, receive).body()
        reply = await self.answer(_request_of(scope, body))
        response = Response(reply.body, reply.status, dict(reply.headers))
        await response(scope, receive, send)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer one request. Never raises, except when it is cancelled."""
        request_id = request.headers.get("x-clary-request-id") or str(uuid.uuid4())
        match: Match | None = None
        try:
            request = unpacked(request)
            match = self._find_operation(request)
            service, name = match.operation.service_model.service_name, match.operation.name
            operation = OPERATIONS.get((service, name))
            if operation is None:
                raise not_built(service, name)
            protocol = PROTOCOLS[match.protocol]
            parameters = protocol.parse(match.operation, request, match.uri)
            code = VALIDATION_CODES.get(service, "ValidationException")
            validate(match.operation.input_shape, parameters, code=code)
            reply = await operation.handle(self._call(request, request_id), parameters)
            return protocol.serialize(match.operation, reply, request_id)
        except Exception as error:  # noqa: BLE001 - the outermost handler of the API
            return self._answer_fault(error, match, request, request_id)

    def _find_operation(self, request: HttpRequest) -> Match:
        """Return which operation of which service is asked for."""
        signing_name = _signing_name(request)
        refusal: Fault | None = None
        for service in candidates(signing_name):
            try:
                return find_operation(self._models.get(service), request)
            except Fault as fault:
                refusal = refusal or fault
        raise refusal or Fault("NotImplemented", f"There is no service {signing_name!r} here.", 501)

    def _call(self, request: HttpRequest, request_id: str) -> Call:
        return Call(
            backend=self._backend,
            request_id=request_id,
            access_key_id=request.headers.get("x-clary-access-key", ""),
            trace=_trace_of(request),
        )

    def _answer_fault(
        self, error: Exception, match: Match | None, request: HttpRequest, request_id: str
    ) -> HttpResponse:
        if match is None:
            # No service says how it wants its faults; its requests' form does.
            content_type = request.headers.get("content-type", "")
            is_form = content_type.startswith("application/x-www-form-urlencoded")
            is_query = is_form and "x-amz-target" not in request.headers
            protocol = PROTOCOLS["query" if is_query else "json"]
            return protocol.serialize_fault(None, fault_of(None, None, error), request_id)
        model = match.operation.service_model
        fault = fault_of(model.service_name, match.operation.name, error)
        protocol = PROTOCOLS.get(match.protocol, PROTOCOLS["json"])
        return protocol.serialize_fault(model, fault, request_id)


def _trace_of(request: HttpRequest) -> Mapping[str, str]:
    parent = request.headers.get(TRACEPARENT)
    if parent is None:
        return {}
    context = read_context(parent, request.headers.get(TRACESTATE, ""))
    return {} if context is None else context.headers()


def _signing_name(request: HttpRequest) -> str:
    """Return the service as signatures name it: said by the gateway, the scope, or the request."""
    told = request.headers.get("x-clary-service")
    if told:
        return told
    headers = {
        name.encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()
    }
    scope = sigv4.scope_of(headers, request.query.encode("latin-1"))
    if scope is not None:
        return scope.service
    return "sagemaker" if "x-amz-target" in request.headers else "sts"


def _request_of(scope: Scope, body: bytes) -> HttpRequest:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        key = name.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    path = scope.get("raw_path") or scope["path"].encode()
    return HttpRequest(
        method=scope["method"],
        path=path.partition(b"?")[0].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
    )
