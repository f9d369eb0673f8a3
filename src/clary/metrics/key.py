"""Which metric: a namespace, a name and dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass

Dimensions = tuple[tuple[str, str], ...]
"""Names and values, sorted."""


@dataclass(frozen=True, slots=True, order=True)
class MetricKey:
    """Identifies a metric, as CloudWatch does: a different set of dimensions is a different one."""

    namespace: str
    name: str
    dimensions: Dimensions = ()
    """Sorted."""

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> "MetricKey":
        """Return the key for dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))
