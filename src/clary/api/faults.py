"""How each service spells what is the matter.

Inside, an error says what is wrong (``clary.errors``). This table, from service, operation and
class of error to code and HTTP status, is the only place that knows AWS's names for it.
"""

import logging
from collections.abc import Mapping

from clary.api.cloudwatch.refusals import (
    InvalidCombination,
    InvalidDashboard,
    InvalidFormat,
    InvalidToken,
    MissingParameter,
)
from clary.aws.fault import Fault
from clary.aws.pages import BadPageToken
from clary.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    Error,
    InUse,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TransientError,
)

_log = logging.getLogger(__name__)

Spelling = tuple[str, int]
"""Code and HTTP status."""

# The most specific row wins: (service, operation), then (service, any), then (any, any). Within
# one, the class of the error itself before its bases.
_TABLE: dict[tuple[str | None, str | None], dict[type[Error], Spelling]] = {
    (None, None): {
        InvalidRequest: ("ValidationException", 400),
        NotFound: ("ResourceNotFoundException", 400),
        AlreadyExists: ("ResourceInUseException", 400),
        InUse: ("ResourceInUseException", 400),
        Conflict: ("ConflictException", 400),
        LimitExceeded: ("LimitExceededException", 400),
        AccessDenied: ("AccessDeniedException", 403),
        # Retried by every SDK: nothing was changed, and it may work later.
        TransientError: ("ServiceUnavailable", 503),
    },
    ("sagemaker", None): {
        # Models, configurations and endpoints declare no error for what is not there or taken:
        # SDKs, waiters and Terraform match on ValidationException and its text.
        NotFound: ("ValidationException", 400),
        AlreadyExists: ("ValidationException", 400),
        InUse: ("ResourceInUse", 400),
        LimitExceeded: ("ResourceLimitExceeded", 400),
        AccessDenied: ("AccessDeniedException", 400),
    },
    ("sagemaker", "CreateTransformJob"): {
        AlreadyExists: ("ResourceInUse", 400),
        NotFound: ("ResourceNotFound", 400),
    },
    ("sagemaker", "DescribeTransformJob"): {NotFound: ("ResourceNotFound", 400)},
    ("sagemaker", "StopTransformJob"): {NotFound: ("ResourceNotFound", 400)},
    ("sagemaker", "DeleteEndpoint"): {InUse: ("ValidationException", 400)},
    ("sagemaker", "UpdateInferenceComponent"): {InUse: ("ValidationException", 400)},
    ("sagemaker", "UpdateInferenceComponentRuntimeConfig"): {InUse: ("ValidationException", 400)},
    ("sagemaker", "UpdateEndpointWeightsAndCapacities"): {InUse: ("ValidationException", 400)},
    ("sagemaker-runtime", None): {
        InvalidRequest: ("ValidationError", 400),
        NotFound: ("ValidationError", 400),
    },
    ("logs", None): {
        InvalidRequest: ("InvalidParameterException", 400),
        AlreadyExists: ("ResourceAlreadyExistsException", 400),
    },
    ("cloudwatch", None): {
        InvalidRequest: ("InvalidParameterValue", 400),
        InvalidCombination: ("InvalidParameterCombination", 400),
        MissingParameter: ("MissingParameter", 400),
        InvalidDashboard: ("DashboardInvalidInputError", 400),
        InvalidToken: ("InvalidNextToken", 400),
        NotFound: ("ResourceNotFound", 404),
        LimitExceeded: ("LimitExceeded", 400),
    },
    ("cloudwatch", "GetDashboard"): {NotFound: ("DashboardNotFoundError", 404)},
    ("cloudwatch", "DeleteDashboards"): {NotFound: ("DashboardNotFoundError", 404)},
    ("cloudwatch", "GetMetricData"): {
        InvalidRequest: ("ValidationError", 400),
        InvalidCombination: ("ValidationError", 400),
        MissingParameter: ("ValidationError", 400),
    },
    **{
        ("cloudwatch", name): {
            InvalidRequest: ("ValidationError", 400),
            InvalidCombination: ("ValidationError", 400),
            MissingParameter: ("ValidationError", 400),
            InvalidFormat: ("InvalidFormat", 400),
        }
        for name in (
            "PutMetricAlarm",
            "PutCompositeAlarm",
            "DescribeAlarms",
            "DeleteAlarms",
            "SetAlarmState",
        )
    },
    **{
        ("cloudwatch", name): {NotFound: ("ResourceNotFoundException", 404)}
        for name in ("TagResource", "UntagResource", "ListTagsForResource")
    },
    ("application-autoscaling", None): {
        NotFound: ("ObjectNotFoundException", 400),
        InUse: ("ConcurrentUpdateException", 500),
        BadPageToken: ("InvalidNextTokenException", 400),
    },
    **{
        ("application-autoscaling", name): {
            NotFound: ("ResourceNotFoundException", 400),
            LimitExceeded: ("TooManyTagsException", 400),
        }
        for name in ("ListTagsForResource", "TagResource", "UntagResource")
    },
    ("sts", None): {
        InvalidRequest: ("ValidationError", 400),
        AccessDenied: ("AccessDenied", 403),
    },
}


VALIDATION_CODES: Mapping[str, str] = {
    "logs": "InvalidParameterException",
    "sagemaker-runtime": "ValidationError",
}
"""How services call a request that breaks its model, where not ValidationException."""


def fault_of(service: str | None, operation: str | None, error: Exception) -> Fault:
    """Return the fault that tells a client of an error.

    Args:
        service: Name of the service model; None where it is not known yet.
        operation: Name of the operation; None where it is not known yet.
        error: What a handler or the chain raised. What is no error of ours is a bug: it is logged
            with its traceback, and the client learns nothing of it.
    """
    if isinstance(error, Fault):
        return error
    for kind in type(error).__mro__:
        for row in ((service, operation), (service, None), (None, None)):
            spelling = _TABLE.get(row, {}).get(kind)
            if spelling is not None:
                code, status = spelling
                return Fault(code, str(error), status)
    _log.error("%s.%s failed", service, operation, exc_info=error)
    return Fault("InternalFailure", "The server failed; its log has the details.", 500)


def not_built(service: str, operation: str) -> Fault:
    """Return the fault for an operation that the service has and this server does not.

    501, because every SDK retries 500, 502, 503 and 504 but not this: botocore raises at once, and
    shows code and message.
    """
    return Fault(
        "NotImplemented",
        f"{operation} of {service} is not built in this version of Clary. docs/operations.md lists "
        "what is.",
        501,
    )
