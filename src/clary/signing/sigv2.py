"""Signature Version 2, which S3 still takes: boto3 makes presigned URLs of it in us-east-1.

A presigned URL carries ``AWSAccessKeyId``, ``Signature`` and ``Expires``; a header reads
``Authorization: AWS <key id>:<signature>``. The signature covers method, a few headers, and the
resource with the bucket in front, whether the bucket was named in the path or in the host.

The rules are Amazon's "Signing and authenticating REST requests (AWS signature version 2)".
"""

import base64
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from clary.errors import AccessDenied
from clary.signing.keys import AccessKey
from clary.signing.refusals import Refusal, refuse, refuse_mismatch, refuse_unknown_key
from clary.signing.scope import parameter
from clary.signing.sigv4 import MAX_SKEW_S, SignedRequest

SIGNED_PARAMETERS = frozenset(
    b"""abac accelerate acl analytics annotation attributes cors defaultObjectAcl delete encryption
    intelligent-tiering inventory legal-hold lifecycle location logging metadataAnnotationTable
    metadataConfiguration metadataInventoryTable metadataJournalTable metadataTable metrics
    notification object-lock ownershipControls partNumber policy policyStatus publicAccessBlock
    renameObject replication requestPayment response-cache-control response-content-disposition
    response-content-encoding response-content-language response-content-type response-expires
    restore retention select select-type session storageClass tagging torrent uploadId uploads
    versionId versioning versions website""".split()
)
"""Query parameters that belong to the resource: all that choose an operation. botocore leaves the
newest of them out; to allow that would let anyone turn a presigned URL into another operation."""


def is_signed(request: SignedRequest) -> bool:
    """Return whether a request carries a SigV2 signature, right or wrong."""
    authorization = request.headers.get(b"authorization")
    if authorization is not None:
        return authorization.startswith(b"AWS ")
    return (
        b"AWSAccessKeyId=" in request.query
        and parameter(request.query, b"AWSAccessKeyId") is not None
    )


def verify(
    request: SignedRequest,
    keys: Mapping[str, AccessKey],
    now: datetime,
    *,
    bucket_of_host: bytes = b"",
) -> AccessKey:
    """Check a request's signature and return the key that made it.

    Args:
        request: The request as it came; the payload's hash plays no part.
        keys: Known keys by id.
        now: The moment to judge the request's date by; aware.
        bucket_of_host: Bucket named by the host (``bucket.s3.localhost``); empty when it is in
            the path.

    Raises:
        AccessDenied: With the code and text that S3 would give.
    """
    parameters = _parameters(request.query)
    values = {name: unquote_to_bytes(value.replace(b"+", b"%20")) for name, value in parameters}
    authorization = request.headers.get(b"authorization", b"")
    headers = request.headers
    if authorization.startswith(b"AWS "):
        key_id, _, given = authorization[4:].strip().partition(b":")
        moment = b"" if b"x-amz-date" in headers else headers.get(b"date", b"")
        _check_date(headers.get(b"x-amz-date") or moment, now)
    else:
        key_id, given = values.get(b"AWSAccessKeyId", b""), values.get(b"Signature", b"")
        moment = values.get(b"Expires", b"")
        # What a presigned URL fixes of the headers stands in its query.
        headers = {**headers, **_headers_in_query(values)}
        _check_expires(moment, now)
    key = keys.get(key_id.decode("latin-1"))
    if key is None:
        raise refuse_unknown_key("s3")
    head = b"%s\n%s\n%s\n%s\n%s" % (
        request.method,
        headers.get(b"content-md5", b""),
        headers.get(b"content-type", b""),
        moment,
        _canonical_headers(headers),
    )
    for resource in _canonical_resources(request.path, parameters, bucket_of_host):
        digest = hmac.digest(key.secret.encode(), head + resource, "sha1")
        if hmac.compare_digest(base64.b64encode(digest), given):
            return key
    raise refuse_mismatch("s3")


def _parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, _, value in (part.partition(b"=") for part in query.split(b"&") if part)
    ]


def _headers_in_query(values: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {
        name.lower(): value
        for name, value in values.items()
        if name.lower().startswith(b"x-amz-") or name in (b"content-md5", b"content-type")
    }


def _canonical_headers(headers: Mapping[bytes, bytes]) -> bytes:
    return b"".join(
        b"%s:%s\n" % (name, b" ".join(headers[name].split()))
        for name in sorted(headers)
        if name.startswith(b"x-amz-")
    )


def _canonical_resources(
    path: bytes, parameters: list[tuple[bytes, bytes]], bucket_of_host: bytes
) -> Iterator[bytes]:
    """Give the resources that a client may have signed, the likeliest first."""
    path = (b"/" + bucket_of_host if bucket_of_host else b"") + (path or b"/")
    # boto3 signs a bucket with a slash behind its name, and sends none.
    is_bucket = path.count(b"/") == 1 and path != b"/"
    kept = sorted((name, value) for name, value in parameters if name in SIGNED_PARAMETERS)
    pairs = [name + (b"=" + unquote_to_bytes(value) if value else b"") for name, value in kept]
    suffix = b"?" + b"&".join(pairs) if pairs else b""
    yield path + suffix
    if is_bucket:
        yield path + b"/" + suffix


def _check_expires(moment: bytes, now: datetime) -> None:
    if not moment.isdigit() or len(moment) > 12:
        raise refuse(
            Refusal.NO_SIGNATURE,
            "s3",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
            "parameters",
        )
    if now.timestamp() > int(moment):
        raise refuse(Refusal.EXPIRED, "s3", "Request has expired")


def _check_date(moment: bytes, now: datetime) -> None:
    try:
        sent_at = parsedate_to_datetime(moment.decode("ascii")).timestamp()
    except (ValueError, TypeError, OverflowError) as error:
        raise AccessDenied(
            "AWS authentication requires a valid Date or x-amz-date header", "AccessDenied"
        ) from error
    if abs(now.timestamp() - sent_at) > MAX_SKEW_S:
        raise refuse(
            Refusal.SKEWED,
            "s3",
            "The difference between the request time and the current time is too large.",
        )
