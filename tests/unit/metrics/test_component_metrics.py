"""Metrics of inference components: names, dimensions and what they are relative to."""

import pytest

from clary.metrics.component_metrics import component_metrics, usage_metrics
from clary.metrics.reports import Difference, Seen
from clary.metrics.statistics import StatisticSet
from clary.resources.inference_component import ComputeResources

OWN = (("InferenceComponentName", "llm"),)
PLACE = (("EndpointName", "shared"), ("VariantName", "main"))


def test_calls_are_counted_under_the_component_and_under_its_endpoint() -> None:
    change = Difference(
        invocations=4, client_errors=1, model_errors=1, model=StatisticSet.of(100.0, 4)
    )
    found = {
        (each.key.name, each.key.dimensions): each.values.sum
        for each in component_metrics("llm", "shared", "main", change, copies=2)
    }
    assert found == {
        ("Invocations", OWN): 4.0,
        ("InvocationsPerCopy", OWN): 2.0,
        ("Invocation4XXErrors", OWN): 1.0,
        ("Invocation5XXErrors", OWN): 0.0,
        ("InvocationModelErrors", OWN): 1.0,
        ("ModelLatency", OWN): 400.0,
        ("Invocations", PLACE): 4.0,
        ("Invocation4XXErrors", PLACE): 1.0,
        ("Invocation5XXErrors", PLACE): 0.0,
        ("InvocationModelErrors", PLACE): 1.0,
        ("ModelLatency", PLACE): 400.0,
    }


def test_refused_calls_are_counted_alone() -> None:
    change = Difference(no_capacity=3)
    (each,) = component_metrics("llm", "shared", "main", change, copies=0)
    assert (each.key.name, each.key.dimensions, each.values.sum) == (
        "NoCapacityInvocationFailures",
        OWN,
        3.0,
    )


def test_a_report_of_a_gateway_before_the_count_was_there_is_read() -> None:
    seen = Seen()
    document = seen.to_json()
    del document["numbers"]["no_capacity"]
    assert Seen(document).numbers["no_capacity"] == 0


@pytest.mark.parametrize(
    ("reserved", "expected"),
    [
        (
            ComputeResources(cpu_cores=2.0, accelerators=2, memory_mib=1024),
            {
                "CPUUtilizationNormalized": 50.0,
                "MemoryUtilizationNormalized": 25.0,
                "GPUUtilizationNormalized": 40.0,
                "GPUMemoryUtilizationNormalized": 10.0,
            },
        ),
        (
            ComputeResources(),
            {
                "CPUUtilizationNormalized": 100.0,
                "GPUUtilizationNormalized": 80.0,
                "GPUMemoryUtilizationNormalized": 20.0,
            },
        ),
    ],
    ids=["reserved", "nothing-reserved"],
)
def test_usage_is_relative_to_what_is_reserved(
    reserved: ComputeResources, expected: dict[str, float]
) -> None:
    usage = {
        "cpu_percent": 100.0,
        "memory_kib": 256 * 1024,
        "gpu_percent": 80.0,
        "gpu_memory_percent": 20.0,
    }
    found = {each.key.name: each.values.sum for each in usage_metrics("llm", reserved, usage)}
    assert found == expected
