"""Service models and their patches."""

import pytest

from aws_values import MODELS
from clary.aws.service_models import SIGNING_NAMES, ServiceModels, candidates
from clary.errors import NotFound


def test_every_known_service_can_be_loaded() -> None:
    for names in SIGNING_NAMES.values():
        for name in names:
            assert MODELS.get(name).service_name == name


def test_control_and_runtime_sign_with_one_name() -> None:
    assert candidates("sagemaker") == ("sagemaker", "sagemaker-runtime")
    assert candidates("monitoring") == ("cloudwatch",)
    assert candidates("nonsense") == ()


@pytest.mark.parametrize("name", ["nonsense", "../s3", "ec2"])
def test_other_services_are_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        MODELS.get(name)


def test_a_patch_adds_to_a_model_and_leaves_the_rest() -> None:
    patch = {
        "shapes": {"AssumeRoleRequest": {"members": {"Extra": {"shape": "roleSessionNameType"}}}}
    }
    models = ServiceModels({"sts": patch})
    members = models.get("sts").shape_for("AssumeRoleRequest").members
    assert members["Extra"].type_name == "string"
    assert "RoleArn" in members
    assert "Extra" not in MODELS.get("sts").shape_for("AssumeRoleRequest").members
