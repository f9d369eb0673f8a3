"""Transform jobs, for tests."""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from server import IMAGE, ROLE, Server, wait_for

UPPER = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if ("poison" if isinstance(data, str) else b"poison") in data:
        raise ValueError("poison is not allowed")
    return data.upper(), accept or content_type
"""


def a_model(server: Server, name: str, code: str = UPPER, **environment: str) -> str:
    """Create a model with a handler; return its name."""
    server.sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload({"code/inference.py": code}, name),
            "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", **environment},
        },
        ExecutionRoleArn=ROLE,
    )
    return name


def put(server: Server, bucket: str, objects: Mapping[str, bytes]) -> None:
    """Make a bucket with these objects."""
    server.s3.create_bucket(Bucket=bucket)
    for key, body in objects.items():
        server.s3.put_object(Bucket=bucket, Key=key, Body=body)


def start(
    server: Server,
    name: str,
    model: str,
    uri: str,
    output: str,
    *,
    count: int = 1,
    source: str = "S3Prefix",
    into: Mapping[str, Any] | None = None,
    out: Mapping[str, Any] | None = None,
    **members: Any,
) -> None:
    """Create a job."""
    server.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=model,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": source, "S3Uri": uri}},
            "ContentType": "text/csv",
            "SplitType": "Line",
            **(into or {}),
        },
        TransformOutput={"S3OutputPath": output, "AssembleWith": "Line", **(out or {})},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": count},
        **members,
    )


def finish(server: Server, name: str, status: str = "Completed", timeout_s: float = 60) -> Any:
    """Wait until a job has ended; assert how; return its description."""
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(server.sagemaker.describe_transform_job(TransformJobName=name))
        return found["TransformJobStatus"] not in ("InProgress", "Stopping")

    wait_for(over, timeout_s=timeout_s, what=f"transform job {name} to end")
    assert found["TransformJobStatus"] == status, (found, progress(server, name))
    return found


def outputs(server: Server, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Return the objects of a bucket."""
    listed = server.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        entry["Key"]: server.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for entry in listed
    }


def progress(server: Server, name: str) -> Any:
    """Return what ``/_clary/transform-jobs/{name}`` says."""
    with urllib.request.urlopen(f"{server.url}/_clary/transform-jobs/{name}") as reply:
        return json.load(reply)


def data_log(server: Server, name: str) -> list[str]:
    """Return the lines of a job's data log."""
    events = server.client("logs").get_log_events(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamName=f"{name}/data-log"
    )["events"]
    return [event["message"] for event in events]
