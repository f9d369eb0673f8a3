"""Paging: cutting pages, and the opaque tokens between them.

A token holds where the next page starts, and a digest of the query that it belongs to: AWS refuses
a ``NextToken`` that is sent with other filters than those it was given for, and so do we, for a
position means nothing in another order.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from clary.errors import InvalidRequest

T = TypeVar("T")


class BadPageToken(InvalidRequest):
    """A ``NextToken`` that was not given for this request. Some services have a name for it."""


_NOT_OF_THE_QUERY = frozenset({"NextToken", "MaxResults"})


def encode_token(position: Any, query: Mapping[str, Any]) -> str:
    """Return the token of a page.

    Args:
        position: Where the page starts; any JSON value.
        query: All parameters of the request. Page size and token are left out of the digest.
    """
    content = json.dumps([_digest(query), position], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_token(token: str, query: Mapping[str, Any]) -> Any:
    """Return the position in a token.

    Raises:
        BadPageToken: It is no token, or one of another query.
    """
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        digest, position = content
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise BadPageToken("The NextToken is invalid.") from error
    if digest != _digest(query):
        raise BadPageToken(
            "The NextToken is invalid: it was given for a request with other parameters."
        )
    return position


def cut_page(
    rows: Sequence[T], limit: int, position_of: Callable[[T], Any], query: Mapping[str, Any]
) -> tuple[Sequence[T], str | None]:
    """Cut a page, and make the token of the next one if there is one.

    Args:
        rows: What was found from the page's start on: one more than ``limit``, if there are so
            many, so that the last page is known to be the last.
        limit: Most rows of the page.
        position_of: Where a page that follows this row starts; any JSON value.
        query: As for ``encode_token``.
    """
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, encode_token(position_of(page[-1]), query)


def _digest(query: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in query.items() if name not in _NOT_OF_THE_QUERY}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
