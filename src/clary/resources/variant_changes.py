"""Other weights and counts for the variants of an endpoint that runs.

What ``UpdateEndpointWeightsAndCapacities`` asks for, and what autoscaling does. Pure: which states
the variants should have after a change, or why the change cannot be.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clary.errors import InvalidRequest
from clary.resources.endpoint import Endpoint, VariantState
from clary.resources.endpoint_config import ProductionVariant


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantChange:
    """What should become of one variant. None leaves things as they are."""

    variant_name: str
    weight: float | None = None
    """0 or more."""

    count: int | None = None
    """Instances. 1 or more, except where something can wake a variant that has none."""

    max_concurrency: int | None = None
    """Of a serverless variant: most calls at once."""

    provisioned: int | None = None
    """Of a serverless variant: workers that are kept when nobody calls."""

    @property
    def is_serverless(self) -> bool:
        """Whether it asks for what only serverless variants have."""
        return self.max_concurrency is not None or self.provisioned is not None


def change_variants(
    endpoint: Endpoint, changes: Sequence[VariantChange]
) -> tuple[VariantState, ...]:
    """Return all variants' states with the changes in them, shadow variants last.

    What is wanted before the change is kept as ``previous_…``, so that a change that fails can be
    taken back.

    Raises:
        InvalidRequest: A variant is unknown, named twice, or cannot have this weight or count.
    """
    variants = {variant.name: variant for variant in endpoint.config.all_variants}
    unknown = [c.variant_name for c in changes if c.variant_name not in variants]
    if unknown:
        # AWS's words, as far as public tests of clients show them.
        raise InvalidRequest(
            f'The variant name(s) "{", ".join(unknown)}" is not present within endpoint '
            f'configuration "{endpoint.config.name}".'
        )
    by_name = {change.variant_name: change for change in changes}
    if len(by_name) < len(changes):
        raise InvalidRequest("Variant names must be unique in DesiredWeightsAndCapacities.")
    for change in changes:
        _check(endpoint, variants[change.variant_name], change)
    return tuple(_changed(state, by_name.get(state.name)) for state in endpoint.all_variants)


def added_instances(endpoint: Endpoint, states: Sequence[VariantState]) -> Mapping[str, int]:
    """Return how many instances more, or fewer, new states ask for, by instance type."""
    types = {variant.name: variant.instance_type for variant in endpoint.config.all_variants}
    added: Counter[str] = Counter()
    for before, after in zip(endpoint.all_variants, states, strict=True):
        instance_type = types[after.name]
        if instance_type is not None:
            added[instance_type] += after.desired_count - before.desired_count
    return added


def _check(endpoint: Endpoint, variant: ProductionVariant, change: VariantChange) -> None:
    if change.weight is not None and not 0 <= change.weight < float("inf"):
        raise InvalidRequest(
            f'Variant weight must be 0 or more; "{variant.name}" has {change.weight}.'
        )
    if change.is_serverless and not variant.is_serverless:
        raise InvalidRequest(
            f'Variant "{variant.name}" is not serverless: it cannot have a ServerlessUpdateConfig.'
        )
    if change.count is None:
        return
    if variant.is_serverless:
        raise InvalidRequest(
            f'Variant "{variant.name}" is serverless: it has no DesiredInstanceCount.'
        )
    bounds = variant.instance_bounds
    if bounds is not None and change.count != variant.bounded(change.count):
        raise InvalidRequest(
            f'DesiredInstanceCount of variant "{variant.name}" must be between {bounds[0]} and '
            f"{bounds[1]}, as its ManagedInstanceScaling says; it is {change.count}."
        )
    if change.count < 1 and not may_sleep(endpoint, variant):
        raise InvalidRequest(
            f'DesiredInstanceCount must be 1 or more; "{variant.name}" has {change.count}. Only '
            "asynchronous endpoints and variants for inference components can have 0."
        )


def may_sleep(endpoint: Endpoint, variant: ProductionVariant) -> bool:
    """Return whether a variant may have no instance: something waits for it, or wakes it."""
    return variant.model_name is None or bool(
        endpoint.config.definition.get("AsyncInferenceConfig")
    )


def _changed(state: VariantState, change: VariantChange | None) -> VariantState:
    serverless = state.serverless
    if serverless is not None:
        wanted = serverless.desired
        if change is not None and change.max_concurrency is not None:
            wanted = replace(wanted, max_concurrency=change.max_concurrency)
        if change is not None and change.provisioned is not None:
            wanted = replace(wanted, provisioned=change.provisioned)
        wanted.check(state.name)
        serverless = serverless.changed(wanted)
    kept = replace(
        state,
        previous_count=state.desired_count,
        previous_weight=state.desired_weight,
        serverless=serverless,
    )
    if change is None:
        return kept
    return replace(
        kept,
        desired_count=state.desired_count if change.count is None else change.count,
        desired_weight=state.desired_weight if change.weight is None else change.weight,
    )


def restored(state: VariantState) -> VariantState:
    """Return the state that a failed change goes back to."""
    return replace(
        state,
        desired_count=(
            state.desired_count if state.previous_count is None else state.previous_count
        ),
        desired_weight=(
            state.desired_weight if state.previous_weight is None else state.previous_weight
        ),
        serverless=None if state.serverless is None else state.serverless.restored(),
    )
