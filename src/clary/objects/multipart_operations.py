"""Operations of multipart uploads."""

import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from clary.aws.fault import Fault
from clary.objects import catalog, uploads
from clary.objects.attributes import attributes_of_write, echo_encryption, read_checksums
from clary.objects.bodies import BodyCheck
from clary.objects.buckets import check_bucket
from clary.objects.checksums import check_type, default_type, member_of, new_digest
from clary.objects.conditions import ByteRange, check_read, check_write, resolve_copy_range
from clary.objects.contents import (
    NewContent,
    OpenContent,
    find_part_facts,
    find_pieces,
    new_content_id,
)
from clary.objects.faults import invalid_argument, malformed_xml
from clary.objects.naming import check_key
from clary.objects.object_operations import parse_copy_source
from clary.objects.service import Call, Handler, Reply, Store
from clary.objects.uploads import MAX_PART_NUMBER, NamedPart, Upload, UploadPage

MAX_LISTED = 1000


class MultipartOperations:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.handlers: Mapping[str, Handler] = {
            "CreateMultipartUpload": self.create_multipart_upload,
            "UploadPart": self.upload_part,
            "UploadPartCopy": self.upload_part_copy,
            "CompleteMultipartUpload": self.complete_multipart_upload,
            "AbortMultipartUpload": self.abort_multipart_upload,
            "ListParts": self.list_parts,
            "ListMultipartUploads": self.list_multipart_uploads,
        }

    async def create_multipart_upload(self, call: Call) -> Reply:
        check_key(call.key)
        attributes = attributes_of_write(call.input, call.headers)
        checksum = {}
        algorithm = call.input.get("ChecksumAlgorithm")
        if algorithm:
            new_digest(algorithm)
            checksum_type = call.input.get("ChecksumType") or default_type(algorithm)
            check_type(algorithm, checksum_type)
            checksum = {"ChecksumAlgorithm": algorithm, "ChecksumType": checksum_type}
        upload = Upload(
            secrets.token_urlsafe(48),
            call.bucket,
            call.key,
            new_content_id(),
            self._store.now(),
            {**attributes, **checksum},
        )
        await self._store.database.write(lambda t: uploads.start_upload(t, upload))
        result = {
            "Bucket": call.bucket,
            "Key": call.key,
            "UploadId": upload.id,
            **echo_encryption(attributes),
            **checksum,
        }
        return Reply(result)

    # Parts --------------------------------------------------------------------------------

    async def upload_part(self, call: Call) -> Reply:
        number = _part_number(call)
        upload = self._upload(call)
        content = await call.receive(upload.algorithm)
        if upload.algorithm and upload.algorithm not in content.checked.checksums:
            self._remove(content)
            (given,) = content.checked.checksums
            raise Fault(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: "
                f"{upload.algorithm.lower()}, actual checksum Type: {given.lower()}",
                400,
            )
        await self._put_part(upload, number, content)
        checksums = content.checked.checksums.items()
        result = {
            "ETag": f'"{content.checked.md5}"',
            **{member_of(name): value for name, value in checksums},
            **echo_encryption(upload.attributes),
        }
        result.pop("SSEKMSEncryptionContext", None)
        return Reply(result)

    async def upload_part_copy(self, call: Call) -> Reply:
        number = _part_number(call)
        upload = self._upload(call)
        bucket, key = parse_copy_source(call.input["CopySource"])
        opened = await self._open_source(call, bucket, key)
        try:
            # Nothing is declared of the copied bytes: the check only hashes them.
            check = BodyCheck({}, default_algorithm=upload.algorithm)
            content = await self._store.contents.receive(_batches(opened), check)
        finally:
            opened.close()
        await self._put_part(upload, number, content)
        checksums = content.checked.checksums.items()
        result = {
            "ETag": f'"{content.checked.md5}"',
            "LastModified": self._store.now(),
            **{member_of(name): value for name, value in checksums},
        }
        return Reply({"CopyPartResult": result})

    async def _open_source(self, call: Call, bucket: str, key: str) -> OpenContent:
        while True:
            reader = self._store.database.reader()
            source = catalog.get_object(reader, bucket, key)
            check_read(call.input, source.etag, source.modified_at, prefix="CopySource")
            wanted = ByteRange(0, source.size)
            if call.input.get("CopySourceRange"):
                wanted = resolve_copy_range(call.input["CopySourceRange"], source.size)
            try:
                return await self._store.contents.open(find_pieces(reader, source.content), wanted)
            except FileNotFoundError:
                if catalog.find_object(self._store.database.reader(), bucket, key) == source:
                    raise

    def _upload(self, call: Call) -> Upload:
        reader = self._store.database.reader()
        return uploads.get_upload(reader, call.bucket, call.key, call.input["UploadId"])

    async def _put_part(self, upload: Upload, number: int, content: NewContent) -> None:
        piece = content.as_piece(number, self._store.now().timestamp())
        await self._store.database.write(
            lambda t: uploads.put_part(t, self._store.files, upload, piece),
            on_failure=lambda: self._remove(content),
        )

    def _remove(self, content: NewContent) -> None:
        if content.file is not None:
            self._store.files.remove([content.file])

    # End ----------------------------------------------------------------------------------

    async def complete_multipart_upload(self, call: Call) -> Reply:
        upload = self._upload(call)
        parts = _named_parts(call)
        reader = self._store.database.reader()
        old = catalog.find_object(reader, call.bucket, call.key)
        check_write(call.input, call.key, old.etag if old else None)
        algorithm = upload.algorithm
        declared = call.input.get(member_of(algorithm)) if algorithm else None
        now = self._store.now()
        new = await self._store.database.write(
            lambda t: uploads.complete_upload(
                t,
                self._store.files,
                upload,
                parts,
                {algorithm: declared} if algorithm and declared else {},
                call.input,
                now,
            )
        )
        result = {
            "Location": f"{call.url}/{call.bucket}/{quote(call.key)}",
            "Bucket": call.bucket,
            "Key": call.key,
            "ETag": f'"{new.etag}"',
            **read_checksums(new.attributes),
            **echo_encryption(new.attributes),
        }
        for name in ("SSECustomerAlgorithm", "SSECustomerKeyMD5", "SSEKMSEncryptionContext"):
            result.pop(name, None)
        return Reply(result)

    async def abort_multipart_upload(self, call: Call) -> Reply:
        await self._store.database.write(
            lambda t: uploads.abort_upload(
                t, self._store.files, call.bucket, call.key, call.input["UploadId"]
            )
        )
        return Reply()

    # Lists --------------------------------------------------------------------------------

    async def list_parts(self, call: Call) -> Reply:
        upload = self._upload(call)
        limit = _limit(call.input.get("MaxParts", MAX_LISTED), "max-parts")
        after = int(call.input.get("PartNumberMarker") or 0)
        reader = self._store.database.reader()
        pieces = find_part_facts(reader, upload.content, after, limit + 1)
        shown = pieces[:limit]
        result = {
            "Bucket": call.bucket,
            "Key": call.key,
            "UploadId": upload.id,
            "PartNumberMarker": after,
            "NextPartNumberMarker": shown[-1].number if shown else 0,
            "MaxParts": limit,
            "IsTruncated": len(pieces) > limit,
            "Parts": [
                {
                    "PartNumber": piece.number,
                    "LastModified": datetime.fromtimestamp(int(piece.modified_at), UTC),
                    "ETag": f'"{piece.etag}"',
                    "Size": piece.size,
                    **{member_of(name): value for name, value in piece.checksums.items()},
                }
                for piece in shown
            ],
            "Initiator": self._store.owner,
            "Owner": self._store.owner,
            "StorageClass": upload.attributes.get("StorageClass", "STANDARD"),
            "ChecksumAlgorithm": upload.algorithm,
            "ChecksumType": upload.attributes.get("ChecksumType"),
        }
        return Reply(result)

    async def list_multipart_uploads(self, call: Call) -> Reply:
        members = call.input
        limit = _limit(members.get("MaxUploads", MAX_LISTED), "max-uploads")
        prefix, delimiter = members.get("Prefix", ""), members.get("Delimiter", "")
        reader = self._store.database.reader()
        check_bucket(reader, call.bucket)
        page = uploads.list_uploads(
            reader,
            call.bucket,
            prefix=prefix,
            delimiter=delimiter,
            after=(members.get("KeyMarker", ""), members.get("UploadIdMarker", "\U0010ffff")),
            limit=limit,
        )

        def encode(text: str) -> str:
            return quote(text, safe="/-_.~*") if members.get("EncodingType") else text

        last_key = max([item.key for item in page.uploads] + page.prefixes, default="")
        result = {
            "Bucket": call.bucket,
            "KeyMarker": encode(members.get("KeyMarker", "")),
            "UploadIdMarker": members.get("UploadIdMarker", ""),
            "NextKeyMarker": encode(last_key) if page.is_truncated else None,
            "NextUploadIdMarker": _last_id(page, last_key),
            "Prefix": encode(prefix) or None,
            "Delimiter": encode(delimiter) or None,
            "EncodingType": members.get("EncodingType"),
            "MaxUploads": limit,
            "IsTruncated": page.is_truncated,
            "CommonPrefixes": [{"Prefix": encode(item)} for item in page.prefixes],
            "Uploads": [
                {
                    "UploadId": item.id,
                    "Key": encode(item.key),
                    "Initiated": item.started_at,
                    "StorageClass": item.attributes.get("StorageClass", "STANDARD"),
                    "Owner": self._store.owner,
                    "Initiator": self._store.owner,
                    "ChecksumAlgorithm": item.algorithm,
                    "ChecksumType": item.attributes.get("ChecksumType"),
                }
                for item in page.uploads
            ],
        }
        return Reply(result)


def _last_id(page: UploadPage, last_key: str) -> str | None:
    """Return the marker that goes with the last key; a common prefix has none."""
    is_upload = page.is_truncated and page.uploads and page.uploads[-1].key == last_key
    return page.uploads[-1].id if is_upload else None


def _part_number(call: Call) -> int:
    number = int(call.input["PartNumber"])
    if not 1 <= number <= MAX_PART_NUMBER:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive",
            "partNumber",
            str(number),
        )
    return number


def _named_parts(call: Call) -> list[NamedPart]:
    """Return the parts that a request to complete an upload names.

    Raises:
        Fault: ``MalformedXML``.
    """
    given = (call.input.get("MultipartUpload") or {}).get("Parts") or []
    if any("PartNumber" not in part or "ETag" not in part for part in given):
        raise malformed_xml()
    return [
        NamedPart(
            part["PartNumber"],
            part["ETag"].strip().strip('"'),
            {
                name.removeprefix("Checksum"): value
                for name, value in part.items()
                if name.startswith("Checksum")
            },
        )
        for part in given
    ]


def _limit(value: int, name: str) -> int:
    if value < 0:
        text = f"Argument {name} must be an integer between 0 and 2147483647"
        raise invalid_argument(text, name, str(value))
    return min(value, MAX_LISTED)


async def _batches(content: OpenContent) -> AsyncIterator[list[bytes]]:
    async for data in content.read():
        yield [data]
