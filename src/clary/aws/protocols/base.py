"""What every wire protocol can do."""

from collections.abc import Mapping
from typing import Any, Protocol

from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault
from clary.aws.http import HttpRequest, HttpResponse

MAX_DEPTH = 64
"""Deepest nesting of a request. Deeper ones are refused, before any stack could overflow."""


class WireProtocol(Protocol):
    """From requests to Python values and back, by the shapes of a service model.

    Python values are: dict, list, str, bytes (blob), int, float, bool, and aware ``datetime``.
    """

    def parse(
        self,
        operation: OperationModel,
        request: HttpRequest,
        uri: Mapping[str, str],
        *,
        body_is_streamed: bool = False,
    ) -> dict[str, Any]:
        """Return the members of a request. Unknown members are ignored, nulls are absent.

        Args:
            operation: What the request asks for.
            request: The request.
            uri: Decoded parts of the path, from ``dispatch``.
            body_is_streamed: Leave a streaming body aside; its member is absent then.

        Raises:
            Fault: ``SerializationException`` and the like: a value is not of its shape's type.
        """
        ...

    def serialize(
        self, operation: OperationModel, result: Mapping[str, Any], request_id: str
    ) -> HttpResponse:
        """Return the reply for a result. Members that are absent or None are left out.

        A streaming body that the result does not have leaves the reply's body empty: who streams
        it takes the head from here.

        Raises:
            ValueError: The result has a member that the model does not know: our mistake.
        """
        ...

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        """Return the reply for a fault."""
        ...
