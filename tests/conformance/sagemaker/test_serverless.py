"""Serverless endpoints by boto3: what each operation takes and shows."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import wait_for

SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"ServerlessConfig": {**SERVERLESS, "MemorySizeInMB": 1500}}, "must be one of 1024, 2048"),
        ({"ServerlessConfig": {**SERVERLESS, "MemorySizeInMB": 512}}, "greater than or equal to"),
        ({"ServerlessConfig": {**SERVERLESS, "MaxConcurrency": 201}}, "less than or equal to 200"),
        ({"ServerlessConfig": {**SERVERLESS, "ProvisionedConcurrency": 6}}, "cannot be greater"),
        ({"AcceleratorType": "ml.eia1.medium"}, "AcceleratorType is not supported"),
        ({"ModelName": None}, "needs a ModelName"),
    ],
)
def test_a_serverless_variant_has_limits(
    sagemaker: Any,
    name: str,
    variant: dict[str, Any],
    members: dict[str, Any],
    words: str,
) -> None:
    serverless = {"VariantName": "v", "ModelName": name, "ServerlessConfig": SERVERLESS, **members}
    wanted = {key: value for key, value in serverless.items() if value is not None}

    with pytest.raises(ClientError, match=words):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[wanted])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 1,
                    "DestinationS3Uri": "s3://b/c",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "DataCaptureConfig is not supported",
        ),
        (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/c"}}},
            "AsyncInferenceConfig is not supported",
        ),
        (
            {"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}},
            "VpcConfig is not supported",
        ),
    ],
)
def test_a_serverless_configuration_has_no_such_thing(
    sagemaker: Any,
    name: str,
    variant: dict[str, Any],
    members: dict[str, Any],
    words: str,
) -> None:
    serverless = {"VariantName": "v", "ModelName": name, "ServerlessConfig": SERVERLESS}

    with pytest.raises(ClientError, match=words):
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[serverless], **members
        )


def test_a_pipeline_is_not_serverless(sagemaker: Any, name: str, variant: dict[str, Any]) -> None:
    model = sagemaker.describe_model(ModelName=name)
    containers = [model["PrimaryContainer"], model["PrimaryContainer"]]
    sagemaker.create_model(
        ModelName=f"{name}-two",
        Containers=containers,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
    )
    serverless = {
        "VariantName": "v",
        "ModelName": f"{name}-two",
        "ServerlessConfig": SERVERLESS,
    }

    with pytest.raises(ClientError, match="do not support inference pipelines"):
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[serverless])


def test_a_serverless_endpoint_by_all_its_operations(
    sagemaker: Any,
    make_client: Callable[[str], Any],
    name: str,
    variant: dict[str, Any],
    wait: Callable[[str, str], None],
) -> None:
    autoscaling = make_client("application-autoscaling")
    size = {"MemorySizeInMB": 1024, "MaxConcurrency": 3, "ProvisionedConcurrency": 1}
    serverless = {"VariantName": "v", "ModelName": name, "ServerlessConfig": size}
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-s", ProductionVariants=[serverless]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-s")
    wait("endpoint_in_service", name)

    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "v", "ServerlessUpdateConfig": {"ProvisionedConcurrency": 2}}
        ],
    )
    busy = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]
    wait("endpoint_in_service", name)
    found = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]
    assert busy["DesiredServerlessConfig"]["ProvisionedConcurrency"] == 2
    assert found["CurrentServerlessConfig"] == {**size, "ProvisionedConcurrency": 2}

    for wrong, words in (
        ({"ServerlessUpdateConfig": {"ProvisionedConcurrency": 4}}, "cannot be greater"),
        ({"DesiredInstanceCount": 2}, "is serverless"),
    ):
        with pytest.raises(ClientError, match=words):
            sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=name,
                DesiredWeightsAndCapacities=[{"VariantName": "v", **wrong}],
            )
    with pytest.raises(ClientError, match="DeploymentConfig is not supported"):
        sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=f"{name}-s",
            DeploymentConfig={
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "ALL_AT_ONCE",
                        "WaitIntervalInSeconds": 0,
                    }
                }
            },
        )
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/v",
        "ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency",
    }
    with pytest.raises(ClientError, match="no DesiredInstanceCount"):
        autoscaling.register_scalable_target(
            **{**target, "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"},
            MinCapacity=1,
            MaxCapacity=2,
        )
    autoscaling.register_scalable_target(**target, MinCapacity=3, MaxCapacity=3)
    autoscaling.put_scaling_policy(
        **target,
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 0.7,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"
            },
        },
    )

    def provisioned() -> int:
        variant = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]
        return int(variant["CurrentServerlessConfig"].get("ProvisionedConcurrency", 0))

    wait_for(lambda: provisioned() == 3, what="the least capacity", timeout_s=60)
    wait("endpoint_in_service", name)
    sagemaker.delete_endpoint(EndpointName=name)
    wait("endpoint_deleted", name)
