"""What buckets and keys may be called.

Source: Amazon S3 user guide, "Bucket naming rules" and "Creating object key names".
"""

import re

from clary.aws.fault import Fault

MAX_KEY_BYTES = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def is_bucket_name(name: str) -> bool:
    """Return whether a bucket may be called so."""
    return (
        _BUCKET.fullmatch(name) is not None
        and ".." not in name
        and ".-" not in name
        and "-." not in name
        and _ADDRESS.fullmatch(name) is None
        and not name.startswith(_RESERVED_STARTS)
        and not name.endswith(_RESERVED_ENDS)
    )


def check_bucket_name(name: str) -> None:
    """Refuse a name that no bucket may have.

    Raises:
        Fault: ``InvalidBucketName``.
    """
    if not is_bucket_name(name):
        raise Fault(
            "InvalidBucketName",
            "The specified bucket is not valid.",
            400,
            fields={"BucketName": name[:255]},
        )


def check_key(key: str) -> None:
    """Refuse a key that no object may have.

    Raises:
        Fault: ``KeyTooLongError``.
    """
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        fields = {"Size": size, "MaxSizeAllowed": MAX_KEY_BYTES}
        raise Fault("KeyTooLongError", "Your key is too long", 400, fields=fields)
