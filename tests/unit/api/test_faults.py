import logging

import pytest

from clary.api.faults import fault_of, not_built
from clary.aws.fault import Fault
from clary.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    Error,
    InUse,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    RequestError,
    TransientError,
)
from clary.store import StoreFailed


@pytest.mark.parametrize(
    ("service", "operation", "error", "code", "status"),
    [
        ("sagemaker", "DescribeEndpoint", NotFound, "ValidationException", 400),
        ("sagemaker", "CreateModel", AlreadyExists, "ValidationException", 400),
        ("sagemaker", "CreateModel", InvalidRequest, "ValidationException", 400),
        ("sagemaker", "DeleteEndpoint", InUse, "ValidationException", 400),
        ("sagemaker", "CreateTransformJob", InUse, "ResourceInUse", 400),
        ("sagemaker", "CreateEndpoint", LimitExceeded, "ResourceLimitExceeded", 400),
        ("sagemaker", "CreateEndpoint", StoreFailed, "ServiceUnavailable", 503),
        ("sagemaker", "DeleteModelPackageGroup", Conflict, "ConflictException", 400),
        ("sts", "AssumeRole", InvalidRequest, "ValidationError", 400),
        ("sts", "AssumeRole", AccessDenied, "AccessDenied", 403),
        ("logs", "GetLogEvents", NotFound, "ResourceNotFoundException", 400),
        (None, None, TransientError, "ServiceUnavailable", 503),
        (None, None, InvalidRequest, "ValidationException", 400),
    ],
)
def test_each_service_has_its_own_names(
    service: str | None, operation: str | None, error: type[Error], code: str, status: int
) -> None:
    fault = fault_of(service, operation, error("why"))

    assert (fault.code, fault.status, fault.message) == (code, status, "why")


def test_a_fault_stays_what_it_is() -> None:
    fault = Fault("MissingAction", "…", 400)

    assert fault_of("sts", None, fault) is fault


@pytest.mark.parametrize("error", [KeyError("secret"), RequestError("secret")])
def test_a_bug_is_logged_and_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        fault = fault_of("sagemaker", "CreateModel", error)

    assert (fault.code, fault.status) == ("InternalFailure", 500)
    assert "secret" not in fault.message
    assert caplog.records[0].exc_info is not None


def test_what_is_not_built_has_a_status_that_no_sdk_retries() -> None:
    fault = not_built("sagemaker", "CreateTrainingJob")

    assert fault.status == 501
    assert "CreateTrainingJob of sagemaker is not built" in fault.message
