"""How an error of the front door looks on the wire.

Invocations speak rest-json (runtime-errors.md 1). What is refused before it reaches its service is
answered in that service's manner, so that its client finds a code it can read: XML for S3 and the
query services, JSON for the others. Written by hand, for the hot path loads no service model; a
conformance test compares the names with botocore's.
"""

import json
from xml.sax.saxutils import escape

from clary.errors import (
    InvocationError,
    InvocationTimeout,
    ModelNotLoaded,
    ModelNotReady,
    Overloaded,
    PlatformFault,
    Refused,
    StepBodyTooLarge,
    Throttled,
    WorkerLost,
)
from clary.resources.log_group import invoked_group

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    411: b"Length Required",
    413: b"Payload Too Large",
    424: b"Failed Dependency",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}
MAX_MESSAGE = 2048
"""Most characters of Message and OriginalMessage (botocore's model)."""


def render(
    status: int,
    body: bytes,
    *,
    content_type: bytes,
    request_id: bytes,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    close: bool = False,
) -> bytes:
    """Return a whole response."""
    lines = [
        b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b"Error")),
        b"content-type: " + content_type,
        b"content-length: %d" % len(body),
        b"x-amzn-requestid: " + request_id,
        *(name + b": " + value for name, value in headers),
    ]
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def runtime_fault(
    code: str, message: str, status: int, request_id: bytes, *, close: bool = False
) -> bytes:
    """Return an error of ``sagemaker-runtime``."""
    body = json.dumps({"Code": code, "Message": message[:MAX_MESSAGE], "message": message}).encode()
    return render(
        status,
        body,
        content_type=b"application/json",
        request_id=request_id,
        headers=((b"x-amzn-errortype", code.encode()),),
        close=close,
    )


def service_fault(
    service: str | None, code: str, message: str, status: int, request_id: bytes, *, close: bool
) -> bytes:
    """Return an error in the manner of a service that the request did not reach."""
    if service == "s3":
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
            f"<RequestId>{request_id.decode()}</RequestId></Error>"
        ).encode()
        return render(
            status,
            body,
            content_type=b"application/xml",
            request_id=request_id,
            headers=((b"x-amz-request-id", request_id),),
            close=close,
        )
    if service in ("sts", "iam", "sns"):  # SQS has JSON in all clients of this decade
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code>"
            f"<Message>{escape(message)}</Message></Error>"
            f"<RequestId>{request_id.decode()}</RequestId></ErrorResponse>"
        ).encode()
        return render(status, body, content_type=b"text/xml", request_id=request_id, close=close)
    body = json.dumps({"__type": code, "message": message}).encode()
    return render(
        status,
        body,
        content_type=b"application/x-amz-json-1.1",
        request_id=request_id,
        headers=((b"x-amzn-errortype", code.encode()),),
        close=close,
    )


class ModelErrors:
    """Makes ModelError replies, which name the account's log group and console page."""

    def __init__(self, account: str, region: str) -> None:
        self._account = account
        self._region = region

    def not_found(self, endpoint: str) -> str:
        """Return AWS's text for an endpoint that takes no invocations (runtime-errors.md 2)."""
        return f"Endpoint {endpoint} of account {self._account} not found."

    def from_container(
        self,
        endpoint: str,
        container: str,
        status: int,
        body: bytes,
        request_id: bytes,
        *,
        close: bool = False,
    ) -> bytes:
        """Return the ModelError for what a container answered; status 0: it answered nothing."""
        text = body.decode("utf-8", "replace")
        kind = "client" if 400 <= status < 500 else "server"
        group = invoked_group(endpoint)
        console = (
            f"https://{self._region}.console.aws.amazon.com/cloudwatch/home"
            f"?region={self._region}#logEventViewer:group={group}"
        )
        tail = f'". See {console} in account {self._account} for more information.'
        head = f'Received {kind} error ({status}) from {container} with message "'
        message = head + text[: max(MAX_MESSAGE - len(head) - len(tail), 0)] + tail
        return self._model_error(
            group, kind, message, text, status, request_id=request_id, close=close
        )

    def _model_error(
        self,
        group: str,
        kind: str,
        message: str,
        text: str,
        status: int,
        *,
        request_id: bytes,
        close: bool,
    ) -> bytes:
        answer = {
            "ErrorCode": (
                "CLIENT_ERROR_FROM_MODEL" if kind == "client" else "SERVER_ERROR_FROM_MODEL"
            ),
            "LogStreamArn": f"arn:aws:logs:{self._region}:{self._account}:log-group:{group}",
            "Message": message,
            "OriginalMessage": text[:MAX_MESSAGE],
            "OriginalStatusCode": status,
        }
        return render(
            424,
            json.dumps(answer).encode(),
            content_type=b"application/json",
            request_id=request_id,
            headers=((b"x-amzn-errortype", b"ModelError"),),
            close=close,
        )

    def from_failure(
        self,
        endpoint: str,
        container: str,
        error: InvocationError,
        request_id: bytes,
        *,
        close: bool = False,
    ) -> bytes:
        """Return the reply for an invocation that got no answer."""
        if isinstance(error, InvocationTimeout):
            text = (
                "Your invocation timed out while waiting for a response from container "
                f"{container}. Review the latency metrics for each container in Amazon "
                "CloudWatch, resolve the issue, and try again."
            )
            return self.from_container(
                endpoint, container, 0, text.encode(), request_id, close=close
            )
        if isinstance(error, WorkerLost):
            return self.from_container(
                endpoint, container, 0, error.message.encode(), request_id, close=close
            )
        if isinstance(error, ModelNotReady):
            code, text = "ModelNotReadyException", error.message
            return runtime_fault(code, text, 429, request_id, close=close)
        if isinstance(error, ModelNotLoaded):
            if error.is_missing:
                return runtime_fault("ValidationError", error.message, 400, request_id, close=close)
            text = error.message
            return self.from_container(
                endpoint, container, 500, text.encode(), request_id, close=close
            )
        if isinstance(error, StepBodyTooLarge):
            # AWS's sentence stands alone: no container said it.
            group = invoked_group(endpoint)
            text = error.message
            return self._model_error(
                group, "server", text, text, 200, request_id=request_id, close=close
            )
        if isinstance(error, Throttled):
            return runtime_fault("ThrottlingException", error.message, 429, request_id, close=close)
        if isinstance(error, Overloaded):
            return runtime_fault("ServiceUnavailable", error.message, 503, request_id, close=close)
        if isinstance(error, PlatformFault):
            return runtime_fault("InternalFailure", error.message, 500, request_id, close=close)
        text = error.message if isinstance(error, Refused) else self.not_found(endpoint)
        return runtime_fault("ValidationError", text, 400, request_id, close=close)
