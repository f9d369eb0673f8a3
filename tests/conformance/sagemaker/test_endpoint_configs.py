from typing import Any

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


def described(sagemaker: Any, name: str) -> dict[str, Any]:
    reply: dict[str, Any] = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    reply.pop("ResponseMetadata")
    return reply


def test_a_configuration_is_described_as_it_was_written(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    definition = {
        "ProductionVariants": [
            {
                **variant,
                "EnableSSMAccess": False,
                "ContainerStartupHealthCheckTimeoutInSeconds": 120,
                "ModelDataDownloadTimeoutInSeconds": 60,
                "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
                "ManagedInstanceScaling": {
                    "Status": "ENABLED",
                    "MinInstanceCount": 1,
                    "MaxInstanceCount": 4,
                    "ScaleInPolicy": {"Strategy": "IDLE_RELEASE", "CooldownInMinutes": 20},
                },
            }
        ],
        "ShadowProductionVariants": [{**variant, "VariantName": "shadow"}],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 20,
            "DestinationS3Uri": "s3://bucket/capture",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
        "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}},
        "KmsKeyId": "a-key",
    }
    reply = sagemaker.create_endpoint_config(
        EndpointConfigName=name, **definition, Tags=[{"Key": "a", "Value": "b"}]
    )

    found = described(sagemaker, name)

    assert reply["EndpointConfigArn"] == f"{ARN}:endpoint-config/{name.lower()}"
    assert found.pop("CreationTime")
    assert found == {
        "EndpointConfigName": name,
        "EndpointConfigArn": reply["EndpointConfigArn"],
        **definition,
    }


def test_a_serverless_variant_has_no_instances(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    serverless = {"VariantName": "v", "ModelName": name, "ServerlessConfig": SERVERLESS}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[serverless])

    assert described(sagemaker, name)["ProductionVariants"] == [serverless]


def test_a_variant_for_inference_components_needs_a_role_instead_of_a_model(
    sagemaker: Any, name: str
) -> None:
    variant = {"VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    with pytest.raises(ClientError, match="needs a ModelName"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
    )

    assert described(sagemaker, name)["ProductionVariants"] == [variant]


def test_an_unknown_model_is_refused(sagemaker: Any, name: str, variant: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{**variant, "ModelName": "nobody"}]
        )

    assert refused.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": f'Could not find model "{ARN}:model/nobody".',
    }


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ServerlessConfig": SERVERLESS}, "cannot be given beside it"),
        ({"InstanceType": None}, "needs an InstanceType"),
        ({"InitialInstanceCount": None}, "needs an InitialInstanceCount"),
        ({"InitialInstanceCount": 0}, "Member must have value greater than or equal to 1"),
        ({"InitialVariantWeight": -1}, "Member must have value greater than or equal to 0"),
        ({"InstanceType": "ml.none"}, "Member must satisfy enum value set"),
        ({"VariantName": None}, "Member must not be null"),
        (
            {"ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 2}},
            "MinInstanceCount 3 of ManagedInstanceScaling cannot be greater",
        ),
        (
            {"ManagedInstanceScaling": {"MinInstanceCount": 2, "MaxInstanceCount": 4}},
            "InitialInstanceCount 1 of variant .* must be between MinInstanceCount 2",
        ),
        (
            {"ManagedInstanceScaling": {"ScaleInPolicy": {"Strategy": "SOMETIMES"}}},
            "Member must satisfy enum value set",
        ),
    ],
)
def test_a_bad_variant_is_refused(
    sagemaker: Any, name: str, variant: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    changed = {k: v for k, v in {**variant, **changes}.items() if v is not None}

    with pytest.raises(ClientError, match=text) as refused:
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[changed])

    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_variants_that_do_not_go_together_are_refused(
    sagemaker: Any, name: str, variant: dict[str, Any]
) -> None:
    other = {**variant, "VariantName": "other"}
    serverless = {"VariantName": "s", "ModelName": name, "ServerlessConfig": SERVERLESS}
    for production, shadow, text in (
        ([variant, variant], [], "must be unique"),
        ([variant], [variant], "must be unique"),
        ([variant, other], [{**variant, "VariantName": "s"}], "exactly one production variant"),
        ([variant], [other, {**variant, "VariantName": "s"}], "exactly one production variant"),
        ([variant, serverless], [], "must be the only one"),
    ):
        shadows = {"ShadowProductionVariants": shadow} if shadow else {}
        with pytest.raises(ClientError, match=text):
            sagemaker.create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=production, **shadows
            )


def test_names_are_taken_freed_and_listed(sagemaker: Any, config: str) -> None:
    listed = sagemaker.list_endpoint_configs(NameContains=config)["EndpointConfigs"]
    assert config in [item["EndpointConfigName"] for item in listed]
    with pytest.raises(ClientError, match="Cannot create already existing endpoint configuration"):
        sagemaker.create_endpoint_config(
            EndpointConfigName=config,
            ProductionVariants=described(sagemaker, config)["ProductionVariants"],
        )

    sagemaker.delete_endpoint_config(EndpointConfigName=config)

    for call in (sagemaker.describe_endpoint_config, sagemaker.delete_endpoint_config):
        with pytest.raises(ClientError) as refused:
            call(EndpointConfigName=config)
        arn = f"{ARN}:endpoint-config/{config.lower()}"
        assert refused.value.response["Error"] == {
            "Code": "ValidationException",
            "Message": f'Could not find endpoint configuration "{arn}".',
        }
