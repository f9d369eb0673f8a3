import pytest

from clary.errors import PermanentError
from clary.fleet.capacity import INSUFFICIENT_CAPACITY, Capacity, Machine, count_workers
from clary.resources.instance_types import instance_type

MACHINE = Machine(cores=8, memory_mib=32 * 1024, gpus=2)


def test_strict_capacity_refuses_what_does_not_fit_in_aws_words() -> None:
    capacity = Capacity(MACHINE, "strict")
    capacity.reserve("i-1", instance_type("ml.m5.xlarge"))
    capacity.reserve("i-2", instance_type("ml.m5.large"))

    with pytest.raises(PermanentError) as caught:
        capacity.reserve("i-3", instance_type("ml.m5.xlarge"))

    assert caught.value.message == INSUFFICIENT_CAPACITY


def test_a_released_share_can_be_reserved_again() -> None:
    capacity = Capacity(MACHINE, "strict")
    capacity.reserve("i-1", instance_type("ml.m5.2xlarge"))
    capacity.release("i-1")

    capacity.reserve("i-2", instance_type("ml.m5.2xlarge"))


def test_reserving_twice_gives_the_same_share() -> None:
    capacity = Capacity(MACHINE, "strict")

    assert capacity.reserve("i-1", instance_type("ml.g5.xlarge")) == capacity.reserve(
        "i-1", instance_type("ml.g5.xlarge")
    )


def test_an_adopted_share_counts() -> None:
    first = Capacity(MACHINE, "strict")
    share = first.reserve("i-1", instance_type("ml.m5.2xlarge"))
    second = Capacity(MACHINE, "strict")
    second.restore("i-1", share)

    with pytest.raises(PermanentError):
        second.reserve("i-2", instance_type("ml.m5.large"))


def test_labels_share_the_machine_without_end() -> None:
    capacity = Capacity(MACHINE, "labels")

    for number in range(50):
        capacity.reserve(f"i-{number}", instance_type("ml.m5.24xlarge"))


def test_each_gpu_instance_gets_a_gpu_of_its_own_while_there_are_any() -> None:
    capacity = Capacity(MACHINE, "labels")
    shares = [capacity.reserve(f"i-{n}", instance_type("ml.g5.xlarge")).gpus for n in range(3)]

    assert shares == [(0,), (1,), (0,)]


def test_cpu_types_get_no_gpu() -> None:
    assert Capacity(MACHINE, "labels").reserve("i-1", instance_type("ml.m5.large")).gpus == ()


def test_strict_capacity_counts_gpus() -> None:
    capacity = Capacity(Machine(cores=96, memory_mib=1 << 30, gpus=1), "strict")
    capacity.reserve("i-1", instance_type("ml.g5.xlarge"))

    with pytest.raises(PermanentError):
        capacity.reserve("i-2", instance_type("ml.g5.xlarge"))


@pytest.mark.parametrize(
    ("type_name", "environment", "is_command", "max_workers", "expected"),
    [
        pytest.param("ml.m5.large", {}, False, 0, 2, id="one for each vCPU"),
        pytest.param("ml.m5.24xlarge", {}, False, 0, 8, id="no more than cores"),
        pytest.param("ml.m5.24xlarge", {}, False, 3, 3, id="no more than the setting"),
        pytest.param("ml.g5.12xlarge", {}, False, 0, 1, id="one on GPUs"),
        pytest.param("ml.m5.24xlarge", {}, True, 0, 1, id="a server of the user's own is one"),
        pytest.param(
            "ml.m5.large",
            {"SAGEMAKER_MODEL_SERVER_WORKERS": "7"},
            False,
            3,
            7,
            id="the model decides",
        ),
    ],
)
def test_workers_of_an_instance(
    type_name: str,
    environment: dict[str, str],
    is_command: bool,
    max_workers: int,
    expected: int,
) -> None:
    assert (
        count_workers(
            environment,
            instance_type(type_name),
            is_command=is_command,
            cores=8,
            max_workers=max_workers,
        )
        == expected
    )


@pytest.mark.parametrize(("containers", "expected"), [(1, 4), (2, 2), (3, 2), (15, 1)])
def test_containers_of_a_pipeline_share_the_vcpus(containers: int, expected: int) -> None:
    wanted = instance_type("ml.m5.xlarge")
    count = count_workers(
        {}, wanted, is_command=False, cores=8, max_workers=0, containers=containers
    )
    assert count == expected


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "1000"])
def test_a_number_of_workers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="SAGEMAKER_MODEL_SERVER_WORKERS"):
        count_workers(
            {"SAGEMAKER_MODEL_SERVER_WORKERS": text},
            instance_type("ml.m5.large"),
            is_command=False,
            cores=8,
            max_workers=0,
        )
