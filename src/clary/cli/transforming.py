"""`clary transform`: a transform job, and how far it is."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from clary.cli.api import Api
from clary.cli.failure import CommandFailed
from clary.cli.output import size_text, stderr, stdout

POLL_S = 0.2
ENDED = ("Completed", "Failed", "Stopped")


def transform(api: Api, request: Mapping[str, Any], *, wait: bool) -> None:
    """Create a job; show how far it is until it has ended.

    Raises:
        CommandFailed: It failed; the message says why.
        Refused: The server does not take it.
    """
    api.call("sagemaker", "create_transform_job", **request)
    name = request["TransformJobName"]
    if not wait:
        stdout().print(name)
        return
    job = watch(api, name)
    if job["status"] == "Failed":
        lines = [str(job["failure_reason"]), *(f["reason"] for f in job["failures"])]
        raise CommandFailed("\n  ".join(lines))
    files = job["files"]
    stdout().print(f"{name}: {job['status']}, {files['done']} of {files['all']} files")


def watch(api: Api, name: str) -> dict[str, Any]:
    """Show a job's progress until it has ended; return its last state."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr()) as bar:
        task = bar.add_task(name, total=None, detail="")
        while True:
            job = api.get_json(f"/_clary/transform-jobs/{name}")
            # Before the files are listed there is no total, and the bar only moves.
            total = job["bytes"]["all"] or None
            bar.update(task, total=total, completed=job["bytes"]["done"], detail=detail_of(job))
            if job["status"] in ENDED:
                return job
            time.sleep(POLL_S)


def detail_of(job: Mapping[str, Any]) -> str:
    """Return what a job is at, in a few words."""
    files = job["files"]
    if not files["all"]:
        healthy = sum(instance["state"] == "healthy" for instance in job["instances"])
        return f"{job['status']}, {healthy} instances are healthy"
    failed = f", {files['failed']} failed" if files["failed"] else ""
    done = f"{files['done']} of {files['all']} files{failed}"
    return f"{done}, {size_text(job['bytes']['done'])}"


def job_request(
    *,
    name: str | None,
    model: str,
    source: str,
    output: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the CreateTransformJob request of a command line.

    Args:
        name: Of the job; None: one is made from the model's name and the time.
        model: Name of the model.
        source: ``s3://`` prefix of the input.
        output: ``s3://`` path of the output.
        options: By their names on the command line; None where they were not given.
    """
    given = {key: value for key, value in options.items() if value is not None}
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3]
    request: dict[str, Any] = {
        "TransformJobName": name or f"{model[:40]}-{stamp}",
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            **_members(given, content_type="ContentType", split="SplitType"),
        },
        "TransformOutput": {
            "S3OutputPath": output,
            **_members(given, accept="Accept"),
            "AssembleWith": "Line" if given.get("split") == "Line" else "None",
        },
        "TransformResources": {
            "InstanceType": given.get("instance_type", "ml.m5.large"),
            "InstanceCount": given.get("instances", 1),
        },
        **_members(
            given,
            strategy="BatchStrategy",
            payload="MaxPayloadInMB",
            concurrency="MaxConcurrentTransforms",
        ),
    }
    processing = _members(given, input_filter="InputFilter", output_filter="OutputFilter")
    if given.get("join"):
        processing["JoinSource"] = "Input"
    if processing:
        request["DataProcessing"] = processing
    return request


def _members(given: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {member: given[name] for name, member in names.items() if name in given}
