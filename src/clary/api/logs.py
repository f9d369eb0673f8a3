"""CloudWatch Logs: groups, streams and events; the output of instances and what clients put."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from clary.api.operations import Call, Reply, Request, operation
from clary.aws.fault import Fault
from clary.aws.pages import decode_token, encode_token
from clary.errors import InvalidRequest, LimitExceeded
from clary.logs import patterns
from clary.resources.log_group import (
    MS_PER_DAY,
    RETENTION_DAYS,
    LogEvent,
    LogGroup,
    LogStream,
    group_arn,
    group_of,
    is_stream_name,
    no_group,
)
from clary.store.logs import EVENT_OVERHEAD_BYTES
from clary.store.tags import MAX_TAGS

T = TypeVar("T")

DEFAULT_LISTED = 50
DEFAULT_EVENTS = 10_000
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_EVENTS = 10_000

_TOO_NEW_MS = 2 * 3600 * 1000
_TOO_OLD_MS = 14 * MS_PER_DAY
_TOKEN_DIGITS = 56


# Groups -----------------------------------------------------------------------------------


@operation("logs", "CreateLogGroup")
async def create_log_group(call: Call, request: Request) -> Reply:
    await call.backend.logs.records.create_group(
        LogGroup(
            name=request["logGroupName"],
            created_at=call.backend.clock.now(),
            kms_key_id=request.get("kmsKeyId"),
            group_class=request.get("logGroupClass", "STANDARD"),
            tags=request.get("tags", {}),
        )
    )
    return {}


@operation("logs", "DeleteLogGroup")
async def delete_log_group(call: Call, request: Request) -> Reply:
    await call.backend.logs.delete_group(request["logGroupName"])
    return {}


@operation("logs", "DescribeLogGroups")
async def describe_log_groups(call: Call, request: Request) -> Reply:
    prefix, part = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    if prefix and part:
        raise InvalidRequest(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        )
    limit = request.get("limit", DEFAULT_LISTED)
    groups = await call.backend.logs.records.list_groups(
        prefix=prefix, contains=part, after=_decode(request) or "", limit=limit + 1
    )
    wanted = {group_of(identifier) for identifier in request.get("logGroupIdentifiers", ())}
    page, token = _cut(groups, limit, lambda group: group.name, request)
    shown = [group for group in page if not wanted or group.name in wanted]
    sizes = await call.backend.logs.stored_bytes([group.name for group in shown])
    return {"logGroups": [_serialize_group(call, g, sizes[g.name]) for g in shown], **token}


@operation("logs", "PutRetentionPolicy")
async def put_retention_policy(call: Call, request: Request) -> Reply:
    days = request["retentionInDays"]
    if days not in RETENTION_DAYS:
        known = ", ".join(map(str, RETENTION_DAYS))
        raise InvalidRequest(
            f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy "
            f"constraint: Member must satisfy enum value set: [{known}]"
        )
    await call.backend.logs.records.change_group(request["logGroupName"], retention_days=days)
    return {}


@operation("logs", "DeleteRetentionPolicy")
async def delete_retention_policy(call: Call, request: Request) -> Reply:
    await call.backend.logs.records.change_group(request["logGroupName"], retention_days=None)
    return {}


# Streams ----------------------------------------------------------------------------------


@operation("logs", "CreateLogStream")
async def create_log_stream(call: Call, request: Request) -> Reply:
    if not is_stream_name(request["logStreamName"]):
        raise InvalidRequest("A log stream's name has 1 to 512 characters, none of them : or *.")
    await call.backend.logs.create_stream(request["logGroupName"], request["logStreamName"])
    return {}


@operation("logs", "DeleteLogStream")
async def delete_log_stream(call: Call, request: Request) -> Reply:
    await call.backend.logs.delete_stream(request["logGroupName"], request["logStreamName"])
    return {}


@operation("logs", "DescribeLogStreams")
async def describe_log_streams(call: Call, request: Request) -> Reply:
    group, prefix = _group(request), request.get("logStreamNamePrefix", "")
    by_time = request.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise InvalidRequest("Cannot order by LastEventTime with a logStreamNamePrefix.")

    def place(stream: LogStream) -> tuple[int, str]:
        return (stream.last_event_ms or 0) if by_time else 0, stream.name

    descending = request.get("descending", False)
    streams = sorted(await call.backend.logs.streams(group, prefix), key=place, reverse=descending)
    token = _decode(request)
    if token is not None:
        after = (int(token[0]), str(token[1]))
        streams = [s for s in streams if (place(s) < after if descending else place(s) > after)]
    page, more = _cut(streams, request.get("limit", DEFAULT_LISTED), place, request)
    return {"logStreams": [_serialize_stream(call, group, stream) for stream in page], **more}


# Events -----------------------------------------------------------------------------------


@operation("logs", "PutLogEvents")
async def put_log_events(call: Call, request: Request) -> Reply:
    events = [(event["timestamp"], event["message"]) for event in request["logEvents"]]
    check_batch(events)
    group = await call.backend.logs.records.get_group(request["logGroupName"])
    now_ms = int(call.backend.clock.now().timestamp() * 1000)
    oldest = now_ms - _TOO_OLD_MS
    kept_from = now_ms - group.retention_days * MS_PER_DAY if group.retention_days else 0
    expired = sum(1 for time_ms, _ in events if time_ms < kept_from)
    too_old = sum(1 for time_ms, _ in events if time_ms < oldest)
    new = sum(1 for time_ms, _ in events if time_ms > now_ms + _TOO_NEW_MS)
    rejected: dict[str, int] = {}
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if expired:
        rejected["expiredLogEventEndIndex"] = expired
    if new:
        rejected["tooNewLogEventStartIndex"] = len(events) - new
    kept = events[max(too_old, expired) : len(events) - new]
    if kept:
        await call.backend.logs.put(group.name, request["logStreamName"], kept)
    # Nobody has to send it back any more; older clients still do.
    reply: dict[str, Any] = {"nextSequenceToken": f"{now_ms:0{_TOKEN_DIGITS}d}"}
    return {**reply, "rejectedLogEventsInfo": rejected} if rejected else reply


def check_batch(events: Sequence[tuple[int, str]]) -> None:
    """Check what AWS asks of the events of one PutLogEvents.

    Raises:
        InvalidRequest: They are out of order, too many, too large, or too far apart.
    """
    times = [time_ms for time_ms, _ in events]
    if times != sorted(times):
        raise InvalidRequest(
            "Log events in a single PutLogEvents request must be in chronological order."
        )
    if times[-1] - times[0] > MS_PER_DAY:
        raise InvalidRequest(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 "
            "hours."
        )
    total = sum(len(message.encode("utf-8", "replace")) for _, message in events)
    total += EVENT_OVERHEAD_BYTES * len(events)
    if total > MAX_BATCH_BYTES or len(events) > MAX_BATCH_EVENTS:
        raise InvalidRequest(
            f"Upload too large: {total} bytes exceeds limit of {MAX_BATCH_BYTES}"
            if total > MAX_BATCH_BYTES
            else f"Too many log events: {len(events)} exceeds limit of {MAX_BATCH_EVENTS}"
        )


@operation("logs", "GetLogEvents")
async def get_log_events(call: Call, request: Request) -> Reply:
    token = request.get("nextToken")
    is_forward, position = (None, None) if token is None else _parse_token(token)
    newest = not request.get("startFromHead", False) if is_forward is None else not is_forward
    piece = await call.backend.logs.read(
        _group(request),
        request["logStreamName"],
        start_ms=request.get("startTime"),
        end_ms=request.get("endTime"),
        limit=request.get("limit", DEFAULT_EVENTS),
        after=position if is_forward else None,
        before=position if is_forward is False else None,
        newest=newest,
    )
    return {
        "events": [
            {
                "timestamp": event.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
            }
            for event in piece.events
        ],
        # At the end of a stream a client gets back the token that it sent: so it knows.
        "nextForwardToken": f"f/{piece.stop:0{_TOKEN_DIGITS}d}/s",
        "nextBackwardToken": f"b/{piece.start:0{_TOKEN_DIGITS}d}/s",
    }


@operation("logs", "FilterLogEvents")
async def filter_log_events(call: Call, request: Request) -> Reply:
    names, prefix = request.get("logStreamNames"), request.get("logStreamNamePrefix", "")
    if names and prefix:
        raise InvalidRequest(
            "Cannot specify both logStreamNames and logStreamNamePrefix in the same request."
        )
    end_ms, token = request.get("endTime"), _decode(request)
    found = await call.backend.logs.search(
        _group(request),
        names=names,
        prefix=prefix,
        matches=patterns.parse(request.get("filterPattern", "")),
        start_ms=request.get("startTime"),
        # Here, unlike GetLogEvents, AWS counts the end in.
        end_ms=None if end_ms is None else end_ms + 1,
        limit=request.get("limit", DEFAULT_EVENTS),
        after=None if token is None else (int(token[0]), str(token[1]), int(token[2])),
    )
    reply: dict[str, Any] = {
        "events": [_serialize_found(event) for event in found.events],
        "searchedLogStreams": [],
    }
    if found.next is not None:
        reply["nextToken"] = encode_token(list(found.next), _query(request))
    return reply


# Tags -------------------------------------------------------------------------------------


@operation("logs", "TagResource")
async def tag_resource(call: Call, request: Request) -> Reply:
    return await _tag(call, _resource(request["resourceArn"]), request["tags"])


@operation("logs", "TagLogGroup")
async def tag_log_group(call: Call, request: Request) -> Reply:
    return await _tag(call, request["logGroupName"], request["tags"])


@operation("logs", "UntagResource")
async def untag_resource(call: Call, request: Request) -> Reply:
    name = _resource(request["resourceArn"])
    await call.backend.logs.records.change_tags(name, {}, request["tagKeys"])
    return {}


@operation("logs", "UntagLogGroup")
async def untag_log_group(call: Call, request: Request) -> Reply:
    await call.backend.logs.records.change_tags(request["logGroupName"], {}, request["tags"])
    return {}


@operation("logs", "ListTagsForResource")
async def list_tags_for_resource(call: Call, request: Request) -> Reply:
    group = await call.backend.logs.records.get_group(_resource(request["resourceArn"]))
    return {"tags": dict(group.tags)}


@operation("logs", "ListTagsLogGroup")
async def list_tags_log_group(call: Call, request: Request) -> Reply:
    group = await call.backend.logs.records.get_group(request["logGroupName"])
    return {"tags": dict(group.tags)}


async def _tag(call: Call, name: str, tags: Mapping[str, str]) -> Reply:
    group = await call.backend.logs.records.get_group(name)
    if len({**group.tags, **tags}) > MAX_TAGS:
        raise LimitExceeded(f"A log group can have at most {MAX_TAGS} tags.")
    await call.backend.logs.records.change_tags(name, tags)
    return {}


# Words of the wire ------------------------------------------------------------------------


def _resource(arn: str) -> str:
    name = group_of(arn)
    if name == arn:
        raise no_group()
    return name


def _group(request: Request) -> str:
    name, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise InvalidRequest("Exactly one of logGroupName and logGroupIdentifier must be given.")
    return str(name) if identifier is None else group_of(identifier)


def _parse_token(token: str) -> tuple[bool, int]:
    """Return whether a token of GetLogEvents leads forward, and from where."""
    way, _, rest = token.partition("/")
    digits = rest.removesuffix("/s")
    if way not in ("f", "b") or not (digits.isascii() and digits.isdigit() and len(digits) < 64):
        raise InvalidRequest("The specified nextToken is invalid.")
    return way == "f", int(digits)


def _query(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in ("nextToken", "limit")}


def _decode(request: Request) -> Any:
    token = request.get("nextToken")
    if token is None:
        return None
    try:
        return decode_token(token, _query(request))
    except InvalidRequest as error:
        raise Fault(
            "InvalidParameterException", "The specified nextToken is invalid.", 400
        ) from error


def _cut(
    items: Sequence[T], limit: int, place: Any, request: Request
) -> tuple[Sequence[T], dict[str, str]]:
    """Return a page, and the member that leads to the next one."""
    if len(items) <= limit:
        return items, {}
    return items[:limit], {"nextToken": encode_token(place(items[limit - 1]), _query(request))}


def _serialize_group(call: Call, group: LogGroup, stored_bytes: int) -> dict[str, Any]:
    arn = group_arn(call.namespace, group.name)
    reply: dict[str, Any] = {
        "logGroupName": group.name,
        "creationTime": int(group.created_at.timestamp() * 1000),
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "storedBytes": stored_bytes,
        "logGroupClass": group.group_class,
    }
    if group.retention_days is not None:
        reply["retentionInDays"] = group.retention_days
    if group.kms_key_id is not None:
        reply["kmsKeyId"] = group.kms_key_id
    return reply


def _serialize_stream(call: Call, group: str, stream: LogStream) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "arn": f"{group_arn(call.namespace, group)}:log-stream:{stream.name}",
        "storedBytes": stream.stored_bytes,
    }
    if stream.first_event_ms is not None:
        reply["firstEventTimestamp"] = stream.first_event_ms
    if stream.last_event_ms is not None:
        reply["lastEventTimestamp"] = reply["lastIngestionTime"] = stream.last_event_ms
    return reply


def _serialize_found(event: LogEvent) -> dict[str, Any]:
    return {
        "logStreamName": event.stream,
        "timestamp": event.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingested_ms,
        "eventId": event.id,
    }
