"""What a request for an inference component may say."""

from typing import Any

import pytest

from builders import A_TIME, a_container, a_model
from clary.errors import InvalidRequest
from clary.resources.component_requests import (
    base_of,
    check_definition,
    check_deployment,
    choose_spec,
    spec_of,
)
from clary.resources.inference_component import (
    ComputeResources,
    Placement,
    component_of_route,
    component_route,
    endpoint_of_hosts,
    hosts_name,
)
from clary.resources.instance_types import instance_type
from clary.resources.names import is_endpoint_name

NEEDS = {"MinMemoryRequiredInMb": 1024}
MODEL = {"ModelName": "m", "ComputeResourceRequirements": NEEDS}
IMAGE = {"Container": {"Image": "repo/image:1"}, "ComputeResourceRequirements": NEEDS}
ADAPTER = {
    "BaseInferenceComponentName": "base",
    "Container": {"ArtifactUrl": "s3://b/a.tar.gz"},
}


@pytest.mark.parametrize(
    "definition",
    [
        {"Specification": MODEL},
        {"Specification": IMAGE},
        {"Specification": ADAPTER},
        {"Specifications": [MODEL]},
        {
            "Specifications": [
                {**MODEL, "InstanceType": "ml.m5.large"},
                {**MODEL, "InstanceType": "ml.g5.xlarge"},
            ]
        },
    ],
    ids=["model", "image", "adapter", "one-of-several", "several"],
)
def test_good_definitions(definition: dict[str, Any]) -> None:
    check_definition(definition)


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({}, "needs a Specification"),
        ({"Specification": MODEL, "Specifications": [MODEL]}, "cannot both be given"),
        ({"Specifications": [MODEL, MODEL]}, "needs an InstanceType"),
        (
            {"Specifications": [{**MODEL, "InstanceType": "ml.m5.large"}] * 2},
            "needs an InstanceType, and each another one",
        ),
        ({"Specification": {"ModelName": "m"}}, "needs ComputeResourceRequirements"),
        ({"Specification": {"ComputeResourceRequirements": NEEDS}}, "needs a ModelName, or"),
        (
            {
                "Specification": {
                    "ModelName": "m",
                    "ComputeResourceRequirements": {**NEEDS, "MaxMemoryRequiredInMb": 1023},
                }
            },
            "cannot be less than",
        ),
        (
            {
                "Specification": {
                    "ModelName": "m",
                    "ComputeResourceRequirements": {
                        **NEEDS,
                        "AcceleratorPartitionType": "mig-1g.5gb",
                    },
                }
            },
            "does not partition accelerators",
        ),
        ({"Specification": {**ADAPTER, "ModelName": "m"}}, "cannot have ModelName"),
        (
            {"Specification": {**ADAPTER, "ComputeResourceRequirements": NEEDS}},
            "cannot have ComputeResourceRequirements",
        ),
        ({"Specification": {"BaseInferenceComponentName": "base"}}, "needs a Container with"),
        (
            {"Specification": {**ADAPTER, "Container": {"ArtifactUrl": "s3://b/a", "Image": "i"}}},
            "can only have an ArtifactUrl",
        ),
    ],
)
def test_definitions_that_contradict_themselves(definition: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_definition(definition)


def test_the_specification_of_the_instance_type_is_chosen() -> None:
    several = {"Specifications": [{**MODEL, "InstanceType": t} for t in ("ml.a", "ml.b")]}
    assert choose_spec(several, "ml.b")["InstanceType"] == "ml.b"
    assert choose_spec({"Specification": MODEL}, "ml.b") == MODEL
    with pytest.raises(InvalidRequest, match=r"of type ml\.c: none .* for ml\.a, ml\.b"):
        choose_spec(several, "ml.c")


def test_an_adapter_has_a_base_and_no_model() -> None:
    assert base_of({"Specification": ADAPTER}) == "base"
    assert base_of({"Specification": MODEL}) is None
    spec = spec_of(ADAPTER, "red", None, A_TIME)
    assert (spec.model, spec.artifact_url) == (None, "s3://b/a.tar.gz")


def test_a_container_becomes_a_model() -> None:
    container = {"Image": "i", "ArtifactUrl": "s3://b/m.tar.gz", "Environment": {"A": "b"}}
    spec = spec_of({**IMAGE, "Container": container}, "llm", None, A_TIME)
    assert spec.model is not None
    (made,) = spec.model.containers
    assert (made.image, made.model_data_url, made.environment) == (
        "i",
        "s3://b/m.tar.gz",
        {"A": "b"},
    )


def test_a_container_beside_a_model_says_what_is_different() -> None:
    model = a_model(containers=(a_container(environment={"A": "a", "B": "b"}),))
    beside = {**MODEL, "Container": {"Environment": {"B": "c"}}}
    spec = spec_of(beside, "llm", model, A_TIME)
    assert spec.model is not None
    (made,) = spec.model.containers
    assert (made.image, made.environment) == ("repo/image:1", {"A": "a", "B": "c"})


@pytest.mark.parametrize(
    "containers",
    [(), (a_container(), a_container()), (a_container(mode="MultiModel"),)],
    ids=["none", "pipeline", "multi-model"],
)
def test_models_that_no_component_can_run(containers: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequest, match="exactly one container, in SingleModel mode"):
        spec_of(MODEL, "llm", a_model(containers=containers), A_TIME)


@pytest.mark.parametrize(
    ("type", "value", "copies", "is_good"),
    [
        ("CAPACITY_PERCENT", 5, 1, True),
        ("CAPACITY_PERCENT", 50, 1, True),
        ("CAPACITY_PERCENT", 4, 100, False),
        ("CAPACITY_PERCENT", 51, 100, False),
        ("COPY_COUNT", 1, 0, True),
        ("COPY_COUNT", 1, 1, True),
        ("COPY_COUNT", 2, 4, True),
        ("COPY_COUNT", 3, 4, False),
    ],
)
def test_batches_are_at_most_half_of_the_copies(
    type: str, value: int, copies: int, is_good: bool
) -> None:
    config = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": type, "Value": value},
            "WaitIntervalInSeconds": 0,
        }
    }
    if is_good:
        check_deployment(config, copies)
    else:
        with pytest.raises(InvalidRequest, match="MaximumBatchSize"):
            check_deployment(config, copies)


def test_requirements_are_read() -> None:
    spec = spec_of(
        {
            "ModelName": "m",
            "ComputeResourceRequirements": {
                "NumberOfCpuCoresRequired": 0.25,
                "NumberOfAcceleratorDevicesRequired": 1.5,
                "MinMemoryRequiredInMb": 512,
            },
            "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": 90},
        },
        "llm",
        a_model(),
        A_TIME,
    )
    assert spec.needs == ComputeResources(cpu_cores=0.25, accelerators=2, memory_mib=512)
    assert spec.needs.words() == "0.25 CPU cores, 2 accelerators, 512 MB of memory"
    assert spec.placement is Placement.SPREAD
    assert (spec.startup_timeout_s, spec.download_timeout_s) == (90.0, None)


def test_an_instance_type_has_what_its_table_says() -> None:
    size = ComputeResources.of_type(instance_type("ml.g5.12xlarge"))
    assert size == ComputeResources(cpu_cores=48.0, accelerators=4, memory_mib=192 * 1024)


def test_no_endpoint_can_have_the_names_of_routes_and_copies() -> None:
    for name in (component_route("llm"), hosts_name("digits")):
        assert not is_endpoint_name(name)
    assert component_of_route(component_route("llm")) == "llm"
    assert component_of_route("digits") is None
    assert endpoint_of_hosts(hosts_name("digits")) == "digits"
    assert endpoint_of_hosts(component_route("llm")) is None
