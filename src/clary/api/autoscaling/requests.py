"""What requests have in common: which target, which page."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clary.api.operations import Call, Request
from clary.aws import pages
from clary.aws.pages import BadPageToken
from clary.errors import InvalidRequest
from clary.resources.scaling import DIMENSIONS, NAMESPACE, TargetName, names_in
from clary.store import Page
from clary.store.scalable_resources import ScalableResource

MAX_PAGE = 50


def target_name(request: Request) -> TargetName:
    """Return which target a request names.

    Raises:
        InvalidRequest: Nothing of this kind can be one.
    """
    resource_id, dimension = request["ResourceId"], request["ScalableDimension"]
    if request["ServiceNamespace"] != NAMESPACE or not names_in(dimension, resource_id):
        raise InvalidRequest("Unsupported service namespace, resource type or scalable dimension")
    return TargetName(resource_id, dimension)


def scalable_resource(call: Call, name: TargetName) -> ScalableResource:
    """Return who knows the thing that a target is a number of.

    Raises:
        InvalidRequest: This server has no such things.
    """
    found = call.backend.scalable.get(name.dimension)
    if found is None:
        raise InvalidRequest(
            f"{name.dimension} cannot be scaled on this server: {DIMENSIONS[name.dimension].noun} "
            "is not built yet."
        )
    return found


def concerns(request: Request) -> bool:
    """Whether a Describe request asks for anything that can be here.

    Raises:
        InvalidRequest: It names a dimension of another service.
    """
    namespace, dimension = request["ServiceNamespace"], request.get("ScalableDimension")
    if dimension is not None and not dimension.startswith(f"{namespace}:"):
        raise InvalidRequest("Unsupported service namespace, resource type or scalable dimension")
    return bool(namespace == NAMESPACE)


def page_limit(request: Request) -> int:
    """Return how many items the page may have.

    Raises:
        InvalidRequest: It is no size of a page.
    """
    limit = request.get("MaxResults", MAX_PAGE)
    if not 1 <= limit <= MAX_PAGE:
        word = "greater than or equal to 1" if limit < 1 else f"less than or equal to {MAX_PAGE}"
        raise InvalidRequest(
            f"1 validation error detected: Value '{limit}' at 'maxResults' failed to satisfy "
            f"constraint: Member must have value {word}"
        )
    return int(limit)


def page_start(request: Request) -> tuple[datetime, str] | None:
    """Return where the page starts.

    Raises:
        BadPageToken: The token is none, or was given for other filters.
    """
    token = request.get("NextToken")
    if not token:
        return None
    try:
        moment, key = pages.decode_token(token, request)
        return datetime.fromisoformat(moment), str(key)
    except (TypeError, ValueError) as error:
        raise BadPageToken("The NextToken is invalid.") from error


def page_reply(
    member: str, items: Sequence[Mapping[str, Any]], page: Page[Any], request: Request
) -> dict[str, Any]:
    """Return a page, with the token of the next one where there is one."""
    reply: dict[str, Any] = {member: items}
    if page.next is not None:
        reply["NextToken"] = pages.encode_token(page.next, request)
    return reply


def described(name: TargetName) -> dict[str, str]:
    """Return the members by which replies name a target."""
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": name.resource_id,
        "ScalableDimension": name.dimension,
    }


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members without those that are None."""
    return {name: value for name, value in members.items() if value is not None}
