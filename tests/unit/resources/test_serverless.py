"""What a serverless variant may have."""

from typing import Any

import pytest

from clary.errors import InvalidRequest, LimitExceeded
from clary.resources.serverless import (
    ServerlessCapacity,
    ServerlessQuotas,
    ServerlessState,
    check_variant,
    initial_state,
    vcpus_of,
)

CONFIG = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


def a_variant(**more: Any) -> dict[str, Any]:
    return {"VariantName": "v", "ModelName": "m", "ServerlessConfig": CONFIG, **more}


def test_a_good_one() -> None:
    check_variant(a_variant(InitialVariantWeight=1.0), {})


@pytest.mark.parametrize(
    ("variant", "config", "words"),
    [
        ({"ServerlessConfig": {**CONFIG, "MemorySizeInMB": 1500}}, {}, "MemorySizeInMB"),
        ({"ServerlessConfig": {**CONFIG, "ProvisionedConcurrency": 6}}, {}, "cannot be greater"),
        ({"AcceleratorType": "ml.eia1.medium"}, {}, "AcceleratorType"),
        ({"ManagedInstanceScaling": {}}, {}, "ManagedInstanceScaling"),
        ({}, {"DataCaptureConfig": {"EnableCapture": True}}, "DataCaptureConfig"),
        ({}, {"AsyncInferenceConfig": {"OutputConfig": {}}}, "AsyncInferenceConfig"),
        ({}, {"VpcConfig": {"Subnets": []}}, "VpcConfig"),
        ({}, {"ShadowProductionVariants": [{}]}, "Shadow variants"),
    ],
)
def test_what_does_not_go_together(
    variant: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_variant(a_variant(**variant), config)


def test_a_change_can_be_taken_back_and_written_down() -> None:
    state = initial_state({**CONFIG, "ProvisionedConcurrency": 2})
    assert state is not None
    assert not state.is_reached

    changed = state.changed(ServerlessCapacity(max_concurrency=9, provisioned=1))

    assert changed.restored().desired == state.desired
    written = {
        "desired": {"max_concurrency": 9, "provisioned": 1},
        "current": {"max_concurrency": 5, "provisioned": 0},
        "previous": {"max_concurrency": 5, "provisioned": 2},
    }
    assert ServerlessState.from_json(written) == changed
    assert ServerlessState.from_json(None) is None


def test_nothing_provisioned_is_not_shown() -> None:
    assert ServerlessCapacity(max_concurrency=5).to_definition(1024) == {
        "MemorySizeInMB": 1024,
        "MaxConcurrency": 5,
    }


def test_processors_come_with_memory() -> None:
    assert [vcpus_of(mb) for mb in (1024, 2048, 6144)] == [1, 2, 4]


def test_quotas() -> None:
    quotas = ServerlessQuotas(concurrency=10, endpoints=2)

    quotas.check(5, [5], is_new=True)
    quotas.check(-5, [20], is_new=False)
    with pytest.raises(LimitExceeded, match=r"Total concurrency.* is 10, .*of 5 .*of 6"):
        quotas.check(6, [5], is_new=True)
    with pytest.raises(LimitExceeded, match="Number of serverless endpoints"):
        quotas.check(1, [1, 1], is_new=True)
