"""Metrics of instances that hold copies: what is reserved of them, and what copies use of them."""

import pytest

from clary.metrics.hosting_metrics import CopyUse, hosting_metrics
from clary.resources.inference_component import ComputeResources

SIZE = ComputeResources(cpu_cores=4.0, memory_mib=32 * 1024)
WITH_GPUS = ComputeResources(cpu_cores=4.0, memory_mib=32 * 1024, accelerators=4)
NOTHING = {"CPUReservation": 0.0, "MemoryReservation": 0.0}
UNUSED = {"CPUUtilization": 0.0, "CPUUtilizationNormalized": 0.0, "MemoryUtilization": 0.0}


def use(cores: float, memory_mib: int, gpus: int = 0, **usage: float) -> CopyUse:
    reserved = ComputeResources(cpu_cores=cores, memory_mib=memory_mib, accelerators=gpus)
    return CopyUse(reserved=reserved, usage=usage or None)


@pytest.mark.parametrize(
    ("size", "copies", "expected"),
    [
        pytest.param(SIZE, [], {**NOTHING, **UNUSED}, id="empty"),
        pytest.param(
            SIZE,
            [use(0.5, 512), use(1.5, 512)],
            {"CPUReservation": 50.0, "MemoryReservation": 3.125},
            id="never-measured",
        ),
        pytest.param(
            SIZE,
            [
                use(1, 1024, cpu_percent=150.0, memory_kib=1024.0**2, disk_percent=40.0),
                use(1, 1024, cpu_percent=50.0, memory_kib=3 * 1024.0**2, disk_percent=40.0),
                use(0, 1024),
            ],
            {
                "CPUReservation": 50.0,
                "MemoryReservation": 9.375,
                "CPUUtilization": 200.0,
                "CPUUtilizationNormalized": 50.0,
                "MemoryUtilization": 12.5,
                "DiskUtilization": 40.0,
            },
            id="two-of-three-measured",
        ),
        pytest.param(
            WITH_GPUS, [], {**NOTHING, **UNUSED, "GPUReservation": 0.0}, id="empty-with-gpus"
        ),
        pytest.param(
            WITH_GPUS,
            [
                use(0, 0, 1, cpu_percent=0.0, gpu_percent=80.0, gpu_memory_percent=50.0),
                use(0, 0, 1, cpu_percent=0.0, gpu_percent=120.0, gpu_memory_percent=150.0),
            ],
            {
                **NOTHING,
                **UNUSED,
                "GPUReservation": 50.0,
                "GPUUtilization": 200.0,
                "GPUUtilizationNormalized": 50.0,
                "GPUMemoryUtilization": 200.0,
                "GPUMemoryUtilizationNormalized": 50.0,
            },
            id="gpus",
        ),
    ],
)
def test_an_instance_has_what_its_copies_take(
    size: ComputeResources, copies: list[CopyUse], expected: dict[str, float]
) -> None:
    found = list(hosting_metrics("shared", "main", size, copies))
    assert {each.key.name: each.values.sum for each in found} == expected
    assert {each.key.namespace for each in found} == {"/aws/sagemaker/Endpoints"}
    assert {each.key.dimensions for each in found} == {
        (("EndpointName", "shared"), ("VariantName", "main"))
    }
    assert {(each.values.count, each.unit) for each in found} == {(1.0, "Percent")}
