"""Checksums, chunked bodies and everything that a body is held against; partly on the raw wire."""

import base64
import gzip
import hashlib
import http.client
import zlib
from typing import Any
from urllib.parse import urlsplit

import pytest

from clary.objects.crc import Crc64Nvme
from s3_errors import refused

BODY = b"The quick brown fox jumps over the lazy dog" * 3000


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Answer:
    """A reply on the raw wire."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


def send(url: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """Send a request without signature; underscores in header names are dashes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_a_checksum_of_the_sdk_is_verified_kept_and_given_back(
    s3: Any, bucket: str, algorithm: str
) -> None:
    extra = {"ChecksumAlgorithm": algorithm} if algorithm != "CRC32C" else {}
    if not extra:  # computing CRC32C needs more than stock botocore
        extra = {"ChecksumCRC32C": "PmrA9w=="}
    body = BODY if algorithm != "CRC32C" else b"crc32c"
    if algorithm == "CRC32C":
        import google_crc32c

        extra["ChecksumCRC32C"] = _b64(google_crc32c.Checksum(body).digest())
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **extra)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert put[f"Checksum{algorithm}"] == head[f"Checksum{algorithm}"]
    assert head["ChecksumType"] == "FULL_OBJECT"
    assert f"Checksum{algorithm}" not in s3.head_object(Bucket=bucket, Key="k")


def test_the_checksum_of_the_aws_cli_is_verified(s3: Any, bucket: str) -> None:
    digest = Crc64Nvme()
    digest.update(BODY)
    value = _b64(digest.digest())
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumCRC64NVME=value)
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY + b"!", ChecksumCRC64NVME=value)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content_md5": _b64(hashlib.md5(b"other").digest())}, "BadDigest"),
        ({"content_md5": "no base64"}, "InvalidDigest"),
        ({"x_amz_checksum_crc32": _b64(zlib.crc32(b"other").to_bytes(4, "big"))}, "BadDigest"),
        ({"x_amz_checksum_sha256": _b64(b"short")}, "InvalidRequest"),
        ({"x_amz_checksum_sha1": _b64(hashlib.sha1(b"other").digest())}, "BadDigest"),
        ({"x_amz_checksum_xxhash64": "AAAAAAAAAAA="}, "NotImplemented"),
        (
            {"x_amz_checksum_crc32": "AAAAAA==", "x_amz_checksum_crc32c": "AAAAAA=="},
            "InvalidRequest",
        ),
        ({"x_amz_content_sha256": hashlib.sha256(b"o").hexdigest()}, "XAmzContentSHA256Mismatch"),
        ({"x_amz_content_sha256": "STREAMING-SOMETHING"}, "InvalidArgument"),
    ],
)
def test_a_body_that_is_not_as_promised_is_not_stored(
    s3: Any, s3_url: str, bucket: str, headers: dict[str, str], code: str
) -> None:
    for body in (b"small", BODY):
        answer = send(s3_url, "PUT", f"/{bucket}/k", body, **headers)
        assert f"<Code>{code}</Code>" in answer.text
        assert answer.status in (400, 501)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_right_promises_are_kept(s3: Any, s3_url: str, bucket: str) -> None:
    answer = send(
        s3_url,
        "PUT",
        f"/{bucket}/k",
        BODY,
        content_md5=_b64(hashlib.md5(BODY).digest()),
        x_amz_content_sha256=hashlib.sha256(BODY).hexdigest(),
        x_amz_checksum_sha512=_b64(hashlib.sha512(BODY).digest()),
    )
    assert answer.status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


def _chunked(body: bytes, trailer: str = "") -> bytes:
    middle = len(body) // 2
    parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:middle], body[middle:]) if p)
    return parts + b"0\r\n" + (f"{trailer}\r\n" if trailer else "").encode() + b"\r\n"


def _send_chunked(url: str, path: str, wire: bytes, length: int, **headers: str) -> Answer:
    return send(
        url,
        "PUT",
        path,
        wire,
        content_encoding="aws-chunked,gzip",
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_decoded_content_length=str(length),
        **headers,
    )


def test_chunks_are_decoded_and_their_trailer_verified(s3: Any, s3_url: str, bucket: str) -> None:
    body = gzip.compress(BODY)
    crc = _b64(zlib.crc32(body).to_bytes(4, "big"))
    wire = _chunked(body, f"x-amz-checksum-crc32:{crc}")
    answer = _send_chunked(
        s3_url, f"/{bucket}/k", wire, len(body), x_amz_trailer="x-amz-checksum-crc32"
    )
    assert answer.status == 200, answer.text
    stored = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert stored["Body"].read() == body
    assert (stored["ContentEncoding"], stored["ChecksumCRC32"]) == ("gzip", crc)


@pytest.mark.parametrize(
    ("wire", "length", "code"),
    [
        (_chunked(b"abcd", "x-amz-checksum-crc32:AAAAAA=="), 4, "BadDigest"),
        (_chunked(b"abcd"), 4, "MalformedTrailerError"),
        (_chunked(b"abcd", "x-amz-checksum-crc32:AAAAAA==")[:-12], 4, "IncompleteBody"),
        (_chunked(b"abcd", "x-amz-checksum-crc32:AAAAAA=="), 5, "IncompleteBody"),
        (b"zz\r\nabcd\r\n0\r\n\r\n", 4, "InvalidChunkSizeError"),
    ],
)
def test_broken_chunks_are_refused(
    s3: Any, s3_url: str, bucket: str, wire: bytes, length: int, code: str
) -> None:
    answer = _send_chunked(
        s3_url, f"/{bucket}/k", wire, length, x_amz_trailer="x-amz-checksum-crc32"
    )
    assert f"<Code>{code}</Code>" in answer.text
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_body_in_http_chunks_is_taken(s3: Any, s3_url: str, bucket: str) -> None:
    parts = iter([b"one", b"two"])
    connection = http.client.HTTPConnection(urlsplit(s3_url).netloc, timeout=20)
    connection.request("PUT", f"/{bucket}/k", body=parts, encode_chunked=True)
    assert Answer(connection.getresponse()).status == 200
    connection.close()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"onetwo"


def test_an_upload_that_breaks_off_leaves_nothing(s3: Any, s3_url: str, bucket: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(s3_url).netloc, timeout=20)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.putheader("content-length", str(50 * 1024**2))
    connection.endheaders(b"x" * 3 * 1024**2)
    connection.close()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_more_than_5_gib_in_one_go_is_refused_before_it_is_sent(s3_url: str, bucket: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(s3_url).netloc, timeout=20)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.putheader("content-length", str(6 * 1024**3))
    connection.putheader("expect", "100-continue")
    connection.endheaders()
    answer = Answer(connection.getresponse())
    connection.close()
    assert "<Code>EntityTooLarge</Code>" in answer.text
    assert answer.headers["connection"] == "close"


# Wire forms ---------------------------------------------------------------------------------


def test_an_error_names_code_resource_and_request(s3_url: str, bucket: str) -> None:
    answer = send(s3_url, "GET", f"/{bucket}/none", x_clary_request_id="R1")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/xml"
    for text in (
        "<Code>NoSuchKey</Code>",
        "<Message>The specified key does not exist.</Message>",
        f"<Resource>/{bucket}/none</Resource>",
        "<RequestId>R1</RequestId>",
    ):
        assert text in answer.text
    assert answer.headers["x-amz-request-id"] == "R1"


def test_an_error_of_head_has_no_body(s3_url: str, bucket: str) -> None:
    answer = send(s3_url, "HEAD", f"/{bucket}/none")
    assert (answer.status, answer.text) == (404, "")


def test_metadata_that_is_no_ascii_comes_back_encoded(s3_url: str, bucket: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(s3_url).netloc, timeout=20)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.putheader("x-amz-meta-name", "Zürich".encode())
    connection.putheader("content-length", "0")
    connection.endheaders()
    assert Answer(connection.getresponse()).status == 200
    connection.close()
    answer = send(s3_url, "HEAD", f"/{bucket}/k")
    assert answer.headers["x-amz-meta-name"].lower() == "=?utf-8?b?wsO8cmljaa==?=".lower() or (
        answer.headers["x-amz-meta-name"].lower() == "=?utf-8?q?z=c3=bcrich?="
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/{b}?delete", b"<Delete>", "MalformedXML"),
        ("POST", "/{b}?delete", b"<Delete/>", "MalformedXML"),
        ("POST", "/{b}?delete", b"", "MalformedXML"),
        (
            "POST",
            "/{b}?delete",
            b'<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>',
            "MalformedXML",
        ),
        (
            "PUT",
            "/{b}?versioning",
            b"<VersioningConfiguration><Status>Maybe</Status></VersioningConfiguration>",
            "MalformedXML",
        ),
        ("PUT", "/{b}?tagging", b"", "MissingRequestBodyError"),
        ("PUT", "/{b}?policy", b"no json", "MalformedPolicy"),
        ("PATCH", "/{b}/k", b"", "MethodNotAllowed"),
        ("GET", "/{b}/%ff", None, "InvalidURI"),
        ("GET", "/{b}?max-keys=some", None, "InvalidArgument"),
        ("GET", "/{b}?encoding-type=zip", None, "InvalidArgument"),
        ("GET", "/{b}/k?torrent", None, "NotImplemented"),
        ("POST", "/{b}?delete", b"x" * (9 * 1024**2), "MaxMessageLengthExceeded"),
    ],
)
def test_bad_requests_get_the_right_code(
    s3_url: str, bucket: str, method: str, path: str, body: bytes | None, code: str
) -> None:
    answer = send(s3_url, method, path.format(b=bucket), body)
    assert f"<Code>{code}</Code>" in answer.text
    assert 400 <= answer.status < 500 or code == "NotImplemented"


@pytest.mark.parametrize(
    "host",
    [
        "{b}.localhost",
        "{b}.s3.localhost:25279",
        "{b}.s3.amazonaws.com",
        "{b}.s3.eu-west-1.amazonaws.com",
    ],
)
def test_the_bucket_may_be_in_the_name_of_the_host(
    s3: Any, s3_url: str, bucket: str, host: str
) -> None:
    name = host.format(b=bucket)
    assert send(s3_url, "PUT", "/a/b", b"x", host=name).status == 200
    assert send(s3_url, "GET", "/a/b", host=name).text == "x"
    assert f"<Name>{bucket}</Name>" in send(s3_url, "GET", "/?list-type=2", host=name).text
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"x"
