"""An instance, as the database knows it: the durable intent to run one."""

from dataclasses import dataclass
from datetime import datetime

from clary.resources.inference_component import ComputeResources


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """One unit of a variant's capacity that was started, or is about to be.

    Written before the start and removed after the end, so that a crash in between leaves something
    to find. Whether it is healthy is observed, never stored.
    """

    id: str
    """Unique for ever, such as ``i-0f3a…``."""

    endpoint_name: str
    variant_name: str
    generation: int
    """Generation of the endpoint that it was started for."""

    created_at: datetime
    fleet: int = 1
    """Which of the endpoint's fleets it belongs to: that says which configuration it runs."""

    host_id: str | None = None
    """Of a copy of an inference component: the endpoint's instance that it takes its share of."""

    share: ComputeResources | None = None
    """What it takes of that instance."""

    stopping: bool = False
    """It was decided to stop it; there is no way back."""
