"""Endpoints: Create, Describe, List, Update, change weights and counts, Delete."""

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
from clary.resources.async_inference import TEST_MESSAGE
from clary.resources.deployment_policy import parse_policy
from clary.resources.endpoint import Endpoint
from clary.resources.endpoint_descriptions import serialize_endpoint
from clary.resources.names import ResourceKind
from clary.resources.new_fleet import VariantProperty
from clary.resources.variant_changes import VariantChange
from clary.store.deployments import Update
from clary.store.outbox import Notification


@operation("sagemaker", "CreateEndpoint")
async def create_endpoint(call: Call, request: Request) -> Reply:
    deployment_config = _parse_deployment_config(request)
    endpoint = await call.store.endpoints.create(
        request["EndpointName"],
        request["EndpointConfigName"],
        quotas=call.backend.quotas,
        deployment_config=deployment_config,
        tags=parse_tags(request),
    )
    await _announce(call, endpoint)
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


@operation("sagemaker", "UpdateEndpoint")
async def update_endpoint(call: Call, request: Request) -> Reply:
    update = _parse_update(request)
    if update.retains_deployment_config:
        endpoint = await call.store.endpoints.get(update.endpoint_name)
        await _check_alarms(call, endpoint.deployment_config)
    else:
        await _check_alarms(call, update.deployment_config)
    endpoint = await call.store.deployments.begin(update, quotas=call.backend.quotas)
    await _announce(call, endpoint)
    return {"EndpointArn": endpoint.arn}


@operation("sagemaker", "UpdateEndpointWeightsAndCapacities")
async def update_endpoint_weights_and_capacities(call: Call, request: Request) -> Reply:
    endpoint = await call.store.endpoints.change_variants(
        request["EndpointName"],
        [_parse_change(change) for change in request["DesiredWeightsAndCapacities"]],
        quotas=call.backend.quotas,
    )
    await _announce(call, endpoint)
    return {"EndpointArn": endpoint.arn}


@operation("sagemaker", "DeleteEndpoint")
async def delete_endpoint(call: Call, request: Request) -> Reply:
    await call.store.endpoints.request_deletion(request["EndpointName"])
    return {}


async def _announce(call: Call, endpoint: Endpoint) -> None:
    """Have each topic of an asynchronous endpoint told that it will be told."""
    config = endpoint.config if endpoint.deployment is None else endpoint.deployment.config
    if config.asynchronous is not None:
        await call.store.outbox.add(
            [
                Notification(topic=topic, endpoint=endpoint.name, message=TEST_MESSAGE)
                for topic in config.asynchronous.topics
            ]
        )


def _parse_change(change: Mapping[str, Any]) -> VariantChange:
    serverless = change.get("ServerlessUpdateConfig") or {}
    return VariantChange(
        variant_name=change["VariantName"],
        weight=change.get("DesiredWeight"),
        count=change.get("DesiredInstanceCount"),
        max_concurrency=serverless.get("MaxConcurrency"),
        provisioned=serverless.get("ProvisionedConcurrency"),
    )


def _parse_deployment_config(request: Request) -> Mapping[str, Any] | None:
    """Return the DeploymentConfig of a request, without what is empty in it.

    Raises:
        InvalidRequest: It contradicts itself.
    """
    config = without_empties(request.get("DeploymentConfig")) or None
    parse_policy(config)
    return config


def _parse_update(request: Request) -> Update:
    config = _parse_deployment_config(request)
    retains_config = request.get("RetainDeploymentConfig", False)
    if retains_config and config is not None:
        raise InvalidRequest(
            "DeploymentConfig cannot be given when RetainDeploymentConfig is true: either the last "
            "one is used, or a new one."
        )
    retained: set[VariantProperty] = set()
    excluded = {
        VariantProperty(each["VariantPropertyType"])
        for each in request.get("ExcludeRetainedVariantProperties") or ()
    }
    if request.get("RetainAllVariantProperties", False):
        retained = set(VariantProperty) - excluded
    elif excluded:
        raise InvalidRequest(
            "ExcludeRetainedVariantProperties can only be given when RetainAllVariantProperties is "
            "true."
        )
    return Update(
        endpoint_name=request["EndpointName"],
        config_name=request["EndpointConfigName"],
        deployment_config=config,
        retains_deployment_config=retains_config,
        retained=retained,
    )


async def _check_alarms(call: Call, config: Mapping[str, Any] | None) -> None:
    """Refuse a deployment that names alarms that do not exist: nothing would watch it."""
    names = parse_policy(config).alarms
    missing = sorted(set(names) - set(await call.store.alarms.states(names))) if names else []
    if missing:
        raise InvalidRequest(
            f"The alarm(s) {', '.join(missing)} of AutoRollbackConfiguration could not be found."
        )
