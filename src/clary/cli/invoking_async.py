"""`clary invoke --async`: a call that is accepted now, and whose answer lies in S3 later.

AWS has nothing that tells where such a call is; Clary's own page does (``/_clary/async``), and is
what is looked at while waiting.
"""

import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clary.cli.api import Api, Refused
from clary.cli.failure import CommandFailed
from clary.cli.invoking import guess_content_type, read_body, show_body
from clary.cli.output import Steps, stderr, stdout
from clary.cli.own_bucket import own_bucket

INLINE_BYTES = 128_000
"""Longest body that comes with the call (container.md 3); longer ones go through S3."""

POLLS_S = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Pauses between two looks, in seconds; the last one stays."""


def invoke_async(
    api: Api,
    name: str,
    data: str,
    *,
    content_type: str | None,
    accept: str | None,
    output: Path | None,
    wait: bool,
) -> None:
    """Send a call; print where its answer will be, or wait for that and print it.

    Args:
        api: The server.
        name: Endpoint.
        data: As typed: text, ``@file``, ``-``, or ``s3://bucket/key`` of an input that is there.
        content_type: Type of the input; None to find out.
        accept: Type to ask for; None to leave it to the handler.
        output: File for the answer; None for standard output.
        wait: Whether to wait for the answer.

    Raises:
        CommandFailed: The call failed; what the failure object says is in the message.
    """
    parameters: dict[str, Any] = {
        "EndpointName": name,
        "ContentType": content_type or guess_content_type(data),
        **({"Accept": accept} if accept else {}),
    }
    parameters.update(_input(api, name, data))
    reply = api.call("sagemaker-runtime", "invoke_endpoint_async", **parameters)
    if not wait:
        for what, member in (
            ("id", "InferenceId"),
            ("output", "OutputLocation"),
            ("failure", "FailureLocation"),
        ):
            if member in reply:
                stdout().print(f"{what:<8} {reply[member]}", markup=False)
        return
    told = watch(api, name, reply["InferenceId"])
    if told["state"] == "failed":
        raise CommandFailed(failure_text(told, _failure_object(api, told), name))
    location = told.get("output_location")
    if location is None:
        stderr().print("done; the endpoint has no output path, so the answer lies nowhere")
        return
    found = _read(api, location)
    if output is not None:
        output.write_bytes(found["Body"])
    else:
        show_body(found["Body"], found["ContentType"], for_people=sys.stdout.isatty())


def takes_bodies(api: Api) -> bool:
    """Whether the installed botocore knows the member ``Body``, which is newer than 1.43."""
    model = api.client("sagemaker-runtime").meta.service_model
    return "Body" in model.operation_model("InvokeEndpointAsync").input_shape.members


def watch(api: Api, name: str, inference_id: str) -> dict[str, Any]:
    """Show where a call is until it has ended; return what is known of it then."""
    looks = 0
    with Steps(stderr()) as steps:
        while True:
            told = api.get_json(f"/_clary/async/{name}/{inference_id}")
            if told["state"] in ("done", "failed"):
                return told
            steps.begin(str(told["state"]))
            steps.detail(detail_of(told))
            time.sleep(POLLS_S[min(looks // 5, len(POLLS_S) - 1)])
            looks += 1


def detail_of(told: Mapping[str, Any]) -> str:
    """Return where a call is, in a few words."""
    if told["state"] == "queued":
        before = told.get("position", 0)
        text = f"{before} before it" if before else "next"
    else:
        text = f"since {told.get('started_at', '')}"
    attempts = int(told.get("attempts", 0))
    return f"{text}, attempt {attempts}" if attempts > 1 else text


def failure_text(told: Mapping[str, Any], said: bytes | None, name: str) -> str:
    """Return what a person needs to know of a call that has failed.

    Args:
        told: What the server says of it.
        said: What lies at its failure location; None: nothing.
        name: Endpoint.
    """
    reason = str(told.get("reason", "the call failed"))
    lines = [reason]
    text = "" if said is None else said.decode("utf-8", "replace").rstrip()
    if text and text != reason:
        lines.append(text)
    lines.append(f"More may stand in its log: clary logs {name}")
    return "\n".join(lines)


def _failure_object(api: Api, told: Mapping[str, Any]) -> bytes | None:
    location = told.get("failure_location")
    if location is None:
        return None
    try:
        return bytes(_read(api, location)["Body"])
    except Refused:
        return None  # it could not be written; the reason says why


def _read(api: Api, location: str) -> dict[str, Any]:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    found = api.call("s3", "get_object", Bucket=bucket, Key=key)
    return {"Body": found["Body"].read(), "ContentType": found.get("ContentType", "")}


def _input(api: Api, name: str, data: str) -> dict[str, Any]:
    """Return the members that carry an input, which long ones do by way of S3."""
    if data.startswith("s3://"):
        return {"InputLocation": data}
    file = Path(data[1:]) if data.startswith("@") else None
    if file is not None and file.is_file() and file.stat().st_size > INLINE_BYTES:
        bucket, key = own_bucket(api), _input_key(name)
        api.upload(file, bucket, key)
        return {"InputLocation": f"s3://{bucket}/{key}"}
    body = read_body(data)
    if len(body) <= INLINE_BYTES and takes_bodies(api):
        return {"Body": body}
    bucket, key = own_bucket(api), _input_key(name)
    api.call("s3", "put_object", Bucket=bucket, Key=key, Body=body)
    return {"InputLocation": f"s3://{bucket}/{key}"}


def _input_key(name: str) -> str:
    return f"async-inputs/{name}/{uuid.uuid4()}"
