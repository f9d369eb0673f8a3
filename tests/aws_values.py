"""Values for shapes of botocore's models, and what botocore makes and reads of them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.utils import percent_encode_sequence
from hypothesis import strategies as st

from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.service_models import ServiceModels

MODELS = ServiceModels()

# What XML 1.0 can hold, without the white space that its readers may change.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=12
)
HEADER_TEXT = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12
)
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
SECONDS = st.integers(0, 4_000_000_000)


def moments(*, milliseconds: bool) -> st.SearchStrategy[datetime]:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    whole = SECONDS.map(lambda s: start + timedelta(seconds=s))
    if not milliseconds:
        return whole
    return st.builds(lambda m, ms: m + timedelta(milliseconds=ms), whole, st.integers(0, 999))


@cache
def values(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape. Collections are not empty: some protocols cannot write those."""
    kind = shape.type_name
    location = shape.serialization.get("location")
    if kind == "structure":
        return structures(shape, depth)
    if kind == "list":
        inner = values(shape.member, depth + 1)
        if location == "header":
            inner = HEADER_TEXT if shape.member.type_name == "string" else inner
            inner = _enum_or(shape.member, inner)
        return st.lists(inner, min_size=1, max_size=3)
    if kind == "map":
        if location == "headers":
            return st.dictionaries(TOKEN, HEADER_TEXT, min_size=1, max_size=3)
        keys = values(shape.key, depth + 1).filter(bool)
        return st.dictionaries(keys, values(shape.value, depth + 1), min_size=1, max_size=3)
    if kind in ("string", "character"):
        texts = HEADER_TEXT if location in ("header", "uri") else TEXT
        if shape.serialization.get("jsonvalue"):
            return st.dictionaries(TOKEN, TEXT, max_size=2)
        return _enum_or(shape, texts)
    if kind == "timestamp":
        is_whole = location == "header" or shape.serialization.get("timestampFormat") == "rfc822"
        return moments(milliseconds=not is_whole)
    if kind in ("float", "double"):
        # botocore leaves the words for infinity as they are in plain JSON
        return st.floats(allow_nan=False, allow_infinity=False)
    return {
        "integer": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(),
        "blob": st.binary(min_size=1, max_size=20),
    }[kind]


def _enum_or(shape: Any, other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    options = shape.metadata.get("enum")
    return st.sampled_from(options) if options else other


def structures(shape: Any, depth: int) -> st.SearchStrategy[Any]:
    members = {
        name: st.deferred(lambda member=member: values(member, depth + 1))
        for name, member in shape.members.items()
        if not _too_deep(member, depth) and not member.serialization.get("eventstream")
    }
    fixed = {
        name: strategy
        for name, strategy in members.items()
        if shape.members[name].serialization.get("location") == "uri"
        or name in shape.required_members
    }
    free = {name: strategy for name, strategy in members.items() if name not in fixed}
    built = st.fixed_dictionaries(fixed, optional=free)
    if shape.is_tagged_union:
        return st.one_of(*(st.fixed_dictionaries({n: s}) for n, s in members.items()))
    return built if depth == 0 else built.filter(bool)


def _too_deep(member: Any, depth: int) -> bool:
    if getattr(member, "is_document_type", False):
        return True
    return depth >= 3 and member.type_name in ("structure", "list", "map")


@cache
def operation(service: str, name: str) -> OperationModel:
    return MODELS.get(service).operation_model(name)


def sent(model: OperationModel, parameters: Mapping[str, Any], protocol: str) -> HttpRequest:
    """What botocore sends for some parameters."""
    wire = create_serializer(protocol, include_validation=False).serialize_to_request(
        dict(parameters), model
    )
    path, _, query = wire["url_path"].partition("?")
    body = wire["body"]
    if isinstance(body, dict):
        body = urlencode(body, doseq=True).encode()
    return HttpRequest(
        method=wire["method"],
        path=path,
        query="&".join(
            part for part in (query, percent_encode_sequence(wire["query_string"])) if part
        ),
        headers={name.lower(): str(value) for name, value in wire["headers"].items()},
        body=body.encode() if isinstance(body, str) else body,
    )


def read(model: OperationModel, response: HttpResponse, protocol: str) -> dict[str, Any]:
    """What botocore reads from a reply, without its metadata."""
    shape = model.output_shape
    parsed: dict[str, Any] = create_parser(protocol).parse(
        {
            "status_code": response.status,
            "headers": HeadersDict(response.headers),
            "body": response.body,
            "context": {"operation_name": model.name},
        },
        shape,
    )
    metadata = parsed.pop("ResponseMetadata", {})
    if response.status >= 300:
        return {**parsed, "RequestId": metadata.get("RequestId")}
    return {
        name: value
        for name, value in parsed.items()
        # botocore gives maps of headers and payloads even where there were none.
        if not (value == {} and shape and _is_bound(shape, name))
    }


def _is_bound(shape: Any, name: str) -> bool:
    location = shape.members[name].serialization.get("location")
    return location is not None or shape.serialization.get("payload") == name
