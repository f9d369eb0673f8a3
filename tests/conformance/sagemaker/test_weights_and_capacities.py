from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handlers import SLOW_TO_LOAD

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
Wait = Callable[[str, str], None]


def refusal(call: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error: dict[str, str] = refused.value.response["Error"]
    return error


@pytest.fixture
def endpoint(sagemaker: Any, name: str, variant: dict[str, Any], wait: Wait) -> str:
    """An endpoint in service with variants a and b, of weights 3 and 1."""
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {**variant, "VariantName": "a", "InitialVariantWeight": 3.0},
            {**variant, "VariantName": "b"},
        ],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait("endpoint_in_service", name)
    return name


def test_weights_and_counts_change_without_another_configuration(
    sagemaker: Any, endpoint: str, wait: Wait
) -> None:
    before = sagemaker.describe_endpoint(EndpointName=endpoint)
    changed = sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "b", "DesiredWeight": 0.5, "DesiredInstanceCount": 2}
        ],
    )
    assert changed["EndpointArn"] == f"{ARN}:endpoint/{endpoint.lower()}"

    # What is wanted shows at once; what is there follows.
    during = sagemaker.describe_endpoint(EndpointName=endpoint)
    assert during["EndpointStatus"] == "Updating"
    (a, b) = during["ProductionVariants"]
    assert (b["DesiredInstanceCount"], b["CurrentInstanceCount"]) == (2, 1)
    assert b["DesiredWeight"] == 0.5
    (status,) = b["VariantStatus"]
    assert status["StatusMessage"] == "Scaling out desired instance count to 2."
    assert "VariantStatus" not in a

    wait("endpoint_in_service", endpoint)
    after = sagemaker.describe_endpoint(EndpointName=endpoint)
    (a, b) = after["ProductionVariants"]
    assert (a["CurrentWeight"], a["DesiredWeight"]) == (3, 3)
    assert (b["CurrentWeight"], b["DesiredWeight"]) == (0.5, 0.5)
    assert (b["DesiredInstanceCount"], b["CurrentInstanceCount"]) == (2, 2)
    assert after["EndpointConfigName"] == before["EndpointConfigName"]
    assert after["LastModifiedTime"] > before["LastModifiedTime"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"VariantName": "x"}], 'The variant name(s) "x" is not present within endpoint config'),
        (
            [{"VariantName": "a", "DesiredWeight": -1}],
            "desiredWeightsAndCapacities.1.member.desiredWeight",
        ),
        (
            [{"VariantName": "a", "DesiredInstanceCount": -1}],
            "desiredWeightsAndCapacities.1.member.desiredInstanceCount",
        ),
        ([{"VariantName": "a", "DesiredInstanceCount": 0}], "must be 1 or more"),
        ([{"VariantName": "a"}, {"VariantName": "a"}], "must be unique"),
        (
            [{"VariantName": "a", "ServerlessUpdateConfig": {"MaxConcurrency": 3}}],
            "is not serverless",
        ),
        ([], "desiredWeightsAndCapacities"),
    ],
)
def test_what_cannot_be_is_refused(
    sagemaker: Any, endpoint: str, changes: list[dict[str, Any]], words: str
) -> None:
    refused = refusal(
        lambda: sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=changes
        )
    )
    assert refused["Code"] == "ValidationException"
    assert words in refused["Message"]
    assert sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


def test_an_endpoint_that_is_busy_or_not_there_takes_no_change(
    sagemaker: Any, name: str, config_for: Callable[[str], str]
) -> None:
    def change() -> None:
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 1}],
        )

    assert refusal(change)["Message"] == (
        f'Could not find endpoint "{ARN}:endpoint/{name.lower()}".'
    )
    config = config_for(SLOW_TO_LOAD)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert refusal(change) == {
        "Code": "ValidationException",
        "Message": f'Cannot update in-progress endpoint "{ARN}:endpoint/{name.lower()}".',
    }


def test_a_change_over_the_quota_is_refused(
    sagemaker: Any, name: str, variant: dict[str, Any], wait: Wait
) -> None:
    big = {**variant, "InstanceType": "ml.p4d.24xlarge"}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[big])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait("endpoint_in_service", name)

    refused = refusal(
        lambda: sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
        )
    )
    sagemaker.delete_endpoint(EndpointName=name)
    wait("endpoint_deleted", name)

    assert refused["Code"] == "ResourceLimitExceeded"
    assert "current utilization of 1 Instances and a request delta of 2" in refused["Message"]


def test_a_shadow_variant_is_described_as_it_was_written_and_as_it_is(
    sagemaker: Any, name: str, variant: dict[str, Any], wait: Wait
) -> None:
    written = {**variant, "VariantName": "Shadow", "InitialVariantWeight": 0.25}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        ShadowProductionVariants=[written],
    )
    config = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert config["ShadowProductionVariants"] == [written]

    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait("endpoint_in_service", name)

    assert sagemaker.describe_endpoint(EndpointName=name)["ShadowProductionVariants"] == [
        {
            "VariantName": "Shadow",
            "DeployedImages": [{"SpecifiedImage": "clary/python:latest"}],
            "CurrentWeight": 0.25,
            "DesiredWeight": 0.25,
            "CurrentInstanceCount": 1,
            "DesiredInstanceCount": 1,
        }
    ]


@pytest.mark.parametrize(("production", "shadow"), [(2, 1), (1, 2)])
def test_one_shadow_variant_stands_beside_one_production_variant(
    sagemaker: Any, name: str, variant: dict[str, Any], production: int, shadow: int
) -> None:
    refused = refusal(
        lambda: sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{**variant, "VariantName": f"p{n}"} for n in range(production)],
            ShadowProductionVariants=[{**variant, "VariantName": f"s{n}"} for n in range(shadow)],
        )
    )
    assert refused["Code"] == "ValidationException"
