"""Operations on objects: put, get, head, copy, delete, attributes, tagging."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from clary.aws.fault import Fault
from clary.aws.protocols.texts import format_timestamp
from clary.objects import catalog
from clary.objects.attributes import (
    CONTENT_MEMBERS,
    attributes_of_write,
    checksum_attributes,
    echo_encryption,
    metadata_for_wire,
    parse_tag_set,
    read_checksums,
    tag_set,
)
from clary.objects.buckets import check_bucket
from clary.objects.catalog import StoredObject
from clary.objects.checksums import encode, member_of, new_digest
from clary.objects.conditions import ByteRange, check_read, check_write, resolve_range
from clary.objects.contents import (
    OpenContent,
    Piece,
    find_part_facts,
    find_pieces,
    new_content_id,
    save_piece,
)
from clary.objects.database import Transaction
from clary.objects.faults import invalid_argument, invalid_request, malformed_xml
from clary.objects.naming import check_key
from clary.objects.service import Call, Handler, Reply, Store

MAX_DELETED = 1000
"""Most keys in one DeleteObjects."""

_OVERRIDES = {
    "ResponseCacheControl": "cache-control",
    "ResponseContentDisposition": "content-disposition",
    "ResponseContentEncoding": "content-encoding",
    "ResponseContentLanguage": "content-language",
    "ResponseContentType": "content-type",
}


class ObjectOperations:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.handlers: Mapping[str, Handler] = {
            "PutObject": self.put_object,
            "GetObject": self.get_object,
            "HeadObject": self.head_object,
            "CopyObject": self.copy_object,
            "DeleteObject": self.delete_object,
            "DeleteObjects": self.delete_objects,
            "GetObjectAttributes": self.get_object_attributes,
            "GetObjectTagging": self.get_object_tagging,
            "PutObjectTagging": self.put_object_tagging,
            "DeleteObjectTagging": self.delete_object_tagging,
            "GetObjectAcl": self.get_object_acl,
            "PutObjectAcl": self.put_object_acl,
        }

    # Writing ------------------------------------------------------------------------------

    async def put_object(self, call: Call) -> Reply:
        attributes = attributes_of_write(call.input, call.headers)
        stored = await self.store(call, attributes, call.input)
        result = {
            "ETag": f'"{stored.etag}"',
            **echo_encryption(attributes),
            **read_checksums(stored.attributes),
        }
        return Reply(result)

    async def store(
        self, call: Call, attributes: Mapping[str, Any], conditions: Mapping[str, Any]
    ) -> StoredObject:
        """Store the streamed bytes as an object.

        Args:
            call: Whose bytes.
            attributes: Those of the object, without checksums.
            conditions: Members IfMatch and IfNoneMatch.

        Raises:
            Fault: The body is not what it should be, or a condition does not hold.
        """
        store, bucket, key = self._store, call.bucket, call.key
        check_key(key)
        reader = store.database.reader()
        check_bucket(reader, bucket)
        if "IfMatch" in conditions or "IfNoneMatch" in conditions:
            # Checked again with the commit; here it saves clients an upload that is in vain.
            old = catalog.find_object(reader, bucket, key)
            check_write(conditions, key, old.etag if old else None)
        content = await call.receive(None)
        piece = content.as_piece(1, store.now().timestamp())
        whole = {**attributes, **checksum_attributes(content.checked.checksums)}

        def change(transaction: Transaction) -> StoredObject:
            return catalog.put_single(
                transaction, store.files, bucket, key, piece, whole, conditions
            )

        return await store.database.write(change, on_failure=lambda: self._forget([piece]))

    def _forget(self, pieces: list[Piece]) -> None:
        self._store.files.remove(piece.file for piece in pieces if piece.file is not None)

    async def copy_object(self, call: Call) -> Reply:
        members = call.input
        check_key(call.key)
        check_bucket(self._store.database.reader(), call.bucket)
        bucket, key = parse_copy_source(members["CopySource"])
        while True:
            source = catalog.get_object(self._store.database.reader(), bucket, key)
            check_read(members, source.etag, source.modified_at, prefix="CopySource")
            attributes = self._copied_attributes(call, source, (bucket, key))
            pieces = find_pieces(self._store.database.reader(), source.content)
            try:
                copies = await self._store.contents.run(self._link, pieces)
                break
            except FileNotFoundError:
                continue  # replaced meanwhile: look again
        wanted = members.get("ChecksumAlgorithm")
        if wanted and member_of(wanted) not in attributes:
            attributes |= await self._checksum(copies, source.size, wanted)
        now = self._store.now()
        copy = StoredObject(call.key, new_content_id(), source.size, source.etag, now, attributes)

        def change(transaction: Transaction) -> None:
            catalog.put_object(
                transaction, self._store.files, call.bucket, copy, conditions=members
            )
            for piece in copies:
                save_piece(transaction, self._store.files, copy.content, piece)

        await self._store.database.write(change, on_failure=lambda: self._forget(copies))
        result = {"ETag": f'"{copy.etag}"', "LastModified": now, **read_checksums(attributes)}
        return Reply({"CopyObjectResult": result, **echo_encryption(attributes)})

    def _copied_attributes(
        self, call: Call, source: StoredObject, place: tuple[str, str]
    ) -> dict[str, Any]:
        members = call.input
        replaces = members.get("MetadataDirective", "COPY") == "REPLACE"
        attributes = attributes_of_write(members, call.headers)
        if place == (call.bucket, call.key) and not (
            replaces
            or members.get("StorageClass")
            or members.get("ServerSideEncryption")
            or members.get("WebsiteRedirectLocation")
        ):
            raise invalid_request(
                "This copy request is illegal because it is trying to copy an object to itself "
                "without changing the object's metadata, storage class, website redirect location "
                "or encryption attributes."
            )
        if not replaces:
            for name in (*CONTENT_MEMBERS, "Expires"):
                if name != "WebsiteRedirectLocation":
                    attributes.pop(name, None)
                    if name in source.attributes:
                        attributes[name] = source.attributes[name]
        if members.get("TaggingDirective", "COPY") == "COPY":
            attributes["Tags"] = source.attributes.get("Tags", [])
        if "PartsCount" in source.attributes:
            attributes["PartsCount"] = source.attributes["PartsCount"]
        return {**attributes, **read_checksums(source.attributes)}

    def _link(self, pieces: list[Piece]) -> list[Piece]:
        copies: list[Piece] = []
        try:
            for piece in pieces:
                file = self._store.files.link(piece.file) if piece.file is not None else None
                copies.append(replace(piece, file=file))
        except BaseException:
            self._forget(copies)
            raise
        return copies

    async def _checksum(self, pieces: list[Piece], size: int, algorithm: str) -> dict[str, Any]:
        digest = new_digest(algorithm)
        content = await self._store.contents.open(pieces, ByteRange(0, size))
        try:
            async for data in content.read():
                await self._store.contents.run(digest.update, data)
        finally:
            content.close()
        return {member_of(algorithm): encode(digest.digest()), "ChecksumType": "FULL_OBJECT"}

    async def delete_object(self, call: Call) -> Reply:
        check_version(call.input.get("VersionId"))
        await self._store.database.write(
            lambda transaction: catalog.delete_object(
                transaction, self._store.files, call.bucket, call.key, call.input
            )
        )
        return Reply()

    async def delete_objects(self, call: Call) -> Reply:
        wanted = call.input.get("Delete", {}).get("Objects", [])
        if not 1 <= len(wanted) <= MAX_DELETED:
            raise malformed_xml()

        def change(transaction: Transaction) -> list[Fault | None]:
            check_bucket(transaction, call.bucket)
            return [self._delete_one(transaction, call.bucket, item) for item in wanted]

        outcomes = await self._store.database.write(change)
        deleted = []
        errors = []
        for item, fault in zip(wanted, outcomes, strict=True):
            named = {name: item[name] for name in ("Key", "VersionId") if name in item}
            if fault is None:
                deleted.append(named)
            else:
                errors.append({**named, "Code": fault.code, "Message": fault.message})
        quiet = call.input["Delete"].get("Quiet", False)
        return Reply({"Deleted": [] if quiet else deleted, "Errors": errors})

    def _delete_one(
        self, transaction: Transaction, bucket: str, item: Mapping[str, Any]
    ) -> Fault | None:
        conditions = {"IfMatch": item["ETag"]} if item.get("ETag") else None
        try:
            check_version(item.get("VersionId"))
            catalog.delete_object(transaction, self._store.files, bucket, item["Key"], conditions)
        except Fault as fault:
            return fault
        return None

    # Reading ------------------------------------------------------------------------------

    async def head_object(self, call: Call) -> Reply:
        found = self._look(call)
        pieces = []
        if call.input.get("PartNumber") is not None:
            pieces = find_part_facts(self._store.database.reader(), found.content)
        wanted = self._wanted(call, found, pieces)
        return self._reply(call, found, wanted, len(pieces))

    async def get_object(self, call: Call) -> Reply:
        while True:
            found = self._look(call)
            pieces = find_pieces(self._store.database.reader(), found.content)
            wanted = self._wanted(call, found, pieces)
            reply = self._reply(call, found, wanted, len(pieces))
            try:
                content: OpenContent = await self._store.contents.open(
                    pieces, wanted or ByteRange(0, found.size)
                )
            except FileNotFoundError:
                now = catalog.find_object(self._store.database.reader(), call.bucket, call.key)
                if now == found:
                    raise  # the file of an object that is there: the disk has lost it
                continue  # replaced or deleted meanwhile: look again
            return replace(reply, content=content)

    def _look(self, call: Call) -> StoredObject:
        check_version(call.input.get("VersionId"))
        found = catalog.get_object(self._store.database.reader(), call.bucket, call.key)
        check_read(call.input, found.etag, found.modified_at)
        return found

    def _wanted(self, call: Call, found: StoredObject, pieces: list[Piece]) -> ByteRange | None:
        """Return the bytes that a reader asks for; None for all."""
        number = call.input.get("PartNumber")
        if number is None:
            return resolve_range(call.headers.get("range"), found.size)
        if call.headers.get("range"):
            raise invalid_request("Cannot specify both Range header and partNumber query parameter")
        start = 0
        for position, piece in enumerate(pieces, 1):
            if position == number:
                return ByteRange(start, piece.size) if piece.size else None
            start += piece.size
        raise Fault(
            "InvalidPartNumber",
            "The requested partnumber is not satisfiable",
            416,
            fields={"PartNumberRequested": number, "ActualPartCount": len(pieces)},
        )

    def _reply(
        self, call: Call, found: StoredObject, wanted: ByteRange | None, parts: int
    ) -> Reply:
        attributes = dict(found.attributes)
        headers = {}
        tags = attributes.pop("Tags", [])
        expires = attributes.pop("Expires", None)
        if call.input.get("ResponseExpires") is not None:
            expires = format_timestamp(call.input["ResponseExpires"], "rfc822")
        if expires is not None:
            headers["expires"] = expires
        checksums = read_checksums(attributes)
        has_parts = attributes.pop("PartsCount", None) is not None
        for name in (*checksums, "ChecksumAlgorithm"):
            attributes.pop(name, None)
        result = {
            **attributes,
            "ETag": f'"{found.etag}"',
            "LastModified": found.modified_at,
            "AcceptRanges": "bytes",
            "ContentLength": wanted.length if wanted else found.size,
            "Metadata": metadata_for_wire(attributes.get("Metadata", {})),
            "TagCount": len(tags) or None,
        }
        result.pop("SSEKMSEncryptionContext", None)
        if call.input.get("ChecksumMode") == "ENABLED" and wanted is None:
            result |= checksums
        if call.input.get("PartNumber") is not None and has_parts:
            result["PartsCount"] = parts
        for member, header in _OVERRIDES.items():
            if call.input.get(member):
                headers[header] = call.input[member]
        if wanted is None:
            return Reply(result, headers)
        return Reply({**result, "ContentRange": wanted.header(found.size)}, headers, 206)

    async def get_object_attributes(self, call: Call) -> Reply:
        found = self._look(call)
        asked = set(call.input.get("ObjectAttributes") or ())
        result: dict[str, Any] = {"LastModified": found.modified_at}
        if "ETag" in asked:
            result["ETag"] = found.etag
        if "ObjectSize" in asked:
            result["ObjectSize"] = found.size
        if "StorageClass" in asked:
            result["StorageClass"] = found.attributes.get("StorageClass", "STANDARD")
        if "Checksum" in asked:
            result["Checksum"] = read_checksums(found.attributes) or None
        if "ObjectParts" in asked and "PartsCount" in found.attributes:
            result["ObjectParts"] = self._parts(call, found)
        return Reply(result)

    def _parts(self, call: Call, found: StoredObject) -> dict[str, Any]:
        limit = min(call.input.get("MaxParts", 1000), 1000)
        after = int(call.input.get("PartNumberMarker") or 0)
        pieces = find_part_facts(self._store.database.reader(), found.content, after, limit + 1)
        shown = pieces[:limit]
        parts = [
            {
                "PartNumber": piece.number,
                "Size": piece.size,
                **{member_of(name): value for name, value in piece.checksums.items()},
            }
            for piece in shown
        ]
        return {
            "TotalPartsCount": found.attributes["PartsCount"],
            "PartNumberMarker": str(after),
            "NextPartNumberMarker": str(shown[-1].number if shown else 0),
            "MaxParts": limit,
            "IsTruncated": len(pieces) > limit,
            # Without checksums S3 tells the count alone.
            "Parts": parts if any(piece.checksums for piece in shown) else None,
        }

    # Tagging and ACLs ---------------------------------------------------------------------

    async def get_object_tagging(self, call: Call) -> Reply:
        found = catalog.get_object(self._store.database.reader(), call.bucket, call.key)
        return Reply({"TagSet": tag_set(found.attributes.get("Tags", []))})

    async def put_object_tagging(self, call: Call) -> Reply:
        tags = parse_tag_set(call.input["Tagging"])
        await self._set_tags(call, tags)
        return Reply()

    async def delete_object_tagging(self, call: Call) -> Reply:
        await self._set_tags(call, None)
        return Reply()

    async def _set_tags(self, call: Call, tags: list[list[str]] | None) -> None:
        await self._store.database.write(
            lambda transaction: catalog.set_attributes(
                transaction, call.bucket, call.key, {"Tags": tags or None}
            )
        )

    async def get_object_acl(self, call: Call) -> Reply:
        catalog.get_object(self._store.database.reader(), call.bucket, call.key)
        return Reply(owner_acl(self._store.owner))

    async def put_object_acl(self, call: Call) -> Reply:
        catalog.get_object(self._store.database.reader(), call.bucket, call.key)
        return Reply()


def owner_acl(owner: Mapping[str, str]) -> dict[str, Any]:
    """Return the access control list that everything here has: its owner may do all."""
    grantee = {**owner, "Type": "CanonicalUser"}
    return {"Owner": owner, "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}


def parse_copy_source(header: str) -> tuple[str, str]:
    """Return bucket and key of ``x-amz-copy-source``.

    Raises:
        Fault: ``InvalidArgument``.
    """
    path, _, query = header.partition("?")
    if query:
        check_version(query.removeprefix("versionId="))
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key or bucket.startswith("arn:"):
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            "x-amz-copy-source",
            header,
        )
    return bucket, key


def check_version(version: str | None) -> None:
    """Refuse versions other than the one that objects without versioning have.

    Raises:
        Fault: ``NoSuchVersion``.
    """
    if version not in (None, "", "null"):
        raise Fault(
            "NoSuchVersion",
            "The specified version does not exist.",
            404,
            fields={"VersionId": str(version)[:1024]},
        )
