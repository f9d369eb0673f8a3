"""Which operations of which service are built: what the page of the documentation is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from clary.api.app import OPERATIONS
from clary.aws.service_models import ServiceModels

# Built, but not here: the gateway answers invocations itself.
_BUILT_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "sagemaker-runtime": ("InvokeEndpoint", "InvokeEndpointWithResponseStream")
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a service there is."""

    built: tuple[str, ...]
    """Names of operations, sorted."""

    not_built: tuple[str, ...]
    """Operations of the service model that answer ``NotImplemented``, sorted."""


def coverage() -> dict[str, Coverage]:
    """Return the coverage of every service with at least one built operation, by its name."""
    built: dict[str, set[str]] = {name: set(ops) for name, ops in _BUILT_ELSEWHERE.items()}
    for service, operation in OPERATIONS:
        built.setdefault(service, set()).add(operation)
    models = ServiceModels()
    return {
        service: Coverage(
            built=tuple(sorted(names)),
            not_built=tuple(sorted(set(models.get(service).operation_names) - names)),
        )
        for service, names in sorted(built.items())
    }


def coverage_page() -> str:
    """Return the coverage as Markdown."""
    parts = []
    for service, covered in coverage().items():
        total = len(covered.built) + len(covered.not_built)
        parts.append(f"## {service}\n\n{len(covered.built)} of {total} operations.\n")
        parts += [f"- `{name}`" for name in covered.built]
        parts.append("\n<details><summary>Not built</summary>\n")
        parts.append(", ".join(f"`{name}`" for name in covered.not_built))
        parts.append("\n</details>\n")
    return "\n".join(parts)
