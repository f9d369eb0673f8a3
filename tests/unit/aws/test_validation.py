"""Constraints are told in AWS's words."""

import pytest

from aws_values import MODELS, operation
from clary.aws import patterns
from clary.aws.fault import Fault
from clary.aws.service_models import SIGNING_NAMES
from clary.aws.validation import find_faults, validate

NAME = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def faults(name: str, value: dict, service: str = "sagemaker") -> list[str]:
    return find_faults(operation(service, name).input_shape, value)


def test_a_broken_pattern_names_value_path_and_pattern() -> None:
    with pytest.raises(Fault) as caught:
        validate(
            operation("sagemaker", "CreateEndpoint").input_shape,
            {"EndpointName": "a_b", "EndpointConfigName": "c"},
        )
    assert caught.value.code == "ValidationException"
    assert caught.value.message == (
        "1 validation error detected: Value 'a_b' at 'endpointName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {NAME}"
    )


def test_all_faults_are_told_at_once_with_their_paths() -> None:
    variant = {
        "VariantName": "v",
        "ModelName": "_",
        "InitialInstanceCount": -1,
        "InstanceType": "big",
    }
    with pytest.raises(Fault) as caught:
        validate(
            operation("sagemaker", "CreateEndpointConfig").input_shape,
            {"ProductionVariants": [{"VariantName": "ok", "ModelName": "m"}, variant]},
        )
    message = caught.value.message
    failed = "failed to satisfy constraint: Member must"
    path = "productionVariants.2.member"
    count, *_ = message.partition(" detected: ")
    assert count == "4 validation errors"
    assert f"Value null at 'endpointConfigName' {failed} not be null; " in message
    assert f"; Value '_' at '{path}.modelName' {failed} satisfy regular expression" in message
    assert f"'-1' at '{path}.initialInstanceCount' {failed} have value greater than or " in message
    assert f"'big' at '{path}.instanceType' {failed} satisfy enum value set: [ml." in message


def test_lengths_of_text_and_lists() -> None:
    assert faults("CreateEndpoint", {"EndpointName": "a" * 64, "EndpointConfigName": "c"}) == [
        f"Value '{'a' * 64}' at 'endpointName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63",
        f"Value '{'a' * 64}' at 'endpointName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {NAME}",
    ]
    found = faults("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": []})
    assert found == [
        "Value '[]' at 'productionVariants' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1"
    ]


def test_maps_tell_all_that_their_keys_and_values_have_to_satisfy() -> None:
    value = {"ModelName": "m", "PrimaryContainer": {"Environment": {"1a": "x" * 2000}}}
    keys, values = faults("CreateModel", value)
    limit = "Member must have length less than or equal to 1024, "
    path = "at 'primaryContainer.environment' failed to satisfy constraint"
    assert f"{path}: Map keys must satisfy constraint: [{limit}" in keys
    assert f"{path}: Map value must satisfy constraint: [{limit}" in values


def test_a_null_in_a_list_is_a_fault() -> None:
    assert faults(
        "AddTags",
        {"ResourceArn": "arn:aws:sagemaker:eu-west-1:000000000000:endpoint/a", "Tags": [None]},
    ) == ["Value null at 'tags.1.member' failed to satisfy constraint: Member must not be null"]


def test_huge_values_are_cut_in_the_message() -> None:
    found = faults("CreateEndpoint", {"EndpointName": "-" * 1_000_000, "EndpointConfigName": "c"})
    assert all(len(text) < 500 for text in found)
    tags = [{"Key": "k" * 100, "Value": ""}] * 10_000
    assert all(len(text) < 500 for text in faults("AddTags", {"ResourceArn": "x", "Tags": tags}))


def test_thousands_of_faults_are_counted_and_not_all_listed() -> None:
    variants = [{"VariantName": "_"}] * 5_000
    with pytest.raises(Fault) as caught:
        validate(
            operation("sagemaker", "CreateEndpointConfig").input_shape,
            {"EndpointConfigName": "a", "ProductionVariants": variants},
        )
    assert caught.value.message.startswith("5001 validation errors detected")
    assert len(caught.value.message) < 30_000


def test_one_member_of_a_union_has_to_be_set() -> None:
    shape = next(
        MODELS.get("sagemaker").shape_for(name)
        for name in MODELS.get("sagemaker").shape_names
        if MODELS.get("sagemaker").shape_for(name).metadata.get("union")
    )
    assert "exactly one member" in find_faults(shape, {})[0]


def test_sensitive_values_are_not_repeated() -> None:
    shapes = MODELS.get("sagemaker-runtime")
    name = next(
        n
        for n in shapes.shape_names
        if shapes.shape_for(n).metadata.get("sensitive")
        and "max" in shapes.shape_for(n).metadata
        and shapes.shape_for(n).type_name == "string"
    )
    shape = shapes.shape_for(name)
    assert "secret" not in "".join(find_faults(shape, "secret" * 10_000))  # type: ignore[arg-type]


def test_a_good_request_has_no_faults() -> None:
    value = {
        "EndpointConfigName": "digits",
        "ProductionVariants": [
            {"VariantName": "AllTraffic", "ModelName": "digits", "InitialInstanceCount": 1,
             "InstanceType": "ml.m5.large", "InitialVariantWeight": 1.0}
        ],
        "Tags": [{"Key": "team \u00fc", "Value": "m/l=+@"}],
    }  # fmt: skip
    assert faults("CreateEndpointConfig", value) == []


@pytest.mark.parametrize("service", sorted(sum(SIGNING_NAMES.values(), ())))
def test_every_pattern_of_every_model_can_be_used(service: str) -> None:
    model = MODELS.get(service)
    texts = {
        model.shape_for(name).metadata.get("pattern")
        for name in model.shape_names
        if "pattern" in model.shape_for(name).metadata
    }
    unusable = [text for text in texts if patterns._compile(text, True) is None]
    assert unusable == []


PATTERNS = [
    (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "a \u00fc\u4e2d 1_.:/=+-@", True),
    (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "a!", False),
    (r"\p{ASCII}*", "abc\x7f", True),
    (r"\p{ASCII}*", "\u00fc", False),
    (r"\A\S[\p{Print}]*\z", "a b", True),
    (r"\A\S[\p{Print}]*\z", " a", False),
    (r"[\S\s]*", "a\nb", True),
    (r"[a-z]+", "abc\n", False),
    (r"^[a-z]+$", "abc\n", False),
    (r"\d+", "\u0661", False),
    (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\U0001f600\t", True),
    (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a\n", False),
    (r"[\w-_]*", "a-_", True),
    (r"([a-z]*)${1,256}", "abc", True),
]


@pytest.mark.parametrize(("pattern", "value", "expected"), PATTERNS)
def test_patterns_match_as_in_java(pattern: str, value: str, expected: bool) -> None:
    assert patterns.matches(pattern, value) is expected
