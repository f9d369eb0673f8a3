"""What an object carries beside its bytes: from the headers of a write to those of a read."""

from collections.abc import Mapping
from email.header import Header
from typing import Any
from urllib.parse import parse_qsl

from clary.aws.fault import Fault
from clary.objects.checksums import member_of
from clary.objects.faults import invalid_argument, invalid_request, not_implemented

MAX_METADATA_BYTES = 2048
MAX_TAGS = 10
MAX_BUCKET_TAGS = 50

CONTENT_MEMBERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
    "WebsiteRedirectLocation",
)
ENCRYPTION_MEMBERS = (
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "SSEKMSEncryptionContext",
    "BucketKeyEnabled",
    "SSECustomerAlgorithm",
    "SSECustomerKeyMD5",
)
STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
    }
)


def attributes_of_write(members: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that a request gives an object, an upload or a copy.

    Args:
        members: Of the request.
        headers: Of the request: ``Expires`` is kept as it came, whatever it says.

    Raises:
        Fault: A header is wrong, or asks for what this server does not have.
    """
    if members.get("WriteOffsetBytes") is not None:
        raise not_implemented("Appending to objects is not implemented.")
    if any(name.startswith("ObjectLock") for name in members):
        raise invalid_request("Bucket is missing Object Lock Configuration")
    attributes = content_attributes(members, headers)
    attributes |= encryption_attributes(members)
    storage_class = members.get("StorageClass", "STANDARD")
    if storage_class not in STORAGE_CLASSES:
        raise Fault("InvalidStorageClass", "The storage class you specified is not valid", 400)
    if storage_class != "STANDARD":
        attributes["StorageClass"] = storage_class
    if members.get("Tagging"):
        attributes["Tags"] = parse_tagging_header(members["Tagging"])
    return attributes


def content_attributes(members: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of the attributes that the metadata directive of a copy is about.

    Raises:
        Fault: ``MetadataTooLarge``.
    """
    attributes = {name: members[name] for name in CONTENT_MEMBERS if members.get(name)}
    # The coding of the request's transfer is none of the object.
    encodings = [part.strip() for part in attributes.pop("ContentEncoding", "").split(",")]
    kept = ", ".join(part for part in encodings if part and part.lower() != "aws-chunked")
    if kept:
        attributes["ContentEncoding"] = kept
    attributes.setdefault("ContentType", "binary/octet-stream")
    if "expires" in headers:
        attributes["Expires"] = headers["expires"]
    metadata = attributes.get("Metadata", {})
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise Fault(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            400,
            fields={"Size": size, "MaxSizeAllowed": MAX_METADATA_BYTES},
        )
    return attributes


def encryption_attributes(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request says about encryption. Nothing is encrypted here; it is echoed."""
    found = {name: members[name] for name in ENCRYPTION_MEMBERS if members.get(name) is not None}
    if "SSECustomerAlgorithm" not in found:
        found.setdefault("ServerSideEncryption", "AES256")
    return found


def echo_encryption(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members about encryption that a reply repeats."""
    return {name: attributes[name] for name in ENCRYPTION_MEMBERS if name in attributes}


def checksum_attributes(checksums: Mapping[str, str]) -> dict[str, Any]:
    """Return the members that tell the checksum of an object that was put in one go."""
    members: dict[str, Any] = {member_of(name): value for name, value in checksums.items()}
    return {**members, "ChecksumType": "FULL_OBJECT"} if members else {}


def read_checksums(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an object's attributes that tell its checksum."""
    return {
        name: value
        for name, value in attributes.items()
        if name.startswith("Checksum") and name != "ChecksumAlgorithm"
    }


def checksum_algorithms(attributes: Mapping[str, Any]) -> list[str]:
    """Return the names of the checksums that an object has."""
    return [
        name.removeprefix("Checksum")
        for name in read_checksums(attributes)
        if name != "ChecksumType"
    ]


def metadata_for_wire(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata as headers: what is no ASCII is encoded by RFC 2047, as S3 does.

    Values came as bytes that stand in strings one by one (latin-1); clients mean UTF-8.
    """
    encoded = {}
    for name, value in metadata.items():
        if not value.isascii():
            try:
                text = value.encode("latin-1").decode()
            except UnicodeError:
                text = value
            value = Header(text, "utf-8", maxlinelen=10**6).encode()
        encoded[name] = value
    return encoded


# Tags ---------------------------------------------------------------------------------------


def parse_tagging_header(header: str) -> list[list[str]]:
    """Return the tags in ``x-amz-tagging``, which is written like a query.

    Raises:
        Fault: ``InvalidArgument`` or ``InvalidTag``.
    """
    try:
        pairs = parse_qsl(header, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
            "parameters without tag name duplicates.",
            "x-amz-tagging",
            header,
        ) from error
    return check_tags([list(pair) for pair in pairs])


def parse_tag_set(tagging: Mapping[str, Any]) -> list[list[str]]:
    """Return the tags of a Tagging document.

    Raises:
        Fault: ``InvalidTag`` or ``BadRequest``.
    """
    return check_tags([[tag["Key"], tag["Value"]] for tag in tagging["TagSet"]])


def check_tags(tags: list[list[str]], limit: int = MAX_TAGS) -> list[list[str]]:
    """Return the tags when S3 would take them.

    Raises:
        Fault: ``InvalidTag`` or ``BadRequest``.
    """
    if len(tags) > limit:
        noun = "Object" if limit == MAX_TAGS else "Bucket"
        raise Fault("BadRequest", f"{noun} tags cannot be greater than {limit}", 400)
    if len({key for key, _ in tags}) < len(tags):
        raise Fault("InvalidTag", "Cannot provide multiple Tags with the same key", 400)
    for key, value in tags:
        if not 1 <= len(key) <= 128:
            raise Fault("InvalidTag", "The TagKey you have provided is invalid", 400)
        if len(value) > 256:
            raise Fault("InvalidTag", "The TagValue you have provided is invalid", 400)
    return tags


def tag_set(tags: list[list[str]]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags]
