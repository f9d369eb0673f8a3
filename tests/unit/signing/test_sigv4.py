"""What botocore signs verifies; what was changed on the way does not."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import AccessDenied
from clary.signing import sigv4
from clary.signing.keys import AccessKey
from clary.signing.sign import sign
from clary.signing.sigv4 import Scope, SignedRequest

KEY = AccessKey(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "root", datetime.now(UTC)
)
KEYS = {KEY.id: KEY}
UNICODE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
CREDENTIALS = Credentials(KEY.id, KEY.secret)
BODY = b'{"instances": [1, 2, 3]}'


def now() -> datetime:
    return datetime.now(UTC)


def received(request: AWSRequest, *, payload_hash: bytes | str | None = "") -> SignedRequest:
    """What a server sees of a signed botocore request."""
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = {
        name.lower().encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in prepared.headers.items()
    }
    headers.setdefault(b"host", parts.netloc.encode())
    body = prepared.body or b""
    if payload_hash == "":
        payload_hash = hashlib.sha256(body).hexdigest().encode()
    return SignedRequest(
        prepared.method.encode(), parts.path.encode(), parts.query.encode(), headers, payload_hash
    )


def signed(
    auth: type = SigV4Auth,
    service: str = "sagemaker",
    *,
    method: str = "POST",
    url: str = "http://localhost:25279/endpoints/digits/invocations",
    body: bytes = BODY,
    headers: Mapping[str, str] | None = None,
    credentials: Credentials = CREDENTIALS,
    **options: object,
) -> SignedRequest:
    request = AWSRequest(
        method, url, headers={"Content-Type": "application/json", **(headers or {})}, data=body
    )
    auth(credentials, service, "us-east-1", **options).add_auth(request)
    return received(request)


def refusal(
    request: SignedRequest, keys: Mapping[str, AccessKey] = KEYS, at: datetime | None = None
) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        sigv4.verify(request, keys, at or now())
    return caught.value


def with_header(request: SignedRequest, name: bytes, value: bytes) -> SignedRequest:
    return request._replace(headers={**request.headers, name: value})


def test_what_botocore_signs_verifies() -> None:
    assert sigv4.verify(signed(), KEYS, now()) == KEY


PATHS = [
    "/",
    "/a/b",
    "/a//b/",
    "/a/./b/../c",
    "/with%20space",
    "/with%2Bplus/%C3%BCml%C3%A4ut",
    "/%E2%9C%93/~tilde/a-b_c.d",
    "/endpoints/a%2Fb/invocations",
    "/a=b&c@d:e,f;g!h$i*j(k)",
]
QUERIES = [
    "",
    "?a=1&b=2",
    "?b=2&a=1",
    "?empty=&x",
    "?k=2&k=1&k=3",
    "?a=%20%2B%2F&a-b=1",
    "?uploads",
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", PATHS)
def test_odd_urls_verify_as_other_services_sign_them(path: str, query: str) -> None:
    url = f"http://localhost:25279{path}{query}"
    assert sigv4.verify(signed(url=url), KEYS, now()) == KEY


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("auth", [S3SigV4Auth, S3SigV4QueryAuth])
def test_odd_urls_verify_as_s3_signs_them(auth: type, path: str, query: str) -> None:
    url = f"http://localhost:25279{path}{query}"
    assert sigv4.verify(signed(auth, "s3", url=url, method="PUT"), KEYS, now()) == KEY


@given(UNICODE, st.dictionaries(UNICODE, st.text(st.characters(codec="utf-8")), max_size=4))
def test_any_key_and_query_verifies(key: str, query: dict[str, str]) -> None:
    path = quote(key, safe="/~")
    pairs = urlencode(query, quote_via=quote, safe="")
    url = f"http://localhost:25279/bucket/{path}?{pairs}"
    for auth, service in ((S3SigV4Auth, "s3"), (SigV4Auth, "sagemaker")):
        assert sigv4.verify(signed(auth, service, url=url), KEYS, now()) == KEY


def test_a_plus_in_the_query_verifies_when_the_client_signed_it_as_a_space() -> None:
    request = signed(S3SigV4Auth, "s3", method="GET", url="http://h/b?prefix=a%20b", body=b"")
    assert sigv4.verify(request._replace(query=b"prefix=a+b"), KEYS, now()) == KEY


def test_spaces_in_header_values_are_folded_as_botocore_folds_them() -> None:
    request = signed(headers={"X-Amzn-SageMaker-Custom-Attributes": "  a   b  c "})
    assert sigv4.verify(request, KEYS, now()) == KEY


def test_a_session_token_is_accepted_and_ignored() -> None:
    credentials = Credentials(KEY.id, KEY.secret, "session-token")
    for auth, service in ((SigV4Auth, "sagemaker"), (S3SigV4Auth, "s3"), (S3SigV4QueryAuth, "s3")):
        request = signed(auth, service, credentials=credentials)
        assert sigv4.verify(request, KEYS, now()) == KEY


def test_our_own_signatures_verify_and_equal_those_of_botocore() -> None:
    url = "http://localhost:25279/endpoints/a%20b/invocations?x=1&a=%2F"
    at = now()
    headers = sign(
        "POST",
        url,
        {"Content-Type": "application/json"},
        BODY,
        KEY,
        region="us-east-1",
        service="sagemaker",
        now=at,
    )
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    digest = hashlib.sha256(BODY).hexdigest().encode()
    parts = urlsplit(url)
    request = SignedRequest(b"POST", parts.path.encode(), parts.query.encode(), encoded, digest)
    assert sigv4.verify(request, KEYS, at) == KEY
    theirs = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=BODY)
    theirs.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(CREDENTIALS, "sagemaker", "us-east-1")
    theirs.headers["X-Amz-Date"] = headers["x-amz-date"]
    expected = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert headers["authorization"].endswith(f"Signature={expected}")


CHANGES = {
    "method": lambda r: r._replace(method=b"PUT"),
    "path": lambda r: r._replace(path=b"/endpoints/other/invocations"),
    "query": lambda r: r._replace(query=b"a=1"),
    "host, replayed": lambda r: with_header(r, b"host", b"elsewhere:25279"),
    "signed header": lambda r: with_header(r, b"content-type", b"text/csv"),
    "body": lambda r: r._replace(payload_hash=b"0" * 64),
    "signature": lambda r: with_header(
        r, b"authorization", r.headers[b"authorization"][:-4] + b"0000"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_request_does_not_verify(change) -> None:  # type: ignore[no-untyped-def]
    assert refusal(change(signed())).code == "InvalidSignatureException"


INVALID = "InvalidSignatureException"
NO_MATCH = "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("service", "auth", "unknown", "mismatch", "skewed"),
    [
        ("s3", S3SigV4Auth, "InvalidAccessKeyId", NO_MATCH, "RequestTimeTooSkewed"),
        ("sts", SigV4Auth, "InvalidClientTokenId", NO_MATCH, NO_MATCH),
        ("sagemaker", SigV4Auth, "UnrecognizedClientException", INVALID, INVALID),
    ],
)
def test_each_service_has_its_own_codes(
    service: str, auth: type, unknown: str, mismatch: str, skewed: str
) -> None:
    request = signed(auth, service)
    other = AccessKey(KEY.id, "another secret", "root", now())
    assert refusal(request, {}).code == unknown
    assert refusal(request, {KEY.id: other}).code == mismatch
    assert refusal(request, at=now() + timedelta(minutes=16)).code == skewed
    assert refusal(request, at=now() - timedelta(minutes=16)).code == skewed
    assert sigv4.verify(request, KEYS, now() + timedelta(minutes=14)) == KEY


def test_an_expired_signature_says_when_it_was_made() -> None:
    text = refusal(signed(), at=now() + timedelta(minutes=20)).message
    assert text.startswith("Signature expired: ")
    assert text.endswith("- 15 min.)")


def test_a_request_without_signature_is_told_so() -> None:
    request = SignedRequest(b"GET", b"/", b"", {b"host": b"h"}, None)
    assert refusal(request).code == "MissingAuthenticationToken"


@pytest.mark.parametrize(
    "authorization",
    [
        b"AWS4-HMAC-SHA256",
        b"AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
        b"AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=, Signature=x",
        b"AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=x",
        b"AWS4-HMAC-SHA256 Credential=" + b"/" * 100_000 + b", SignedHeaders=host, Signature=x",
        b"AWS4-HMAC-SHA256 \xff\x00=;;;,,,",
    ],
)
def test_a_malformed_header_is_refused(authorization: bytes) -> None:
    request = with_header(signed(), b"authorization", authorization)
    assert "Incomplete" in refusal(request).code


def test_the_date_of_the_scope_has_to_be_that_of_the_request() -> None:
    request = signed()
    authorization = request.headers[b"authorization"].replace(
        request.headers[b"x-amz-date"][:8] + b"/", b"20200101/"
    )
    assert "20200101" in refusal(with_header(request, b"authorization", authorization)).message


def test_a_missing_or_wrong_date_is_refused() -> None:
    for date in (b"", b"yesterday", b"20261345T000000Z"):
        assert "Incomplete" in refusal(with_header(signed(), b"x-amz-date", date)).code


def test_the_host_has_to_be_signed() -> None:
    request = signed()
    authorization = request.headers[b"authorization"].replace(b";host;", b";")
    assert "Host" in refusal(with_header(request, b"authorization", authorization)).message


def test_s3_wants_its_own_headers_signed() -> None:
    request = with_header(signed(S3SigV4Auth, "s3"), b"x-amz-acl", b"public-read")
    refused = refusal(request)
    assert refused.code == "AccessDenied"
    assert "x-amz-acl" in refused.message


def test_s3_names_a_changed_body() -> None:
    request = signed(S3SigV4Auth, "s3")._replace(payload_hash=b"0" * 64)
    assert refusal(request).code == "XAmzContentSHA256Mismatch"


def test_a_streamed_body_is_taken_as_declared() -> None:
    request = signed(S3SigV4Auth, "s3")._replace(payload_hash=None)
    assert sigv4.verify(request, KEYS, now()) == KEY


def test_other_services_do_not_take_an_unsigned_payload() -> None:
    request = signed()
    request = with_header(request, b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")
    assert refusal(request._replace(payload_hash=b"0" * 64)).code == "InvalidSignatureException"


def test_a_presigned_request_of_another_service_verifies() -> None:
    url = "http://localhost:25279/?Action=GetCallerIdentity&Version=2011-06-15"
    request = signed(SigV4QueryAuth, "sts", method="GET", url=url, body=b"", expires=60)
    assert sigv4.verify(request, KEYS, now()) == KEY
    assert refusal(request, at=now() + timedelta(seconds=70)).code == "SignatureDoesNotMatch"


def test_a_presigned_url_ends_when_it_says() -> None:
    request = signed(S3SigV4QueryAuth, "s3", method="GET", body=b"", expires=3600)
    assert sigv4.verify(request, KEYS, now() + timedelta(minutes=59)) == KEY
    refused = refusal(request, at=now() + timedelta(minutes=61))
    assert (refused.code, refused.message) == ("AccessDenied", "Request has expired")
    assert refusal(request, at=now() - timedelta(minutes=16)).message == "Request is not yet valid"


@pytest.mark.parametrize("expires", [0, -1, 604801, 10**9])
def test_a_presigned_url_lives_a_week_at_most(expires: int) -> None:
    request = signed(S3SigV4QueryAuth, "s3", method="GET", body=b"", expires=expires)
    assert refusal(request).code == "AuthorizationQueryParametersError"


def test_a_changed_presigned_url_does_not_verify() -> None:
    request = signed(S3SigV4QueryAuth, "s3", method="GET", body=b"", expires=60)
    longer = request.query.replace(b"X-Amz-Expires=60", b"X-Amz-Expires=600")
    assert refusal(request._replace(query=longer)).code == "SignatureDoesNotMatch"


def test_the_scope_is_read_without_checking_anything() -> None:
    date = now().strftime("%Y%m%d")
    expected = Scope(KEY.id, date, "us-east-1", "sagemaker")
    assert sigv4.scope_of(signed().headers, b"") == expected
    presigned = signed(S3SigV4QueryAuth, "s3")
    assert sigv4.scope_of({}, presigned.query) == expected._replace(service="s3")
    v2 = Scope("AKIA1", "", "", "s3")
    assert sigv4.scope_of({b"authorization": b"AWS AKIA1:c2ln"}, b"") == v2
    assert sigv4.scope_of({}, b"Expires=1&AWSAccessKeyId=AKIA1&Signature=x") == v2
    assert sigv4.scope_of({b"authorization": b"Bearer x"}, b"a=1") is None


@given(st.binary(), st.binary())
def test_reading_the_scope_never_raises(authorization: bytes, query: bytes) -> None:
    for header in (authorization, b"AWS4-HMAC-SHA256 " + authorization, b"AWS " + authorization):
        sigv4.scope_of({b"authorization": header}, query)
    sigv4.scope_of({}, b"X-Amz-Credential=" + query)


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_but_a_refusal_comes_of_garbage(one: bytes, two: bytes, three: bytes) -> None:
    headers = {b"authorization": b"AWS4-HMAC-SHA256 " + one, b"x-amz-date": two}
    refusal(SignedRequest(one, two, three, headers, None))
    refusal(SignedRequest(one, two, b"X-Amz-Signature=" + three, {}, None))
