import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.resources.names import (
    Namespace,
    ResourceId,
    ResourceKind,
    is_endpoint_name,
    is_model_name,
    parse_arn,
)

NAMESPACE = Namespace("123456789012", "us-east-1")


@pytest.mark.parametrize("name", ["a", "A1", "a-b", "a--b", "x" * 63, "DEMO-ImageClassification"])
def test_a_name_of_letters_digits_and_inner_hyphens_is_good(name: str) -> None:
    assert is_endpoint_name(name)
    assert is_model_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "x" * 64, "a b", "é", "a\n"])
def test_any_other_name_is_refused(name: str) -> None:
    assert not is_endpoint_name(name)
    assert not is_model_name(name)


def test_an_arn_is_lower_cased_where_the_name_keeps_its_case() -> None:
    arn = NAMESPACE.arn(ResourceKind.ENDPOINT, "DEMO-Image")

    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/demo-image"


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_partition_follows_the_region(region: str, partition: str) -> None:
    assert Namespace("1" * 12, region).arn(ResourceKind.MODEL, "m").startswith(f"arn:{partition}:")


@given(
    st.sampled_from(ResourceKind),
    st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,20}", fullmatch=True),
)
def test_an_arn_leads_back_to_what_it_was_made_from(kind: ResourceKind, name: str) -> None:
    assert parse_arn(NAMESPACE.arn(kind, name)) == ResourceId(kind, name.lower())


@pytest.mark.parametrize(
    "arn", ["", "digits", "arn:aws:s3:::bucket", "arn:aws:sagemaker:us-east-1:12:endpoint/x"]
)
def test_what_is_no_sagemaker_arn_is_none(arn: str) -> None:
    assert parse_arn(arn) is None


def test_refusals_use_the_words_that_clients_match_on() -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012"

    assert NAMESPACE.could_not_find(ResourceKind.ENDPOINT_CONFIG, "C").message == (
        f'Could not find endpoint configuration "{arn}:endpoint-config/c".'
    )
    assert NAMESPACE.already_exists(ResourceKind.MODEL, "M").message == (
        f'Cannot create already existing model "{arn}:model/m".'
    )
    assert NAMESPACE.in_progress("E").message == (
        f'Cannot update in-progress endpoint "{arn}:endpoint/e".'
    )
