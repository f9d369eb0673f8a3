"""Choose a variant, an instance and a worker. Pure, but for the random number handed in."""

from collections.abc import Sequence

from clary.resources.routing_table import RoutingStrategy
from clary.router.table import Instance, Variant, Worker

STALLED_AFTER_S = 0.005
"""A worker with open requests that answered none for so long is in a call that is not a fast one:
it hangs, or the handler is fast only most of the time."""


def choose_variant(variants: Sequence[Variant], fraction: float) -> Variant | None:
    """Choose by weight among the variants that have a usable instance.

    Args:
        variants: In the order of the endpoint configuration.
        fraction: Random number, 0 up to but not including 1.

    Returns:
        None when no variant with a weight above 0 has a usable instance.
    """
    usable = [v for v in variants if v.weight > 0 and any(i.is_usable for i in v.instances)]
    if not usable:
        return None
    point = fraction * sum(variant.weight for variant in usable)
    for variant in usable:
        point -= variant.weight
        if point < 0:
            return variant
    return usable[-1]


def choose_fleet(variants: Sequence[Variant], fraction: float) -> Variant | None:
    """Choose among the fleets of one variant by their shares, whatever its weight.

    Args:
        variants: Of one name.
        fraction: Random number, 0 up to but not including 1.

    Returns:
        One with a usable instance, where there is one; None when there is no such variant.
    """
    usable = [v for v in variants if any(i.is_usable for i in v.instances)] or list(variants)
    point = fraction * sum(variant.share for variant in usable)
    for variant in usable:
        point -= variant.share
        if point < 0:
            return variant
    return usable[-1] if usable else None


def choose_instance(
    instances: Sequence[Instance], routing: RoutingStrategy, fraction: float
) -> Instance | None:
    """Choose a usable instance: any, or one of those with the fewest open requests.

    Args:
        instances: Of one variant.
        routing: The variant's strategy.
        fraction: Random number, 0 up to but not including 1. Decides between equals, so that
            each of them gets its part.
    """
    usable = [instance for instance in instances if instance.is_usable]
    if len(usable) < 2:
        return usable[0] if usable else None
    start = int(fraction * len(usable))
    if routing is RoutingStrategy.RANDOM:
        return usable[start]
    return min(usable[start:] + usable[:start], key=lambda instance: instance.outstanding)


def shadow_share(production_weight: float, shadow_weight: float) -> float:
    """Return the share of invocations that a shadow variant gets copies of, 0 to 1.

    Its weight divided by that of the production variant (endpoints.md 3). Beside a weight of 0,
    which takes only what names its variant, a shadow of any weight gets it all.
    """
    if shadow_weight <= 0:
        return 0.0
    return 1.0 if shadow_weight >= production_weight else shadow_weight / production_weight


def choose_worker(workers: Sequence[Worker], pack_below_s: float, now: float) -> Worker | None:
    """Choose a worker of one instance.

    A handler that is faster than the gateway never keeps one process busy: spreading its requests
    over several only costs the cores that the gateway needs, so the first worker takes them all,
    as long as it gets on with them. Slower ones go to the worker with the fewest open requests.

    Args:
        workers: In their order on the instance.
        pack_below_s: Mean time in the handler under which the first worker takes all, in seconds.
        now: The moment, on the monotonic clock.
    """
    best: Worker | None = None
    for worker in workers:
        channel = worker.channel
        if not channel.is_ready:
            continue
        if best is None:
            if channel.outstanding == 0 or (
                0 < channel.mean_handler_s < pack_below_s
                and now - channel.progress_at < STALLED_AFTER_S
            ):
                return worker
            best = worker
        elif channel.outstanding < best.channel.outstanding:
            best = worker
    return best
