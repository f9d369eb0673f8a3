"""Endpoints as DescribeEndpoint shows them."""

from collections.abc import Iterable, Mapping
from typing import Any

from clary.resources.data_capture import is_enabled
from clary.resources.endpoint import (
    MAX_FAILURE_REASON,
    SERVING,
    Deployment,
    Endpoint,
    VariantState,
)
from clary.resources.endpoint_config import ProductionVariant
from clary.resources.model import Model
from clary.resources.variant_status import pending_variant_status, variant_status

_KEPT_OF_VARIANT = ("ManagedInstanceScaling", "RoutingConfig")
_KEPT_OF_CONFIG = ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")


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
            _serialize_variant(variant, state, endpoint.models, variant_status(endpoint, state))
            for variant, state in zip(endpoint.config.variants, endpoint.variants, strict=True)
        ],
    }
    # Shadow variants of an endpoint that was made before they could run have no state.
    shadows = [
        _serialize_variant(variant, state, endpoint.models, variant_status(endpoint, state))
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
    if endpoint.deployment:
        reply["PendingDeploymentSummary"] = serialize_deployment(endpoint, endpoint.deployment)
    reply.update({name: definition[name] for name in _KEPT_OF_CONFIG if name in definition})
    return reply


def serialize_deployment(endpoint: Endpoint, deployment: Deployment) -> dict[str, Any]:
    """Return a deployment as PendingDeploymentSummary shows it."""
    config = deployment.config
    states = {state.name: state for state in deployment.variants}

    def serialize(variants: Iterable[ProductionVariant]) -> list[dict[str, Any]]:
        return [
            {
                **_serialize_variant(
                    variant,
                    states[variant.name],
                    deployment.models,
                    pending_variant_status(endpoint, deployment, states[variant.name]),
                ),
                **({"InstanceType": variant.instance_type} if variant.instance_type else {}),
            }
            for variant in variants
        ]

    summary: dict[str, Any] = {
        "EndpointConfigName": config.name,
        "ProductionVariants": serialize(config.variants),
        "StartTime": deployment.started_at,
    }
    if config.shadow_variants:
        summary["ShadowProductionVariants"] = serialize(config.shadow_variants)
    return summary


def _serialize_variant(
    variant: ProductionVariant,
    state: VariantState,
    models: Mapping[str, Model],
    status: Mapping[str, Any] | None,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "VariantName": variant.name,
        "CurrentWeight": state.current_weight,
        "DesiredWeight": state.desired_weight,
    }
    images = _serialize_images(variant, models)
    if images:
        summary["DeployedImages"] = images
    if variant.is_serverless:
        summary.update(_serialize_serverless(variant.definition["ServerlessConfig"], state))
    else:
        summary["CurrentInstanceCount"] = state.current_count
        summary["DesiredInstanceCount"] = state.desired_count
    if status:
        summary["VariantStatus"] = [status]
    kept = {k: variant.definition[k] for k in _KEPT_OF_VARIANT if k in variant.definition}
    return {**summary, **kept}


def _serialize_serverless(config: Mapping[str, Any], state: VariantState) -> dict[str, Any]:
    if state.serverless is None:  # of an endpoint that was made before such variants could run
        return {"CurrentServerlessConfig": config, "DesiredServerlessConfig": config}
    memory_mb = config["MemorySizeInMB"]
    return {
        "CurrentServerlessConfig": state.serverless.current.to_definition(memory_mb),
        "DesiredServerlessConfig": state.serverless.desired.to_definition(memory_mb),
    }


def _serialize_images(
    variant: ProductionVariant, models: Mapping[str, Model]
) -> list[dict[str, Any]]:
    """Return the images that were asked for. There is no ResolvedImage: no registry was asked."""
    if variant.model_name is None:
        return []
    containers = models[variant.model_name].containers
    return [{"SpecifiedImage": c.image} for c in containers if c.image is not None]


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
