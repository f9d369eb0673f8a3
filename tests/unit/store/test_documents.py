import json

from builders import a_container, a_model, a_variant, an_endpoint_config
from clary.resources.model import ModelDataSource
from clary.store.documents import (
    dump_endpoint_config,
    dump_model,
    load_endpoint_config,
    load_model,
)

SOURCE = ModelDataSource(uri="s3://b/p/", data_type="S3Prefix", compression="None")


def test_a_model_comes_back_as_it_was() -> None:
    model = a_model(
        containers=(
            a_container(environment={"A": "1"}, hostname="first"),
            a_container(model_data_source=SOURCE, mode="MultiModel"),
        )
    )

    assert load_model(json.loads(json.dumps(dump_model(model)))) == model


def test_a_configuration_comes_back_as_it_was() -> None:
    config = an_endpoint_config(
        variants=(a_variant("a", startup_timeout_s=60.0), a_variant("b", initial_weight=0.5)),
        shadow_variants=(a_variant("s"),),
        definition={"KmsKeyId": "k"},
    )

    assert load_endpoint_config(json.loads(json.dumps(dump_endpoint_config(config)))) == config
