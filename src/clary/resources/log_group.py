"""Log groups, their streams and events, and the names that SageMaker gives them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from clary.errors import AlreadyExists, NotFound
from clary.resources.inference_component import component_of_route
from clary.resources.names import Namespace, partition_of

ENDPOINT_GROUPS = "/aws/sagemaker/Endpoints/"
TRANSFORM_GROUP = "/aws/sagemaker/TransformJobs"
COMPONENT_GROUPS = "/aws/sagemaker/InferenceComponents/"

RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)
"""What a retention policy may say."""

MS_PER_DAY = 86_400_000

_STREAM_NAME = re.compile(r"[^:*]{1,512}\Z")


def endpoint_group(endpoint_name: str) -> str:
    """Return the log group of an endpoint."""
    return ENDPOINT_GROUPS + endpoint_name


def invoked_group(route_name: str) -> str:
    """Return the log group of what an invocation's route leads to."""
    component = component_of_route(route_name)
    return endpoint_group(route_name) if component is None else component_group(component)


def component_group(component_name: str) -> str:
    """Return the log group of an inference component."""
    return COMPONENT_GROUPS + component_name


def is_stream_name(name: str) -> bool:
    """Whether a log stream may have this name."""
    return _STREAM_NAME.match(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGroup:
    """A log group, as it was asked for or as SageMaker makes one."""

    name: str
    created_at: datetime
    retention_days: int | None = None
    kms_key_id: str | None = None
    group_class: str = "STANDARD"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStream:
    """A log stream. Times are milliseconds since 1970."""

    name: str
    created_ms: int
    first_event_ms: int | None
    """None: it has no events."""

    last_event_ms: int | None
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a stream."""

    stream: str
    timestamp_ms: int
    ingested_ms: int
    message: str
    position: int
    """Where it stands in its stream: later events have greater ones."""

    next_position: int
    """Where the next one may stand."""

    @property
    def id(self) -> str:
        """56 digits that no other event of the group has: time, stream, place."""
        digest = hashlib.blake2b(self.stream.encode(), digest_size=8).digest()
        stream = int.from_bytes(digest, "big")
        return f"{self.timestamp_ms:014d}{stream:020d}{self.position % 10**22:022d}"


def group_arn(namespace: Namespace, name: str) -> str:
    """Return the ARN of a log group."""
    region, account = namespace.region, namespace.account
    return f"arn:{partition_of(region)}:logs:{region}:{account}:log-group:{name}"


def group_of(identifier: str) -> str:
    """Return the name in what may be a name or an ARN, with ``:*`` or without."""
    if identifier.startswith("arn:"):
        parts = identifier.split(":")
        if len(parts) >= 7 and parts[2] == "logs" and parts[5] == "log-group":
            return parts[6]
    return identifier


# AWS's words: SDKs and Terraform match on the codes, people on these.


def no_group() -> NotFound:
    """Return the refusal for a group that is not there."""
    return NotFound("The specified log group does not exist.")


def no_stream() -> NotFound:
    """Return the refusal for a stream that is not there."""
    return NotFound("The specified log stream does not exist.")


def group_exists() -> AlreadyExists:
    """Return the refusal for a group that is there."""
    return AlreadyExists("The specified log group already exists")


def stream_exists() -> AlreadyExists:
    """Return the refusal for a stream that is there."""
    return AlreadyExists("The specified log stream already exists")
