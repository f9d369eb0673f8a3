"""Dashboards: stored and returned; showing them is left to others."""

import json

from clary.api.cloudwatch.pages import cut_page
from clary.api.cloudwatch.refusals import InvalidDashboard
from clary.api.operations import Call, Reply, Request, operation
from clary.errors import NotFound
from clary.resources.names import partition_of
from clary.store.dashboards import Dashboard

LIST_PAGE = 1000
MAX_BODY_BYTES = 1_048_576


@operation("cloudwatch", "PutDashboard")
async def put_dashboard(call: Call, request: Request) -> Reply:
    name, body = request["DashboardName"], request["DashboardBody"]
    if not 1 <= len(name) <= 255 or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidDashboard(
            "The value of the field DashboardName must have 1 to 255 characters of A-Z, a-z, 0-9, "
            "- and _."
        )
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or len(body.encode()) > MAX_BODY_BYTES:
        raise InvalidDashboard("The field DashboardBody must be a valid JSON object")
    if not isinstance(content.get("widgets", []), list):
        raise InvalidDashboard('The dashboard body is invalid: "widgets" should be an array')
    await call.store.dashboards.put(Dashboard(name, body, call.backend.clock.now()))
    return {"DashboardValidationMessages": []}


@operation("cloudwatch", "GetDashboard")
async def get_dashboard(call: Call, request: Request) -> Reply:
    found = await call.store.dashboards.find(request["DashboardName"])
    if found is None:
        raise NotFound(f"Dashboard {request['DashboardName']} does not exist")
    return {
        "DashboardArn": _arn(call, found.name),
        "DashboardBody": found.body,
        "DashboardName": found.name,
    }


@operation("cloudwatch", "ListDashboards")
async def list_dashboards(call: Call, request: Request) -> Reply:
    prefix = request.get("DashboardNamePrefix", "")
    found = [each for each in await call.store.dashboards.list() if each.name.startswith(prefix)]
    page, following = cut_page(found, request.get("NextToken"), LIST_PAGE, lambda each: each.name)
    entries = [
        {
            "DashboardName": each.name,
            "DashboardArn": _arn(call, each.name),
            "LastModified": each.modified_at,
            "Size": len(each.body.encode()),
        }
        for each in page
    ]
    return {"DashboardEntries": entries, "NextToken": following}


@operation("cloudwatch", "DeleteDashboards")
async def delete_dashboards(call: Call, request: Request) -> Reply:
    names = request["DashboardNames"]
    missing = await call.store.dashboards.delete(names)
    if missing:
        # All or nothing, as AWS does it.
        raise NotFound(f"Dashboard {missing[0]} does not exist")
    return {}


def _arn(call: Call, name: str) -> str:
    partition = partition_of(call.namespace.region)
    return f"arn:{partition}:cloudwatch::{call.namespace.account}:dashboard/{name}"
