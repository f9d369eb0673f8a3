"""The control process: APIs for clients, loops that do what they ask, routes for gateways."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clary
from clary.api.app import build_api
from clary.api.operations import Backend
from clary.app.keys import ServerKeys
from clary.app.otel import metric_sender
from clary.app.role import Context, run_role
from clary.app.scaling import build_scaling
from clary.app.serving import serve_unix
from clary.app.storage import object_storage
from clary.clock import SystemClock
from clary.control.alarm_actions import ActionTarget, AlarmActions, TopicTarget
from clary.control.alarm_points import AlarmPoints
from clary.control.alarms import AlarmLoops
from clary.control.async_metrics import AsyncMetrics
from clary.control.component_hosts import HostingFleet
from clary.control.demand import Demand
from clary.control.endpoint_plan import StartLimits
from clary.control.event_receivers import EventFile, EventReceiver, EventTopic, Notifier, Webhook
from clary.control.events import EventDelivery
from clary.control.gateway_metrics import GatewayMetrics
from clary.control.hosting_metrics import HostingMetrics
from clary.control.inference_components import ComponentReconciler
from clary.control.instance_metrics import InstanceMetrics
from clary.control.jobs_bell import JobsBell
from clary.control.jobs_process import JobsClient
from clary.control.log_keeping import keep_logs
from clary.control.loop import ControlLoops
from clary.control.metric_export import MetricExport
from clary.control.model_metrics import ModelMetrics
from clary.control.models import ModelLoads
from clary.control.process_families import ProcessFamilies
from clary.control.publish import Publisher
from clary.control.store_families import StoreFamilies
from clary.control.telemetry import Telemetry
from clary.control.transform_jobs import TransformJobReconciler
from clary.control.variant_families import VariantFamilies
from clary.errors import ConfigurationError
from clary.fleet.fleet import Fleet
from clary.logs.groups import LogGroups
from clary.metrics.invocation_totals import InvocationTotals
from clary.metrics.series import MetricStore
from clary.neighbours.publishing import SocketPublisher
from clary.resources.names import Namespace
from clary.resources.quotas import Quotas
from clary.resources.routing_table import EndpointRoute
from clary.resources.serverless import ServerlessQuotas
from clary.settings import Settings
from clary.signing.keys import AccessKey
from clary.store import Store, async_queue, outbox
from clary.store.hosted_instances import HostedInstances

KEYS_POLL_S = 1.0

_log = logging.getLogger(__name__)


class Keys:
    """The access keys as control knows and publishes them."""

    def __init__(self, source: ServerKeys) -> None:
        self._source = source
        self.for_models = source.for_models()
        self._known = source.load()

    def find(self, key_id: str) -> AccessKey | None:
        """Return a key by its id."""
        return self._known.get(key_id)

    def all(self) -> list[AccessKey]:
        """Return all keys."""
        return list(self._known.values())

    async def follow(self, publisher: Publisher) -> None:
        """Publish the keys whenever ``clary keys`` has changed the file.

        A file that cannot be read stops a start, but no running server: the keys stay what they
        were until somebody has mended it.
        """
        complaint = ""
        while True:
            await asyncio.sleep(KEYS_POLL_S)
            try:
                self._known = await asyncio.to_thread(self._source.load)
            except ConfigurationError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.error("the access keys stay as they were: %s", complaint)
                continue
            complaint = ""
            await publisher.use_keys(self.all())


def model_variables(settings: Settings, url: str, key: AccessKey) -> dict[str, str]:
    """Return the variables with which a handler's own boto3 finds this server."""
    region = settings.server.region
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        **(
            {"AWS_ENDPOINT_URL_S3": settings.storage.s3_endpoint_url}
            if settings.storage.s3_endpoint_url
            else {}
        ),
    }


def event_receivers(settings: Settings, notifier: Notifier) -> list[EventReceiver]:
    """Return who the settings want to be told of events."""
    wanted = settings.events
    receivers: list[EventReceiver] = []
    if wanted.file:
        path = settings.data_dir / "events.jsonl"
        receivers.append(EventFile(path, max_bytes=wanted.file_max_bytes))
    timeout_s = wanted.webhook_timeout_s
    receivers += [Webhook(url, timeout_s=timeout_s) for url in dict.fromkeys(wanted.webhook_urls)]
    receivers += [EventTopic(arn, notifier) for arn in dict.fromkeys(wanted.sns_topic_arns)]
    return receivers


async def run_control(context: Context) -> None:
    """Serve the APIs and run the loops until told to stop."""
    settings = context.settings
    clock = SystemClock()
    namespace = Namespace(settings.server.account, settings.server.region)
    keys = Keys(ServerKeys(settings.data_dir, context.run_dir))
    location = settings.store.url or settings.data_dir / "state.sqlite"
    store = await asyncio.to_thread(Store.open, location, namespace, clock)
    metrics = MetricStore(store.database, clock, settings.metrics)
    await metrics.open()
    publisher = Publisher(context.run_dir / "publish.sock", life=context.life, keys=keys.all())
    totals = InvocationTotals(settings.metrics.max_exposed)
    measured = GatewayMetrics(metrics, clock, totals, is_enabled=settings.metrics.enabled)
    publisher.on_metrics = measured.take
    async_metrics = AsyncMetrics(
        store.async_queue,
        store.async_leases,
        store.outbox,
        metrics,
        clock,
        interval_s=settings.async_inference.backlog_interval_s,
    )

    def follow_route(name: str, route: EndpointRoute | None) -> None:
        measured.follow_route(name, route)
        async_metrics.follow_route(name, route)

    publisher.on_route = follow_route
    fleet = Fleet(
        settings,
        context.run_dir,
        object_storage(settings, context.run_dir),
        host_command=[
            sys.executable,
            *("-I", "-S"),
            str(Path(clary.__file__).parent / "worker" / "host_main.py"),
        ],
        model_variables=model_variables(settings, context.url, keys.for_models),
        environ=os.environ,
    )
    hosting = HostingFleet(fleet)
    quotas = Quotas(
        total=settings.fleet.max_instances,
        by_type=settings.fleet.instance_type_quotas,
        serverless=ServerlessQuotas(
            concurrency=settings.serverless.max_concurrency,
            endpoints=settings.serverless.max_endpoints,
        ),
    )
    demand = Demand(clock, idle_s=settings.serverless.idle_s)
    publisher.on_needs = demand.take
    loops = ControlLoops(
        store.endpoints,
        store.deployments,
        store.alarms,
        store.instances,
        store.changes,
        fleet,
        publisher,
        clock,
        settings.fleet,
        demand=demand,
        serverless=settings.serverless,
        hosting=hosting,
        components=ComponentReconciler(
            store.inference_components,
            store.endpoints,
            store.instances,
            HostedInstances(store.database, store.changes, namespace, quotas),
            store.alarms,
            hosting,
            lambda: fleet.adapters,
            publisher,
            clock,
            StartLimits(
                startup_timeout_s=settings.fleet.startup_timeout_s,
                download_timeout_s=settings.fleet.download_timeout_s,
            ),
        ),
        transform_jobs=TransformJobReconciler(
            store.transform_jobs,
            store.instances,
            fleet,
            publisher,
            JobsClient(context.run_dir / "jobs.sock"),
            clock,
        ),
    )
    publisher.on_changed = store.changes.notify

    logs = LogGroups(store.logs, settings.data_dir / "logs", settings.logs, clock)
    notifier = SocketPublisher(
        context.run_dir / "neighbours.sock", authority=urlsplit(context.url).netloc
    )
    events = EventDelivery(
        store.events,
        store.changes,
        event_receivers(settings, notifier),
        clock,
        settings.events,
    )
    await events.register()
    usage = InstanceMetrics(
        fleet,
        metrics,
        clock,
        interval_s=settings.metrics.instance_interval_s,
        reserved_by=measured.reserved_by,
        measure_hosting=HostingMetrics(
            hosting.hosts,
            store.instances,
            store.inference_components.endpoint_names,
            metrics,
            clock,
        ).measure,
    )
    fleet.on_usage = usage.take
    alarm_targets: dict[str, ActionTarget] = {"sns": TopicTarget(notifier, namespace)}
    alarms = AlarmLoops(
        store.alarms,
        store.changes,
        AlarmPoints(metrics),
        AlarmActions(store.alarms, alarm_targets, clock),
        clock,
    )
    scaling = build_scaling(store, quotas, settings, clock)
    alarm_targets["autoscaling"] = scaling.loop.take

    models = ModelLoads(fleet.models, publisher)
    publisher.on_model_message = models.take
    if settings.metrics.enabled:
        model_metrics = ModelMetrics(metrics, clock, measured.place_of)
        models.on_time, models.on_calls = model_metrics.took, model_metrics.called
    fleet.models.watch(models.look)

    async def observe_instances(name: str) -> Sequence[Mapping[str, Any]]:
        return [instance.to_json() for instance in await fleet.observe(name)]

    telemetry = Telemetry(
        VariantFamilies(totals, measured, usage),
        StoreFamilies(
            store,
            metrics,
            clock,
            alarm_states=alarms.states,
            async_endpoints=measured.async_endpoints,
            reporters=publisher.reporters,
            spans=measured.spans,
        ),
        ProcessFamilies(os.getppid()),
        clock,
    )
    export: MetricExport | None = None
    if settings.otel.endpoint and settings.otel.metrics:
        make = metric_sender(settings.otel, context.name, context.life)
        export = MetricExport(telemetry.collect, make, settings.otel.metric_interval_s)
    api = build_api(
        Backend(
            store=store,
            logs=logs,
            namespace=namespace,
            quotas=quotas,
            clock=clock,
            metrics=metrics,
            scalable=scaling.resources,
            policy_alarms=scaling.alarms,
            find_key=keys.find,
        ),
        log_root=settings.data_dir / "logs" / "endpoints",
        observe_instances=observe_instances,
        read_counters=publisher.counters,
        observe_models=models.describe,
        collect_metrics=telemetry.collect,
    )
    bell = JobsBell(
        context.run_dir / "jobs.sock",
        store.changes,
        frozenset({async_queue.KIND, outbox.KIND}),
        store.async_queue.has_work,
    )
    await loops.adopt()
    await models.adopt()
    await publisher.start()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(loops.run()),
            tasks.create_task(events.run()),
            tasks.create_task(metrics.run()),
            *([tasks.create_task(usage.run())] if settings.metrics.enabled else []),
            tasks.create_task(alarms.run()),
            tasks.create_task(scaling.loop.run()),
            tasks.create_task(keys.follow(publisher)),
            tasks.create_task(keep_logs(logs.sweep)),
            tasks.create_task(bell.run()),
            *([tasks.create_task(async_metrics.run())] if settings.metrics.enabled else []),
            *([tasks.create_task(export.run())] if export is not None else []),
            tasks.create_task(serve_unix(api, context.run_dir / "control.sock")),
        ]
        await context.stopping.wait()
        for task in running:
            task.cancel()
    await models.close()
    await loops.close()
    await publisher.close()
    await metrics.close()
    await asyncio.to_thread(store.close)


if __name__ == "__main__":
    run_role("control", run_control)
