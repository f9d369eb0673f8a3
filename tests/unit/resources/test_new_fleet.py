from dataclasses import replace
from typing import Any

import pytest

from builders import a_variant, an_endpoint_config
from clary.errors import InvalidRequest
from clary.resources.deployment_policy import CapacitySize, DeploymentPolicy, Strategy
from clary.resources.endpoint import Endpoint
from clary.resources.new_fleet import (
    VariantProperty,
    check_kinds,
    most_added,
    new_states,
    retained_config,
)
from deployments import an_update

ALL = frozenset(VariantProperty)
COUNT, WEIGHT, CAPTURE = VariantProperty


def live(count: int = 4, weight: float = 3.0, **config: Any) -> Endpoint:
    """An endpoint whose counts and weights were changed since its configuration."""
    endpoint = replace(an_update(old=1), deployment=None)
    state = replace(endpoint.variants[0], desired_count=count, desired_weight=weight)
    return replace(endpoint, variants=(state,), config=replace(endpoint.config, **config))


@pytest.mark.parametrize(
    ("retained", "expected"),
    [
        pytest.param((), (2, 1.0), id="nothing kept: the configuration decides"),
        pytest.param(ALL, (4, 3.0), id="all kept"),
        pytest.param(ALL - {COUNT}, (2, 3.0), id="all but the count"),
        pytest.param(ALL - {WEIGHT}, (4, 1.0), id="all but the weight"),
    ],
)
def test_what_is_kept_of_a_variant_of_the_same_name(
    retained: frozenset[VariantProperty], expected: tuple[int, float]
) -> None:
    config = an_endpoint_config("new", variants=(a_variant(initial_instance_count=2),))
    (state,) = new_states(live(), config, retained)
    assert (state.desired_count, state.desired_weight) == expected
    assert state.current_count == 0


def test_a_new_variant_has_nothing_to_keep() -> None:
    config = an_endpoint_config("new", variants=(a_variant("other", initial_instance_count=2),))
    assert [s.desired_count for s in new_states(live(), config, ALL)] == [2]


def test_a_count_is_kept_within_the_bounds_of_the_new_variant() -> None:
    scaling = {"MinInstanceCount": 1, "MaxInstanceCount": 3}
    variant = a_variant(definition={"ManagedInstanceScaling": scaling})
    (state,) = new_states(live(), an_endpoint_config(variants=(variant,)), ALL)
    assert state.desired_count == 3


def test_data_capture_is_kept_with_the_other_properties() -> None:
    capture, other = {"DestinationS3Uri": "s3://old"}, {"DestinationS3Uri": "s3://new"}
    config = an_endpoint_config("new", definition={"DataCaptureConfig": other, "KmsKeyId": "k"})
    captured = live(definition={"DataCaptureConfig": capture})
    assert retained_config(captured, config, ()).definition["DataCaptureConfig"] == other
    assert retained_config(captured, config, ALL).definition == {
        "DataCaptureConfig": capture,
        "KmsKeyId": "k",
    }
    assert "DataCaptureConfig" not in retained_config(live(), config, {CAPTURE}).definition


def test_a_real_time_endpoint_cannot_become_serverless() -> None:
    serverless = an_endpoint_config("new", variants=(a_variant(instance_type=None),))
    with pytest.raises(InvalidRequest, match="which is serverless"):
        check_kinds(live(), serverless)
    check_kinds(live(variants=(a_variant(instance_type=None),)), serverless)


@pytest.mark.parametrize(
    ("policy", "instance_type", "expected"),
    [
        pytest.param(
            DeploymentPolicy(), "ml.m5.large", {"ml.m5.large": 4}, id="both fleets live at once"
        ),
        pytest.param(
            DeploymentPolicy(
                strategy=Strategy.ROLLING, size=CapacitySize(is_percent=False, value=1)
            ),
            "ml.m5.large",
            {"ml.m5.large": 1},
            id="rolling needs a batch",
        ),
        pytest.param(
            DeploymentPolicy(
                strategy=Strategy.ROLLING, size=CapacitySize(is_percent=False, value=2)
            ),
            "ml.g5.xlarge",
            {"ml.g5.xlarge": 4},
            id="of another type it needs them all in the end",
        ),
    ],
)
def test_how_many_instances_an_update_needs_more(
    policy: DeploymentPolicy, instance_type: str, expected: dict[str, int]
) -> None:
    variant = a_variant(initial_instance_count=4, instance_type=instance_type)
    config = an_endpoint_config("new", variants=(variant,))
    endpoint = live()
    states = new_states(endpoint, config, ())
    assert most_added(endpoint, config, states, policy) == expected
