"""What requests have in common: absent members, tags, and pages of lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from clary.api.operations import Request
from clary.aws import pages
from clary.errors import InvalidRequest
from clary.store import Listing, Page

DEFAULT_PAGE = 10
"""Items of a page when the request does not say."""


def without_empties(value: Any) -> Any:
    """Return a request's value without empty structures, maps and lists, at any depth.

    Clients send ``Environment: {}`` and the like for "nothing"; to describe it back is drift to
    Terraform and an error to the strict models of newer SDKs. Items of lists stay.
    """
    if isinstance(value, Mapping):
        cleaned = ((name, without_empties(member)) for name, member in value.items())
        return {name: member for name, member in cleaned if member not in ({}, [], None)}
    if isinstance(value, (list, tuple)):
        return [without_empties(item) for item in value]
    return value


def definition_of(request: Request, *left_out: str) -> dict[str, Any]:
    """Return what Describe gives back of a Create request: all but names and tags."""
    kept = {name: value for name, value in request.items() if name not in (*left_out, "Tags")}
    return dict(without_empties(kept))


def parse_tags(request: Request) -> dict[str, str]:
    """Return the tags of a request.

    Raises:
        InvalidRequest: A key is there twice.
    """
    tags: dict[str, str] = {}
    for tag in request.get("Tags", ()):
        if tag["Key"] in tags:
            raise InvalidRequest(f"Tag keys must be unique; {tag['Key']!r} is there twice.")
        tags[tag["Key"]] = tag["Value"]
    return tags


def serialize_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as AWS lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def parse_listing(request: Request) -> Listing:
    """Return the filters, order and place of a List request.

    Raises:
        InvalidRequest: The token is none, or was given for other filters.
    """
    token = request.get("NextToken")
    after = None if not token else _position(pages.decode_token(token, request))
    return Listing(
        name_contains=request.get("NameContains"),
        created_before=request.get("CreationTimeBefore"),
        created_after=request.get("CreationTimeAfter"),
        modified_before=request.get("LastModifiedTimeBefore"),
        modified_after=request.get("LastModifiedTimeAfter"),
        status=request.get("StatusEquals"),
        sort_by=request.get("SortBy", "CreationTime"),
        descending=request.get("SortOrder", "Descending") == "Descending",
        limit=request.get("MaxResults", DEFAULT_PAGE),
        after=after,
    )


def serialize_page(
    member: str, items: Sequence[Mapping[str, Any]], page: Page[Any], request: Request
) -> dict[str, Any]:
    """Return a page of a list, with the token of the next one where there is one."""
    reply: dict[str, Any] = {member: items}
    if page.next is not None:
        reply["NextToken"] = pages.encode_token(page.next, request)
    return reply


def _position(position: Any) -> tuple[Any, str]:
    match position:
        case [str() | int() as value, str() as key]:
            return value, key
        case _:
            raise InvalidRequest("The NextToken is invalid.")
