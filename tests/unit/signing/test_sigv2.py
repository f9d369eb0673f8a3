"""SigV2 as boto3 makes it for presigned URLs, and old clients for headers."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import HmacV1Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel

from clary.errors import AccessDenied
from clary.signing import sigv2
from clary.signing.keys import AccessKey
from clary.signing.sigv4 import SignedRequest

KEY = AccessKey("AKIAIOSFODNN7EXAMPLE", "s" * 40, "root", datetime.now(UTC))
KEYS = {KEY.id: KEY}


def now() -> datetime:
    return datetime.now(UTC)


def client(style: str = "path") -> Any:
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://localhost:25279",
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        config=Config(signature_version="s3", s3={"addressing_style": style}),
    )


def opened(url: str, method: bytes = b"GET", **headers: bytes) -> SignedRequest:
    parts = urlsplit(url)
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return SignedRequest(
        method,
        parts.path.encode(),
        parts.query.encode(),
        {b"host": parts.netloc.encode(), **named},
        None,
    )


def refusal(request: SignedRequest, at: datetime | None = None) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        sigv2.verify(request, KEYS, at or now())
    return caught.value


CALLS = [
    ("get_object", {"Key": "k"}, b"GET"),
    ("get_object", {"Key": "a b/\u00fc+~"}, b"GET"),
    ("get_object", {"Key": "k", "ResponseContentType": "a/b; c=d", "VersionId": "1+2"}, b"GET"),
    ("get_object", {"Key": "k", "ResponseContentDisposition": 'inline; filename="a b"'}, b"GET"),
    ("upload_part", {"Key": "k", "PartNumber": 1, "UploadId": "x/y="}, b"PUT"),
    ("list_objects_v2", {"Prefix": "a/"}, b"GET"),
    ("get_bucket_tagging", {}, b"GET"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "parameters", "method"), CALLS)
def test_presigned_urls_of_boto3_verify(
    operation: str, parameters: dict[str, Any], method: bytes
) -> None:
    url = client().generate_presigned_url(operation, {"Bucket": "bucket", **parameters})
    assert "AWSAccessKeyId=" in url
    assert sigv2.is_signed(opened(url, method))
    assert sigv2.verify(opened(url, method), KEYS, now()) == KEY


def test_a_bucket_in_the_host_is_part_of_the_resource() -> None:
    url = client("virtual").generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
    assert "//bucket.localhost" in url
    request = opened(url)
    assert sigv2.verify(request, KEYS, now(), bucket_of_host=b"bucket") == KEY
    assert refusal(request).code == "SignatureDoesNotMatch"


def test_a_presigned_put_fixes_its_content_type_and_metadata() -> None:
    url = client().generate_presigned_url(
        "put_object",
        {"Bucket": "b", "Key": "k", "ContentType": "text/plain", "Metadata": {"a": "b c"}},
    )
    assert sigv2.verify(opened(url, b"PUT", content_type=b"text/plain"), KEYS, now()) == KEY
    changed = opened(url.replace("text%2Fplain", "text%2Fhtml"), b"PUT")
    assert refusal(changed).code == "SignatureDoesNotMatch"


def test_a_presigned_url_ends_when_it_says() -> None:
    url = client().generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"}, ExpiresIn=60)
    late = refusal(opened(url), now() + timedelta(seconds=62))
    assert (late.code, late.message) == ("AccessDenied", "Request has expired")


@pytest.mark.parametrize("expires", [b"", b"soon", b"-1", b"9" * 5000])
def test_a_wrong_end_is_refused(expires: bytes) -> None:
    request = opened("http://h/b/k")._replace(
        query=b"AWSAccessKeyId=" + KEY.id.encode() + b"&Signature=x&Expires=" + expires
    )
    assert refusal(request).code == "AccessDenied"


def test_a_changed_url_does_not_verify() -> None:
    url = client().generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
    assert refusal(opened(url, b"DELETE")).code == "SignatureDoesNotMatch"
    assert refusal(opened(url.replace("/b/k", "/b/other"))).code == "SignatureDoesNotMatch"
    assert refusal(opened(url + "&versionId=1")).code == "SignatureDoesNotMatch"
    assert refusal(opened(url.replace(KEY.id, "AKIAOTHER"))).code == "InvalidAccessKeyId"


def test_header_signatures_of_botocore_verify() -> None:
    request = AWSRequest("PUT", "http://localhost/b/k?acl&x=1", headers={"x-amz-acl": "private"})
    HmacV1Auth(Credentials(KEY.id, KEY.secret, "token")).add_auth(request)
    headers = {n.lower().encode(): str(v).encode() for n, v in request.headers.items()}
    signed = SignedRequest(b"PUT", b"/b/k", b"acl&x=1", headers, None)
    assert sigv2.verify(signed, KEYS, now()) == KEY
    assert refusal(signed, now() + timedelta(minutes=16)).code == "RequestTimeTooSkewed"
    changed = {**headers, b"x-amz-acl": b"public-read"}
    assert refusal(signed._replace(headers=changed)).code == "SignatureDoesNotMatch"


def test_a_header_signature_without_date_is_refused() -> None:
    digest = base64.b64encode(hmac.digest(KEY.secret.encode(), b"GET\n\n\n\n/", "sha1"))
    headers = {b"authorization": b"AWS %s:%s" % (KEY.id.encode(), digest)}
    assert refusal(SignedRequest(b"GET", b"/", b"", headers, None)).code == "AccessDenied"


def test_a_url_cannot_be_turned_into_another_operation() -> None:
    model = ServiceModel(Loader().load_service_model("s3", "service-2"))
    templates = [model.operation_model(name).http["requestUri"] for name in model.operation_names]
    chosen = {pair.encode() for text in templates for pair in text.partition("?")[2].split("&")}
    chosen = {pair.partition(b"=")[0] for pair in chosen}
    # Listing differently is no other right; the rest only names the operation once more.
    assert chosen - {b"", b"list-type", b"x-id"} <= sigv2.SIGNED_PARAMETERS
    url = client().generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
    assert refusal(opened(url + "&legal-hold")).code == "SignatureDoesNotMatch"


def test_a_header_of_version_4_is_not_taken_for_version_2() -> None:
    headers = {b"authorization": b"AWS4-HMAC-SHA256 Credential=..."}
    request = SignedRequest(b"GET", b"/", b"prefix=a&AWSAccessKeyId=b", headers, None)
    assert not sigv2.is_signed(request)
    assert not sigv2.is_signed(request._replace(headers={}, query=b"prefix=AWSAccessKeyId=b"))
    assert sigv2.is_signed(request._replace(headers={}))
