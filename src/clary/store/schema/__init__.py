"""The tables of the state database, as they are after the last migration.

A fresh database is made from here in one go; an older one walks through ``migrations/``. A test
compares the two, so a change here needs a migration, and ``VERSION`` its number.
"""

from clary.store.schema.alarms import alarm_actions, alarm_children, alarm_history, alarms
from clary.store.schema.async_invocations import async_invocations, outbox
from clary.store.schema.base import Timestamp, metadata
from clary.store.schema.deployments import deployments
from clary.store.schema.endpoints import (
    endpoint_configs,
    endpoint_variants,
    endpoints,
    instances,
    models,
    tags,
)
from clary.store.schema.events import event_receivers, events
from clary.store.schema.inference_components import inference_components
from clary.store.schema.logs import log_events, log_groups, log_streams
from clary.store.schema.metrics import (
    dashboards,
    metric_marks,
    metric_points,
    metric_presence,
    metric_series,
)
from clary.store.schema.scaling import (
    scalable_targets,
    scaling_activities,
    scaling_policies,
    scheduled_actions,
)
from clary.store.schema.transform_jobs import transform_files, transform_jobs

VERSION = "0012"
"""Revision of the last migration."""

__all__ = [
    "VERSION",
    "Timestamp",
    "alarm_actions",
    "alarm_children",
    "alarm_history",
    "alarms",
    "async_invocations",
    "dashboards",
    "deployments",
    "endpoint_configs",
    "endpoint_variants",
    "endpoints",
    "event_receivers",
    "events",
    "inference_components",
    "instances",
    "log_events",
    "log_groups",
    "log_streams",
    "metadata",
    "metric_marks",
    "metric_points",
    "metric_presence",
    "metric_series",
    "models",
    "outbox",
    "scalable_targets",
    "scaling_activities",
    "scaling_policies",
    "scheduled_actions",
    "tags",
    "transform_files",
    "transform_jobs",
]
