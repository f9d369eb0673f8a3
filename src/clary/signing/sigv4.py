"""Signature Version 4: checked here for every request when authentication is on.

The gateway calls ``verify`` on the hot path, so it takes and compares bytes, and remembers what
recurs: derived keys (one a day and service), and the part of the ``Authorization`` header that a
client repeats with every request (``scope.py``). A request is first taken as it was sent, which is
what SDKs sign; only if that does not fit, the other canonical forms are tried.

The rules are AWS's "Signature Version 4 signing process" and, for S3, "Authenticating Requests".
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from clary.errors import AccessDenied
from clary.signing import canonical
from clary.signing.keys import AccessKey
from clary.signing.refusals import Refusal, refuse, refuse_mismatch, refuse_unknown_key
from clary.signing.scope import (
    ALGORITHM,
    Credential,
    Scope,
    format_moment,
    parameter,
    parse_authorization,
    parse_credential,
    parse_moment,
    scope_of,
)

__all__ = [
    "Scope",
    "SignedRequest",
    "derive_key",
    "is_signed",
    "scope_of",
    "signature",
    "verify",
    "verify_header",
]

UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"
MAX_SKEW_S = 15 * 60
"""How far the client's clock may be off, in seconds."""
MAX_EXPIRES_S = 7 * 24 * 3600
"""Longest life of a presigned URL, in seconds."""

_DEFAULT_EXPIRES_S = 15 * 60
_CACHED = 1024


class SignedRequest(NamedTuple):
    """What a signature covers, as it came over the wire."""

    method: bytes
    path: bytes
    """Raw, percent-encoded, without the query."""
    query: bytes
    """Raw, without the question mark."""
    headers: Mapping[bytes, bytes]
    """By lower-case name; values of a repeated header joined by a comma."""
    payload_hash: bytes | None
    """Hex SHA-256 of the body. None: the body is a stream, and the hash that the client declared
    in ``x-amz-content-sha256`` is taken; who reads the stream has to compare."""


def is_signed(request: SignedRequest) -> bool:
    """Return whether a request carries a SigV4 signature, right or wrong."""
    authorization = request.headers.get(b"authorization")
    if authorization is not None:
        return authorization.startswith(ALGORITHM)
    return parameter(request.query, b"X-Amz-Signature") is not None


def verify(request: SignedRequest, keys: Mapping[str, AccessKey], now: datetime) -> AccessKey:
    """Check a request's signature and return the key that made it.

    Security tokens are accepted and ignored: the keys that STS hands out here are long-lived.

    Args:
        request: The request as it came.
        keys: Known keys by id.
        now: The moment to judge the request's date by; aware.

    Raises:
        AccessDenied: With the code and text that the addressed service would give.
    """
    authorization = request.headers.get(b"authorization")
    if authorization is not None and authorization.startswith(ALGORITHM):
        return verify_header(request, authorization, keys, now.timestamp())
    if b"X-Amz-Signature=" in request.query or b"X-Amz-Credential=" in request.query:
        return _verify_query(request, keys, now)
    raise AccessDenied("Request is missing Authentication Token", "MissingAuthenticationToken")


def derive_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the signing key of one day, region and service."""
    return _derive_key(secret, f"{date}/{region}/{service}/aws4_request".encode())


class SigningKey:
    """HMAC-SHA256 with one key, from the two hash states with which each signature begins."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, text: bytes) -> bytes:
        """Return the hex signature of a text."""
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest().encode()


@lru_cache(maxsize=_CACHED)
def _signing_key(secret: str, scope: bytes) -> SigningKey:
    return SigningKey(_derive_key(secret, scope))


@lru_cache(maxsize=_CACHED)
def _derive_key(secret: str, scope: bytes) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    return key


def signature(signing_key: bytes, moment: bytes, scope: bytes, request: bytes) -> bytes:
    """Return the hex signature of a canonical request.

    Args:
        signing_key: From ``derive_key``.
        moment: ``x-amz-date`` of the request.
        scope: Credential scope without the key id.
        request: The canonical request.
    """
    digest = hashlib.sha256(request).hexdigest().encode()
    text = b"AWS4-HMAC-SHA256\n%s\n%s\n%s" % (moment, scope, digest)
    return hmac.digest(signing_key, text, "sha256").hex().encode()


def verify_header(
    request: SignedRequest,
    authorization: bytes,
    keys: Mapping[str, AccessKey],
    now: float,
    service: str = "",
) -> AccessKey:
    """Check a request that is signed in its ``Authorization`` header; ``verify`` for these alone.

    Args:
        request: The request as it came.
        authorization: That header; begins with ``ALGORITHM``.
        keys: Known keys by id.
        now: Seconds since 1970.
        service: Whom the signature has to be for; empty: whomever it names.

    Raises:
        AccessDenied: As ``verify``.
    """
    prefix, _, given = authorization.rpartition(b"Signature=")
    credential = parse_authorization(prefix)
    headers = request.headers
    if credential is None:
        scope = scope_of(headers, b"")
        raise refuse(
            Refusal.MALFORMED,
            scope.service if scope else "",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' "
            "parameters, and a credential of key id, date, region, service and aws4_request.",
        )
    if service and credential.scope.service != service:
        raise wrong_service(service)
    service = credential.scope.service
    key = keys.get(credential.scope.access_key_id)
    if key is None:
        raise refuse_unknown_key(service)
    moment = headers.get(b"x-amz-date") or headers.get(b"date") or b""
    sent_at = parse_moment(moment)
    if sent_at is None:
        raise refuse(
            Refusal.MALFORMED,
            service,
            "The request needs an 'X-Amz-Date' header like 20260102T030405Z.",
        )
    if moment[:8] != credential.scope_bytes[:8]:
        raise _wrong_scope_date(credential, moment)
    skew = now - sent_at
    if not -MAX_SKEW_S <= skew <= MAX_SKEW_S:
        raise _skewed(service, moment, skew, datetime.fromtimestamp(now, UTC))
    _check_signed_headers(credential, headers)
    payload = _payload_of_header_request(request, service)
    _compare(request, credential, key, moment, payload, given.strip())
    return key


def wrong_service(service: str) -> AccessDenied:
    """Return the refusal of a signature that is for somebody else."""
    return AccessDenied(
        f"Credential should be scoped to correct service: '{service}'.",
        "InvalidSignatureException",
    )


def _verify_query(
    request: SignedRequest, keys: Mapping[str, AccessKey], now: datetime
) -> AccessKey:
    query = request.query
    fields = {
        name: unquote_to_bytes(parameter(query, name) or b"")
        for name in (
            b"X-Amz-Algorithm",
            b"X-Amz-Credential",
            b"X-Amz-Date",
            b"X-Amz-Expires",
            b"X-Amz-SignedHeaders",
            b"X-Amz-Signature",
        )
    }
    credential = parse_credential(fields[b"X-Amz-Credential"], fields[b"X-Amz-SignedHeaders"])
    moment = fields[b"X-Amz-Date"]
    sent_at = parse_moment(moment)
    service = credential.scope.service if credential else ""
    lifetime = _parse_expires(fields[b"X-Amz-Expires"], service)
    if (
        credential is None
        or sent_at is None
        or lifetime is None
        or fields[b"X-Amz-Algorithm"] != ALGORITHM
    ):
        raise refuse(
            Refusal.MALFORMED_QUERY,
            service,
            "Query-string authentication requires the X-Amz-Algorithm (AWS4-HMAC-SHA256), "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders and X-Amz-Expires "
            f"(1 to {MAX_EXPIRES_S}) parameters.",
        )
    key = keys.get(credential.scope.access_key_id)
    if key is None:
        raise refuse_unknown_key(service)
    if moment[:8] != credential.scope_bytes[:8]:
        raise _wrong_scope_date(credential, moment)
    age = now.timestamp() - sent_at
    if age > lifetime:
        text = "Request has expired" if service == "s3" else _expired_text(moment, lifetime, now)
        raise refuse(Refusal.EXPIRED, service, text)
    if age < -MAX_SKEW_S:
        raise refuse(Refusal.EXPIRED, service, "Request is not yet valid")
    _check_signed_headers(credential, request.headers)
    if service == "s3":
        payload = request.headers.get(b"x-amz-content-sha256") or UNSIGNED_PAYLOAD
    else:
        payload = request.payload_hash or canonical.EMPTY_SHA256
    given = fields[b"X-Amz-Signature"]
    _compare(request, credential, key, moment, payload, given, without=b"X-Amz-Signature")
    return key


def _compare(
    request: SignedRequest,
    credential: Credential,
    key: AccessKey,
    moment: bytes,
    payload: bytes,
    given: bytes,
    *,
    without: bytes = b"",
) -> None:
    """Raise AccessDenied unless the signature fits one canonical form of the request."""
    headers = request.headers
    values = [headers.get(name, b"") for name in credential.header_names]
    signing_key = _signing_key(key.secret, credential.scope_bytes)
    scope = b"AWS4-HMAC-SHA256\n%b\n%b\n" % (moment, credential.scope_bytes)

    def is_form(path: bytes, query: bytes, rest: bytes) -> bool:
        text = b"%b\n%b\n%b\n%b" % (request.method, path, query, rest)
        digest = hashlib.sha256(text).hexdigest().encode()
        return hmac.compare_digest(signing_key.sign(scope + digest), given)

    is_s3 = credential.scope.service == "s3"
    paths = canonical.paths(request.path, s3=is_s3)
    if not request.query and is_form(paths[0], b"", credential.template % (*values, payload)):
        return
    rest = credential.template % (*map(_folded, values), payload)
    for path in paths:
        for query in canonical.queries(request.query, without=without):
            if is_form(path, query, rest):
                return
    raise refuse_mismatch(credential.scope.service)


def _folded(value: bytes) -> bytes:
    """Return a header's value with each run of blanks as one space."""
    if b"  " in value or b"\t" in value:
        return b" ".join(value.split())
    return value.strip()


def _check_signed_headers(credential: Credential, headers: Mapping[bytes, bytes]) -> None:
    names = credential.header_names
    if b"host" not in names and b":authority" not in names:
        raise refuse(
            Refusal.NOT_ALL_SIGNED,
            credential.scope.service,
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        )
    if credential.scope.service == "s3":
        # Other headers decide what S3 does (ACL, copy source, encryption): all must be signed.
        unsigned = [n for n in headers if n.startswith(b"x-amz-") and n not in names]
        if unsigned and unsigned != [b"x-amz-user-agent"]:
            raise refuse(
                Refusal.NOT_ALL_SIGNED,
                "s3",
                "There were headers present in the request which were not signed: "
                + ", ".join(sorted(_text(name) for name in unsigned)),
            )


def _payload_of_header_request(request: SignedRequest, service: str) -> bytes:
    declared = request.headers.get(b"x-amz-content-sha256")
    actual = request.payload_hash
    if service != "s3":
        # Only S3 takes UNSIGNED-PAYLOAD; elsewhere the real hash decides, whatever was declared.
        return actual or declared or canonical.EMPTY_SHA256
    if declared is None:
        raise refuse(Refusal.MALFORMED, service, "Missing required header: x-amz-content-sha256")
    is_hash = len(declared) == 64
    if is_hash and actual is not None and not hmac.compare_digest(declared.lower(), actual):
        raise refuse(
            Refusal.BODY_CHANGED,
            service,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    return declared


def _parse_expires(text: bytes, service: str) -> int | None:
    if not text and service != "s3":
        return _DEFAULT_EXPIRES_S
    if not text.isdigit() or len(text) > 6:
        return None
    seconds = int(text)
    return seconds if 1 <= seconds <= MAX_EXPIRES_S else None


def _wrong_scope_date(credential: Credential, moment: bytes) -> AccessDenied:
    return refuse(
        Refusal.MISMATCH,
        credential.scope.service,
        f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
        f"HTTP: '{credential.scope.date}' != '{_text(moment[:8])}', from '{_text(moment)}'.",
    )


def _skewed(service: str, moment: bytes, skew: float, now: datetime) -> AccessDenied:
    if service == "s3":
        text = "The difference between the request time and the current time is too large."
    elif skew > 0:
        text = _expired_text(moment, MAX_SKEW_S, now)
    else:
        latest = _shifted(now, MAX_SKEW_S)
        text = (
            f"Signature not yet current: {_text(moment)} is still later than {latest} "
            f"({format_moment(now)} + 15 min.)"
        )
    return refuse(Refusal.SKEWED, service, text)


def _expired_text(moment: bytes, lifetime_s: int, now: datetime) -> str:
    span = f"{lifetime_s // 60} min." if lifetime_s % 60 == 0 else f"{lifetime_s} sec."
    return (
        f"Signature expired: {_text(moment)} is now earlier than {_shifted(now, -lifetime_s)} "
        f"({format_moment(now)} - {span})"
    )


def _shifted(now: datetime, seconds: int) -> str:
    return format_moment(datetime.fromtimestamp(now.timestamp() + seconds, UTC))


def _text(data: bytes) -> str:
    return data.decode("latin-1")
