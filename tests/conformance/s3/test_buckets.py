"""Buckets, with a stock client."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3_errors import refused


def test_a_new_bucket_is_listed_with_its_date_and_owner(s3: Any, bucket: str) -> None:
    answer = s3.list_buckets()
    assert bucket in [found["Name"] for found in answer["Buckets"]]
    assert len(answer["Owner"]["ID"]) == 64


def test_creating_ones_own_bucket_again_in_us_east_1_succeeds(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="kept", Body=b"1")
    assert s3.create_bucket(Bucket=bucket)["Location"] == f"/{bucket}"
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"1"


def test_a_bucket_elsewhere_remembers_its_place_and_cannot_be_made_twice(s3: Any) -> None:
    place = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket="elsewhere-1", CreateBucketConfiguration=place)
    assert s3.get_bucket_location(Bucket="elsewhere-1")["LocationConstraint"] == "eu-central-1"
    head = s3.head_bucket(Bucket="elsewhere-1")
    assert head["BucketRegion"] == "eu-central-1"
    with refused("BucketAlreadyOwnedByYou", 409):
        s3.create_bucket(Bucket="elsewhere-1", CreateBucketConfiguration=place)


def test_a_bucket_in_us_east_1_has_no_location_constraint(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"


def test_us_east_1_is_no_location_constraint(s3: Any) -> None:
    with refused("InvalidLocationConstraint", 400):
        s3.create_bucket(
            Bucket="wrong-place", CreateBucketConfiguration={"LocationConstraint": "us-east-1"}
        )


@pytest.mark.parametrize("name", ["Upper", "a..b", "192.168.5.4", "xn--a", "under_score"])
def test_names_that_no_bucket_may_have_are_refused(s3: Any, name: str) -> None:
    with refused("InvalidBucketName", 400):
        s3.create_bucket(Bucket=name)


def test_only_an_empty_bucket_can_be_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 100_000)
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=bucket)


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket="not-there")
    assert caught.value.response["Error"]["Code"] == "404"
    for call in (
        lambda: s3.delete_bucket(Bucket="not-there"),
        lambda: s3.put_object(Bucket="not-there", Key="k", Body=b""),
        lambda: s3.get_object(Bucket="not-there", Key="k"),
        lambda: s3.delete_object(Bucket="not-there", Key="k"),
        lambda: s3.create_multipart_upload(Bucket="not-there", Key="k"),
        lambda: s3.get_bucket_policy(Bucket="not-there"),
        lambda: s3.put_bucket_versioning(
            Bucket="not-there", VersioningConfiguration={"Status": "Enabled"}
        ),
    ):
        with refused("NoSuchBucket", 404):
            call()


def test_buckets_can_be_paged(s3: Any) -> None:
    for number in range(3):
        s3.create_bucket(Bucket=f"paged-{number}")
    pages = s3.get_paginator("list_buckets").paginate(
        Prefix="paged-", PaginationConfig={"PageSize": 2}
    )
    names = [[found["Name"] for found in page["Buckets"]] for page in pages]
    assert names == [["paged-0", "paged-1"], ["paged-2"]]


def test_the_expected_owner_is_held_against_the_real_one(s3: Any, bucket: str) -> None:
    s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="123456789012")
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="999999999999")
    with pytest.raises(ClientError, match="403"):
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="999999999999")
