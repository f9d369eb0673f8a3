"""Objects, with a stock client."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3_errors import refused

KEYS = [
    "plain",
    "../../etc/x",
    "/leading",
    "trailing/",
    "a//b",
    ".",
    "sp ace+plus%41",
    "q?x=1&y#z",
    "ünïcödé/😀",
    "new\nline",
    "k" * 1024,
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_any_key_is_just_a_key(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == key.encode()
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key=key)


def test_a_key_of_more_than_1024_bytes_is_refused(s3: Any, bucket: str) -> None:
    with refused("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key="ü" * 513, Body=b"")


def test_headers_and_metadata_come_back(s3: Any, bucket: str) -> None:
    given = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "identity",
        "ContentLanguage": "de",
        "ContentType": "text/plain; charset=utf-8",
        "WebsiteRedirectLocation": "/other",
        "StorageClass": "STANDARD_IA",
    }
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    s3.put_object(
        Bucket=bucket,
        Key="k",
        Body=b"x",
        Expires=expires,
        Metadata={"Mixed-Case": "value, with comma", "empty": ""},
        **given,
    )
    read = s3.get_object(Bucket=bucket, Key="k")
    read["Body"].read()
    for answer in (s3.head_object(Bucket=bucket, Key="k"), read):
        assert {name: answer[name] for name in given} == given
        assert answer["ExpiresString"] == "Wed, 02 Jan 2030 03:04:05 GMT"
        assert answer["Metadata"] == {"mixed-case": "value, with comma", "empty": ""}
        assert answer["ContentLength"] == 1
        assert datetime.now(UTC) - answer["LastModified"] < timedelta(minutes=1)


def test_an_object_without_content_type_has_the_default(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_too_much_metadata_is_refused(s3: Any, bucket: str) -> None:
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2048})


def test_replies_can_be_given_other_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    answer = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="application/x-own",
        ResponseContentDisposition="inline",
        ResponseCacheControl="no-store",
    )
    assert answer["ContentType"] == "application/x-own"
    assert answer["ContentDisposition"] == "inline"
    assert answer["CacheControl"] == "no-store"
    answer["Body"].read()


def test_what_is_not_there(s3: Any, bucket: str) -> None:
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="not-there")
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key="not-there")
    assert caught.value.response["Error"] == {"Code": "404", "Message": "Not Found"}
    s3.delete_object(Bucket=bucket, Key="not-there")


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_001])
def test_bytes_of_any_size_come_back(s3: Any, bucket: str, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    s3.put_object(Bucket=bucket, Key="k", Body=body[:size])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body[:size]
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


def test_the_last_write_wins(s3: Any, bucket: str) -> None:
    for body in (b"x" * 200_000, b"small", b"y" * 100_000, b""):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 1


def test_a_reader_keeps_the_object_that_is_replaced_under_it(s3: Any, bucket: str) -> None:
    old = b"o" * 20_000_000
    s3.put_object(Bucket=bucket, Key="k", Body=old)
    reading = s3.get_object(Bucket=bucket, Key="k")["Body"]
    first = reading.read(1000)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    s3.delete_object(Bucket=bucket, Key="k")
    assert first + reading.read() == old


# Ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-500", b"56789", "bytes 5-9/10"),
    ],
)
def test_a_range_gives_its_bytes(
    s3: Any, bucket: str, header: str, expected: bytes, content_range: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="k", Range=header)
    assert answer["Body"].read() == expected
    assert answer["ContentRange"] == content_range
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206


@pytest.mark.parametrize("header", ["bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4"])
def test_what_is_no_range_is_ignored(s3: Any, bucket: str, header: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="k", Range=header)
    assert answer["Body"].read() == b"0123456789"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_range_behind_the_end_is_refused(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    assert caught.value.response["Error"]["Code"] == "InvalidRange"
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-range"] == "bytes */10"


# Conditions ---------------------------------------------------------------------------------


def test_readers_are_told_that_nothing_has_changed(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for condition in ({"IfNoneMatch": etag}, {"IfModifiedSince": modified}):
        for call in (s3.get_object, s3.head_object):
            with refused("304", 304):
                call(Bucket=bucket, Key="k", **condition)


def test_readers_can_insist_on_what_they_know(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    s3.head_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="k", IfUnmodifiedSince=datetime(2020, 1, 1, tzinfo=UTC))
    with refused("412", 412):
        s3.head_object(Bucket=bucket, Key="k", IfMatch='"other"')


def test_writers_can_insist_that_nothing_is_there(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_writers_can_insist_on_what_they_know(s3: Any, bucket: str) -> None:
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", IfMatch='"any"')
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)


# Copies -------------------------------------------------------------------------------------


def test_a_copy_has_bytes_and_headers_of_its_source(s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket, Key="a", Body=b"x" * 100_000, ContentType="text/css", Metadata={"m": "1"}
    )
    answer = s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    copy = s3.get_object(Bucket=bucket, Key="b")
    assert copy["Body"].read() == b"x" * 100_000
    assert (copy["ContentType"], copy["Metadata"]) == ("text/css", {"m": "1"})
    assert answer["CopyObjectResult"]["ETag"] == copy["ETag"]
    s3.delete_object(Bucket=bucket, Key="a")
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == b"x" * 100_000


def test_a_copy_can_have_headers_of_its_own(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", ContentType="text/css", Metadata={"m": "1"})
    source = {"Bucket": bucket, "Key": "a"}
    s3.copy_object(
        Bucket=bucket,
        Key="a",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/plain",
        Metadata={"n": "2"},
    )
    changed = s3.head_object(Bucket=bucket, Key="a")
    assert (changed["ContentType"], changed["Metadata"]) == ("text/plain", {"n": "2"})


def test_a_copy_onto_itself_has_to_change_something(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="a", CopySource={"Bucket": bucket, "Key": "a"})


def test_copies_can_be_conditional(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "a"}
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source, CopySourceIfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"no"')
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, CopySourceIfNoneMatch=etag)
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "none"})


# Deleting, tagging, attributes ---------------------------------------------------------------


def test_many_objects_go_at_once_and_quietly(s3: Any, bucket: str) -> None:
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k0"}, {"Key": "gone"}]})
    assert [item["Key"] for item in answer["Deleted"]] == ["k0", "gone"]
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "k1"}, {"Key": "k2", "VersionId": "v9"}], "Quiet": True},
    )
    assert "Deleted" not in answer
    assert [item["Code"] for item in answer["Errors"]] == ["NoSuchVersion"]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k2"]


def test_tags_are_kept_and_counted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&b=x%20y")
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x y"}]
    assert s3.head_object(Bucket=bucket, Key="k")["TagCount"] == 2
    new = [{"Key": "c", "Value": ""}]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": new})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == new
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with refused("BadRequest", 400):
        many = [{"Key": str(n), "Value": ""} for n in range(11)]
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": many})


def test_everything_belongs_to_its_owner(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ACL="private")
    for acl in (s3.get_object_acl(Bucket=bucket, Key="k"), s3.get_bucket_acl(Bucket=bucket)):
        (grant,) = acl["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
        assert grant["Grantee"]["ID"] == acl["Owner"]["ID"]
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")


def test_encryption_headers_are_echoed(s3: Any, bucket: str) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="aws:kms", SSEKMSKeyId="arn:key"
    )
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "arn:key")
    assert s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"] == "aws:kms"
    s3.put_object(Bucket=bucket, Key="plain", Body=b"")
    assert s3.head_object(Bucket=bucket, Key="plain")["ServerSideEncryption"] == "AES256"


def test_attributes_tell_size_checksum_and_parts(s3: Any, bucket: str, big_file: Path) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm="SHA256")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert answer["ObjectSize"] == 5
    assert answer["ETag"] == "827ccb0eea8a706c4c34a16891f84e7b"
    assert answer["Checksum"]["ChecksumSHA256"] == "WZRHGrsBESr8wYFZ9sx0tPURuZgG2lmzyvWpwXPKz8U="
    assert answer["StorageClass"] == "STANDARD"
    assert "ObjectParts" not in answer
    s3.upload_file(str(big_file), bucket, "big")
    parts = s3.get_object_attributes(Bucket=bucket, Key="big", ObjectAttributes=wanted)
    assert parts["ObjectParts"]["TotalPartsCount"] == 2


def test_one_version_is_listed_of_each_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    (version,) = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("k", "null", True)
    s3.head_object(Bucket=bucket, Key="k", VersionId="null")
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=bucket, Key="k", VersionId="something")


def test_transfers_of_the_sdk_use_parts_both_ways(s3: Any, bucket: str, big_file: Path) -> None:
    s3.upload_file(str(big_file), bucket, "big", ExtraArgs={"ContentType": "x/y"})
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ETag"].endswith('-2"')
    assert head["ContentType"] == "x/y"
    received = io.BytesIO()
    s3.download_fileobj(bucket, "big", received)
    assert received.getvalue() == big_file.read_bytes()
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copy")
    assert s3.head_object(Bucket=bucket, Key="copy")["ContentLength"] == 12 * 1024**2


def test_waiters_of_the_sdk_end(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="k")
    s3.get_waiter("bucket_exists").wait(Bucket=bucket)
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key="other")
