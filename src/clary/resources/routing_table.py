"""Where an invocation can go: the value that control publishes and gateways route by.

One ``EndpointRoute`` per endpoint that takes invocations. Control makes it from what the fleet
observes and sends it as JSON (``to_json``); a gateway turns it back (``from_json``) and swaps it
for the old one. All of it is immutable: an invocation that started with one value ends with it.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from clary.resources.data_capture import DataCapture


class RoutingStrategy(StrEnum):
    """How an instance of a variant is chosen (``RoutingConfig`` of a production variant)."""

    RANDOM = "RANDOM"
    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"


DEFAULT_ROUTING = RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
"""When a variant does not say. AWS's default is RANDOM, which only makes queues longer here: a
gateway knows the open requests of its instances for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRoute:
    """One container of an instance."""

    name: str
    """``primary`` for a model of one container, else the ContainerHostname or ``container-N``."""

    workers: tuple[str, ...]
    """Addresses (``messages.parse_address``) of workers that answered a ping in this life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRoute:
    """One healthy instance. Its containers are asked one after another, in this order."""

    id: str
    containers: tuple[ContainerRoute, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerlessRoute:
    """What is special about a serverless variant: it may have no worker, and gets one if called."""

    max_concurrency: int
    """Most calls at once; more are throttled."""

    provisioned: int = 0
    """Workers that are there when nobody calls."""

    trouble: str | None = None
    """Why its model cannot be loaded, when it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRoute:
    """One variant with its healthy instances, of one fleet."""

    name: str
    weight: float
    """Share of the traffic, relative to the sum over all; the fleet's share is in it already."""

    instances: tuple[InstanceRoute, ...]
    routing: RoutingStrategy = DEFAULT_ROUTING
    is_direct: bool = False
    """Whether each invocation names the one container that takes it (``Mode: Direct``), instead of
    going through all of them."""

    config_name: str = ""
    """The endpoint configuration that its instances run."""

    share: float = 1.0
    """Share of the variant's traffic that this fleet takes, 0 to 1, while there are two of them. A
    fleet with none keeps its sessions."""

    serverless: ServerlessRoute | None = None
    """Set for a serverless variant."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "VariantRoute":
        """Return the value that ``EndpointRoute.to_json`` wrote."""
        serverless = data.get("serverless")
        return cls(
            name=data["name"],
            weight=float(data["weight"]),
            instances=tuple(
                InstanceRoute(
                    id=instance["id"],
                    containers=tuple(
                        ContainerRoute(name=c["name"], workers=tuple(c["workers"]))
                        for c in instance["containers"]
                    ),
                )
                for instance in data["instances"]
            ),
            routing=RoutingStrategy(data.get("routing", DEFAULT_ROUTING)),
            is_direct=bool(data.get("is_direct", False)),
            config_name=data.get("config_name", ""),
            share=float(data.get("share", 1.0)),
            serverless=None if serverless is None else ServerlessRoute(**serverless),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncRoute:
    """What is special about an endpoint that takes asynchronous calls, and no others."""

    max_concurrent: int | None = None
    """Most calls that one instance works on; None: the server chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRoute:
    """What is special about the route of an inference component."""

    endpoint: str
    """The endpoint that it is on, which its invocations name too."""

    is_adapter: bool = False
    """Whether its container has to be told its name: it lives in the copies of another one."""

    refuses: bool = False
    """Whether invocations are refused while it has no copy, instead of waiting for one."""

    cpu_cores: float = 0.0
    memory_mib: int = 0
    accelerators: int = 0
    """What one copy has reserved; 0: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRoute:
    """One endpoint that takes invocations (InService, Updating, RollingBack, SystemUpdating)."""

    name: str
    variants: tuple[VariantRoute, ...]
    """In the order of the endpoint configuration. During a deployment those of the old fleet, then
    those of the new one, some of them with the same name."""

    shadow: VariantRoute | None = None
    """Gets copies of invocations, beside exactly one production variant. Its weight, divided by
    that one's (of both fleets together), is the share that is copied."""

    capture: DataCapture | None = None
    """What is captured of its calls, of copies for the shadow too."""

    asynchronous: AsyncRoute | None = None
    """Set for endpoints that take asynchronous calls only."""

    hosts_components: bool = False
    """Whether its variants have no model: each invocation names an inference component."""

    component: ComponentRoute | None = None
    """Set for the route of an inference component, which has a name that no endpoint has
    (``inference_component.component_route``)."""

    def workers(self) -> set[tuple[str, str]]:
        """Return those that take invocations, or copies of them: instance and address."""
        variants = self.variants if self.shadow is None else (*self.variants, self.shadow)
        return {
            (instance.id, worker)
            for variant in variants
            for instance in variant.instances
            for container in instance.containers
            for worker in container.workers
        }

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "EndpointRoute":
        """Return the value that ``to_json`` wrote."""
        shadow = data.get("shadow")
        capture = data.get("capture")
        asynchronous = data.get("asynchronous")
        component = data.get("component")
        return cls(
            name=data["name"],
            variants=tuple(VariantRoute.from_json(variant) for variant in data["variants"]),
            shadow=None if shadow is None else VariantRoute.from_json(shadow),
            capture=None if capture is None else DataCapture.from_json(capture),
            asynchronous=None if asynchronous is None else AsyncRoute(**asynchronous),
            hosts_components=bool(data.get("hosts_components", False)),
            component=None if component is None else ComponentRoute(**component),
        )
