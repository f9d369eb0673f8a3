"""Uploads by an HTML form: S3's POST policies.

The form carries a policy (base64 of JSON) that says what may be uploaded until when, and a
signature of it, V4 or V2. Every field of the form has to be allowed by a condition of the policy.

The rules are Amazon's "Browser-based uploads using POST".
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clary.errors import AccessDenied, InvalidRequest
from clary.signing import sigv4
from clary.signing.keys import AccessKey
from clary.signing.refusals import Refusal, refuse, refuse_mismatch, refuse_unknown_key
from clary.signing.scope import ALGORITHM, scope_of

_FREE_FIELDS = frozenset({"awsaccesskeyid", "signature", "x-amz-signature", "policy", "file"})
"""Fields that need no condition; neither do those that start with ``x-ignore-``."""


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy whose signature and conditions hold for the fields of a form."""

    key: AccessKey | None
    """Who signed; None for a form without policy."""
    min_bytes: int = 0
    """Fewest bytes that the file may have."""
    max_bytes: int | None = None
    """Most bytes that the file may have; None: as many as any upload."""

    def check_size(self, size: int, *, complete: bool = True) -> None:
        """Check the file's bytes so far, or all of them, against ``content-length-range``.

        Raises:
            AccessDenied: With S3's codes EntityTooLarge and EntityTooSmall.
        """
        if self.max_bytes is not None and size > self.max_bytes:
            text = "Your proposed upload exceeds the maximum allowed size"
            raise AccessDenied(text, "EntityTooLarge")
        if complete and size < self.min_bytes:
            text = "Your proposed upload is smaller than the minimum allowed size"
            raise AccessDenied(text, "EntityTooSmall")


def verify(
    fields: Mapping[str, str], keys: Mapping[str, AccessKey], now: datetime, *, bucket: str
) -> PostPolicy:
    """Check signature, expiration and conditions of a form.

    Args:
        fields: The form's fields without the file, ``${filename}`` already replaced.
        keys: Known keys by id.
        now: The moment to judge the expiration by; aware.
        bucket: The bucket that is posted to.

    Raises:
        AccessDenied: With the code and text that S3 would give.
        InvalidRequest: The policy is none.
    """
    given = {name.lower(): value for name, value in fields.items()}
    if not given.get("policy"):
        raise refuse(Refusal.NO_SIGNATURE, "s3", "Bucket POST must contain a field named 'policy'.")
    key = _verify_v4(given, keys) if "x-amz-signature" in given else _verify_v2(given, keys)
    return check(given, key, now, bucket=bucket)


def check(
    fields: Mapping[str, str], key: AccessKey | None, now: datetime, *, bucket: str
) -> PostPolicy:
    """Check a form's fields against its policy, whoever has signed it.

    Args:
        fields: As for ``verify``. Without a policy, everything is allowed.
        key: Who signed, where that has been verified.
        now: The moment to judge the expiration by; aware.
        bucket: The bucket that is posted to.

    Raises:
        AccessDenied: The policy has expired, or does not allow this form.
        InvalidRequest: The policy is none.
    """
    given = {name.lower(): value for name, value in fields.items()}
    if not given.get("policy"):
        return PostPolicy(key)
    expires_at, conditions = _parse_policy(given["policy"])
    if now > expires_at:
        raise _invalid("Policy expired.")
    values = {**given, "bucket": bucket}
    allowed = set(_FREE_FIELDS)
    least, most = 0, None
    for condition in conditions:
        kind, name, value = _parse_condition(condition)
        if kind == "content-length-range":
            least, most = int(name), int(value)
            continue
        allowed.add(name)
        actual = values.get(name, "")
        if not (actual == value if kind == "eq" else _starts_with(name, actual, value)):
            raise _invalid(f"Policy Condition failed: {json.dumps(condition)}")
    extra = [n for n in given if n not in allowed and not n.startswith("x-ignore-")]
    if extra:
        raise _invalid(f"Extra input fields: {', '.join(sorted(extra))}")
    return PostPolicy(key, least, most)


def _verify_v4(fields: Mapping[str, str], keys: Mapping[str, AccessKey]) -> AccessKey:
    credential = fields.get("x-amz-credential", "").encode()
    scope = scope_of({b"authorization": _as_header(credential)}, b"")
    if scope is None or fields.get("x-amz-algorithm") != ALGORITHM.decode():
        raise refuse(Refusal.MALFORMED, "s3", "The form's X-Amz-Credential or algorithm is wrong.")
    key = keys.get(scope.access_key_id)
    if key is None:
        raise refuse_unknown_key("s3")
    signing_key = sigv4.derive_key(key.secret, scope.date, scope.region, scope.service)
    expected = hmac.digest(signing_key, fields["policy"].encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), fields["x-amz-signature"].encode()):
        raise refuse_mismatch("s3")
    return key


def _as_header(credential: bytes) -> bytes:
    return b"%s Credential=%s, SignedHeaders=host, Signature=" % (ALGORITHM, credential)


def _verify_v2(fields: Mapping[str, str], keys: Mapping[str, AccessKey]) -> AccessKey:
    key = keys.get(fields.get("awsaccesskeyid", ""))
    if key is None:
        raise refuse_unknown_key("s3")
    digest = hmac.digest(key.secret.encode(), fields["policy"].encode(), "sha1")
    if not hmac.compare_digest(base64.b64encode(digest), fields.get("signature", "").encode()):
        raise refuse_mismatch("s3")
    return key


def _parse_policy(text: str) -> tuple[datetime, list[Any]]:
    try:
        policy = json.loads(base64.b64decode("".join(text.split()), validate=True))
        expires_at = datetime.fromisoformat(policy["expiration"])
        conditions = policy["conditions"]
        if not isinstance(conditions, list):
            raise TypeError("conditions are no list")
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise InvalidRequest(f"Invalid Policy: {error}") from error
    return (expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)), conditions


def _parse_condition(condition: Any) -> tuple[str, str, str]:
    """Return (kind, field in lower case, value), or ("content-length-range", least, most)."""
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, value),) = condition.items()
        if isinstance(value, str):
            return "eq", name.lower(), value
    elif isinstance(condition, list) and len(condition) == 3:
        kind, first, second = condition
        kind = str(kind).lower()
        if kind == "content-length-range":
            if all(str(n).isdecimal() and len(str(n)) < 16 for n in (first, second)):
                return kind, str(first), str(second)
        elif (
            kind in ("eq", "starts-with")
            and isinstance(first, str)
            and isinstance(second, str)
            and first.startswith("$")
        ):
            return kind, first[1:].lower(), second
    raise InvalidRequest(f"Invalid Policy: Invalid condition: {json.dumps(condition)[:200]}")


def _starts_with(name: str, actual: str, start: str) -> bool:
    if name == "content-type":
        # A comma-separated list of types: each has to begin so.
        return all(part.strip().startswith(start) for part in actual.split(","))
    return actual.startswith(start)


def _invalid(reason: str) -> AccessDenied:
    return AccessDenied(f"Invalid according to Policy: {reason}", "AccessDenied")
