import pytest

from clary.resources.instance_types import instance_type, known_instance_types


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_gib", "gpus"),
    [("ml.t2.medium", 2, 4, 0), ("ml.c5.18xlarge", 72, 144, 0), ("ml.p4d.24xlarge", 96, 1152, 8)],
)
def test_a_known_type_has_its_size(name: str, vcpus: int, memory_gib: float, gpus: int) -> None:
    found = instance_type(name)

    assert (found.name, found.vcpus, found.memory_gib, found.gpus) == (
        name, vcpus, memory_gib, gpus,
    )  # fmt: skip


def test_an_unknown_type_is_small_and_has_a_gpu_when_its_family_does() -> None:
    assert instance_type("ml.m99.large").gpus == 0
    assert instance_type("ml.g99.xlarge").gpus == 1
    assert instance_type("ml.m99.large").vcpus == instance_type("ml.m5.large").vcpus


def test_within_a_family_more_of_one_means_no_less_of_the_other() -> None:
    families: dict[str, list[tuple[int, float]]] = {}
    for name, known in known_instance_types().items():
        families.setdefault(name.split(".")[1], []).append((known.vcpus, known.memory_gib))

    for family, sizes in families.items():
        memories = [memory for _, memory in sorted(sizes)]
        assert memories == sorted(memories), family


@pytest.mark.parametrize(
    "family",
    ["t2", "t3", "m4", "m5", "m5d", "m6i", "m7i", "c4", "c5", "c5d", "c6i", "c7i", "r5", "r6i",
     "g4dn", "g5", "g6", "p3", "p4d", "p5", "inf1", "inf2"],
)  # fmt: skip
def test_the_common_families_are_there(family: str) -> None:
    assert any(name.startswith(f"ml.{family}.") for name in known_instance_types())
