"""Notifications as SageMaker writes them (endpoints.md 6)."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import A_TIME
from clary.jobs.async_messages import Outcome, model_failure, notification, wants_answer
from clary.resources.async_inference import AsyncOrder
from clary.store.async_rows import Lease

ORDER = AsyncOrder(
    input_location="s3://in/1",
    content_type="text/csv",
    accept=None,
    custom_attributes=None,
    timeout_s=900,
    output_location="s3://out/1.out",
    failure_location="s3://failed/1-error.out",
    is_named=False,
    success_topic="arn:good",
    error_topic="arn:bad",
    includes_answer=True,
    includes_error=False,
)
LEASE = Lease(
    seq=1,
    attempt=1,
    endpoint="digits",
    inference_id="id-1",
    accepted_at=A_TIME,
    expires_at=A_TIME + timedelta(hours=6),
    losses=0,
    order=ORDER,
    body=None,
)
GOOD = Outcome(is_good=True, content_type="text/csv", location="s3://out/1.out", answer=b"\xff")
BAD = Outcome(is_good=False, reason="it said no", content_type="text/plain")


def message(outcome: Outcome, **changes: Any) -> dict[str, Any]:
    lease = replace(LEASE, order=replace(ORDER, **changes))
    now = A_TIME + timedelta(seconds=1.5)
    found = notification(lease, outcome, region="eu-west-1", now=now)
    assert found is not None
    decoded: dict[str, Any] = json.loads(found.message)
    return decoded


def test_a_success_has_these_members_and_no_others() -> None:
    assert message(GOOD) == {
        "awsRegion": "eu-west-1",
        "eventTime": "2026-01-02T03:04:07.178Z",
        "receivedTime": "2026-01-02T03:04:05.678Z",
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "text/csv",
            "endpointName": "digits",
            "inputLocation": "s3://in/1",
        },
        "responseParameters": {"contentType": "text/csv", "outputLocation": "s3://out/1.out"},
        "responseBody": {
            "content": base64.b64encode(b"\xff").decode(),
            "message": None,
            "encoding": "BASE64",
        },
        "inferenceId": "id-1",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def test_a_failure_without_a_place_has_no_response_parameters() -> None:
    told = message(BAD)
    assert (told["invocationStatus"], told["failureReason"]) == ("Failed", "it said no")
    assert "responseParameters" not in told
    assert "responseBody" not in told


def test_a_failure_that_lies_somewhere_says_where() -> None:
    told = message(replace(BAD, location="s3://failed/1-error.out"))
    assert told["responseParameters"] == {
        "contentType": "text/plain",
        "failureLocation": "s3://failed/1-error.out",
    }


def test_each_kind_has_its_topic() -> None:
    for outcome, topic in ((GOOD, "arn:good"), (BAD, "arn:bad")):
        told = notification(LEASE, outcome, region="r", now=A_TIME)
        assert told is not None
        assert told.topic == topic
    silent = replace(LEASE, order=replace(ORDER, success_topic=None))
    assert notification(silent, GOOD, region="r", now=A_TIME) is None


@pytest.mark.parametrize(
    ("is_good", "size", "wanted"),
    [(True, 128 * 1024, True), (True, 128 * 1024 + 1, False), (False, 1, False)],
)
def test_answers_travel_where_it_was_asked_for_and_not_too_long(
    is_good: bool, size: int, wanted: bool
) -> None:
    assert wants_answer(LEASE, is_good=is_good, size=size) is wanted


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "client error (400)"), (500, "server error (500)"), (0, "server error (0)")],
)
def test_reasons_are_in_the_words_of_sagemaker(status: int, words: str) -> None:
    assert model_failure(status) == (
        f"ClientError: Received {words} from model. "
        "See the SageMaker Endpoint logs in your account for more information."
    )
