"""Errors of our own, in the manner of each neighbour service."""

import json
from xml.sax.saxutils import escape

from clary.neighbours.calls import Answer, Call

INSTALL = "pip install 'clary[aws]'"


def fault(call: Call, code: str, message: str, status: int) -> Answer:
    """Return an error that the service's clients can read."""
    if "x-amz-target" in call.headers:
        text = json.dumps({"__type": code, "message": message})
        content_type = call.headers.get("content-type", "application/x-amz-json-1.1")
        return Answer(status=status, body=text.encode(), content_type=content_type)
    side = "Sender" if status < 500 else "Receiver"
    text = (
        f"<ErrorResponse><Error><Type>{side}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(message)}</Message></Error><RequestId>clary</RequestId></ErrorResponse>"
    )
    return Answer(status=status, body=text.encode())


def not_installed(call: Call) -> Answer:
    """Return the answer of a server without moto. 501: no SDK repeats the call."""
    return fault(
        call,
        "NotImplemented",
        f"This server has no {call.service.upper()}, for the package moto is not installed. "
        f"Install it where the server runs ({INSTALL}) and start it again, or name another "
        f"{call.service.upper()} with the setting neighbours.{call.service}_endpoint_url.",
        501,
    )


def not_implemented(call: Call) -> Answer:
    """Return the answer to an operation that moto does not have."""
    return fault(
        call,
        "NotImplemented",
        f"{call.service.upper()} of this server does not know {call.action or 'this request'}.",
        501,
    )


def failed(call: Call, message: str) -> Answer:
    """Return the answer when a call could not be done, through no fault of the caller."""
    code = "InternalFailure" if call.service in ("sns", "sqs") else "ServiceFailure"
    return fault(call, code, message, 500)
