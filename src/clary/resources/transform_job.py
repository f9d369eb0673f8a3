"""A transform job: what was asked for, and how its status may change.

::

    InProgress ──COMPLETED──▶ Completed
        │   └────FAILED─────▶ Failed
        └──STOP_REQUESTED──▶ Stopping ──(whatever ends it)──▶ Stopped
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from clary.resources.model import Model
from clary.resources.record_paths import RecordPath

MIB = 1024 * 1024
DEFAULT_MAX_PAYLOAD_MB = 6
DEFAULT_MAX_CONCURRENT = 1
DEFAULT_TIMEOUT_S = 600
DEFAULT_MAX_RETRIES = 3
MAX_PAYLOAD_MB = 100
MAX_CONCURRENT = 100

VARIANT = "transform"
"""Name of the one variant that the route of a job has."""

_ROUTE_PREFIX = "transform-job/"

# See log messages: the job logs have the details (batch-transform.md 5).
CLIENT_ERROR = "ClientError: See job logs for more information"
ALGORITHM_ERROR = "AlgorithmError: See job logs for more information"
INTERNAL_ERROR = "InternalServerError: We encountered an internal error.  Please try again."


class TransformJobStatus(StrEnum):
    """As AWS writes them."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


ACTIVE = frozenset({TransformJobStatus.IN_PROGRESS, TransformJobStatus.STOPPING})


class Outcome(StrEnum):
    """How the moving of data ended."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


def final_status(status: TransformJobStatus, outcome: Outcome) -> TransformJobStatus:
    """Return the status that an outcome leads to; a job that was told to stop has stopped."""
    if status is TransformJobStatus.STOPPING:
        return TransformJobStatus.STOPPED
    return TransformJobStatus(outcome) if status in ACTIVE else status


def route_name(job_name: str) -> str:
    """Return the name of a job's route and instances: one that no endpoint can have."""
    return _ROUTE_PREFIX + job_name


def job_of_route(name: str) -> str | None:
    """Return the job whose route this is; None: it is an endpoint's."""
    return name.removeprefix(_ROUTE_PREFIX) if name.startswith(_ROUTE_PREFIX) else None


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, and a key or the beginning of keys."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> "S3Place":
        """Return what an ``s3://`` URI names."""
        bucket, _, key = uri.partition("://")[2].partition("/")
        return cls(bucket, key)

    @property
    def uri(self) -> str:
        """The URI that names it."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessing:
    """What is done with records before and after the model."""

    input_filter: RecordPath
    output_filter: RecordPath
    joins: bool

    @property
    def is_needed(self) -> bool:
        """Whether it changes anything."""
        return self.joins or not (self.input_filter.is_root and self.output_filter.is_root)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformJob:
    """What CreateTransformJob accepted, and how far it is."""

    name: str
    arn: str
    status: TransformJobStatus
    failure_reason: str | None
    outcome: Outcome | None
    """How the moving of data ended, from which control makes the status. None: it has not."""

    outcome_reason: str | None
    model: Model
    """Snapshot: the model may be deleted meanwhile."""

    definition: Mapping[str, Any]
    """The accepted request without name and tags, as Describe must return it."""

    created_at: datetime
    modified_at: datetime
    started_at: datetime | None
    """When the first of its instances was there: no data moved before."""

    ended_at: datetime | None

    @property
    def instance_type(self) -> str:
        """What it runs on."""
        return str(self.definition["TransformResources"]["InstanceType"])

    @property
    def instance_count(self) -> int:
        """How many of them."""
        return int(self.definition["TransformResources"]["InstanceCount"])

    @property
    def source_type(self) -> str:
        """``S3Prefix``, ``ManifestFile`` or ``AugmentedManifestFile``."""
        return str(self._source["S3DataType"])

    @property
    def source(self) -> S3Place:
        """Where the input is."""
        return S3Place.parse(self._source["S3Uri"])

    @property
    def destination(self) -> S3Place:
        """Where the output goes."""
        return S3Place.parse(self._output["S3OutputPath"])

    @property
    def is_compressed(self) -> bool:
        """Whether input objects are unpacked first."""
        return bool(self._input.get("CompressionType", "None") != "None")

    @property
    def split_type(self) -> str:
        """``None``, ``Line``, ``RecordIO`` or ``TFRecord``."""
        return str(self._input.get("SplitType", "None"))

    @property
    def assembles_lines(self) -> bool:
        """Whether each reply ends a line."""
        return bool(self._output.get("AssembleWith", "None") == "Line")

    @property
    def content_type(self) -> str | None:
        """Content-Type of requests."""
        return self._input.get("ContentType") or None

    @property
    def accept(self) -> str | None:
        """Accept of requests."""
        return self._output.get("Accept") or None

    @property
    def timeout_s(self) -> float:
        """Time for one request."""
        return float(self._client.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT_S))

    @property
    def max_retries(self) -> int:
        """How often a request is made again."""
        return int(self._client.get("InvocationsMaxRetries", DEFAULT_MAX_RETRIES))

    @property
    def processing(self) -> DataProcessing:
        """What is done with records."""
        return parse_processing(self.definition.get("DataProcessing", {}))

    @property
    def variables(self) -> dict[str, str]:
        """What the job adds to the environment of the model's containers (container.md 6)."""
        variables = {"SAGEMAKER_BATCH": "true", **self.definition.get("Environment", {})}
        if "MaxPayloadInMB" in self.definition:
            variables["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(self.definition["MaxPayloadInMB"])
        if "BatchStrategy" in self.definition:
            strategy = strategy_word(self.definition["BatchStrategy"])
            variables["SAGEMAKER_BATCH_STRATEGY"] = strategy
        if "MaxConcurrentTransforms" in self.definition:
            limit = str(self.definition["MaxConcurrentTransforms"])
            variables["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = limit
        return variables

    @property
    def _input(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.definition["TransformInput"]
        return found

    @property
    def _output(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.definition["TransformOutput"]
        return found

    @property
    def _source(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._input["DataSource"]["S3DataSource"]
        return found

    @property
    def _client(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.definition.get("ModelClientConfig", {})
        return found


def parse_processing(definition: Mapping[str, Any]) -> DataProcessing:
    """Return what DataProcessing of a request says.

    Raises:
        RecordPathError: A filter is no path.
    """
    return DataProcessing(
        input_filter=RecordPath(definition.get("InputFilter") or "$"),
        output_filter=RecordPath(definition.get("OutputFilter") or "$"),
        joins=definition.get("JoinSource") == "Input",
    )


def strategy_word(strategy: str) -> str:
    """Return a BatchStrategy as containers and logs write it."""
    return {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}.get(strategy, strategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How requests are made of records."""

    max_payload_bytes: int
    """0: no limit; the whole file is sent as it is read."""

    max_concurrent: int
    """Open requests of one instance."""

    takes_single_records: bool

    @property
    def text(self) -> str:
        """The line that the data log begins with (batch-transform.md 5)."""
        strategy = "SINGLE_RECORD" if self.takes_single_records else "MULTI_RECORD"
        return (
            f"MaxConcurrentTransforms={self.max_concurrent}, "
            f"MaxPayloadInMB={self.max_payload_bytes // MIB}, BatchStrategy={strategy}"
        )


def choose_parameters(job: TransformJob, offered: Mapping[str, Any]) -> Parameters:
    """Return what holds: the request, then what the container offers, then AWS's defaults.

    Args:
        job: The job.
        offered: What ``/execution-parameters`` answered; values that are no good are passed over.
    """
    definition = job.definition
    payload = definition.get("MaxPayloadInMB", _whole(offered, "MaxPayloadInMB", MAX_PAYLOAD_MB))
    # 0 means "ask the container": the default of the container wins (API reference).
    concurrent = definition.get("MaxConcurrentTransforms") or _whole(
        offered, "MaxConcurrentTransforms", MAX_CONCURRENT
    )
    strategy = definition.get("BatchStrategy") or offered.get("BatchStrategy")
    if not isinstance(strategy, str):
        strategy = "MULTI_RECORD"
    return Parameters(
        max_payload_bytes=(DEFAULT_MAX_PAYLOAD_MB if payload is None else payload) * MIB,
        max_concurrent=concurrent or DEFAULT_MAX_CONCURRENT,
        takes_single_records=strategy_word(strategy).upper() == "SINGLE_RECORD",
    )


def _whole(offered: Mapping[str, Any], name: str, most: int) -> int | None:
    value = offered.get(name)
    is_good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
    return value if is_good else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformFile:
    """One input object of a job, and how far it is."""

    position: int
    bucket: str
    key: str
    etag: str
    size: int
    output_key: str
    state: str = "pending"
    """``pending``, ``done`` or ``failed``. What runs is pending in the database."""

    upload_id: str | None = None
    """Multipart upload of what was written before."""

    etags: tuple[str, ...] = ()
    """Of the parts that were written."""

    offset: int = 0
    """Byte of the (unpacked) input up to which those parts have the output."""

    @property
    def place(self) -> str:
        """``<bucket>/<key>``, as job logs write it."""
        return f"{self.bucket}/{self.key}"
