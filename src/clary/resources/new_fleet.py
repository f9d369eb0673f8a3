"""What the new fleet of an update should have: counts and weights of its variants.

Pure. An update makes a fleet of instances beside those that serve; its variants start from the new
configuration, or keep what variants of the same name have now.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from clary.errors import InvalidRequest
from clary.resources.deployment_policy import DeploymentPolicy
from clary.resources.endpoint import Endpoint, VariantState
from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.serverless import initial_state


class VariantProperty(StrEnum):
    """What an update can keep of a variant, instead of taking it from the new configuration."""

    DESIRED_INSTANCE_COUNT = "DesiredInstanceCount"
    DESIRED_WEIGHT = "DesiredWeight"
    DATA_CAPTURE_CONFIG = "DataCaptureConfig"


def initial_states(variants: Sequence[ProductionVariant]) -> tuple[VariantState, ...]:
    """Return what a configuration asks for, with nothing there yet."""
    return tuple(
        VariantState(
            name=variant.name,
            desired_count=1 if variant.is_serverless else variant.initial_instance_count,
            current_count=0,
            desired_weight=variant.initial_weight,
            current_weight=variant.initial_weight,
            serverless=initial_state(variant.serverless),
        )
        for variant in variants
    )


def retained_config(
    endpoint: Endpoint, config: EndpointConfig, retained: Collection[VariantProperty]
) -> EndpointConfig:
    """Return the new configuration with the data capture that is active now, if that is kept."""
    if VariantProperty.DATA_CAPTURE_CONFIG not in retained:
        return config
    definition = {k: v for k, v in config.definition.items() if k != "DataCaptureConfig"}
    if "DataCaptureConfig" in endpoint.config.definition:
        definition["DataCaptureConfig"] = endpoint.config.definition["DataCaptureConfig"]
    return replace(config, definition=definition)


def new_states(
    endpoint: Endpoint, config: EndpointConfig, retained: Collection[VariantProperty]
) -> tuple[VariantState, ...]:
    """Return counts and weights of the new fleet's variants, shadow variants last.

    A count that is kept is kept within the new variant's managed instance scaling.
    """
    live = {state.name: state for state in endpoint.all_variants}

    def state_of(variant: ProductionVariant, state: VariantState) -> VariantState:
        now = live.get(state.name)
        if now is None or variant.is_serverless:
            return state
        count, weight = state.desired_count, state.desired_weight
        if VariantProperty.DESIRED_INSTANCE_COUNT in retained:
            count = variant.bounded(now.desired_count)
        if VariantProperty.DESIRED_WEIGHT in retained:
            weight = now.desired_weight
        return replace(state, desired_count=count, desired_weight=weight, current_weight=weight)

    return tuple(
        state_of(variant, state)
        for variant, state in zip(
            config.all_variants, initial_states(config.all_variants), strict=True
        )
    )


def check_kinds(endpoint: Endpoint, config: EndpointConfig) -> None:
    """Refuse a change that an update cannot make.

    Raises:
        InvalidRequest: A real-time endpoint would become serverless (endpoints.md 5).
    """
    was_serverless = any(variant.is_serverless for variant in endpoint.config.all_variants)
    if not was_serverless and any(variant.is_serverless for variant in config.all_variants):
        raise InvalidRequest(
            f'Endpoint "{endpoint.name}" has instances: it cannot be updated to endpoint '
            f'configuration "{config.name}", which is serverless.'
        )


def check_deployment(config: EndpointConfig, deployment_config: Mapping[str, Any] | None) -> None:
    """Refuse guardrails for what has no instances to move traffic between (endpoints.md 2).

    Raises:
        InvalidRequest: The configuration is serverless, and there is a deployment configuration.
    """
    if deployment_config and any(variant.is_serverless for variant in config.all_variants):
        raise InvalidRequest(
            "DeploymentConfig is not supported for serverless endpoints; endpoint configuration "
            f'"{config.name}" is one.'
        )


def most_added(
    endpoint: Endpoint,
    config: EndpointConfig,
    states: Sequence[VariantState],
    policy: DeploymentPolicy,
) -> Mapping[str, int]:
    """Return how many instances an update needs more than there are, when it needs most, by type.

    Args:
        endpoint: As it is.
        config: The new configuration.
        states: What its variants should have.
        policy: How it goes.
    """
    before = _by_type(endpoint.config, {s.name: s.desired_count for s in endpoint.all_variants})
    totals = {state.name: state.desired_count for state in states}
    most: Counter[str] = Counter()
    for step in range(1, policy.steps(tuple(totals.values())) + 1):
        new = {name: policy.new_instances(step, total) for name, total in totals.items()}
        old = {
            s.name: policy.old_instances(step, s.desired_count, totals.get(s.name, s.desired_count))
            for s in endpoint.all_variants
        }
        most |= _by_type(config, new) + _by_type(endpoint.config, old)
    return {
        instance_type: count - before[instance_type]
        for instance_type, count in most.items()
        if count > before[instance_type]
    }


def _by_type(config: EndpointConfig, counts: Mapping[str, int]) -> Counter[str]:
    by_type: Counter[str] = Counter()
    for variant in config.all_variants:
        if variant.instance_type is not None:
            by_type[variant.instance_type] += counts.get(variant.name, 0)
    return by_type
