"""Multipart uploads, with a stock client."""

import base64
import hashlib
import zlib
from typing import Any

import pytest

from s3_errors import refused

MIB = 1024**2


@pytest.fixture
def upload(s3: Any, bucket: str) -> dict[str, str]:
    """A new upload of the key ``big``."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    return {"Bucket": bucket, "Key": "big", "UploadId": upload_id}


def _part(s3: Any, upload: dict[str, str], number: int, body: bytes) -> dict[str, Any]:
    answer = s3.upload_part(**upload, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def test_parts_become_one_object(s3: Any, upload: dict[str, str]) -> None:
    bodies = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"end"]
    # In any order, one of them twice.
    _part(s3, upload, 1, b"replaced")
    last = _part(s3, upload, 9, bodies[2])
    parts = [_part(s3, upload, 1, bodies[0]), _part(s3, upload, 4, bodies[1]), last]
    _part(s3, upload, 5, b"not used")
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    md5s = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    place = {"Bucket": upload["Bucket"], "Key": "big"}
    assert s3.get_object(**place)["Body"].read() == b"".join(bodies)
    across = s3.get_object(**place, Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert across["Body"].read() == b"aabb"
    second = s3.head_object(**place, PartNumber=2)
    assert (second["ContentLength"], second["PartsCount"]) == (5 * MIB, 3)
    with refused("NoSuchUpload", 404):
        s3.list_parts(**upload)


def test_parts_are_listed_in_pages(s3: Any, upload: dict[str, str]) -> None:
    for number in (3, 1, 2):
        _part(s3, upload, number, b"x" * number)
    page = s3.list_parts(**upload, MaxParts=2)
    assert [(part["PartNumber"], part["Size"]) for part in page["Parts"]] == [(1, 1), (2, 2)]
    assert page["IsTruncated"]
    rest = s3.list_parts(**upload, PartNumberMarker=page["NextPartNumberMarker"])
    assert [part["PartNumber"] for part in rest["Parts"]] == [3]


def test_uploads_in_progress_are_listed(s3: Any, bucket: str) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    keys = [item["Key"] for page in pages for item in page.get("Uploads", ())]
    assert keys == ["a", "b/1", "b/2", "c"]
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [item["Key"] for item in rolled["Uploads"]] == ["a", "c"]
    assert rolled["CommonPrefixes"] == [{"Prefix": "b/"}]


def test_an_aborted_upload_is_gone(s3: Any, upload: dict[str, str]) -> None:
    part = _part(s3, upload, 1, b"x" * 100_000)
    s3.abort_multipart_upload(**upload)
    with refused("NoSuchUpload", 404):
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
    with refused("NoSuchUpload", 404):
        s3.upload_part(**upload, PartNumber=1, Body=b"x")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=upload["Bucket"])


def test_wrong_parts_are_refused_and_the_upload_goes_on(s3: Any, upload: dict[str, str]) -> None:
    one = _part(s3, upload, 1, b"x" * 5 * MIB)
    two = _part(s3, upload, 2, b"y")

    def complete(*parts: dict[str, Any]) -> Any:
        return s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": list(parts)})

    with refused("InvalidPartOrder", 400):
        complete(two, one)
    with refused("InvalidPart", 400):
        complete(one, {"PartNumber": 2, "ETag": one["ETag"]})
    with refused("InvalidPart", 400):
        complete(one, {"PartNumber": 7, "ETag": two["ETag"]})
    with refused("MalformedXML", 400):
        complete()
    with refused("InvalidArgument", 400):
        _part(s3, upload, 10_001, b"")
    complete(one, two)


def test_a_part_in_the_middle_has_to_have_5_mib(s3: Any, upload: dict[str, str]) -> None:
    parts = [_part(s3, upload, 1, b"x" * (5 * MIB - 1)), _part(s3, upload, 2, b"y")]
    with refused("EntityTooSmall", 400):
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def test_completing_can_insist_that_nothing_is_there(s3: Any, upload: dict[str, str]) -> None:
    parts = {"Parts": [_part(s3, upload, 1, b"x")]}
    s3.put_object(Bucket=upload["Bucket"], Key="big", Body=b"there")
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)


def test_parts_can_be_copied(s3: Any, upload: dict[str, str]) -> None:
    body = bytes(range(256)) * 24 * 1024
    s3.put_object(Bucket=upload["Bucket"], Key="source", Body=body)
    source = {"Bucket": upload["Bucket"], "Key": "source"}
    ranges = [f"bytes=0-{5 * MIB - 1}", f"bytes={5 * MIB}-{len(body) - 1}"]
    parts = []
    for number, wanted in enumerate(ranges, 1):
        copied = s3.upload_part_copy(
            **upload, PartNumber=number, CopySource=source, CopySourceRange=wanted
        )
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=upload["Bucket"], Key="big")["Body"].read() == body
    with refused("NoSuchUpload", 404):
        s3.upload_part_copy(**upload, PartNumber=3, CopySource=source)


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_the_whole_has_a_checksum(s3: Any, bucket: str, kind: str) -> None:
    created = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType=kind
    )
    place = {"Bucket": bucket, "Key": "k", "UploadId": created["UploadId"]}
    bodies = [b"a" * 5 * MIB, b"rest"]
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(**place, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        parts.append({**part, "ChecksumCRC32": answer["ChecksumCRC32"]})
    s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, ChecksumType=kind)
    crcs = [zlib.crc32(body).to_bytes(4, "big") for body in bodies]
    expected = zlib.crc32(b"".join(crcs if kind == "COMPOSITE" else bodies)).to_bytes(4, "big")
    suffix = "-2" if kind == "COMPOSITE" else ""
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == base64.b64encode(expected).decode() + suffix
    assert head["ChecksumType"] == kind


def test_a_digest_has_no_checksum_of_the_full_object(s3: Any, bucket: str) -> None:
    with refused("InvalidRequest", 400):
        s3.create_multipart_upload(
            Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT"
        )
