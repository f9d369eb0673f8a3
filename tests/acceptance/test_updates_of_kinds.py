"""Updates of endpoints of all kinds: several variants, shadows, pipelines, many models."""

import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from load import Load, count_variants
from multi_models import MultiModelEndpoint
from server import IMAGE, ROLE, Server, wait_for
from updates import (
    RATE,
    WORD,
    a_config,
    a_model,
    an_endpoint_under_load,
    answers_since,
    blue_green,
    describe,
    update,
    variant_status,
)
from variants import a_variant_of, deploy_variants


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("kinds"), CLARY_FLEET_MAX_WORKERS="1") as running:
        a_model(running, "old", WORD.format(word="old"))
        yield running


def another_config(server: Server, old: str, new: str) -> str:
    """A configuration as another one is, by another name."""
    found = server.sagemaker.describe_endpoint_config(EndpointConfigName=old)
    members = ("ProductionVariants", "ShadowProductionVariants")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=new, **{name: found[name] for name in members if name in found}
    )
    return new


def test_variants_are_weighted_and_named_while_two_fleets_have_them(server: Server) -> None:
    """A is named, B has no weight; each call is answered by the variant that it is meant for."""
    variants = [
        a_variant_of(server, name, WORD.format(word=name), InitialVariantWeight=weight)
        for name, weight in (("first", 1), ("second", 0))
    ]
    deploy_variants(server, "pair", variants)
    with Load(server.port, "pair", rate=RATE) as load:
        update(
            server,
            "pair",
            another_config(server, "pair", "pair-new"),
            DeploymentConfig=blue_green(
                "CANARY", 2, 0, CanarySize={"Type": "CAPACITY_PERCENT", "Value": 50}
            ),
        )
        wait_for(
            lambda: variant_status(server, "pair").startswith("Baking"),
            timeout_s=20,
            what="the canary",
        )
        named = count_variants(server.port, "pair", 200, target="second")
        assert named == {"second": 200}
        assert server.wait_for_status("pair", "InService")["EndpointConfigName"] == "pair-new"
    assert load.failures == []
    assert {outcome.body for outcome in load.outcomes} == {b"first"}
    server.sagemaker.delete_endpoint(EndpointName="pair")


def test_a_shadow_goes_over_with_its_production_variant(server: Server) -> None:
    front = a_variant_of(server, "front", WORD.format(word="front"))
    behind = a_variant_of(server, "behind", WORD.format(word="behind"))
    deploy_variants(server, "mirrored", [front], [behind])
    with Load(server.port, "mirrored", rate=RATE) as load:
        update(server, "mirrored", another_config(server, "mirrored", "mirrored-new"))
        found = server.wait_for_status("mirrored", "InService")
        assert found["EndpointConfigName"] == "mirrored-new"
        assert found["ShadowProductionVariants"][0]["CurrentInstanceCount"] == 1
        wait_for(
            lambda: len(server.pids("clary-host", " mirrored/")) == 2,
            timeout_s=20,
            what="the old to stop",
        )
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 50, what="the load to go on")
    assert load.failures == []
    server.sagemaker.delete_endpoint(EndpointName="mirrored")


def test_a_pipeline_takes_the_place_of_a_single_container(server: Server) -> None:
    containers = []
    for word in ("a", "b"):
        code = (
            "def model_fn(d): ...\n"
            "def transform_fn(model, data, content_type, accept):\n"
            "    text = data.decode() if isinstance(data, bytes) else data\n"
            f"    return text.strip() + {word!r}, 'text/plain'\n"
        )
        url = server.upload({"code/inference.py": code}, f"step-{word}")
        containers.append({"Image": IMAGE, "ModelDataUrl": url})
    server.sagemaker.create_model(ModelName="steps", Containers=containers, ExecutionRoleArn=ROLE)
    with an_endpoint_under_load(server, "piped") as load:
        update(
            server,
            "piped",
            a_config(server, "piped-new", "steps"),
            DeploymentConfig=blue_green(
                "LINEAR", 0, 0, LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 50}
            ),
        )
        found = server.wait_for_status("piped", "InService")
        assert found["EndpointConfigName"] == "piped-new", found
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, what="calls after the update")
        assert answers_since(load, moment) == {b'{"x":1}ab'}


def test_models_of_a_multi_model_endpoint_go_over(server: Server) -> None:
    many = MultiModelEndpoint(server, "many").create()
    for target in ("x.tar.gz", "y.tar.gz"):
        many.put_named(target)
    before = many.invoke("x.tar.gz")["pid"]
    failures = []
    update(
        server,
        "many",
        another_config(server, "many", "many-new"),
        DeploymentConfig=blue_green(
            "LINEAR", 1, 0, LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 50}
        ),
    )
    while describe(server, "many")["EndpointStatus"] == "Updating":
        for target in ("x.tar.gz", "y.tar.gz"):
            try:
                assert many.invoke(target)["model"] == target.removesuffix(".tar.gz")
            except ClientError as error:
                failures.append(error)
    assert failures == []
    assert describe(server, "many")["EndpointConfigName"] == "many-new"
    assert many.invoke("x.tar.gz")["pid"] != before
