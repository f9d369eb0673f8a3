"""Lists of things that this server never has: SDKs ask for them and want an empty answer."""

from clary.api.operations import Call, Reply, Request, operation


@operation("sagemaker", "ListMonitoringSchedules")
async def list_monitoring_schedules(_call: Call, _request: Request) -> Reply:
    return {"MonitoringScheduleSummaries": []}


@operation("sagemaker", "ListContexts")
async def list_contexts(_call: Call, _request: Request) -> Reply:
    return {"ContextSummaries": []}
