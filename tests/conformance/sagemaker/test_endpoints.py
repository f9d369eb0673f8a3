from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handlers import FAILING_TO_LOAD, SLOW_TO_LOAD

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
Wait = Callable[[str, str], None]
ConfigFor = Callable[[str], str]


def refusal(call: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error: dict[str, str] = refused.value.response["Error"]
    return error


def test_an_endpoint_lives_from_create_to_delete(
    sagemaker: Any, name: str, config: str, wait: Wait
) -> None:
    created = sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert created["EndpointArn"] == f"{ARN}:endpoint/{name.lower()}"
    wait("endpoint_in_service", name)

    found = sagemaker.describe_endpoint(EndpointName=name)
    found.pop("ResponseMetadata")
    assert found.pop("LastModifiedTime") >= found.pop("CreationTime")
    assert found == {
        "EndpointName": name,
        "EndpointArn": created["EndpointArn"],
        "EndpointConfigName": config,
        "EndpointStatus": "InService",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "DeployedImages": [{"SpecifiedImage": "clary/python:latest"}],
                "CurrentWeight": 1.0,
                "DesiredWeight": 1.0,
                "CurrentInstanceCount": 1,
                "DesiredInstanceCount": 1,
            }
        ],
    }

    sagemaker.delete_endpoint(EndpointName=name)
    wait("endpoint_deleted", name)
    assert refusal(lambda: sagemaker.describe_endpoint(EndpointName=name)) == {
        "Code": "ValidationException",
        "Message": f'Could not find endpoint "{created["EndpointArn"]}".',
    }


def test_the_configuration_and_the_model_may_go_first(
    sagemaker: Any, name: str, config: str, wait: Wait
) -> None:
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    sagemaker.delete_endpoint_config(EndpointConfigName=config)
    sagemaker.delete_model(ModelName=name)
    wait("endpoint_in_service", name)

    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == config
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_failed_endpoint_tells_why_and_can_be_deleted(
    sagemaker: Any, name: str, config_for: ConfigFor, wait: Wait
) -> None:
    failing = f"{name}-fails"
    config = config_for(FAILING_TO_LOAD)
    sagemaker.create_endpoint(EndpointName=failing, EndpointConfigName=config)
    with pytest.raises(Exception, match="Waiter EndpointInService failed"):
        wait("endpoint_in_service", failing)

    found = sagemaker.describe_endpoint(EndpointName=failing)

    assert found["EndpointStatus"] == "Failed"
    assert len(found["FailureReason"]) <= 1024
    assert "no_such_module_anywhere" in found["FailureReason"]
    sagemaker.delete_endpoint(EndpointName=failing)
    wait("endpoint_deleted", failing)


def test_an_endpoint_that_is_being_created_takes_no_orders(
    sagemaker: Any, name: str, config_for: ConfigFor
) -> None:
    slow = f"{name}-slow"
    config = config_for(SLOW_TO_LOAD)
    sagemaker.create_endpoint(EndpointName=slow, EndpointConfigName=config)

    assert refusal(lambda: sagemaker.delete_endpoint(EndpointName=slow)) == {
        "Code": "ValidationException",
        "Message": f'Cannot update in-progress endpoint "{ARN}:endpoint/{slow.lower()}".',
    }
    variant = sagemaker.describe_endpoint(EndpointName=slow)["ProductionVariants"][0]
    assert variant["VariantStatus"][0]["Status"] == "Creating"
    assert variant["VariantStatus"][0]["StatusMessage"] == "Launching 1 instance(s)."
    assert variant["CurrentInstanceCount"] == 0


def test_a_taken_name_and_an_unknown_configuration_are_refused(
    sagemaker: Any, name: str, config: str
) -> None:
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)

    for again in (name, name.upper()):
        refused = refusal(
            lambda again=again: sagemaker.create_endpoint(
                EndpointName=again, EndpointConfigName=config
            )
        )
        assert refused == {
            "Code": "ValidationException",
            "Message": f'Cannot create already existing endpoint "{ARN}:endpoint/{name.lower()}".',
        }
    unknown = refusal(
        lambda: sagemaker.create_endpoint(EndpointName=f"{name}-x", EndpointConfigName="nobody")
    )
    assert unknown == {
        "Code": "ValidationException",
        "Message": f'Could not find endpoint configuration "{ARN}:endpoint-config/nobody".',
    }


def test_the_quota_of_an_instance_type_is_kept(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    big = {**variant, "InstanceType": "ml.p4d.24xlarge", "InitialInstanceCount": 3}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[big])

    refused = refusal(lambda: sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name))

    assert refused["Code"] == "ResourceLimitExceeded"
    assert refused["Message"].startswith(
        "The account-level service limit 'ml.p4d.24xlarge for endpoint usage' is 2 Instances, "
        "with current utilization of 0 Instances and a request delta of 3 Instances."
    )


def test_all_kinds_of_configuration_show_in_the_description(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    asynchronous = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}
    deployment = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "TerminationWaitInSeconds": 0,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]},
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        AsyncInferenceConfig=asynchronous,
        DataCaptureConfig={
            "InitialSamplingPercentage": 20,
            "DestinationS3Uri": "s3://bucket/capture",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
    )
    sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=name, DeploymentConfig=deployment
    )

    found = sagemaker.describe_endpoint(EndpointName=name)

    assert found["AsyncInferenceConfig"] == asynchronous
    assert found["LastDeploymentConfig"] == deployment
    assert found["DataCaptureConfig"]["CurrentSamplingPercentage"] == 20


def test_a_serverless_variant_shows_its_size_instead_of_counts(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    size = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    serverless = {"VariantName": "v", "ModelName": name, "ServerlessConfig": size}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[serverless])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    found = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]

    assert found["CurrentServerlessConfig"] == found["DesiredServerlessConfig"] == size
    assert "DesiredInstanceCount" not in found


def test_endpoints_are_listed_with_their_status(
    sagemaker: Any, name: str, config: str, config_for: ConfigFor, wait: Wait
) -> None:
    failing = config_for(FAILING_TO_LOAD)
    for ending, its_config in (("a", config), ("b", config), ("fails", failing)):
        sagemaker.create_endpoint(EndpointName=f"{name}-{ending}", EndpointConfigName=its_config)
    wait("endpoint_in_service", f"{name}-a")
    wait("endpoint_in_service", f"{name}-b")
    with pytest.raises(Exception, match="Waiter"):
        wait("endpoint_in_service", f"{name}-fails")

    pages = sagemaker.get_paginator("list_endpoints").paginate(
        NameContains=f"{name}-",
        SortBy="Status",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 1},
    )
    listed = [
        (item["EndpointName"], item["EndpointStatus"]) for p in pages for item in p["Endpoints"]
    ]

    assert listed == [
        (f"{name}-fails", "Failed"),
        (f"{name}-a", "InService"),
        (f"{name}-b", "InService"),
    ]
    failed = sagemaker.list_endpoints(NameContains=f"{name}-", StatusEquals="Failed")["Endpoints"]
    assert [item["EndpointName"] for item in failed] == [f"{name}-fails"]
    assert failed[0]["LastModifiedTime"] >= failed[0]["CreationTime"]
    assert failed[0]["EndpointArn"] == f"{ARN}:endpoint/{name.lower()}-fails"
