from builders import a_container, a_model, a_variant, an_endpoint_config
from clary.resources.model import container_name


def test_a_single_container_is_called_primary_whatever_its_hostname() -> None:
    model = a_model(containers=(a_container(hostname="mine"),))

    assert container_name(model, 0) == "primary"


def test_one_of_several_containers_is_called_by_hostname_or_number() -> None:
    model = a_model(containers=(a_container(hostname="first"), a_container()))

    assert [container_name(model, i) for i in range(2)] == ["first", "container-2"]


def test_the_models_of_a_configuration_are_named_once_shadows_included() -> None:
    config = an_endpoint_config(
        variants=(a_variant("a", model_name="m"), a_variant("b", model_name=None)),
        shadow_variants=(a_variant("c", model_name="m"), a_variant("d", model_name="n")),
    )

    assert config.model_names == ("m", "n")


def test_a_variant_without_an_instance_type_is_serverless() -> None:
    assert a_variant(instance_type=None).is_serverless
    assert not a_variant().is_serverless
