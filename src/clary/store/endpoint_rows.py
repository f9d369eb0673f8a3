"""Endpoints as rows: read, written and counted inside a transaction of somebody else's.

``endpoints.py`` and ``deployments.py`` both change endpoints; this is what they share.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.errors import InvalidRequest
from clary.resources.endpoint import (
    Deployment,
    DeploymentPhase,
    Endpoint,
    EndpointStatus,
    Progress,
    VariantState,
)
from clary.resources.endpoint_config import EndpointConfig
from clary.resources.model import Model
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.resources.quotas import Quotas
from clary.resources.serverless import ServerlessState
from clary.store.documents import (
    dump_endpoint_config,
    dump_model,
    load_endpoint_config,
    load_model,
)
from clary.store.endpoint_configs import ENDPOINT_CONFIGS
from clary.store.events import append_deployment_event, append_endpoint_event
from clary.store.models import MODELS
from clary.store.schema import deployments, endpoint_variants, endpoints

Columns = Mapping[str, Any]


def take_snapshot(
    connection: Connection, namespace: Namespace, config_name: str
) -> tuple[EndpointConfig, dict[str, Model]]:
    """Return a configuration and the models that it names, as they are now.

    Raises:
        NotFound: The configuration, or a model, is not there.
        InvalidRequest: It makes an asynchronous endpoint of a multi-model container.
    """
    config = ENDPOINT_CONFIGS.find(connection, config_name)
    if config is None:
        raise namespace.could_not_find(ResourceKind.ENDPOINT_CONFIG, config_name)
    models = {}
    for model_name in config.model_names:
        model = MODELS.find(connection, model_name)
        if model is None:
            raise namespace.could_not_find(ResourceKind.MODEL, model_name)
        if config.asynchronous is not None and any(
            c.mode == "MultiModel" for c in model.containers
        ):
            # AWS offers no such endpoints, and InvokeEndpointAsync has no TargetModel.
            raise InvalidRequest(
                f'Endpoint configuration "{config_name}" has an AsyncInferenceConfig: model '
                f'"{model_name}" cannot have a container in MultiModel mode.'
            )
        models[model_name] = model
    return config, models


def load_endpoint(connection: Connection, namespace: Namespace, row: Row[Any]) -> Endpoint:
    """Return the endpoint of a row, with its variants and its deployment."""
    states = variant_states(connection, row.name_key).get(row.name_key, ())
    query = sa.select(deployments).where(deployments.c.endpoint_key == row.name_key)
    return endpoint_of(namespace, row, states, connection.execute(query).one_or_none())


def endpoint_of(
    namespace: Namespace,
    row: Row[Any],
    states: Sequence[VariantState],
    deployment: Row[Any] | None,
) -> Endpoint:
    """Return the endpoint of rows that were read."""
    config = load_endpoint_config(row.config)
    return Endpoint(
        name=row.name,
        arn=namespace.arn(ResourceKind.ENDPOINT, row.name),
        status=EndpointStatus(row.status),
        generation=row.generation,
        failure_reason=row.failure_reason,
        config=config,
        models=_load_models(row.models),
        variants=tuple(states[: len(config.variants)]),
        shadow_variants=tuple(states[len(config.variants) :]),
        deployment_config=row.deployment_config,
        fleet=row.fleet,
        deployment=None if deployment is None else _deployment_of(deployment),
        created_at=row.created_at,
        modified_at=row.modified_at,
    )


def _deployment_of(row: Row[Any]) -> Deployment:
    return Deployment(
        fleet=row.fleet,
        guest_fleet=row.guest_fleet,
        config=load_endpoint_config(row.config),
        models=_load_models(row.models),
        variants=tuple(_load_state(state) for state in row.variants),
        deployment_config=row.deployment_config,
        started_at=row.started_at,
        progress=Progress(
            phase=DeploymentPhase(row.phase), step=row.step, rollback_step=row.rollback_step
        ),
        progress_at=row.progress_at,
    )


def insert_deployment(
    connection: Connection, key: str, deployment: Deployment, added: Mapping[str, int]
) -> None:
    """Write the deployment of an endpoint, in the place of what is left of an earlier one.

    Args:
        connection: In a transaction.
        key: Of the endpoint.
        deployment: What to write.
        added: Instances beyond those of the endpoint itself, by type.
    """
    delete_deployment(connection, key)
    connection.execute(
        deployments.insert().values(
            endpoint_key=key,
            fleet=deployment.fleet,
            guest_fleet=deployment.guest_fleet,
            config=dump_endpoint_config(deployment.config),
            models=dump_models(deployment.models),
            variants=dump_states(deployment.variants),
            deployment_config=deployment.deployment_config,
            added_instances=dict(added),
            started_at=deployment.started_at,
            progress_at=deployment.progress_at,
            **progress_columns(deployment.progress),
        )
    )


def delete_deployment(connection: Connection, key: str) -> None:
    """Forget the deployment of an endpoint, if there is one."""
    connection.execute(deployments.delete().where(deployments.c.endpoint_key == key))


def progress_columns(progress: Progress) -> Columns:
    """Return the columns of a progress."""
    return {
        "phase": progress.phase,
        "step": progress.step,
        "rollback_step": progress.rollback_step,
    }


def dump_states(states: Sequence[VariantState]) -> list[dict[str, Any]]:
    """Return states as JSON types."""
    return [asdict(state) for state in states]


def _load_state(data: Mapping[str, Any]) -> VariantState:
    serverless = ServerlessState.from_json(data.get("serverless"))
    return VariantState(**{**data, "serverless": serverless})


def dump_models(models: Mapping[str, Model]) -> dict[str, Any]:
    """Return models by name as JSON types."""
    return {name: dump_model(model) for name, model in models.items()}


def _load_models(documents: Mapping[str, Any]) -> dict[str, Model]:
    return {name: load_model(document) for name, document in documents.items()}


def endpoint_exists(connection: Connection, name: str) -> bool:
    """Whether an endpoint has this name, in this case or another."""
    key = sa.select(endpoints.c.name_key).where(endpoints.c.name_key == name_key(name))
    return connection.scalar(key) is not None


def find_row(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of the endpoint with exactly this name."""
    query = sa.select(endpoints).where(
        endpoints.c.name_key == name_key(name), endpoints.c.name == name
    )
    return connection.execute(query).one_or_none()


def update_row(connection: Connection, row: Row[Any], **values: Any) -> None:
    """Write columns of an endpoint."""
    connection.execute(
        endpoints.update().where(endpoints.c.name_key == row.name_key).values(**values)
    )
    if values.get("status", row.status) != row.status:
        tell_status(connection, row.name_key)


def tell_status(connection: Connection, key: str) -> None:
    """Write down for others that an endpoint has come to another status."""
    row = connection.execute(sa.select(endpoints).where(endpoints.c.name_key == key)).one()
    append_endpoint_event(connection, row)


def tell_progress(connection: Connection, namespace: Namespace, name: str) -> None:
    """Write down for others how far the deployment of an endpoint is, if it has one."""
    row = find_row(connection, name)
    assert row is not None, "only what is there comes further"
    endpoint = load_endpoint(connection, namespace, row)
    if endpoint.deployment is not None:
        append_deployment_event(connection, row, endpoint, endpoint.deployment)


def insert_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Write a new endpoint and its variants."""
    key = name_key(endpoint.name)
    connection.execute(
        endpoints.insert().values(
            name_key=key,
            name=endpoint.name,
            status=endpoint.status,
            generation=endpoint.generation,
            failure_reason=endpoint.failure_reason,
            created_at=endpoint.created_at,
            modified_at=endpoint.modified_at,
            config=dump_endpoint_config(endpoint.config),
            models=dump_models(endpoint.models),
            deployment_config=endpoint.deployment_config,
            fleet=endpoint.fleet,
        )
    )
    insert_states(connection, key, endpoint.config, endpoint.all_variants)


def insert_states(
    connection: Connection, key: str, config: EndpointConfig, states: Sequence[VariantState]
) -> None:
    """Write the variants of an endpoint, in the place of those that it had."""
    table = endpoint_variants
    connection.execute(table.delete().where(table.c.endpoint_key == key))
    connection.execute(
        table.insert(),
        [
            {
                "endpoint_key": key,
                "name": state.name,
                "position": position,
                "instance_type": variant.instance_type,
                **_counts(state),
            }
            for position, (variant, state) in enumerate(
                zip(config.all_variants, states, strict=True)
            )
        ],
    )


def write_states(connection: Connection, row: Row[Any], states: Sequence[VariantState]) -> None:
    """Write counts and weights of variants that are there."""
    for state in states:
        connection.execute(
            endpoint_variants.update()
            .where(
                endpoint_variants.c.endpoint_key == row.name_key,
                endpoint_variants.c.name == state.name,
            )
            .values(**_counts(state))
        )


def _counts(state: VariantState) -> Columns:
    return {
        "desired_count": state.desired_count,
        "current_count": state.current_count,
        "desired_weight": state.desired_weight,
        "current_weight": state.current_weight,
        "previous_count": state.previous_count,
        "previous_weight": state.previous_weight,
        "serverless": None if state.serverless is None else asdict(state.serverless),
    }


def variant_states(
    connection: Connection, endpoint_key: str | None = None
) -> dict[str, list[VariantState]]:
    """Return the variants of one endpoint, or of all, by the endpoint's key."""
    table = endpoint_variants
    query = sa.select(table).order_by(table.c.endpoint_key, table.c.position)
    if endpoint_key is not None:
        query = query.where(table.c.endpoint_key == endpoint_key)
    states: dict[str, list[VariantState]] = {}
    for row in connection.execute(query):
        state = VariantState(
            name=row.name,
            desired_count=row.desired_count,
            current_count=row.current_count,
            desired_weight=row.desired_weight,
            current_weight=row.current_weight,
            previous_count=row.previous_count,
            previous_weight=row.previous_weight,
            serverless=ServerlessState.from_json(row.serverless),
        )
        states.setdefault(row.endpoint_key, []).append(state)
    return states


def instances_by_type(config: EndpointConfig) -> Mapping[str, int]:
    """Return how many instances a configuration asks for, by type."""
    counts: Counter[str] = Counter()
    for variant in config.all_variants:
        if variant.instance_type is not None:
            counts[variant.instance_type] += variant.initial_instance_count
    return counts


def check_concurrency(
    connection: Connection,
    quotas: Quotas,
    wanted: Sequence[VariantState],
    before: Sequence[VariantState] | None = None,
) -> None:
    """Refuse serverless variants that the account may not have.

    Args:
        connection: In a transaction.
        quotas: What it may have.
        wanted: What the variants of an endpoint should be.
        before: What they are; None: it is a new endpoint.

    Raises:
        LimitExceeded: Naming the quota.
    """

    def total(states: Sequence[VariantState]) -> int:
        return sum(s.serverless.desired.max_concurrency for s in states if s.serverless)

    added = total(wanted) - total(before or ())
    if added > 0:
        used = concurrency_in_use(connection)
        quotas.serverless.check(added, used, is_new=not total(before or ()))


def concurrency_in_use(connection: Connection) -> list[int]:
    """Return the ``MaxConcurrency`` of each serverless variant, but of endpoints that failed."""
    table = endpoint_variants
    query = (
        sa.select(table.c.serverless)
        .join(endpoints, endpoints.c.name_key == table.c.endpoint_key)
        .where(table.c.serverless.is_not(None), endpoints.c.status != EndpointStatus.FAILED)
    )
    return [int(found["desired"]["max_concurrency"]) for found in connection.scalars(query)]


def instances_in_use(connection: Connection) -> Mapping[str, int]:
    """Count what endpoints ask for, by type, with the second fleets of deployments.

    A failed endpoint has none; one being deleted still does.
    """
    table = endpoint_variants
    rows = connection.execute(
        sa.select(table.c.instance_type, sa.func.sum(table.c.desired_count))
        .join(endpoints, endpoints.c.name_key == table.c.endpoint_key)
        .where(table.c.instance_type.is_not(None), endpoints.c.status != EndpointStatus.FAILED)
        .group_by(table.c.instance_type)
    )
    counts = Counter({instance_type: int(count) for instance_type, count in rows})
    for added in connection.scalars(sa.select(deployments.c.added_instances)):
        counts.update(added)
    return counts
