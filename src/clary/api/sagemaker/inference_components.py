"""Inference components: Create, Describe, List, Update, their runtime configuration, Delete."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clary.api.operations import Call, Reply, Request, operation
from clary.api.sagemaker.definitions import (
    definition_of,
    parse_listing,
    parse_tags,
    serialize_page,
    without_empties,
)
from clary.errors import InvalidRequest
from clary.resources.component_requests import check_definition
from clary.resources.endpoint import MAX_FAILURE_REASON
from clary.resources.inference_component import InferenceComponent
from clary.resources.names import ResourceKind

DEFAULT_COPIES = 1

_SPECIFIED = ("Specification", "Specifications")


@operation("sagemaker", "CreateInferenceComponent")
async def create_inference_component(call: Call, request: Request) -> Reply:
    definition = definition_of(
        request, "InferenceComponentName", "EndpointName", "VariantName", "RuntimeConfig"
    )
    check_definition(definition)
    arn = await call.store.inference_components.create(
        request["InferenceComponentName"],
        request["EndpointName"],
        request.get("VariantName"),
        definition,
        copies=request.get("RuntimeConfig", {}).get("CopyCount", DEFAULT_COPIES),
        tags=parse_tags(request),
    )
    return {"InferenceComponentArn": arn}


@operation("sagemaker", "DescribeInferenceComponent")
async def describe_inference_component(call: Call, request: Request) -> Reply:
    component = await call.store.inference_components.get(request["InferenceComponentName"])
    reply = serialize_component(component)
    reply["EndpointArn"] = call.namespace.arn(ResourceKind.ENDPOINT, component.endpoint_name)
    if component.base_name is not None:
        base = await call.store.inference_components.find(component.base_name)
        if base is not None:
            reply["RuntimeConfig"]["DesiredCopyCount"] = base.desired_copies
    return reply


@operation("sagemaker", "ListInferenceComponents")
async def list_inference_components(call: Call, request: Request) -> Reply:
    filters = (
        ("endpoint_name", request.get("EndpointNameEquals")),
        ("variant_name", request.get("VariantNameEquals")),
    )
    equal = tuple((column, value) for column, value in filters if value is not None)
    listing = replace(parse_listing(request), equal=equal)
    page = await call.store.inference_components.list(listing)
    items = [
        {
            "InferenceComponentName": item.name,
            "InferenceComponentArn": call.namespace.arn(
                ResourceKind.INFERENCE_COMPONENT, item.name
            ),
            "EndpointName": item.endpoint_name,
            "EndpointArn": call.namespace.arn(ResourceKind.ENDPOINT, item.endpoint_name),
            "VariantName": item.variant_name,
            "InferenceComponentStatus": item.status,
            "CreationTime": item.created_at,
            "LastModifiedTime": item.modified_at,
        }
        for item in page.items
    ]
    return serialize_page("InferenceComponents", items, page, request)


@operation("sagemaker", "UpdateInferenceComponent")
async def update_inference_component(call: Call, request: Request) -> Reply:
    definition: Mapping[str, Any] | None = None
    if any(member in request for member in _SPECIFIED):
        given = {member: request[member] for member in _SPECIFIED if member in request}
        definition = without_empties(given)
        assert definition is not None
        check_definition(definition)
    copies = request.get("RuntimeConfig", {}).get("CopyCount")
    if definition is None and copies is None:
        raise InvalidRequest("An update needs a Specification, or a RuntimeConfig.")
    arn = await call.store.inference_components.change(
        request["InferenceComponentName"],
        definition=definition,
        copies=copies,
        deployment_config=without_empties(request.get("DeploymentConfig")) or None,
    )
    return {"InferenceComponentArn": arn}


@operation("sagemaker", "UpdateInferenceComponentRuntimeConfig")
async def update_inference_component_runtime_config(call: Call, request: Request) -> Reply:
    arn = await call.store.inference_components.change(
        request["InferenceComponentName"], copies=request["DesiredRuntimeConfig"]["CopyCount"]
    )
    return {"InferenceComponentArn": arn}


@operation("sagemaker", "DeleteInferenceComponent")
async def delete_inference_component(call: Call, request: Request) -> Reply:
    await call.store.inference_components.request_deletion(request["InferenceComponentName"])
    return {}


def serialize_component(component: InferenceComponent) -> dict[str, Any]:
    """Return a component as DescribeInferenceComponent shows it."""
    reply: dict[str, Any] = {
        "InferenceComponentName": component.name,
        "InferenceComponentArn": component.arn,
        "EndpointName": component.endpoint_name,
        "VariantName": component.variant_name,
        "InferenceComponentStatus": component.status,
        "CreationTime": component.created_at,
        "LastModifiedTime": component.modified_at,
        "RuntimeConfig": {
            "DesiredCopyCount": component.desired_copies,
            "CurrentCopyCount": component.current_copies,
        },
    }
    if "Specifications" in component.definition:
        reply["Specifications"] = [
            _summary(spec) for spec in component.definition["Specifications"]
        ]
    else:
        reply["Specification"] = _summary(component.definition["Specification"])
    if component.failure_reason:
        reply["FailureReason"] = component.failure_reason[:MAX_FAILURE_REASON]
    if component.deployment_config:
        reply["LastDeploymentConfig"] = component.deployment_config
    return reply


def _summary(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification as it is shown: an image becomes a DeployedImage."""
    summary = dict(spec)
    container = dict(spec.get("Container", {}))
    image = container.pop("Image", None)
    if image is not None:
        container["DeployedImage"] = {"SpecifiedImage": image}
    if container:
        summary["Container"] = container
    return summary
