"""Which operation a request asks for: by the target header, the action, or method and path.

Several models can claim a request (control and runtime of one service sign with the same name):
``find_operation`` is asked for one after another, and raises ``Fault`` where a model has no such
operation. Whether a modelled operation is built is decided elsewhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus

from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault
from clary.aws.http import HttpRequest

MAX_FORM_FIELDS = 20_000


@dataclass(frozen=True, slots=True)
class Match:
    """The operation of a request."""

    operation: OperationModel
    uri: Mapping[str, str]
    """Decoded parts of the path by the names that the template gives them."""
    protocol: str
    """Name in the table of protocols."""


def find_protocol(service_model: ServiceModel, request: HttpRequest) -> str:
    """Return the protocol that a request is written in.

    Some services speak several: CloudWatch's clients send query, JSON or CBOR by their age.
    """
    own: str = service_model.metadata["protocol"]
    offered = {own, *service_model.metadata.get("protocols", ())}
    if len(offered) > 1:
        if "smithy-rpc-v2-cbor" in offered and "smithy-protocol" in request.headers:
            return "smithy-rpc-v2-cbor"
        if "json" in offered and "x-amz-target" in request.headers:
            return "json"
        if "query" in offered and "smithy-protocol" not in request.headers:
            return "query"
    return own


def find_operation(service_model: ServiceModel, request: HttpRequest) -> Match:
    """Return what a request asks for.

    Raises:
        Fault: The service has no such operation.
    """
    protocol = find_protocol(service_model, request)
    if protocol == "json":
        return _by_target(service_model, request)
    if protocol == "query":
        return _by_action(service_model, request)
    if protocol == "smithy-rpc-v2-cbor":
        return _by_rpc_path(service_model, request)
    return _by_route(service_model, request, protocol)


def form_fields(request: HttpRequest) -> dict[str, str]:
    """Return the parameters of a query request, from its URL and its form.

    Raises:
        Fault: There are too many of them.
    """
    fields: dict[str, str] = {}
    # latin-1 takes any byte; percent-encoded text is decoded as UTF-8 all the same.
    for text in (request.query, request.body.decode("latin-1")):
        try:
            fields.update(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
        except ValueError as error:
            raise Fault("MalformedQueryString", f"The query cannot be read: {error}") from error
    return fields


def _by_target(service_model: ServiceModel, request: HttpRequest) -> Match:
    target = request.headers.get("x-amz-target", "")
    prefix, _, name = target.rpartition(".")
    if prefix == service_model.metadata["targetPrefix"] and name in service_model.operation_names:
        return Match(service_model.operation_model(name), {}, "json")
    raise Fault("UnknownOperationException", f"There is no operation {target[:200]!r}.", 400)


def _by_action(service_model: ServiceModel, request: HttpRequest) -> Match:
    fields = form_fields(request)
    name = fields.get("Action", "")
    if name in service_model.operation_names:
        return Match(service_model.operation_model(name), {}, "query")
    if not name:
        raise Fault("MissingAction", "The request must contain the parameter Action.", 400)
    version = fields.get("Version", service_model.api_version)
    raise Fault(
        "InvalidAction", f"Could not find operation {name[:200]} for version {version[:20]}", 400
    )


def _by_rpc_path(service_model: ServiceModel, request: HttpRequest) -> Match:
    name = request.path.rpartition("/operation/")[2]
    if name in service_model.operation_names:
        return Match(service_model.operation_model(name), {}, "smithy-rpc-v2-cbor")
    raise Fault("UnknownOperationException", f"There is no operation {name[:200]!r}.", 404)


def _by_route(service_model: ServiceModel, request: HttpRequest, protocol: str) -> Match:
    parameters: dict[str, str] = {}
    for part in request.query.split("&"):
        if part:
            name, _, value = part.partition("=")
            parameters.setdefault(unquote_plus(name), unquote_plus(value))
    path_known = False
    for route in _routes(service_model):
        found = route.pattern.fullmatch(request.path)
        if found is None:
            continue
        path_known = True
        if route.method == request.method and route.accepts(parameters, request.headers):
            uri = dict(zip(route.labels, map(_decode, found.groups()), strict=True))
            return Match(service_model.operation_model(route.operation), uri, protocol)
    if path_known:
        raise Fault(
            "MethodNotAllowed" if protocol == "rest-xml" else "UnknownOperationException",
            "The specified method is not allowed against this resource.",
            405,
        )
    raise Fault("UnknownOperationException", "There is no operation for this path.", 404)


def _decode(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise Fault("InvalidURI", "Couldn't parse the specified URI.", 400) from error


@dataclass(frozen=True, slots=True)
class _Route:
    """One row of a rest service's routing table."""

    operation: str
    method: str
    pattern: re.Pattern[str]
    labels: tuple[str, ...]
    literals: Mapping[str, str]
    """Parameters that the template demands; an empty value takes any."""
    required: frozenset[str]
    """Members in query or header that tell this operation from others of the same template."""
    is_shared: bool
    """Whether other operations have the same template; SDKs' ``x-id`` can then settle it."""
    rank: tuple[Any, ...]

    def accepts(self, parameters: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        for name, value in self.literals.items():
            if name not in parameters or (value and parameters[name] != value):
                return False
        if self.is_shared and parameters.get("x-id", self.operation) != self.operation:
            return False
        return all(name in parameters or name.lower() in headers for name in self.required)


@lru_cache(maxsize=32)
def _routes(service_model: ServiceModel) -> tuple[_Route, ...]:
    """Compile the table of a service, the most specific rows first."""
    rows = []
    for name in service_model.operation_names:
        operation = service_model.operation_model(name)
        method = operation.http.get("method", "POST")
        template, _, query = operation.http.get("requestUri", "/").partition("?")
        pairs = dict(
            (pair.partition("=")[0], pair.partition("=")[2]) for pair in query.split("&") if pair
        )
        pairs.pop("x-id", None)
        rows.append((operation, method, template, pairs))
    shared: dict[Any, int] = {}
    for _, method, template, pairs in rows:
        key = (method, template, tuple(sorted(pairs.items())))
        shared[key] = shared.get(key, 0) + 1
    routes = []
    for operation, method, template, pairs in rows:
        is_shared = shared[method, template, tuple(sorted(pairs.items()))] > 1
        required = _required_bindings(operation) if is_shared else frozenset()
        pattern, labels, fixed = _compile(template)
        rank = (-fixed, -len(labels), -len(pairs), -len(required), operation.deprecated)
        routes.append(
            _Route(
                operation.name,
                method,
                pattern,
                labels,
                pairs,
                required,
                is_shared,
                (*rank, operation.name),
            )
        )
    return tuple(sorted(routes, key=lambda route: route.rank))


def _required_bindings(operation: OperationModel) -> frozenset[str]:
    shape = operation.input_shape
    if shape is None:
        return frozenset()
    bindings = (shape.members[name].serialization for name in shape.required_members)
    return frozenset(
        binding["name"]
        for binding in bindings
        if binding.get("location") in ("querystring", "header")
    )


def _compile(template: str) -> tuple[re.Pattern[str], tuple[str, ...], int]:
    """Return a path template as an expression, its labels, and its count of fixed segments."""
    labels = []
    expression = ""
    for part in re.split(r"(\{[^}]*\})", template.rstrip("/")):
        if part.startswith("{"):
            label = part[1:-1]
            labels.append(label.removesuffix("+"))
            expression += "(.+)" if label.endswith("+") else "([^/]+)"
        else:
            expression += re.escape(part)
    fixed = sum(1 for segment in template.split("/") if segment and "{" not in segment)
    # A path may end in a slash, but behind a greedy label that slash belongs to the label.
    end = "" if expression.endswith("(.+)") else "/?"
    return re.compile(expression + end, re.DOTALL), tuple(labels), fixed
