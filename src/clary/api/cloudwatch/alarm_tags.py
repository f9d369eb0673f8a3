"""Tags of alarms: TagResource, UntagResource, ListTagsForResource."""

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import parse_tags, serialize_tags
from clary.errors import InvalidRequest
from clary.resources.alarm import alarm_name


@operation("cloudwatch", "TagResource")
async def tag_resource(call: Call, request: Request) -> Reply:
    await call.store.alarms.change_tags(_alarm(request), parse_tags(request))
    return {}


@operation("cloudwatch", "UntagResource")
async def untag_resource(call: Call, request: Request) -> Reply:
    await call.store.alarms.change_tags(_alarm(request), {}, remove=request["TagKeys"])
    return {}


@operation("cloudwatch", "ListTagsForResource")
async def list_tags_for_resource(call: Call, request: Request) -> Reply:
    return {"Tags": serialize_tags(await call.store.alarms.tags(_alarm(request)))}


def _alarm(request: Request) -> str:
    arn: str = request["ResourceARN"]
    name = alarm_name(arn)
    if name == arn:
        raise InvalidRequest(f'"{arn}" is no ARN of an alarm; nothing else has tags here.')
    return name
