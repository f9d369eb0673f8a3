"""Form uploads as boto3 prepares them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from clary.errors import AccessDenied, InvalidRequest
from clary.signing import post_policy
from clary.signing.keys import AccessKey

KEY = AccessKey("AKIAIOSFODNN7EXAMPLE", "s" * 40, "root", datetime.now(UTC))
KEYS = {KEY.id: KEY}
VERSIONS = pytest.mark.parametrize("version", ["s3", "s3v4"])


def now() -> datetime:
    return datetime.now(UTC)


def form(version: str = "s3v4", key: str = "up/${filename}", **options: Any) -> dict[str, str]:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://localhost:25279",
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        config=Config(signature_version=version),
    )
    fields: dict[str, str] = client.generate_presigned_post("bucket", key, **options)["fields"]
    return {**fields, "key": fields["key"].replace("${filename}", "a.txt")}


def verify(fields: dict[str, str], at: datetime | None = None) -> post_policy.PostPolicy:
    return post_policy.verify(fields, KEYS, at or now(), bucket="bucket")


def refusal(fields: dict[str, str], at: datetime | None = None) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        verify(fields, at)
    return caught.value


@VERSIONS
def test_what_boto3_prepares_verifies(version: str) -> None:
    policy = verify(form(version))
    assert (policy.key, policy.min_bytes, policy.max_bytes) == (KEY, 0, None)


@VERSIONS
def test_a_policy_ends_when_it_says(version: str) -> None:
    fields = form(version, ExpiresIn=60)
    refused = refusal(fields, now() + timedelta(seconds=62))
    assert refused.message == "Invalid according to Policy: Policy expired."


@VERSIONS
def test_a_changed_policy_or_key_does_not_verify(version: str) -> None:
    fields = form(version)
    other = base64.b64encode(base64.b64decode(fields["policy"]) + b" ").decode()
    assert refusal({**fields, "policy": other}).code == "SignatureDoesNotMatch"
    with pytest.raises(AccessDenied) as caught:
        post_policy.verify(fields, {}, now(), bucket="bucket")
    assert caught.value.code == "InvalidAccessKeyId"


def test_another_bucket_or_key_is_refused() -> None:
    fields = form()
    with pytest.raises(AccessDenied, match="Policy Condition failed"):
        post_policy.verify(fields, KEYS, now(), bucket="other")
    assert "Policy Condition failed" in refusal({**fields, "key": "elsewhere/a"}).message


def test_fields_without_condition_are_refused_unless_ignored() -> None:
    fields = form()
    assert "Extra input fields: acl" in refusal({**fields, "acl": "private"}).message
    assert verify({**fields, "x-ignore-me": "1", "file": ""}).key == KEY


def test_conditions_of_all_kinds() -> None:
    conditions = [
        {"acl": "public-read"},
        ["eq", "$success_action_status", "201"],
        ["starts-with", "$Content-Type", "image/"],
        ["content-length-range", 10, 20],
    ]
    extra = {"acl": "public-read", "success_action_status": "201", "Content-Type": "image/png"}
    fields = form(Fields=extra, Conditions=conditions)
    policy = verify(fields)
    assert (policy.min_bytes, policy.max_bytes) == (10, 20)
    for name in extra:
        assert "Policy Condition failed" in refusal({**fields, name: "other"}).message
    several = {**fields, "Content-Type": "image/png,text/html"}
    assert "Policy Condition failed" in refusal(several).message


def test_the_size_of_the_file_has_to_lie_in_the_range() -> None:
    policy = post_policy.PostPolicy(KEY, 10, 20)
    policy.check_size(5, complete=False)
    policy.check_size(10)
    policy.check_size(20)
    for size, code in ((9, "EntityTooSmall"), (21, "EntityTooLarge")):
        with pytest.raises(AccessDenied) as caught:
            policy.check_size(size)
        assert caught.value.code == code


def test_a_form_without_policy_is_refused_when_signatures_count() -> None:
    assert refusal({"key": "a"}).code == "AccessDenied"
    assert post_policy.check({"key": "a"}, None, now(), bucket="b").key is None


NO_POLICIES = [
    b"x",
    b"[]",
    b"{}",
    b'{"expiration": "soon", "conditions": []}',
    b'{"expiration": "2999-01-01T00:00:00Z", "conditions": {}}',
    b'{"expiration": "2999-01-01T00:00:00Z", "conditions": [1]}',
    b'{"expiration": "2999-01-01T00:00:00Z", "conditions": [["eq", "key", "a"]]}',
    b'{"expiration": "2999-01-01T00:00:00Z", "conditions": [["nonsense", "$key", "a"]]}',
    b'{"expiration": "2999-01-01T00:00:00Z", "conditions": [["content-length-range", -1, "x"]]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("policy", NO_POLICIES, ids=range(len(NO_POLICIES)))
def test_what_is_no_policy_is_refused(policy: bytes) -> None:
    fields = {"policy": base64.b64encode(policy).decode(), "key": "a"}
    with pytest.raises(InvalidRequest, match="Invalid Policy"):
        post_policy.check(fields, KEY, now(), bucket="bucket")


def test_expiration_with_an_offset_is_understood() -> None:
    policy = {"expiration": "2020-01-01T00:00:00+02:00", "conditions": [{"key": "a"}]}
    fields = {"policy": base64.b64encode(json.dumps(policy).encode()).decode(), "key": "a"}
    before = datetime(2019, 12, 31, 21, 59, tzinfo=UTC)
    assert post_policy.check(fields, KEY, before, bucket="b").key == KEY
    with pytest.raises(AccessDenied, match="expired"):
        post_policy.check(fields, KEY, before + timedelta(minutes=2), bucket="b")
