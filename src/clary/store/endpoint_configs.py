"""Endpoint configurations."""

from sqlalchemy.engine import Connection

from clary.resources.endpoint_config import EndpointConfig
from clary.resources.names import Namespace, ResourceKind
from clary.resources.serverless import check_models
from clary.store import schema
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.definitions import Definitions, DefinitionTable
from clary.store.documents import dump_endpoint_config, load_endpoint_config
from clary.store.models import MODELS

ENDPOINT_CONFIGS = DefinitionTable(
    ResourceKind.ENDPOINT_CONFIG,
    schema.endpoint_configs,
    dump_endpoint_config,
    load_endpoint_config,
)


class EndpointConfigs(Definitions[EndpointConfig]):
    """All endpoint configurations."""

    def __init__(self, database: Database, changes: Changes, namespace: Namespace) -> None:
        super().__init__(database, changes, namespace, ENDPOINT_CONFIGS)

    def _check(self, connection: Connection, thing: EndpointConfig) -> None:
        models = {}
        for name in thing.model_names:
            model = MODELS.find(connection, name)
            if model is None:
                raise self._namespace.could_not_find(ResourceKind.MODEL, name)
            models[name] = model
        check_models(
            [models[v.model_name] for v in thing.variants if v.serverless and v.model_name]
        )
