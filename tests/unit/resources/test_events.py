"""Events have the shapes of AWS's (contract: autoscaling-metrics.md 9)."""

from datetime import UTC, datetime

import pytest

from builders import A_TIME, NAMESPACE, a_variant_state
from clary.resources.endpoint import EndpointStatus
from clary.resources.events import (
    complete,
    deployment_event,
    endpoint_event,
    transform_job_event,
    upper_snake,
)


def an_event(**fields):
    defaults = {
        "config_name": "digits-1",
        "status": "InService",
        "variants": [a_variant_state(current_count=1, desired_weight=2.0)],
        "shadow_variants": [],
        "failure_reason": None,
        "created_at": A_TIME,
        "modified_at": A_TIME,
        "tags": {"team": "ml"},
    }
    return endpoint_event("Digits", **{**defaults, **fields})


@pytest.mark.parametrize(
    ("status", "spelled"),
    [
        ("InService", "IN_SERVICE"),
        ("Creating", "CREATING"),
        ("UpdateRollbackFailed", "UPDATE_ROLLBACK_FAILED"),
        ("RollingBack", "ROLLING_BACK"),
    ],
)
def test_statuses_are_spelled_as_constants(status, spelled):
    assert upper_snake(status) == spelled


def test_every_status_has_a_spelling_of_its_own():
    assert len({upper_snake(status) for status in EndpointStatus}) == len(EndpointStatus)


def test_an_endpoints_event_is_whole():
    assert complete(an_event(), event_id="e-1", namespace=NAMESPACE) == {
        "version": "0",
        "id": "e-1",
        "detail-type": "SageMaker Endpoint State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2026-01-02T03:04:05Z",
        "region": "us-east-1",
        "resources": ["arn:aws:sagemaker:us-east-1:123456789012:endpoint/digits"],
        "detail": {
            "EndpointName": "Digits",
            "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/digits",
            "EndpointConfigName": "digits-1",
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "DesiredWeight": 2.0,
                    "CurrentWeight": 1.0,
                    "DesiredInstanceCount": 1,
                    "CurrentInstanceCount": 1,
                }
            ],
            "EndpointStatus": "IN_SERVICE",
            "CreationTime": 1767323045679,
            "LastModifiedTime": 1767323045679,
            "Tags": {"team": "ml"},
        },
    }


def test_what_is_not_there_is_left_out():
    assert "FailureReason" not in an_event()["detail"]
    failed = an_event(status="Failed", failure_reason="no model")
    assert failed["detail"]["FailureReason"] == "no model"
    shadowed = an_event(shadow_variants=[a_variant_state("copy")])["detail"]
    assert shadowed["ShadowProductionVariants"][0]["VariantName"] == "copy"


def test_a_deployments_event_adds_how_far_it_is():
    began = datetime(2026, 1, 1, tzinfo=UTC)
    pending = {
        "EndpointConfigName": "digits-2",
        "ProductionVariants": [{"VariantStatus": [{"Status": "Baking", "StartTime": began}]}],
        "StartTime": began,
    }
    event = deployment_event(
        an_event(status="Updating"),
        pending=pending,
        statuses={"AllTraffic": [{"Status": "ActivatingTraffic", "StartTime": began}]},
        at=A_TIME,
    )
    detail = event["detail"]
    assert event["detail-type"] == "SageMaker Endpoint Deployment State Change"
    assert detail["EndpointStatus"] == "UPDATING"
    status = {"Status": "ActivatingTraffic", "StartTime": 1767225600000}
    assert detail["ProductionVariants"][0]["VariantStatus"] == [status]
    assert detail["PendingDeploymentSummary"]["StartTime"] == 1767225600000


def test_a_transform_jobs_event_is_whole():
    definition = {"ModelName": "m", "TransformResources": {"InstanceCount": 2}}
    event = transform_job_event(
        "nightly",
        status="Failed",
        definition=definition,
        failure_reason="ClientError: no",
        created_at=A_TIME,
        started_at=None,
        ended_at=A_TIME,
        at=A_TIME,
        tags={"team": "ml"},
    )
    whole = complete(event, event_id="e-2", namespace=NAMESPACE)
    arn = "arn:aws:sagemaker:us-east-1:123456789012:transform-job/nightly"
    assert whole["detail-type"] == "SageMaker Transform Job State Change"
    assert whole["resources"] == [arn]
    assert whole["detail"] == {
        "TransformJobName": "nightly",
        "TransformJobArn": arn,
        "TransformJobStatus": "Failed",
        **definition,
        "FailureReason": "ClientError: no",
        "CreationTime": 1767323045679,
        "TransformEndTime": 1767323045679,
        "Tags": {"team": "ml"},
    }


def test_an_event_that_is_whole_stays_as_it_is():
    alarm = {
        "id": "a-1",
        "source": "aws.cloudwatch",
        "resources": ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:a"],
        "detail-type": "CloudWatch Alarm State Change",
        "time": "2026-01-02T03:04:05Z",
        "detail": {"alarmName": "a"},
    }
    whole = complete(alarm, event_id="a-1", namespace=NAMESPACE)
    assert {name: whole[name] for name in alarm} == alarm
    assert whole["account"] == "123456789012"
