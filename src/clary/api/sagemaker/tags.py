"""Tags: AddTags, ListTags, DeleteTags, for everything that has an ARN here."""

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import parse_tags, serialize_tags
from clary.errors import InvalidRequest
from clary.resources.names import ResourceKind, parse_arn


@operation("sagemaker", "AddTags")
async def add_tags(call: Call, request: Request) -> Reply:
    kind, name = _resource(request)
    return {"Tags": serialize_tags(await call.store.tags.add(kind, name, parse_tags(request)))}


@operation("sagemaker", "ListTags")
async def list_tags(call: Call, request: Request) -> Reply:
    # A thing has at most 50 tags and MaxResults is at least 50: there is never a second page.
    kind, name = _resource(request)
    return {"Tags": serialize_tags(await call.store.tags.list(kind, name))}


@operation("sagemaker", "DeleteTags")
async def delete_tags(call: Call, request: Request) -> Reply:
    kind, name = _resource(request)
    await call.store.tags.remove(kind, name, request["TagKeys"])
    return {}


def _resource(request: Request) -> tuple[ResourceKind, str]:
    """Return what the ARN names.

    Raises:
        InvalidRequest: Nothing of its kind has tags here.
    """
    arn = request["ResourceArn"]
    found = parse_arn(arn)
    if found is None or found.kind not in {kind.value for kind in ResourceKind}:
        known = ", ".join(kind.value for kind in ResourceKind)
        raise InvalidRequest(f'"{arn}" is no ARN of a thing that has tags here ({known}).')
    return ResourceKind(found.kind), found.key
