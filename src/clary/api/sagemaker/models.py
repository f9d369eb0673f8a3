"""Models: CreateModel, DescribeModel, ListModels, DeleteModel."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import (
    definition_of,
    parse_listing,
    parse_tags,
    serialize_page,
)
from clary.errors import InvalidRequest
from clary.resources.model import ContainerDefinition, Model, ModelDataSource
from clary.resources.names import Namespace, ResourceKind


@operation("sagemaker", "CreateModel")
async def create_model(call: Call, request: Request) -> Reply:
    model = parse_model(request, call.namespace, call.backend.clock.now())
    await call.store.models.create(model, parse_tags(request))
    return {"ModelArn": model.arn}


@operation("sagemaker", "DescribeModel")
async def describe_model(call: Call, request: Request) -> Reply:
    return serialize_model(await call.store.models.get(request["ModelName"]))


@operation("sagemaker", "ListModels")
async def list_models(call: Call, request: Request) -> Reply:
    page = await call.store.models.list(parse_listing(request))
    items = [
        {
            "ModelName": item.name,
            "ModelArn": call.namespace.arn(ResourceKind.MODEL, item.name),
            "CreationTime": item.created_at,
        }
        for item in page.items
    ]
    return serialize_page("Models", items, page, request)


@operation("sagemaker", "DeleteModel")
async def delete_model(call: Call, request: Request) -> Reply:
    await call.store.models.delete(request["ModelName"])
    return {}


def parse_model(request: Request, namespace: Namespace, created_at: datetime) -> Model:
    """Return the model that a CreateModel request describes.

    Raises:
        InvalidRequest: Its containers contradict each other or say too little.
    """
    definition = definition_of(request, "ModelName")
    containers = tuple(_parse_container(c) for c in _containers(definition))
    _check_hostnames(containers)
    _check_execution(definition, containers)
    return Model(
        name=request["ModelName"],
        arn=namespace.arn(ResourceKind.MODEL, request["ModelName"]),
        containers=containers,
        execution_role_arn=request.get("ExecutionRoleArn"),
        created_at=created_at,
        definition=definition,
    )


def serialize_model(model: Model) -> dict[str, Any]:
    """Return a model as DescribeModel shows it."""
    return {
        "ModelName": model.name,
        "ModelArn": model.arn,
        "CreationTime": model.created_at,
        # The one member that AWS returns whether it was given or not.
        "EnableNetworkIsolation": False,
        **model.definition,
    }


def _containers(definition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    has_primary, has_several = "PrimaryContainer" in definition, "Containers" in definition
    if has_primary and has_several:
        raise InvalidRequest(
            "PrimaryContainer and Containers cannot both be given; name one container in "
            "PrimaryContainer, or all of a pipeline in Containers."
        )
    if not has_primary and not has_several:
        raise InvalidRequest("A model needs a PrimaryContainer, or Containers.")
    return [definition["PrimaryContainer"]] if has_primary else definition["Containers"]


def _parse_container(container: Mapping[str, Any]) -> ContainerDefinition:
    if "Image" not in container and "ModelPackageName" not in container:
        raise InvalidRequest("A container needs an Image, or a ModelPackageName that has one.")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise InvalidRequest("ModelDataUrl and ModelDataSource cannot both be given.")
    if container.get("Mode") == "MultiModel" and not container.get("ModelDataUrl"):
        raise InvalidRequest(
            "A container in MultiModel mode needs a ModelDataUrl: the S3 prefix that its models "
            "lie under."
        )
    return ContainerDefinition(
        image=container.get("Image"),
        model_data_url=container.get("ModelDataUrl"),
        model_data_source=_parse_source(container.get("ModelDataSource")),
        environment=container.get("Environment", {}),
        hostname=container.get("ContainerHostname"),
        mode=container.get("Mode", "SingleModel"),
        caches_models=container.get("MultiModelConfig", {}).get("ModelCacheSetting") != "Disabled",
    )


def _parse_source(source: Mapping[str, Any] | None) -> ModelDataSource | None:
    if source is None or "S3DataSource" not in source:
        return None
    s3 = source["S3DataSource"]
    return ModelDataSource(
        uri=s3["S3Uri"], data_type=s3["S3DataType"], compression=s3["CompressionType"]
    )


def _check_hostnames(containers: tuple[ContainerDefinition, ...]) -> None:
    # The service model's documentation: all containers of a pipeline have one, or none has.
    names = [c.hostname for c in containers if c.hostname is not None]
    if len(set(names)) < len(names):
        raise InvalidRequest("The ContainerHostname of each container must be unique.")
    if names and len(names) < len(containers):
        raise InvalidRequest(
            "When one container has a ContainerHostname, every container must have one."
        )


def _check_execution(
    definition: Mapping[str, Any], containers: tuple[ContainerDefinition, ...]
) -> None:
    if definition.get("InferenceExecutionConfig", {}).get("Mode") != "Direct":
        return
    if "Containers" not in definition or len(containers) < 2:
        raise InvalidRequest(
            "InferenceExecutionConfig Mode Direct is for models with several Containers."
        )
    # Invocations name their container by it (container.md 8).
    if any(container.hostname is None for container in containers):
        raise InvalidRequest(
            "With InferenceExecutionConfig Mode Direct, every container must have a "
            "ContainerHostname."
        )
