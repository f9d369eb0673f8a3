"""Metrics of instances: those of the containers on them, and those of transform jobs."""

from clary.metrics.endpoint_metrics import instance_metrics
from clary.resources.transform_job import route_name

USAGE = {
    "cpu_percent": 150.0,
    "memory_percent": 30.0,
    "disk_percent": 40.0,
    "containers": {
        "first": {"cpu_percent": 100.0, "memory_kib": 10, "memory_percent": 10.0},
        "second": {"cpu_percent": 50.0, "memory_kib": 20, "memory_percent": 20.0},
    },
}


def test_containers_have_processor_and_memory_of_their_own() -> None:
    found = {
        (dict(each.key.dimensions).get("ContainerName"), each.key.name): each.values.sum
        for each in instance_metrics("chained", "AllTraffic", "i-1", USAGE)
    }
    assert found == {
        (None, "CPUUtilization"): 150.0,
        (None, "MemoryUtilization"): 30.0,
        (None, "DiskUtilization"): 40.0,
        ("first", "CPUUtilization"): 100.0,
        ("first", "MemoryUtilization"): 10.0,
        ("second", "CPUUtilization"): 50.0,
        ("second", "MemoryUtilization"): 20.0,
    }


def test_those_of_transform_jobs_have_not() -> None:
    found = list(instance_metrics(route_name("nightly"), "AllTraffic", "i-1", USAGE))
    assert {each.key.dimensions for each in found} == {(("Host", "nightly/i-1"),)}
    assert len(found) == 3
