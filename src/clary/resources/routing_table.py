"""Where an invocation can go: the value that control publishes and gateways route by.

One ``EndpointRoute`` per endpoint that takes invocations. Control makes it from what the fleet
observes and sends it as JSON (``to_json``); a gateway turns it back (``from_json``) and swaps it
for the old one. All of it is immutable: an invocation that started with one value ends with it.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRoute:
    """One container of an instance."""

    name: str
    """``primary`` for a model of one container, else the ContainerHostname or ``container-N``."""

    workers: tuple[str, ...]
    """Addresses (``messages.parse_address``) of workers that answered a ping in this life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRoute:
    """One healthy instance. Its containers are asked one after another (today there is one)."""

    id: str
    containers: tuple[ContainerRoute, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRoute:
    """One production variant with its healthy instances."""

    name: str
    weight: float
    instances: tuple[InstanceRoute, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRoute:
    """One endpoint that takes invocations (InService, Updating, RollingBack, SystemUpdating)."""

    name: str
    variants: tuple[VariantRoute, ...]
    """In the order of the endpoint configuration."""

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "EndpointRoute":
        """Return the value that ``to_json`` wrote."""
        return cls(
            name=data["name"],
            variants=tuple(
                VariantRoute(
                    name=variant["name"],
                    weight=float(variant["weight"]),
                    instances=tuple(
                        InstanceRoute(
                            id=instance["id"],
                            containers=tuple(
                                ContainerRoute(name=c["name"], workers=tuple(c["workers"]))
                                for c in instance["containers"]
                            ),
                        )
                        for instance in variant["instances"]
                    ),
                )
                for variant in data["variants"]
            ),
        )
