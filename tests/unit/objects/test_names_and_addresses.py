"""Names of buckets, and what a request's address means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.aws.fault import Fault
from clary.objects.addressing import to_path_style
from clary.objects.naming import check_key, is_bucket_name
from clary.signing.hosts import HostNames


@pytest.mark.parametrize("name", ["abc", "a-b.c", "0" * 63, "sagemaker-us-east-1-123456789012"])
def test_names_that_buckets_may_have(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 64, "Abc", "a_b", "-ab", "ab-", "a..b", "a.-b", "a-.b", "10.0.0.1", "xn--ab",
     "sthree-a", "a-s3alias", "a--ol-s3", "a b", "a\n", "äbc", "../..", ".", ".."],
)  # fmt: skip
def test_names_that_no_bucket_may_have(name: str) -> None:
    assert not is_bucket_name(name)


def test_a_key_may_have_1024_bytes() -> None:
    check_key("ü" * 512)
    with pytest.raises(Fault, match="KeyTooLongError"):
        check_key("ü" * 512 + "x")


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("localhost", None),
        ("localhost:25279", None),
        ("127.0.0.1:25279", None),
        ("[::1]:25279", None),
        ("s3.localhost:25279", None),
        ("b.localhost", "b"),
        ("b.s3.localhost:25279", "b"),
        ("my.bucket.S3.localhost", "my.bucket"),
        ("s3.amazonaws.com", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("b.s3.amazonaws.com", "b"),
        ("b.s3.us-west-2.amazonaws.com", "b"),
        ("a.b.s3.us-west-2.amazonaws.com", "a.b"),
        ("b.s3-us-west-2.amazonaws.com", "b"),
        ("b.s3.dualstack.us-west-2.amazonaws.com", "b"),
        ("ml.example.org", None),
        ("s3.ml.example.org", None),
        ("b.ml.example.org:80", "b"),
        ("b.s3.ml.example.org", "b"),
        ("other.org", None),
        ("", None),
    ],
)
def test_a_host_may_name_a_bucket(host: str, bucket: str | None) -> None:
    assert HostNames(["*.ml.example.org"]).find_bucket(host) == bucket


def test_a_bucket_of_the_host_comes_in_front_of_the_path() -> None:
    assert to_path_style("/a%20b/", "b.c") == "/b.c/a%20b/"
    assert to_path_style("/b/k", None) == "/b/k"
    with pytest.raises(Fault, match="InvalidURI"):
        to_path_style("/b/%ff", None)


@given(st.text(max_size=60))
def test_any_host_has_an_answer(host: str) -> None:
    HostNames(["x.org"]).find_bucket(host)
