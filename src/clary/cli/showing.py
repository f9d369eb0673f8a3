"""`clary ls`, `describe` and `logs`: what is there, and what it says."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from clary.cli.api import Api, Refused
from clary.cli.output import STATUS_STYLES, ago, print_json, print_table, stdout

MODEL_COLUMNS = (
    "MODEL", "STATE", "MEMORY", "USED", "CALLS", "LOADS", "EVICTIONS"
)  # fmt: skip
COMPONENT_COLUMNS = ("COMPONENT", "STATUS", "COPIES", "RUNS", "REASON")


def list_endpoints(api: Api, *, as_json: bool) -> None:
    """Print all endpoints, the newest first."""
    found = api.pages("sagemaker", "list_endpoints", "Endpoints")
    if as_json:
        print_json(found)
        return
    if not found:
        sys.stderr.write("There are no endpoints. Make one with `clary deploy DIR`.\n")
        return
    rows = [
        (item["EndpointName"], item["EndpointStatus"], ago(item["CreationTime"])) for item in found
    ]
    print_table(("NAME", "STATUS", "AGE"), rows, stdout())


def describe(api: Api, name: str, *, as_json: bool) -> None:
    """Print one endpoint with its instances."""
    endpoint = api.call("sagemaker", "describe_endpoint", EndpointName=name)
    endpoint.pop("ResponseMetadata", None)
    inside = api.get_json(f"/_clary/endpoints/{name}")
    instances = inside.get("instances") or []
    models = api.get_json(f"/_clary/endpoints/{name}/models").get("models") or []
    components = _components(api, name)
    if as_json:
        more = {"Models": models, "InferenceComponents": components}
        print_json({**endpoint, "Instances": instances, **{k: v for k, v in more.items() if v}})
        return
    console = stdout()
    for label, value in _facts(endpoint):
        console.print(f"{label:<10}", style="bold", end="")
        console.print(value, style=STATUS_STYLES.get(value, ""), markup=False)
    variants = endpoint.get("ProductionVariants") or []
    if variants:
        console.print()
        print_table(
            ("VARIANT", "INSTANCES", "WEIGHT", "IMAGE"), (_variant(v) for v in variants), console
        )
    if instances:
        console.print()
        print_table(("INSTANCE", "VARIANT", "STATE", "REASON"), map(_instance, instances), console)
    if models:
        console.print()
        print_table(MODEL_COLUMNS, map(_model, models), console)
    if components:
        console.print()
        print_table(COMPONENT_COLUMNS, map(_component, components), console)


def logs(
    api: Api, name: str, *, follow: bool, lines: int, variant: str | None, instance: str | None
) -> None:
    """Write an endpoint's log to standard output, as it is and as it comes."""
    pieces = api.stream(
        f"/_clary/logs/{name}",
        lines=lines,
        follow=1 if follow else None,
        variant=variant,
        instance=instance,
    )
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _facts(endpoint: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Endpoint", endpoint["EndpointName"]
    yield "Status", endpoint["EndpointStatus"]
    if endpoint.get("FailureReason"):
        yield "Reason", endpoint["FailureReason"]
    yield "Config", endpoint.get("EndpointConfigName", "")
    yield "Created", f"{ago(endpoint['CreationTime'])} ago"
    yield "Changed", f"{ago(endpoint['LastModifiedTime'])} ago"
    yield "ARN", endpoint["EndpointArn"]


def _variant(variant: Mapping[str, Any]) -> tuple[str, str, str, str]:
    current: Any = variant.get("CurrentInstanceCount", 0)
    desired = variant.get("DesiredInstanceCount", current)
    if "CurrentServerlessConfig" in variant:
        current = desired = "serverless"
    images = [image.get("SpecifiedImage", "") for image in variant.get("DeployedImages") or []]
    return (
        variant["VariantName"],
        str(current) if current == desired else f"{current} of {desired}",
        f"{variant.get('CurrentWeight', 1.0):g}",
        ", ".join(images),
    )


def _components(api: Api, endpoint_name: str) -> list[dict[str, Any]]:
    """Return the inference components of an endpoint, as they are described."""
    listed = api.pages(
        "sagemaker",
        "list_inference_components",
        "InferenceComponents",
        EndpointNameEquals=endpoint_name,
        SortBy="Name",
        SortOrder="Ascending",
    )
    found = []
    for item in listed:
        try:
            described = api.call(
                "sagemaker",
                "describe_inference_component",
                InferenceComponentName=item["InferenceComponentName"],
            )
        except Refused as error:
            if not error.not_found:
                raise
            continue  # it went meanwhile
        described.pop("ResponseMetadata", None)
        found.append(described)
    return found


def _component(component: Mapping[str, Any]) -> tuple[str, ...]:
    copies = component["RuntimeConfig"]
    specification = component.get("Specification", {})
    base = specification.get("BaseInferenceComponentName")
    return (
        component["InferenceComponentName"],
        component["InferenceComponentStatus"],
        f"{copies['CurrentCopyCount']} of {copies['DesiredCopyCount']}",
        f"adapter of {base}" if base else specification.get("ModelName", ""),
        component.get("FailureReason", ""),
    )


def _model(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row of ``MODEL_COLUMNS``."""
    idle_s = model["idle_s"]
    return (
        model["model"],
        model["state"] + (", pinned" if model["pinned"] else ""),
        f"{model['memory_mib']} MiB" if model["memory_mib"] else "",
        "" if idle_s is None else f"{idle_s:.0f} s ago",
        *(str(model[number]) for number in ("calls", "loads", "evictions")),
    )


def _instance(instance: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (
        instance["id"],
        instance["variant"],
        instance["phase"] or instance["state"],
        instance["reason"] or "",
    )
