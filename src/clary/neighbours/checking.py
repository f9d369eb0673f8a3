"""Checks calls against botocore's service models, and says errors in the manner of each service.

moto takes a request as it finds it; a missing parameter there is a surprise. AWS refuses it.
"""

from typing import Any

from clary.aws.dispatch import find_operation, find_protocol
from clary.aws.fault import Fault
from clary.aws.http import HttpRequest
from clary.aws.protocols import PROTOCOLS
from clary.aws.service_models import ServiceModels
from clary.aws.validation import validate
from clary.neighbours.calls import Answer, Call

INSTALL = "pip install 'clary[aws]'"

_INVALID = {
    "iam": "ValidationError",
    "sns": "InvalidParameter",
    "sqs": "InvalidParameterValue",
    "ecr": "InvalidParameterException",
}
"""What each service calls a request that breaks its model."""


class Checking:
    """The models of the services, read when they are first needed."""

    def __init__(self) -> None:
        self._models = ServiceModels()

    def check(self, call: Call) -> None:
        """Check that a call is one of an operation, with the parameters that this wants.

        Raises:
            Fault: It is not.
        """
        request = _request(call)
        match = find_operation(self._models.get(call.service), request)
        parsed: dict[str, Any] = PROTOCOLS[match.protocol].parse(
            match.operation, request, match.uri
        )
        validate(match.operation.input_shape, parsed, code=_INVALID[call.service])

    def answer(self, call: Call, fault: Fault, request_id: str) -> Answer:
        """Return the answer that says a fault."""
        model = self._models.get(call.service)
        protocol = find_protocol(model, _request(call))
        response = PROTOCOLS[protocol].serialize_fault(model, fault, request_id)
        return Answer(
            status=response.status,
            body=response.body,
            content_type=response.headers.get("content-type", "text/xml"),
        )


def not_installed(call: Call) -> Fault:
    """Return the fault of a server without moto. 501: no SDK repeats the call."""
    name = call.service.upper()
    return Fault(
        "NotImplemented",
        f"This server has no {name}, for the package moto is not installed. Install it where the "
        f"server runs ({INSTALL}) and start it again, or name another {name} with the setting "
        f"neighbours.{call.service}_endpoint_url.",
        501,
    )


def not_implemented(call: Call) -> Fault:
    """Return the fault for an operation that moto does not have."""
    return Fault(
        "NotImplemented", f"{call.service.upper()} of this server has no {call.action}.", 501
    )


def _request(call: Call) -> HttpRequest:
    return HttpRequest("POST", call.path, "", dict(call.headers), call.body)
