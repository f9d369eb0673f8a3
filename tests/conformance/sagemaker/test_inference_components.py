"""Operations on inference components by boto3: a section for each."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import wait_for

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/tests"


@pytest.fixture
def endpoint(
    sagemaker: Any, name: str, container: dict[str, Any], wait: Callable[[str, str], None]
) -> Iterator[str]:
    """An endpoint for components, with a model of the same name; all are removed in the end."""
    sagemaker.create_model(ModelName=name, PrimaryContainer=container)
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ExecutionRoleArn=ROLE,
        ProductionVariants=[
            {"VariantName": "main", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait("endpoint_in_service", name)
    yield name
    for item in components(sagemaker, name, SortOrder="Descending"):
        sagemaker.delete_inference_component(InferenceComponentName=item)
        wait_until_gone(sagemaker, item)  # adapters, which are younger, before their base
    sagemaker.delete_endpoint(EndpointName=name)
    wait("endpoint_deleted", name)


@pytest.fixture
def component(sagemaker: Any, endpoint: str) -> str:
    """A component without copies, InService."""
    sagemaker.create_inference_component(**request(endpoint, copies=0))
    settle(sagemaker, endpoint)
    return endpoint


def request(name: str, *, copies: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "InferenceComponentName": name,
        "EndpointName": name,
        "VariantName": "main",
        "Specification": a_specification(name),
        "RuntimeConfig": {"CopyCount": copies},
        **changes,
    }


def a_specification(model: str, **members: Any) -> dict[str, Any]:
    return {
        "ModelName": model,
        "ComputeResourceRequirements": {
            "NumberOfCpuCoresRequired": 0.5,
            "MinMemoryRequiredInMb": 256,
        },
        **members,
    }


def settle(sagemaker: Any, name: str, *statuses: str) -> dict[str, Any]:
    wanted = statuses or ("InService",)

    def has_settled() -> bool:
        found = sagemaker.describe_inference_component(InferenceComponentName=name)
        return found["InferenceComponentStatus"] in wanted

    wait_for(has_settled, timeout_s=60, what=f"{name} to be {wanted}")
    return described(sagemaker, name)


def described(sagemaker: Any, name: str) -> dict[str, Any]:
    reply: dict[str, Any] = sagemaker.describe_inference_component(InferenceComponentName=name)
    reply.pop("ResponseMetadata")
    return reply


def components(sagemaker: Any, endpoint: str, **filters: Any) -> list[str]:
    names: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = sagemaker.list_inference_components(
            EndpointNameEquals=endpoint, MaxResults=2, **filters, **token
        )
        names += [item["InferenceComponentName"] for item in page["InferenceComponents"]]
        if "NextToken" not in page:
            return names
        token = {"NextToken": page["NextToken"]}


def wait_until_gone(sagemaker: Any, name: str) -> None:
    def is_gone() -> bool:
        try:
            sagemaker.describe_inference_component(InferenceComponentName=name)
        except ClientError as error:
            return "Could not find" in str(error)
        return False

    wait_for(is_gone, timeout_s=60, what=f"{name} to go")


def refusal(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# CreateInferenceComponent, DescribeInferenceComponent -------------------------------------------


def test_a_component_is_described_as_it_was_asked_for(sagemaker: Any, endpoint: str) -> None:
    specification = a_specification(
        endpoint,
        StartupParameters={
            "ModelDataDownloadTimeoutInSeconds": 60,
            "ContainerStartupHealthCheckTimeoutInSeconds": 120,
        },
        SchedulingConfig={"PlacementStrategy": "BINPACK"},
        DataCacheConfig={"EnableCaching": True},
    )
    reply = sagemaker.create_inference_component(
        **request(endpoint, Specification=specification), Tags=[{"Key": "a", "Value": "b"}]
    )
    arn = f"{ARN}:inference-component/{endpoint.lower()}"
    assert reply["InferenceComponentArn"] == arn
    first = described(sagemaker, endpoint)
    assert first["RuntimeConfig"]["DesiredCopyCount"] == 1
    found = settle(sagemaker, endpoint)
    assert found.pop("CreationTime") <= found.pop("LastModifiedTime")
    assert found == {
        "InferenceComponentName": endpoint,
        "InferenceComponentArn": arn,
        "EndpointName": endpoint,
        "EndpointArn": f"{ARN}:endpoint/{endpoint.lower()}",
        "VariantName": "main",
        "InferenceComponentStatus": "InService",
        "Specification": specification,
        "RuntimeConfig": {"DesiredCopyCount": 1, "CurrentCopyCount": 1},
    }
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "c", "Value": "d"}])
    assert len(sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 2


def test_a_container_is_described_with_its_image(
    sagemaker: Any, endpoint: str, container: dict[str, Any]
) -> None:
    specification = a_specification(endpoint)
    del specification["ModelName"]
    # A file on this machine is no ArtifactUrl, which must be https or s3: the model's own serves.
    specification["Container"] = {"Image": container["Image"], "Environment": {"A": "b"}}
    sagemaker.create_inference_component(**request(endpoint, Specification=specification, copies=0))
    assert described(sagemaker, endpoint)["Specification"]["Container"] == {
        "DeployedImage": {"SpecifiedImage": container["Image"]},
        "Environment": {"A": "b"},
    }


def test_the_specification_for_the_instance_type_is_used(sagemaker: Any, endpoint: str) -> None:
    specifications = [
        a_specification("no-such-model", InstanceType="ml.g5.xlarge"),
        a_specification(endpoint, InstanceType="ml.m5.large"),
    ]
    asked = request(endpoint, Specifications=specifications)
    del asked["Specification"]
    sagemaker.create_inference_component(**asked)
    found = settle(sagemaker, endpoint)
    assert found["Specifications"] == specifications
    assert "Specification" not in found


def test_what_is_not_there_is_named(sagemaker: Any, component: str) -> None:
    create = sagemaker.create_inference_component
    other = {"InferenceComponentName": "other"}
    assert refusal(create, **{**request(component), **other, "EndpointName": "nobody"}) == (
        "ValidationException",
        f'Could not find endpoint "{ARN}:endpoint/nobody".',
    )
    assert refusal(
        create, **{**request(component), **other, "Specification": a_specification("nobody")}
    ) == ("ValidationException", f'Could not find model "{ARN}:model/nobody".')
    assert refusal(create, **{**request(component), **other, "VariantName": "nobody"}) == (
        "ValidationException",
        f'Could not find variant "nobody" of endpoint "{component}".',
    )
    for call in (
        sagemaker.describe_inference_component,
        sagemaker.delete_inference_component,
    ):
        assert refusal(call, InferenceComponentName="Nobody") == (
            "ValidationException",
            f'Could not find inference component "{ARN}:inference-component/nobody".',
        )


def test_a_name_is_taken_once(sagemaker: Any, component: str) -> None:
    for name in (component, component.upper()):
        asked = {**request(component), "InferenceComponentName": name}
        assert refusal(sagemaker.create_inference_component, **asked) == (
            "ValidationException",
            "Cannot create already existing inference component "
            f'"{ARN}:inference-component/{component.lower()}".',
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Specification": None}, "needs a Specification"),
        ({"Specifications": [a_specification("a")]}, "cannot both be given"),
        (
            {"Specification": {"ModelName": "a"}},
            "needs ComputeResourceRequirements",
        ),
        (
            {"Specification": a_specification("a", ModelName=None)},
            "needs a ModelName, or a Container with an Image",
        ),
        (
            {
                "Specification": a_specification(
                    "a",
                    ComputeResourceRequirements={
                        "MinMemoryRequiredInMb": 512,
                        "MaxMemoryRequiredInMb": 256,
                    },
                )
            },
            "MaxMemoryRequiredInMb 256 cannot be less than MinMemoryRequiredInMb 512",
        ),
        (
            {"Specification": a_specification("a", BaseInferenceComponentName="base")},
            "An adapter inference component cannot have ModelName",
        ),
        (
            {"Specification": {"BaseInferenceComponentName": "base"}},
            "needs a Container with the ArtifactUrl",
        ),
        (
            {"Specification": {"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1}}},
            "Member must have value greater than or equal to 128",
        ),
        (
            {"InferenceComponentName": "-no-"},
            "Member must satisfy regular expression pattern",
        ),
        ({"RuntimeConfig": {"CopyCount": -1}}, "Member must have value greater than or equal to 0"),
        (
            {"Specification": a_specification("a", SchedulingConfig={"PlacementStrategy": "NEAR"})},
            "Member must satisfy enum value set: [SPREAD, BINPACK]",
        ),
    ],
)
def test_requests_that_contradict_themselves(
    sagemaker: Any, changes: dict[str, Any], words: str
) -> None:
    asked = {**request("nobody"), **changes}
    asked = {member: value for member, value in asked.items() if value is not None}
    if "Specification" in asked:
        spec = asked["Specification"]
        asked["Specification"] = {k: v for k, v in spec.items() if v is not None}
    code, message = refusal(sagemaker.create_inference_component, **asked)
    assert code == "ValidationException"
    assert words in message


def test_variants_with_a_model_take_no_components(
    sagemaker: Any, config: str, name: str, wait: Callable[[str, str], None]
) -> None:
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    code, message = refusal(
        sagemaker.create_inference_component, **request(name, VariantName="AllTraffic")
    )
    assert (code, "has a model of its own" in message) == ("ValidationException", True)
    wait("endpoint_in_service", name)
    sagemaker.delete_endpoint(EndpointName=name)


# ListInferenceComponents ------------------------------------------------------------------------


def test_components_are_listed_with_filters_order_and_pages(sagemaker: Any, endpoint: str) -> None:
    names = [f"{endpoint}-{letter}" for letter in "bac"]
    for each in names:
        asked = {**request(endpoint, copies=0), "InferenceComponentName": each}
        sagemaker.create_inference_component(**asked)
    for each in names:
        settle(sagemaker, each)
    assert components(sagemaker, endpoint) == names[::-1]
    assert components(sagemaker, endpoint, SortOrder="Ascending") == names
    by_name = components(sagemaker, endpoint, SortBy="Name", SortOrder="Ascending")
    assert by_name == sorted(names)
    assert components(sagemaker, endpoint, NameContains="-B") == [names[0]]
    assert components(sagemaker, endpoint, VariantNameEquals="main") == names[::-1]
    assert components(sagemaker, endpoint, VariantNameEquals="other") == []
    assert components(sagemaker, endpoint, StatusEquals="InService") == names[::-1]
    assert components(sagemaker, endpoint, StatusEquals="Failed") == []
    assert components(sagemaker, "nobody") == []
    created = described(sagemaker, names[1])["CreationTime"]
    assert names[0] in components(sagemaker, endpoint, CreationTimeBefore=created)
    (item,) = sagemaker.list_inference_components(NameContains=names[0])["InferenceComponents"]
    assert item.pop("CreationTime") <= item.pop("LastModifiedTime")
    assert item == {
        "InferenceComponentName": names[0],
        "InferenceComponentArn": f"{ARN}:inference-component/{names[0].lower()}",
        "EndpointName": endpoint,
        "EndpointArn": f"{ARN}:endpoint/{endpoint.lower()}",
        "VariantName": "main",
        "InferenceComponentStatus": "InService",
    }


# UpdateInferenceComponent -----------------------------------------------------------------------


def test_an_update_changes_specification_and_copies(sagemaker: Any, component: str) -> None:
    specification = a_specification(
        component, ComputeResourceRequirements={"MinMemoryRequiredInMb": 128}
    )
    deployment = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            "WaitIntervalInSeconds": 0,
        }
    }
    reply = sagemaker.update_inference_component(
        InferenceComponentName=component,
        Specification=specification,
        RuntimeConfig={"CopyCount": 1},
        DeploymentConfig=deployment,
    )
    assert reply["InferenceComponentArn"] == f"{ARN}:inference-component/{component.lower()}"
    found = settle(sagemaker, component)
    assert found["Specification"] == specification
    assert found["LastDeploymentConfig"] == deployment
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}


def test_updates_that_cannot_be(sagemaker: Any, component: str) -> None:
    update = sagemaker.update_inference_component
    one = {"InferenceComponentName": component}
    assert "needs a Specification, or a RuntimeConfig" in refusal(update, **one)[1]
    missing = refusal(update, InferenceComponentName="nobody", RuntimeConfig={"CopyCount": 1})
    assert missing[1].startswith("Could not find inference component")
    policy = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 60},
            "WaitIntervalInSeconds": 0,
        }
    }
    specification = a_specification(component)
    refused = refusal(update, **one, Specification=specification, DeploymentConfig=policy)
    assert "must be between 5 and 50 percent" in refused[1]
    adapter = {
        "BaseInferenceComponentName": component,
        "Container": {"ArtifactUrl": "s3://bucket/adapter.tar.gz"},
    }
    refused = refusal(update, **one, Specification=adapter)
    assert "BaseInferenceComponentName cannot be changed" in refused[1]


# UpdateInferenceComponentRuntimeConfig ----------------------------------------------------------


def test_copies_come_and_go(sagemaker: Any, component: str) -> None:
    change = sagemaker.update_inference_component_runtime_config
    one = {"InferenceComponentName": component}
    for count in (2, 0):
        reply = change(**one, DesiredRuntimeConfig={"CopyCount": count})
        assert reply["InferenceComponentArn"].endswith(component.lower())
        assert described(sagemaker, component)["RuntimeConfig"]["DesiredCopyCount"] == count
        found = settle(sagemaker, component)
        assert found["RuntimeConfig"] == {"DesiredCopyCount": count, "CurrentCopyCount": count}


def test_a_component_that_is_changed_takes_no_other_change(sagemaker: Any, component: str) -> None:
    change = sagemaker.update_inference_component_runtime_config
    one = {"InferenceComponentName": component}
    change(**one, DesiredRuntimeConfig={"CopyCount": 1})
    assert refusal(change, **one, DesiredRuntimeConfig={"CopyCount": 2}) == (
        "ValidationException",
        "Cannot update in-progress inference component "
        f'"{ARN}:inference-component/{component.lower()}".',
    )
    settle(sagemaker, component)


# DeleteInferenceComponent -----------------------------------------------------------------------


def test_a_component_is_deleted_and_its_name_is_free(sagemaker: Any, component: str) -> None:
    sagemaker.delete_inference_component(InferenceComponentName=component)
    wait_until_gone(sagemaker, component)
    arn = f"{ARN}:inference-component/{component.lower()}"
    assert "Could not find" in refusal(sagemaker.list_tags, ResourceArn=arn)[1]
    sagemaker.create_inference_component(**request(component, copies=0))


def test_a_base_is_deleted_after_its_adapters(sagemaker: Any, component: str) -> None:
    adapter = {
        "BaseInferenceComponentName": component,
        "Container": {"ArtifactUrl": "s3://bucket/adapter.tar.gz"},
    }
    sagemaker.create_inference_component(
        InferenceComponentName=f"{component}-adapter",
        EndpointName=component,
        Specification=adapter,
    )
    found = settle(sagemaker, f"{component}-adapter")
    assert found["VariantName"] == "main"
    assert found["Specification"] == adapter
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 0, "CurrentCopyCount": 0}
    code, message = refusal(sagemaker.delete_inference_component, InferenceComponentName=component)
    assert code == "ValidationException"
    assert message.endswith(f"Delete them first: {component}-adapter.")
    refused = refusal(
        sagemaker.update_inference_component_runtime_config,
        InferenceComponentName=f"{component}-adapter",
        DesiredRuntimeConfig={"CopyCount": 1},
    )
    assert "is an adapter" in refused[1]


# The endpoint -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}},
            "AsyncInferenceConfig cannot be used with variants for inference components",
        ),
        ({"ExecutionRoleArn": None}, "needs a ModelName, or the configuration an"),
    ],
)
def test_configurations_for_components_that_cannot_be(
    sagemaker: Any, name: str, changes: dict[str, Any], words: str
) -> None:
    asked = {
        "EndpointConfigName": name,
        "ExecutionRoleArn": ROLE,
        "ProductionVariants": [
            {"VariantName": "main", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        **changes,
    }
    asked = {member: value for member, value in asked.items() if value is not None}
    assert words in refusal(sagemaker.create_endpoint_config, **asked)[1]


def test_an_endpoint_without_a_model_is_described_without_images(
    sagemaker: Any, endpoint: str
) -> None:
    (variant,) = sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    assert variant == {
        "VariantName": "main",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 1,
    }


def test_copies_can_be_registered_as_a_scalable_target(
    sagemaker: Any, make_client: Callable[[str], Any], component: str
) -> None:
    scaling = make_client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{component}",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    wait_for(
        lambda: described(sagemaker, component)["RuntimeConfig"]["DesiredCopyCount"] == 1,
        timeout_s=30,
        what="the least count",
    )
    settle(sagemaker, component)
    for metric in (
        "SageMakerInferenceComponentInvocationsPerCopy",
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    ):
        put = scaling.put_scaling_policy(
            **target,
            PolicyName=metric,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 5.0,
                "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            },
        )
        (high, _) = put["Alarms"]
        (alarm,) = make_client("cloudwatch").describe_alarms(AlarmNames=[high["AlarmName"]])[
            "MetricAlarms"
        ]
        assert alarm["Dimensions"] == [{"Name": "InferenceComponentName", "Value": component}]
    missing = {**target, "ResourceId": "inference-component/nobody"}
    assert refusal(scaling.register_scalable_target, **missing, MinCapacity=0, MaxCapacity=1) == (
        "ValidationException",
        "SageMaker inference component not found: nobody",
    )
    scaling.deregister_scalable_target(**target)
