"""What an instance has, and what it reserves of the machine."""

from builders import a_model
from clary.fleet.capacity import Capacity, Machine
from clary.fleet.failures import owner_of
from clary.fleet.instance import InstanceOrder
from clary.resources.inference_component import ComputeResources, hosts_name
from clary.resources.instance_types import instance_type


def an_order(**fields: object) -> InstanceOrder:
    defaults = {
        "id": "i-1",
        "endpoint_name": "digits",
        "variant_name": "AllTraffic",
        "instance_type": "ml.g5.12xlarge",
        "model": a_model(),
    }
    return InstanceOrder(**{**defaults, **fields})  # type: ignore[arg-type]


def a_copy(id: str, gpus: int = 1) -> InstanceOrder:
    share = ComputeResources(cpu_cores=0.25, accelerators=gpus, memory_mib=2048)
    return an_order(
        id=id,
        endpoint_name=hosts_name("digits"),
        variant_name="llm",
        hosted_variant="main",
        share=share,
    )


def test_an_instance_has_what_its_type_has() -> None:
    order = an_order()
    assert order.size == order.reserved == instance_type("ml.g5.12xlarge")
    assert order.log_path == "endpoints/digits/AllTraffic/i-1.log"
    assert not order.is_host


def test_an_instance_without_a_model_only_holds_copies() -> None:
    order = an_order(model=None)
    assert (order.is_host, order.containers, order.container_names) == (True, (), ())


def test_a_copy_has_its_share_and_reserves_only_gpus() -> None:
    order = a_copy("i-2")
    assert (order.size.vcpus, order.size.memory_gib, order.size.gpus) == (1, 2.0, 1)
    assert (order.reserved.vcpus, order.reserved.memory_gib, order.reserved.gpus) == (0, 0.0, 1)
    assert order.log_path == "components/llm/main/i-2.log"
    assert order.label == "inference-components/digits/llm/i-2"
    assert owner_of(order.endpoint_name, order.variant_name) == "inference component llm"


def test_copies_on_one_instance_get_gpus_of_their_own() -> None:
    machine = Machine(cores=48, memory_mib=192 * 1024, gpus=4)
    capacity = Capacity(machine, "strict")
    given = [capacity.reserve(f"i-{n}", a_copy(f"i-{n}", 2).reserved).gpus for n in range(2)]
    assert sorted(gpu for gpus in given for gpu in gpus) == [0, 1, 2, 3]
