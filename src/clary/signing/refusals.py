"""How AWS services spell a refused signature.

The same meaning has a name per family of services, and SDKs act on the names: botocore corrects
its clock and tries again on ``RequestTimeTooSkewed``, tools ask for a new login on
``InvalidClientTokenId``.
"""

from enum import Enum

from clary.errors import AccessDenied

QUERY_SERVICES = frozenset({"sts", "iam", "sns", "monitoring", "autoscaling", "ec2"})
"""Signing names of services that speak the query protocol (or did, when codes were chosen)."""


class Refusal(Enum):
    """Why a signature is refused: code for S3, for query services, for all others."""

    NO_SIGNATURE = ("AccessDenied", "MissingAuthenticationToken", "MissingAuthenticationToken")
    MALFORMED = (
        "AuthorizationHeaderMalformed",
        "IncompleteSignature",
        "IncompleteSignatureException",
    )
    MALFORMED_QUERY = (
        "AuthorizationQueryParametersError",
        "IncompleteSignature",
        "IncompleteSignatureException",
    )
    UNKNOWN_KEY = ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException")
    SKEWED = ("RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException")
    EXPIRED = ("AccessDenied", "SignatureDoesNotMatch", "InvalidSignatureException")
    NOT_ALL_SIGNED = ("AccessDenied", "SignatureDoesNotMatch", "InvalidSignatureException")
    MISMATCH = ("SignatureDoesNotMatch", "SignatureDoesNotMatch", "InvalidSignatureException")
    BODY_CHANGED = (
        "XAmzContentSHA256Mismatch",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
    )


UNKNOWN_KEY_TEXT = "The security token included in the request is invalid."
UNKNOWN_KEY_TEXT_S3 = "The AWS Access Key Id you provided does not exist in our records."
MISMATCH_TEXT = (
    "The request signature we calculated does not match the signature you provided. Check your "
    "AWS Secret Access Key and signing method. Consult the service documentation for details."
)


def refuse(refusal: Refusal, service: str, message: str) -> AccessDenied:
    """Return the error to raise, with the code that this service uses.

    Args:
        refusal: What is wrong.
        service: Signing name, such as ``s3`` or ``sagemaker``.
        message: Text for people.
    """
    s3, query, other = refusal.value
    if service == "s3":
        return AccessDenied(message, s3)
    return AccessDenied(message, query if service in QUERY_SERVICES else other)


def refuse_unknown_key(service: str) -> AccessDenied:
    """Return the error for a key id that nobody has."""
    text = UNKNOWN_KEY_TEXT_S3 if service == "s3" else UNKNOWN_KEY_TEXT
    return refuse(Refusal.UNKNOWN_KEY, service, text)


def refuse_mismatch(service: str) -> AccessDenied:
    """Return the error for a signature that does not belong to the request."""
    return refuse(Refusal.MISMATCH, service, MISMATCH_TEXT)
