"""Pages of lists that are at hand as a whole, sorted."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from clary.api.cloudwatch.refusals import InvalidToken

T = TypeVar("T")


def cut_page(
    items: Sequence[T], token: str | None, size: int, position: Callable[[T], Any]
) -> tuple[list[T], str | None]:
    """Return one page, and the token for the next.

    Args:
        items: All, sorted by their position.
        token: Of the page before.
        size: Most items.
        position: Where an item stands, as JSON types that can be compared.

    Raises:
        InvalidToken: It is none of ours.
    """
    after = None if token is None else read_token(token)
    try:
        rest = [item for item in items if after is None or position(item) > after]
    except TypeError as error:
        raise InvalidToken("The token is invalid.") from error
    page = rest[:size]
    following = make_token(position(page[-1])) if len(rest) > size else None
    return page, following


def make_token(value: Any) -> str:
    """Return a token that holds JSON types."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def read_token(token: str) -> Any:
    """Return what a token holds.

    Raises:
        InvalidToken: It is none of ours.
    """
    try:
        return json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidToken("The token is invalid.") from error
