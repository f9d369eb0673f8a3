from dataclasses import replace
from typing import Any

import pytest

from builders import A_TIME, a_model, a_variant, a_variant_state, an_endpoint_config
from clary.errors import InvalidRequest
from clary.resources.endpoint import Endpoint, EndpointStatus
from clary.resources.variant_changes import (
    VariantChange,
    added_instances,
    change_variants,
    restored,
)


def an_endpoint(**config: Any) -> Endpoint:
    """Variants a and b with weights 9 and 1, and a shadow variant."""
    variants = (a_variant("a"), a_variant("b", instance_type="ml.g5.xlarge"))
    return Endpoint(
        name="digits",
        arn="arn",
        status=EndpointStatus.IN_SERVICE,
        generation=1,
        failure_reason=None,
        config=an_endpoint_config(
            **{"variants": variants, "shadow_variants": (a_variant("s"),), **config}
        ),
        models={"digits": a_model()},
        variants=(a_variant_state("a", desired_weight=9.0), a_variant_state("b")),
        shadow_variants=(a_variant_state("s"),),
        created_at=A_TIME,
        modified_at=A_TIME,
    )


def change(name: str, **values: Any) -> VariantChange:
    return VariantChange(variant_name=name, **values)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param([], [(9, 1), (1, 1), (1, 1)], id="nothing"),
        pytest.param([change("b", weight=3)], [(9, 1), (3, 1), (1, 1)], id="a weight"),
        pytest.param([change("a", count=4)], [(9, 4), (1, 1), (1, 1)], id="a count"),
        pytest.param(
            [change("b", weight=0, count=2), change("a", weight=0)],
            [(0, 1), (0, 2), (1, 1)],
            id="both of both; all weights may be 0",
        ),
        pytest.param([change("s", weight=0.5)], [(9, 1), (1, 1), (0.5, 1)], id="of the shadow"),
    ],
)
def test_what_is_not_changed_stays(
    changes: list[VariantChange], wanted: list[tuple[float, int]]
) -> None:
    states = change_variants(an_endpoint(), changes)

    assert [(state.desired_weight, state.desired_count) for state in states] == wanted
    assert [(state.previous_weight, state.previous_count) for state in states] == [
        (9, 1),
        (1, 1),
        (1, 1),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([change("nobody", weight=1)], r'"nobody" is not present within endpoint configuration'),
        ([change("a"), change("a")], "must be unique"),
        ([change("a", weight=-1.0)], r'must be 0 or more; "a" has -1'),
        ([change("a", weight=float("nan"))], "must be 0 or more"),
        ([change("a", weight=float("inf"))], "must be 0 or more"),
        ([change("a", count=0)], r'must be 1 or more; "a" has 0'),
    ],
)
def test_changes_that_cannot_be_are_refused(changes: list[VariantChange], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        change_variants(an_endpoint(), changes)


def test_a_serverless_variant_has_no_count() -> None:
    endpoint = an_endpoint(variants=(a_variant("a", instance_type=None), a_variant("b")))
    with pytest.raises(InvalidRequest, match="serverless"):
        change_variants(endpoint, [change("a", count=1)])


def test_an_asynchronous_endpoint_may_sleep() -> None:
    endpoint = an_endpoint(definition={"AsyncInferenceConfig": {"OutputConfig": {}}})
    assert change_variants(endpoint, [change("a", count=0)])[0].desired_count == 0


def test_instances_that_a_change_adds_are_counted_by_type() -> None:
    endpoint = an_endpoint()
    states = change_variants(
        endpoint, [change("a", count=3), change("b", count=2), change("s", count=2)]
    )
    assert added_instances(endpoint, states) == {"ml.m5.large": 3, "ml.g5.xlarge": 1}


def test_a_failed_change_goes_back_to_what_was_wanted_before() -> None:
    before = an_endpoint()
    (after, *_) = change_variants(before, [change("a", weight=2, count=5)])
    back = restored(after)
    assert (back.desired_weight, back.desired_count) == (9, 1)
    assert restored(before.variants[0]) == before.variants[0]
    assert restored(replace(back, current_count=0)).desired_count == 1


@pytest.mark.parametrize(("count", "is_allowed"), [(1, False), (2, True), (4, True), (5, False)])
def test_managed_instance_scaling_bounds_counts(count: int, is_allowed: bool) -> None:
    scaling = {"Status": "ENABLED", "MinInstanceCount": 2, "MaxInstanceCount": 4}
    bounded = a_variant("a", definition={"ManagedInstanceScaling": scaling})
    endpoint = an_endpoint(variants=(bounded, a_variant("b")))
    if is_allowed:
        assert change_variants(endpoint, [change("a", count=count)])[0].desired_count == count
    else:
        with pytest.raises(InvalidRequest, match="must be between 2 and 4"):
            change_variants(endpoint, [change("a", count=count)])


def test_managed_instance_scaling_that_is_off_bounds_nothing() -> None:
    scaling = {"Status": "DISABLED", "MinInstanceCount": 2, "MaxInstanceCount": 4}
    free = a_variant("a", definition={"ManagedInstanceScaling": scaling})
    endpoint = an_endpoint(variants=(free, a_variant("b")))
    assert change_variants(endpoint, [change("a", count=9)])[0].desired_count == 9
