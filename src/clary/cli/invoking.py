"""`clary invoke`: one request to an endpoint."""

import json
import sys
from pathlib import Path

from clary.cli.api import Api, Refused
from clary.cli.failure import CommandFailed

CONTENT_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".jsonl": "application/jsonlines",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".txt": "text/plain",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".wav": "audio/wav",
}
DEFAULT_CONTENT_TYPE = "application/json"


def invoke(
    api: Api,
    name: str,
    data: str,
    *,
    content_type: str | None,
    accept: str | None,
    output: Path | None,
    component: str | None = None,
) -> None:
    """Send a request and print the answer.

    Args:
        api: The server.
        name: Endpoint.
        data: As typed: text, ``@file``, or ``-``.
        content_type: Type of the body; None to find out.
        accept: Type to ask for; None to leave it to the handler.
        output: File for the answer; None for standard output.
        component: Inference component that takes it; None: the endpoint has none.

    Raises:
        CommandFailed: The call failed; the model's own words are in the message.
    """
    parameters = {
        "EndpointName": name,
        "Body": read_body(data),
        "ContentType": content_type or guess_content_type(data),
        **({"Accept": accept} if accept else {}),
        **({"InferenceComponentName": component} if component else {}),
    }
    try:
        reply = api.call("sagemaker-runtime", "invoke_endpoint", **parameters)
    except Refused as error:
        if error.code == "ModelError":
            raise CommandFailed(model_error_text(error, name)) from error
        raise
    body = reply["Body"].read()
    if output is not None:
        output.write_bytes(body)
    else:
        show_body(body, reply.get("ContentType", ""), for_people=sys.stdout.isatty())


def guess_content_type(data: str) -> str:
    """Return the type that a file's name tells; JSON for everything else."""
    if data.startswith("@"):
        return CONTENT_TYPES.get(Path(data[1:]).suffix.lower(), DEFAULT_CONTENT_TYPE)
    return DEFAULT_CONTENT_TYPE


def model_error_text(error: Refused, name: str) -> str:
    """Return what a person needs to know about a ModelError."""
    status = error.reply.get("OriginalStatusCode")
    message = str(error.reply.get("OriginalMessage") or error.text).rstrip()
    answered = f"the model answered {status}" if status else "the model gave no answer"
    return f"{answered}\n{message}\nMore may stand in its log: clary logs {name}"


def read_body(data: str) -> bytes:
    """Return the body that was typed: text, ``@file``, or ``-`` for standard input.

    Raises:
        CommandFailed: The file cannot be read.
    """
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise CommandFailed(f"{data[1:]} cannot be read: {error.strerror}", 2) from error
    return data.encode()


def show_body(body: bytes, content_type: str, *, for_people: bool) -> None:
    """Write a body as it is, or, where people look, JSON on several lines and bytes not at all."""
    if not for_people:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        text = body.decode()
    except UnicodeDecodeError:
        sys.stdout.write(f"{len(body)} bytes of {content_type}; write them to a file with -o\n")
        return
    if content_type.startswith("application/json"):
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except ValueError:
            pass
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
