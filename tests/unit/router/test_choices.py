"""Which variant, which instance, which worker; and when to refuse."""

from dataclasses import dataclass

import pytest

from clary.errors import Overloaded
from clary.metrics.registry import VariantCounters
from clary.resources.routing_table import RoutingStrategy
from clary.router.admission import admit
from clary.router.balancing import (
    choose_fleet,
    choose_instance,
    choose_variant,
    choose_worker,
    shadow_share,
)
from clary.router.table import Instance, Variant, Worker

RANDOM, LEAST = RoutingStrategy.RANDOM, RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
FAST, SLOW = 0.00001, 0.001
PACK_BELOW_S = 0.00004


@dataclass
class State:
    """What choices depend on."""

    outstanding: int = 0
    is_ready: bool = True
    mean_handler_s: float = 0.0
    concurrency: int = 1
    progress_at: float = 0.0
    life: int = 1


def worker(name, **state):
    return Worker(f"unix:/{name}", "i-1", State(**state))


def instance(name, *workers):
    return Instance(name, "primary", workers or (worker("w0"),))


def variant(name, weight, *instances):
    return Variant(name, weight, instances, VariantCounters())


@pytest.mark.parametrize(
    ("weights", "fraction", "chosen"),
    [
        pytest.param((1,), 0.99, 0, id="the only one"),
        pytest.param((9, 1), 0.0, 0, id="start of the first share"),
        pytest.param((9, 1), 0.8999, 0, id="end of the first share"),
        pytest.param((9, 1), 0.9, 1, id="start of the second share"),
        pytest.param((0, 1), 0.0, 1, id="no share, no traffic"),
        pytest.param((0.5, 0.25, 0.25), 0.75, 2, id="weights need not sum to one or be whole"),
        pytest.param((0,), 0.5, None, id="all weights zero"),
        pytest.param((), 0.5, None, id="no variants"),
    ],
)
def test_a_variant_gets_its_share_of_the_weights(weights, fraction, chosen):
    variants = [variant(f"v{i}", w, instance(f"i{i}")) for i, w in enumerate(weights)]
    expected = None if chosen is None else variants[chosen]
    assert choose_variant(variants, fraction) is expected


@pytest.mark.parametrize(
    ("shares", "usable", "fraction", "chosen"),
    [
        pytest.param((0.9, 0.1), (True, True), 0.89, 0, id="of the old fleet"),
        pytest.param((0.9, 0.1), (True, True), 0.9, 1, id="of the new one"),
        pytest.param((0.9, 0.1), (False, True), 0.0, 1, id="the old one has no instance"),
        pytest.param((0.9, 0.1), (False, False), 0.95, 1, id="none has: wait for either"),
        pytest.param((), (), 0.0, None, id="no such variant"),
    ],
)
def test_a_variant_that_is_named_is_shared_by_its_fleets(shares, usable, fraction, chosen):
    """Also one of weight 0, which only what names it gets to."""
    fleets = [
        Variant(
            "a",
            0.0,
            (instance(f"i{n}", worker("w", is_ready=is_usable)),),
            VariantCounters(),
            share=share,
        )
        for n, (share, is_usable) in enumerate(zip(shares, usable, strict=True))
    ]
    assert choose_fleet(fleets, fraction) is (None if chosen is None else fleets[chosen])


def test_a_variant_without_a_usable_instance_gets_nothing():
    dead = variant("dead", 9, instance("i", worker("w", is_ready=False)))
    empty = variant("empty", 9)
    alive = variant("alive", 1, instance("j"))
    assert choose_variant([dead, empty, alive], 0.0) is alive


def test_the_instance_with_the_fewest_open_requests_is_chosen():
    busy = instance("busy", worker("a", outstanding=1), worker("b", outstanding=1))
    free = instance("free", worker("c", outstanding=1))
    for fraction in (0.0, 0.5, 0.999):
        assert choose_instance([busy, free], LEAST, fraction) is free
        assert choose_instance([free, busy], LEAST, fraction) is free


@pytest.mark.parametrize("routing", RoutingStrategy)
@pytest.mark.parametrize(("fraction", "chosen"), [(0.0, 0), (0.32, 0), (0.34, 1), (0.999, 2)])
def test_instances_that_are_equal_get_equal_parts(routing, fraction, chosen):
    instances = [instance(name, worker("a", outstanding=1)) for name in "abc"]
    assert choose_instance(instances, routing, fraction) is instances[chosen]


def test_random_routing_does_not_look_at_open_requests():
    busy = instance("busy", worker("a", outstanding=100))
    free = instance("free", worker("b"))
    assert choose_instance([busy, free], RANDOM, 0.49) is busy
    assert choose_instance([busy, free], RANDOM, 0.51) is free


def test_an_instance_whose_workers_are_away_is_not_chosen():
    away = instance("away", worker("a", is_ready=False))
    busy = instance("busy", worker("b", outstanding=9))
    for routing in RoutingStrategy:
        assert choose_instance([away, busy], routing, 0.0) is busy
        assert choose_instance([away], routing, 0.0) is None


@pytest.mark.parametrize(
    ("production", "shadow", "share"),
    [
        pytest.param(1, 1, 1.0, id="equal weights: all"),
        pytest.param(1, 0.5, 0.5, id="half the weight: half"),
        pytest.param(10, 1, 0.1, id="a tenth"),
        pytest.param(1, 3, 1.0, id="never more than all"),
        pytest.param(1, 0, 0.0, id="weight 0: nothing"),
        pytest.param(0, 1, 1.0, id="beside a production weight of 0: all that there is"),
        pytest.param(0, 0, 0.0, id="both 0"),
    ],
)
def test_a_shadow_gets_the_share_that_its_weight_asks_for(production, shadow, share):
    assert shadow_share(production, shadow) == pytest.approx(share)


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        pytest.param([(0, FAST), (0, FAST)], 0, id="both idle: the first"),
        pytest.param([(5, FAST), (0, FAST)], 0, id="a fast handler stays on the first"),
        pytest.param([(5, SLOW), (0, SLOW)], 1, id="a slow one goes to the less busy"),
        pytest.param([(1, SLOW), (3, SLOW)], 0, id="a slow one, first less busy"),
        pytest.param([(2, 0.0), (1, 0.0)], 1, id="nothing measured yet: the less busy"),
    ],
)
def test_workers_of_one_instance_share_only_slow_handlers(states, chosen):
    workers = [worker(f"w{i}", outstanding=n, mean_handler_s=m) for i, (n, m) in enumerate(states)]
    assert choose_worker(workers, PACK_BELOW_S, now=0.001) is workers[chosen]


def test_a_fast_handler_that_hangs_gets_nothing_more_while_another_worker_is_there():
    hanging = worker("a", outstanding=3, mean_handler_s=FAST, progress_at=10.0)
    free = worker("b", outstanding=0, mean_handler_s=FAST, progress_at=9.0)
    assert choose_worker([hanging, free], PACK_BELOW_S, now=10.004) is hanging
    assert choose_worker([hanging, free], PACK_BELOW_S, now=10.006) is free


def test_a_worker_that_is_away_is_never_chosen():
    workers = [worker("a", is_ready=False), worker("b", outstanding=7, mean_handler_s=SLOW)]
    assert choose_worker(workers, PACK_BELOW_S, now=0.0) is workers[1]
    assert choose_worker(workers[:1], PACK_BELOW_S, now=0.0) is None


@pytest.mark.parametrize(
    ("state", "time_left_s", "is_admitted"),
    [
        pytest.param(State(outstanding=9), 60, True, id="room in the queue"),
        pytest.param(State(outstanding=10), 60, False, id="queue full"),
        pytest.param(State(outstanding=9, mean_handler_s=6), 60, True, id="in time"),
        pytest.param(State(outstanding=9, mean_handler_s=7), 60, False, id="would be too late"),
        pytest.param(
            State(outstanding=9, mean_handler_s=7, concurrency=0), 60, True, id="works in parallel"
        ),
    ],
)
def test_what_would_only_wait_to_be_too_late_is_refused(state, time_left_s, is_admitted):
    if is_admitted:
        admit(state, time_left_s, max_queue=10)
    else:
        with pytest.raises(Overloaded):
            admit(state, time_left_s, max_queue=10)
