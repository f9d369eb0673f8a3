"""Models."""

from clary.resources.model import Model
from clary.resources.names import Namespace, ResourceKind
from clary.store import schema
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.definitions import Definitions, DefinitionTable
from clary.store.documents import dump_model, load_model

MODELS = DefinitionTable(ResourceKind.MODEL, schema.models, dump_model, load_model)


class Models(Definitions[Model]):
    """All models."""

    def __init__(self, database: Database, changes: Changes, namespace: Namespace) -> None:
        super().__init__(database, changes, namespace, MODELS)
