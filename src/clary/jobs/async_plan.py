"""Decides how many asynchronous calls are worked on, and where each goes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clary.resources.async_inference import AsyncOrder

SERVER_CONCURRENCY = 4
"""Calls at once for a server of the user's own, which does not say how many it can take."""

AHEAD_S = 0.2
"""Inputs are fetched ahead for about so much time of the model's, in seconds."""

MOST_AHEAD = 48
"""Most invocations of an endpoint that are held beyond those that its containers work on."""

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before something that may pass is tried again, in seconds."""

NOTIFICATION_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """An instance that could take a call."""

    variant: str
    """What is the same for instances between which only their loads decide."""
    weight: float
    instance_id: str
    in_use: int
    limit: int


def instance_limit(workers: Sequence[int], configured: int | None) -> int:
    """Return how many calls an instance gets at once.

    By default each worker gets what it works on at once (one call, or its largest batch), and one
    more, which is there when it has finished.

    Args:
        workers: What each worker works on at once; 0: it does not say.
        configured: MaxConcurrentInvocationsPerInstance; None: the default.
    """
    if configured is not None:
        return configured
    return sum(each + 1 if each else SERVER_CONCURRENCY for each in workers)


def held_limit(capacity: int, mean_s: float) -> int:
    """Return how many invocations of an endpoint are held at once, in all stages.

    Beyond those in the containers, some fetch their inputs and some write their outputs: many when
    calls are short, one when they are long, for what waits here waits for this one server.

    Args:
        capacity: Calls that its containers take at once.
        mean_s: Mean time of a call in its container, in seconds.
    """
    if capacity <= 0:
        return 0
    ahead = int(capacity * AHEAD_S / max(mean_s, 0.001))
    return capacity + min(max(ahead, 1), MOST_AHEAD)


def claims(limits: Mapping[str, int], held: Mapping[str, int], room: int) -> dict[str, int]:
    """Return how many invocations to claim, by endpoint.

    Several at once: nothing is claimed for an endpoint that still has more than half of what it may
    hold. The room is shared out evenly.

    Args:
        limits: Most invocations that are held, by endpoint that has some waiting.
        held: How many are, by endpoint.
        room: How many more may be held over all of them.
    """
    wanted = {
        name: limit - held.get(name, 0)
        for name, limit in limits.items()
        if held.get(name, 0) <= limit // 2 and limit > held.get(name, 0)
    }
    shared: dict[str, int] = {}
    # Those that want least first: what they leave is for the others.
    for index, (name, count) in enumerate(sorted(wanted.items(), key=lambda pair: pair[1])):
        share = min(count, room // (len(wanted) - index))
        if share > 0:
            shared[name] = share
            room -= share
    return shared


def choose_place(loads: Sequence[InstanceLoad], draw: float) -> InstanceLoad | None:
    """Return the instance for the next call; None: all have what they may have.

    The variant by weight, of those that have room; of its instances the one with the most room.

    Args:
        loads: All instances that take calls.
        draw: A random number, 0 or more and less than 1.
    """
    free = [load for load in loads if load.in_use < load.limit and load.weight > 0]
    weights: dict[str, float] = {}
    for load in free:
        weights[load.variant] = load.weight
    point = draw * sum(weights.values())
    for variant, weight in weights.items():
        point -= weight
        if point < 0:
            mine = [load for load in free if load.variant == variant]
            return max(mine, key=lambda load: load.limit - load.in_use)
    return None


def pause_s(attempt: int, pauses: Sequence[float] = PAUSES_S) -> float:
    """Return how long to wait before a further attempt, in seconds; ``attempt`` counts from 0."""
    return pauses[min(attempt, len(pauses) - 1)]


def container_headers(order: AsyncOrder, inference_id: str) -> dict[str, str]:
    """Return the headers that the container gets."""
    headers = {
        "content-type": order.content_type,
        "accept": order.accept,
        "x-amzn-sagemaker-custom-attributes": order.custom_attributes,
        "x-amzn-sagemaker-inference-id": inference_id,
    }
    return {**{name: value for name, value in headers.items() if value}, **order.trace}
