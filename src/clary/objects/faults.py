"""What S3 says when something is wrong: codes, statuses and texts that its clients match on.

Source: Amazon S3 API reference, "Error responses". Only what carries further members, or is raised
in more than one place, has a function here.
"""

from clary.aws.fault import Fault


def no_such_bucket(bucket: str) -> Fault:
    text = "The specified bucket does not exist"
    return Fault("NoSuchBucket", text, 404, fields={"BucketName": bucket})


def no_such_key(key: str) -> Fault:
    return Fault("NoSuchKey", "The specified key does not exist.", 404, fields={"Key": key})


def no_such_upload(upload_id: str) -> Fault:
    return Fault(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have "
        "been aborted or completed.",
        404,
        fields={"UploadId": upload_id},
    )


def precondition_failed(condition: str) -> Fault:
    """Return the fault for a condition that does not hold; named as its header is."""
    return Fault(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        412,
        fields={"Condition": condition},
    )


def invalid_argument(message: str, name: str, value: str) -> Fault:
    fields = {"ArgumentName": name, "ArgumentValue": value[:1024]}
    return Fault("InvalidArgument", message, 400, fields=fields)


def invalid_request(message: str) -> Fault:
    return Fault("InvalidRequest", message, 400)


def malformed_xml() -> Fault:
    return Fault(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
        400,
    )


def bad_digest(name: str) -> Fault:
    """Return the fault for a body that does not have its checksum.

    Args:
        name: The algorithm, or ``Content-MD5``.
    """
    if name == "Content-MD5":
        return Fault("BadDigest", "The Content-MD5 you specified did not match what we received.")
    return Fault("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def malformed_trailer() -> Fault:
    return Fault(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our "
        "published schema.",
        400,
    )


def incomplete_body() -> Fault:
    return Fault(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        400,
    )


def entity_too_large(size: int, limit: int) -> Fault:
    return Fault(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        400,
        fields={"ProposedSize": size, "MaxSizeAllowed": limit},
    )


def not_implemented(message: str) -> Fault:
    return Fault("NotImplemented", message, 501)


def disk_full() -> Fault:
    """Return the fault for a disk (or quota) without room: the object is as it was before."""
    return Fault(
        "InsufficientStorage",
        "The server has no disk space left for this object. Nothing was stored.",
        507,
    )
