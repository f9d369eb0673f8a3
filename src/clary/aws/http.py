"""Requests and replies as values, whatever server brought them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request with its whole body, or with an empty one where the body is streamed aside."""

    method: str
    path: str
    """Raw path, percent-encoded, without the query."""
    query: str = ""
    """Raw query, without the question mark."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name; values of a repeated header joined by a comma."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A reply."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
