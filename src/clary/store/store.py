"""The store as one value: what API and control are given to meet in."""

from pathlib import Path

from clary.clock import Clock
from clary.resources.names import Namespace
from clary.store.alarms import Alarms
from clary.store.async_leases import AsyncLeases
from clary.store.async_queue import AsyncQueue
from clary.store.changes import Changes
from clary.store.dashboards import Dashboards
from clary.store.database import Database
from clary.store.deployments import Deployments
from clary.store.endpoint_configs import EndpointConfigs
from clary.store.endpoints import Endpoints
from clary.store.events import Events
from clary.store.inference_components import InferenceComponents
from clary.store.instances import Instances
from clary.store.logs import LogRecords
from clary.store.models import Models
from clary.store.outbox import Outbox
from clary.store.scalable_targets import ScalableTargets
from clary.store.scaling_activities import ScalingActivities
from clary.store.scaling_duty import ScalingDuty
from clary.store.scaling_policies import ScalingPolicies
from clary.store.scheduled_actions import ScheduledActions
from clary.store.tags import Tags
from clary.store.transform_files import TransformFiles
from clary.store.transform_jobs import TransformJobs


class Store:
    """All durable state of control, over one database."""

    def __init__(self, database: Database, namespace: Namespace, clock: Clock) -> None:
        self.database = database
        self.namespace = namespace
        self.changes = Changes()
        self.models = Models(database, self.changes, namespace)
        self.endpoint_configs = EndpointConfigs(database, self.changes, namespace)
        self.endpoints = Endpoints(database, self.changes, namespace, clock)
        self.deployments = Deployments(database, self.changes, namespace, clock)
        self.instances = Instances(database)
        self.events = Events(database, namespace)
        self.dashboards = Dashboards(database)
        self.tags = Tags(database, namespace)
        self.transform_jobs = TransformJobs(database, self.changes, namespace, clock)
        self.transform_files = TransformFiles(database)
        self.inference_components = InferenceComponents(database, self.changes, namespace, clock)
        self.logs = LogRecords(database, clock)
        self.alarms = Alarms(database, self.changes, namespace, clock)
        self.scalable_targets = ScalableTargets(database, self.changes, namespace, clock)
        self.scaling_policies = ScalingPolicies(database, self.changes, namespace, clock)
        self.scheduled_actions = ScheduledActions(database, self.changes, namespace, clock)
        self.scaling_activities = ScalingActivities(database, self.changes, clock)
        self.scaling_duty = ScalingDuty(database, self.changes, clock)
        self.outbox = Outbox(database, self.changes, clock)
        self.async_queue = AsyncQueue(database, self.changes, self.endpoints, clock)
        self.async_leases = AsyncLeases(database, self.changes, clock)

    @classmethod
    def open(cls, location: str | Path, namespace: Namespace, clock: Clock) -> "Store":
        """Open the database and what lies in it. Blocks; see ``Database.open``."""
        return cls(Database.open(location), namespace, clock)

    def close(self) -> None:
        """Finish queued writes and close the database. Blocks until done."""
        self.database.close()
