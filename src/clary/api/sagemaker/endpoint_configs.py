"""Endpoint configurations: Create, Describe, List, Delete."""

from collections.abc import Mapping, Sequence
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
from clary.resources.data_capture import check_capture
from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.names import Namespace, ResourceKind
from clary.resources.serverless import check_variant


@operation("sagemaker", "CreateEndpointConfig")
async def create_endpoint_config(call: Call, request: Request) -> Reply:
    config = parse_endpoint_config(request, call.namespace, call.backend.clock.now())
    await call.store.endpoint_configs.create(config, parse_tags(request))
    return {"EndpointConfigArn": config.arn}


@operation("sagemaker", "DescribeEndpointConfig")
async def describe_endpoint_config(call: Call, request: Request) -> Reply:
    config = await call.store.endpoint_configs.get(request["EndpointConfigName"])
    return serialize_endpoint_config(config)


@operation("sagemaker", "ListEndpointConfigs")
async def list_endpoint_configs(call: Call, request: Request) -> Reply:
    page = await call.store.endpoint_configs.list(parse_listing(request))
    items = [
        {
            "EndpointConfigName": item.name,
            "EndpointConfigArn": call.namespace.arn(ResourceKind.ENDPOINT_CONFIG, item.name),
            "CreationTime": item.created_at,
        }
        for item in page.items
    ]
    return serialize_page("EndpointConfigs", items, page, request)


@operation("sagemaker", "DeleteEndpointConfig")
async def delete_endpoint_config(call: Call, request: Request) -> Reply:
    await call.store.endpoint_configs.delete(request["EndpointConfigName"])
    return {}


def parse_endpoint_config(
    request: Request, namespace: Namespace, created_at: datetime
) -> EndpointConfig:
    """Return the configuration that a CreateEndpointConfig request describes.

    Raises:
        InvalidRequest: Its variants contradict each other or say too little.
    """
    definition = definition_of(request, "EndpointConfigName")
    variants = tuple(_parse_variant(v) for v in definition["ProductionVariants"])
    shadows = tuple(_parse_variant(v) for v in definition.get("ShadowProductionVariants", ()))
    for variant in (*variants, *shadows):
        if variant.is_serverless:
            check_variant(variant.definition, definition, is_shadow=variant in shadows)
    _check_variants(variants, shadows, has_role="ExecutionRoleArn" in definition)
    check_capture(definition.get("DataCaptureConfig"))
    _check_hosting(definition, (*variants, *shadows))
    return EndpointConfig(
        name=request["EndpointConfigName"],
        arn=namespace.arn(ResourceKind.ENDPOINT_CONFIG, request["EndpointConfigName"]),
        variants=variants,
        shadow_variants=shadows,
        created_at=created_at,
        definition=definition,
    )


def serialize_endpoint_config(config: EndpointConfig) -> dict[str, Any]:
    """Return a configuration as DescribeEndpointConfig shows it: as it was written."""
    return {
        "EndpointConfigName": config.name,
        "EndpointConfigArn": config.arn,
        "CreationTime": config.created_at,
        **config.definition,
    }


def _parse_variant(variant: Mapping[str, Any]) -> ProductionVariant:
    return ProductionVariant(
        name=variant["VariantName"],
        model_name=variant.get("ModelName"),
        instance_type=_instance_type(variant),
        initial_instance_count=_instance_count(variant),
        initial_weight=float(variant.get("InitialVariantWeight", 1.0)),
        startup_timeout_s=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        download_timeout_s=variant.get("ModelDataDownloadTimeoutInSeconds"),
        definition=variant,
    )


def _instance_type(variant: Mapping[str, Any]) -> str | None:
    """Return what the variant runs on: its type, or that of the pool to be tried first."""
    name, pools = variant["VariantName"], variant.get("InstancePools")
    instance_type: str | None = variant.get("InstanceType")
    if pools and instance_type is None:
        instance_type = min(pools, key=lambda pool: pool.get("Priority", 0))["InstanceType"]
    if "ServerlessConfig" in variant:
        if instance_type is not None or "InitialInstanceCount" in variant:
            raise InvalidRequest(
                f'Variant "{name}" has a ServerlessConfig: InstanceType and InitialInstanceCount '
                "cannot be given beside it."
            )
        return None
    if instance_type is None:
        raise InvalidRequest(f'Variant "{name}" needs an InstanceType, or a ServerlessConfig.')
    return instance_type


def _instance_count(variant: Mapping[str, Any]) -> int:
    if "ServerlessConfig" in variant:
        return 0
    if "InitialInstanceCount" in variant:
        return int(variant["InitialInstanceCount"])
    scaling = variant.get("ManagedInstanceScaling", {})
    if "MinInstanceCount" in scaling:
        return int(scaling["MinInstanceCount"])
    raise InvalidRequest(
        f'Variant "{variant["VariantName"]}" needs an InitialInstanceCount of 1 or more.'
    )


def _check_scaling(variant: ProductionVariant) -> None:
    """Refuse a managed instance scaling whose bounds nothing lies between."""
    if variant.instance_bounds is None:
        return
    least, most = variant.instance_bounds
    if variant.is_serverless:
        raise InvalidRequest(
            f'Variant "{variant.name}" is serverless: it cannot have ManagedInstanceScaling.'
        )
    if least > most:
        raise InvalidRequest(
            f"MinInstanceCount {least} of ManagedInstanceScaling cannot be greater than "
            f'MaxInstanceCount {most}, in variant "{variant.name}".'
        )
    count = variant.initial_instance_count
    if count != variant.bounded(count):
        raise InvalidRequest(
            f'InitialInstanceCount {count} of variant "{variant.name}" must be between '
            f"MinInstanceCount {least} and MaxInstanceCount {most} of its ManagedInstanceScaling."
        )


def _check_hosting(definition: Mapping[str, Any], variants: Sequence[ProductionVariant]) -> None:
    """Refuse what variants for inference components cannot be combined with."""
    hosting = [variant.name for variant in variants if variant.model_name is None]
    if not hosting:
        return
    if len(hosting) < len(variants):
        raise InvalidRequest(
            "Variants with a ModelName and variants for inference components cannot be mixed: "
            f'"{hosting[0]}" has no ModelName, and others have one.'
        )
    for member, is_there in (
        ("ShadowProductionVariants", "ShadowProductionVariants" in definition),
        ("AsyncInferenceConfig", "AsyncInferenceConfig" in definition),
        ("ServerlessConfig", any(variant.is_serverless for variant in variants)),
    ):
        if is_there:
            raise InvalidRequest(
                f"{member} cannot be used with variants for inference components: give each "
                "variant a ModelName."
            )


def _check_variants(
    variants: Sequence[ProductionVariant], shadows: Sequence[ProductionVariant], *, has_role: bool
) -> None:
    everyone = [*variants, *shadows]
    names = [variant.name for variant in everyone]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f'Variant names must be unique; "{name}" is there twice.')
    if shadows and (len(shadows) > 1 or len(variants) > 1):
        raise InvalidRequest(
            "A shadow variant needs exactly one production variant beside it, and there can be "
            f"only one; the request has {len(variants)} and {len(shadows)} shadow variants."
        )
    if len(everyone) > 1 and any(variant.is_serverless for variant in everyone):
        raise InvalidRequest("A serverless variant must be the only one of its configuration.")
    for variant in everyone:
        _check_scaling(variant)
        # A variant that inference components fill: the role then stands in the configuration.
        if variant.model_name is None and (variant.is_serverless or not has_role):
            raise InvalidRequest(
                f'Variant "{variant.name}" needs a ModelName, or the configuration an '
                "ExecutionRoleArn, which makes it one for inference components."
            )
