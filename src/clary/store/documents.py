"""Models and configurations as JSON documents, and back.

They are written once and read whole, so a document serves better than twenty columns. Documents of
older versions must stay readable: a new field needs a default here.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.model import ContainerDefinition, Model, ModelDataSource


def dump_model(model: Model) -> dict[str, Any]:
    """Return a model as JSON types."""
    return {**asdict(model), "created_at": model.created_at.isoformat()}


def load_model(document: dict[str, Any]) -> Model:
    """Return the model that ``dump_model`` wrote."""
    return Model(
        **{
            **document,
            "created_at": datetime.fromisoformat(document["created_at"]),
            "containers": tuple(_load_container(c) for c in document["containers"]),
        }
    )


def dump_endpoint_config(config: EndpointConfig) -> dict[str, Any]:
    """Return a configuration as JSON types."""
    return {**asdict(config), "created_at": config.created_at.isoformat()}


def load_endpoint_config(document: dict[str, Any]) -> EndpointConfig:
    """Return the configuration that ``dump_endpoint_config`` wrote."""
    return EndpointConfig(
        **{
            **document,
            "created_at": datetime.fromisoformat(document["created_at"]),
            "variants": tuple(ProductionVariant(**v) for v in document["variants"]),
            "shadow_variants": tuple(ProductionVariant(**v) for v in document["shadow_variants"]),
        }
    )


def _load_container(document: dict[str, Any]) -> ContainerDefinition:
    source = document["model_data_source"]
    return ContainerDefinition(
        **{
            **document,
            "model_data_source": None if source is None else ModelDataSource(**source),
        }
    )
