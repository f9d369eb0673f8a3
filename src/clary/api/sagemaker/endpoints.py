"""Endpoints: Create, Describe, List, change weights and counts, Delete."""

from collections.abc import Mapping
from typing import Any

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import (
    parse_listing,
    parse_tags,
    serialize_page,
    without_empties,
)
from clary.errors import InvalidRequest
from clary.resources.data_capture import is_enabled
from clary.resources.endpoint import (
    MAX_FAILURE_REASON,
    SERVING,
    Endpoint,
    EndpointStatus,
    VariantState,
)
from clary.resources.endpoint_config import ProductionVariant
from clary.resources.names import ResourceKind
from clary.resources.variant_changes import VariantChange

_KEPT_OF_VARIANT = ("ManagedInstanceScaling", "RoutingConfig")
_KEPT_OF_CONFIG = ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")


@operation("sagemaker", "CreateEndpoint")
async def create_endpoint(call: Call, request: Request) -> Reply:
    endpoint = await call.store.endpoints.create(
        request["EndpointName"],
        request["EndpointConfigName"],
        quotas=call.backend.quotas,
        deployment_config=without_empties(request.get("DeploymentConfig")) or None,
        tags=parse_tags(request),
    )
    return {"EndpointArn": endpoint.arn}


@operation("sagemaker", "DescribeEndpoint")
async def describe_endpoint(call: Call, request: Request) -> Reply:
    return serialize_endpoint(await call.store.endpoints.get(request["EndpointName"]))


@operation("sagemaker", "ListEndpoints")
async def list_endpoints(call: Call, request: Request) -> Reply:
    page = await call.store.endpoints.list(parse_listing(request))
    items = [
        {
            "EndpointName": item.name,
            "EndpointArn": call.namespace.arn(ResourceKind.ENDPOINT, item.name),
            "CreationTime": item.created_at,
            "LastModifiedTime": item.modified_at,
            "EndpointStatus": item.status,
        }
        for item in page.items
    ]
    return serialize_page("Endpoints", items, page, request)


@operation("sagemaker", "UpdateEndpointWeightsAndCapacities")
async def update_endpoint_weights_and_capacities(call: Call, request: Request) -> Reply:
    endpoint = await call.store.endpoints.change_variants(
        request["EndpointName"],
        [_parse_change(change) for change in request["DesiredWeightsAndCapacities"]],
        quotas=call.backend.quotas,
    )
    return {"EndpointArn": endpoint.arn}


@operation("sagemaker", "DeleteEndpoint")
async def delete_endpoint(call: Call, request: Request) -> Reply:
    await call.store.endpoints.request_deletion(request["EndpointName"])
    return {}


def _parse_change(change: Mapping[str, Any]) -> VariantChange:
    if "ServerlessUpdateConfig" in change:
        raise InvalidRequest(
            f'Variant "{change["VariantName"]}" cannot take a ServerlessUpdateConfig: this server '
            "runs no serverless variants yet."
        )
    return VariantChange(
        variant_name=change["VariantName"],
        weight=change.get("DesiredWeight"),
        count=change.get("DesiredInstanceCount"),
    )


def serialize_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint as DescribeEndpoint shows it."""
    definition = endpoint.config.definition
    reply: dict[str, Any] = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": endpoint.config.name,
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
        "ProductionVariants": [
            _serialize_variant(endpoint, variant, state)
            for variant, state in zip(endpoint.config.variants, endpoint.variants, strict=True)
        ],
    }
    # Shadow variants of an endpoint that was made before they could run have no state.
    shadows = [
        _serialize_variant(endpoint, variant, state)
        for variant, state in zip(
            endpoint.config.shadow_variants, endpoint.shadow_variants, strict=False
        )
    ]
    if shadows:
        reply["ShadowProductionVariants"] = shadows
    if endpoint.failure_reason:
        reply["FailureReason"] = endpoint.failure_reason[:MAX_FAILURE_REASON]
    if endpoint.deployment_config:
        reply["LastDeploymentConfig"] = endpoint.deployment_config
    if "DataCaptureConfig" in definition:
        reply["DataCaptureConfig"] = _serialize_capture(
            definition["DataCaptureConfig"], is_serving=endpoint.status in SERVING
        )
    reply.update({name: definition[name] for name in _KEPT_OF_CONFIG if name in definition})
    return reply


def _serialize_variant(
    endpoint: Endpoint, variant: ProductionVariant, state: VariantState
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "VariantName": variant.name,
        "CurrentWeight": state.current_weight,
        "DesiredWeight": state.desired_weight,
    }
    images = _serialize_images(endpoint, variant)
    if images:
        summary["DeployedImages"] = images
    if variant.is_serverless:
        serverless = variant.definition["ServerlessConfig"]
        summary["CurrentServerlessConfig"] = summary["DesiredServerlessConfig"] = serverless
    else:
        summary["CurrentInstanceCount"] = state.current_count
        summary["DesiredInstanceCount"] = state.desired_count
    status = _serialize_variant_status(endpoint, state)
    if status:
        summary["VariantStatus"] = [status]
    kept = {k: variant.definition[k] for k in _KEPT_OF_VARIANT if k in variant.definition}
    return {**summary, **kept}


def _serialize_images(endpoint: Endpoint, variant: ProductionVariant) -> list[dict[str, Any]]:
    """Return the images that were asked for. There is no ResolvedImage: no registry was asked."""
    if variant.model_name is None:
        return []
    containers = endpoint.models[variant.model_name].containers
    return [{"SpecifiedImage": c.image} for c in containers if c.image is not None]


def _serialize_variant_status(endpoint: Endpoint, state: VariantState) -> dict[str, Any] | None:
    """Return what a variant is busy with, in AWS's words (endpoints.md 2); None: nothing."""
    count = state.desired_count
    if endpoint.status is EndpointStatus.UPDATING and count == state.current_count:
        return None  # another variant is scaled, or only weights change
    messages = {
        EndpointStatus.CREATING: f"Launching {count} instance(s).",
        EndpointStatus.UPDATING: f"Scaling out desired instance count to {count}.",
        EndpointStatus.DELETING: f"Terminating {count} instance(s).",
    }
    if endpoint.status not in messages:
        return None
    return {
        "Status": endpoint.status,
        "StatusMessage": messages[endpoint.status],
        "StartTime": endpoint.modified_at,
    }


def _serialize_capture(config: Mapping[str, Any], *, is_serving: bool) -> dict[str, Any]:
    enabled = is_enabled(config)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled and is_serving else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        # A required member, which strict clients want to see: empty without a key.
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
