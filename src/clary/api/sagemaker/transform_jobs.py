"""Transform jobs: Create, Describe, List, Stop."""

from collections.abc import Mapping
from typing import Any

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import (
    definition_of,
    parse_listing,
    parse_tags,
    serialize_page,
)
from clary.errors import InvalidRequest
from clary.resources.names import ResourceKind
from clary.resources.record_paths import RecordPathError
from clary.resources.transform_job import (
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_MAX_PAYLOAD_MB,
    MAX_CONCURRENT,
    MAX_PAYLOAD_MB,
    TransformJob,
    parse_processing,
)

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
JOINABLE = (CSV, JSON, JSON_LINES)


@operation("sagemaker", "CreateTransformJob")
async def create_transform_job(call: Call, request: Request) -> Reply:
    definition = definition_of(request, "TransformJobName")
    check_definition(definition)
    arn = await call.store.transform_jobs.create(
        request["TransformJobName"],
        request["ModelName"],
        definition,
        quotas=call.backend.quotas,
        tags=parse_tags(request),
    )
    return {"TransformJobArn": arn}


@operation("sagemaker", "DescribeTransformJob")
async def describe_transform_job(call: Call, request: Request) -> Reply:
    return serialize_job(await call.store.transform_jobs.get(request["TransformJobName"]))


@operation("sagemaker", "ListTransformJobs")
async def list_transform_jobs(call: Call, request: Request) -> Reply:
    page = await call.store.transform_jobs.list(parse_listing(request))
    items = []
    for item in page.items:
        summary: dict[str, Any] = {
            "TransformJobName": item.name,
            "TransformJobArn": call.namespace.arn(ResourceKind.TRANSFORM_JOB, item.name),
            "CreationTime": item.created_at,
            "LastModifiedTime": item.modified_at,
            "TransformJobStatus": item.status,
        }
        if item.ended_at is not None:
            summary["TransformEndTime"] = item.ended_at
        if item.failure_reason:
            summary["FailureReason"] = item.failure_reason
        items.append(summary)
    return serialize_page("TransformJobSummaries", items, page, request)


@operation("sagemaker", "StopTransformJob")
async def stop_transform_job(call: Call, request: Request) -> Reply:
    await call.store.transform_jobs.request_stop(request["TransformJobName"])
    return {}


def serialize_job(job: TransformJob) -> dict[str, Any]:
    """Return a job as DescribeTransformJob shows it."""
    reply: dict[str, Any] = {
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "CreationTime": job.created_at,
        **job.definition,
    }
    if job.failure_reason:
        reply["FailureReason"] = job.failure_reason
    if job.started_at is not None:
        reply["TransformStartTime"] = job.started_at
    if job.ended_at is not None:
        reply["TransformEndTime"] = job.ended_at
    return reply


def check_definition(definition: Mapping[str, Any]) -> None:
    """Refuse a request whose members contradict each other.

    Raises:
        InvalidRequest: They do.
    """
    source = definition["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] == "Converse":
        raise InvalidRequest("S3DataType Converse is not supported by this server.")
    _check_limits(definition)
    split = definition["TransformInput"].get("SplitType", "None")
    if definition.get("BatchStrategy") == "SingleRecord" and split == "None":
        raise InvalidRequest(
            "BatchStrategy SingleRecord needs a SplitType of Line, RecordIO or TFRecord."
        )
    _check_processing(definition)


def _check_limits(definition: Mapping[str, Any]) -> None:
    payload = definition.get("MaxPayloadInMB", DEFAULT_MAX_PAYLOAD_MB)
    concurrent = definition.get("MaxConcurrentTransforms") or DEFAULT_MAX_CONCURRENT
    if payload > MAX_PAYLOAD_MB:
        raise InvalidRequest(f"MaxPayloadInMB must be {MAX_PAYLOAD_MB} or less; it is {payload}.")
    if concurrent > MAX_CONCURRENT:
        raise InvalidRequest(
            f"MaxConcurrentTransforms must be {MAX_CONCURRENT} or less; it is {concurrent}."
        )
    if "MaxPayloadInMB" in definition and payload * concurrent > MAX_PAYLOAD_MB:
        raise InvalidRequest(
            f"MaxPayloadInMB * MaxConcurrentTransforms must not be more than {MAX_PAYLOAD_MB} MB; "
            f"it is {payload * concurrent}."
        )


def _check_processing(definition: Mapping[str, Any]) -> None:
    try:
        processing = parse_processing(definition.get("DataProcessing", {}))
    except RecordPathError as error:
        raise InvalidRequest(f"DataProcessing: {error.message}") from error
    if not processing.is_needed:
        return
    into, out = definition["TransformInput"], definition["TransformOutput"]
    content_type = _media_type(into.get("ContentType"))
    accept = _media_type(out.get("Accept")) or content_type
    for member, value in (("ContentType", content_type), ("Accept", accept)):
        if value not in JOINABLE:
            raise InvalidRequest(
                f"DataProcessing needs a {member} of {', '.join(JOINABLE)}; it is "
                f"{value or 'not given'}."
            )
    if processing.joins:
        if (content_type == CSV) is not (accept == CSV):
            raise InvalidRequest(
                "JoinSource needs ContentType and Accept of the same format; they are "
                f"{content_type} and {accept}."
            )
        split, assemble = into.get("SplitType", "None"), out.get("AssembleWith", "None")
        if split != assemble:
            raise InvalidRequest(
                "JoinSource needs the same SplitType and AssembleWith; they are "
                f"{split} and {assemble}."
            )
    for member, path, is_csv in (
        ("InputFilter", processing.input_filter, content_type == CSV),
        ("OutputFilter", processing.output_filter, accept == CSV),
    ):
        if is_csv and not path.is_for_rows:
            raise InvalidRequest(
                f"{member} {path.text} cannot be used with CSV, whose columns have no names: "
                "use indexes, such as $[1:]."
            )


def _media_type(value: str | None) -> str:
    return (value or "").partition(";")[0].strip().lower()
