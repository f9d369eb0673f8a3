"""Operations on buckets, and the lists of what is in them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from clary.aws.fault import Fault
from clary.objects import buckets
from clary.objects.attributes import checksum_algorithms
from clary.objects.buckets import Bucket, check_bucket
from clary.objects.catalog import StoredObject
from clary.objects.faults import invalid_argument
from clary.objects.listing import MAX_KEYS, Page, decode_token, encode_token, list_page
from clary.objects.naming import check_bucket_name
from clary.objects.service import Call, Handler, Reply, Store
from clary.objects.subresources import initial_documents

MAX_BUCKETS = 10_000
_US_EAST_1 = "us-east-1"
_SAFE = "/-_.~*"
"""Characters that ``encoding-type=url`` leaves as they are."""


class BucketOperations:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.handlers: Mapping[str, Handler] = {
            "ListBuckets": self.list_buckets,
            "CreateBucket": self.create_bucket,
            "HeadBucket": self.head_bucket,
            "DeleteBucket": self.delete_bucket,
            "GetBucketLocation": self.get_bucket_location,
            "ListObjects": self.list_objects,
            "ListObjectsV2": self.list_objects_v2,
            "ListObjectVersions": self.list_object_versions,
        }

    async def list_buckets(self, call: Call) -> Reply:
        limit = min(call.input.get("MaxBuckets", MAX_BUCKETS), MAX_BUCKETS)
        token = call.input.get("ContinuationToken")
        prefix = call.input.get("Prefix", "")
        found = buckets.list_buckets(
            self._store.database.reader(),
            prefix=prefix,
            after=decode_token(token) if token else "",
            limit=limit + 1,
        )
        shown = found[:limit]
        is_paged = "MaxBuckets" in call.input
        result = {
            "Buckets": [
                {
                    "Name": bucket.name,
                    "CreationDate": bucket.created_at,
                    "BucketRegion": bucket.region if is_paged else None,
                }
                for bucket in shown
            ],
            "Owner": self._store.owner,
            "Prefix": prefix or None,
            "ContinuationToken": encode_token(shown[-1].name) if len(found) > limit else None,
        }
        return Reply(result)

    async def create_bucket(self, call: Call) -> Reply:
        name = call.bucket
        check_bucket_name(name)
        configuration = call.input.get("CreateBucketConfiguration") or {}
        region = configuration.get("LocationConstraint") or _US_EAST_1
        self._check_location(configuration.get("LocationConstraint"))
        if call.input.get("ObjectLockEnabledForBucket"):
            raise Fault("NotImplemented", "Object Lock is not implemented by this server.", 501)
        bucket = Bucket(name, self._store.now(), region)
        documents = initial_documents(call.input.get("ObjectOwnership") or "BucketOwnerEnforced")
        await self._store.database.write(
            lambda transaction: buckets.create_bucket(
                transaction, bucket, documents, repeatable=region == _US_EAST_1
            )
        )
        return Reply({"Location": f"/{name}"})

    def _check_location(self, constraint: str | None) -> None:
        """Hold a location against the region of this server.

        A server in us-east-1 takes any, as that endpoint of AWS does; others only their own.
        """
        own = self._store.region
        if constraint == _US_EAST_1 or (
            constraint == "EU" and own not in (_US_EAST_1, "eu-west-1")
        ):
            raise Fault(
                "InvalidLocationConstraint",
                "The specified location-constraint is not valid",
                400,
                fields={"LocationConstraint": constraint},
            )
        if own != _US_EAST_1 and constraint not in (own, "EU"):
            raise Fault(
                "IllegalLocationConstraintException",
                f"The {constraint or 'unspecified'} location constraint is incompatible for the "
                "region specific endpoint this request was sent to.",
                400,
            )

    async def head_bucket(self, call: Call) -> Reply:
        bucket = buckets.get_bucket(self._store.database.reader(), call.bucket)
        return Reply(
            {"BucketRegion": bucket.region, "AccessPointAlias": False},
            {"content-type": "application/xml"},
        )

    async def delete_bucket(self, call: Call) -> Reply:
        await self._store.database.write(
            lambda transaction: buckets.delete_bucket(transaction, self._store.files, call.bucket)
        )
        return Reply()

    async def get_bucket_location(self, call: Call) -> Reply:
        bucket = buckets.get_bucket(self._store.database.reader(), call.bucket)
        region = None if bucket.region == _US_EAST_1 else bucket.region
        return Reply({"LocationConstraint": region})

    # Lists --------------------------------------------------------------------------------

    async def list_objects(self, call: Call) -> Reply:
        marker = call.input.get("Marker", "")
        page = await self._page(call, marker)
        delimiter = call.input.get("Delimiter")
        result = {
            **self._common(call, page),
            "Marker": marker,
            "NextMarker": page.last if page.is_truncated and delimiter else None,
            "Contents": [self._entry(item, with_owner=True) for item in page.objects],
        }
        return Reply(_encode(call, result))

    async def list_objects_v2(self, call: Call) -> Reply:
        members = call.input
        token = members.get("ContinuationToken")
        if token == "":
            raise invalid_argument(
                "The continuation token provided is incorrect", "continuation-token", ""
            )
        start_after = members.get("StartAfter", "")
        page = await self._page(call, decode_token(token) if token else start_after)
        with_owner = bool(members.get("FetchOwner"))
        result = {
            **self._common(call, page),
            "KeyCount": len(page.objects) + len(page.prefixes),
            "ContinuationToken": token,
            "NextContinuationToken": encode_token(page.last) if page.is_truncated else None,
            "StartAfter": start_after or None,
            "Contents": [self._entry(item, with_owner=with_owner) for item in page.objects],
        }
        return Reply(_encode(call, result))

    async def list_object_versions(self, call: Call) -> Reply:
        """List the one version that each object has without versioning."""
        marker = call.input.get("KeyMarker", "")
        page = await self._page(call, marker)
        result = {
            **self._common(call, page),
            "KeyMarker": marker,
            "VersionIdMarker": call.input.get("VersionIdMarker", ""),
            "NextKeyMarker": page.last if page.is_truncated else None,
            "NextVersionIdMarker": "null" if page.is_truncated else None,
            "Versions": [
                {**self._entry(item, with_owner=True), "VersionId": "null", "IsLatest": True}
                for item in page.objects
            ],
        }
        return Reply(_encode(call, result))

    async def _page(self, call: Call, after: str) -> Page:
        members = call.input
        limit = members.get("MaxKeys", MAX_KEYS)
        if limit < 0:
            raise invalid_argument(
                "Argument max-keys must be an integer between 0 and 2147483647",
                "max-keys",
                str(limit),
            )
        if members.get("EncodingType", "url") != "url":
            raise invalid_argument(
                "Invalid Encoding Method specified in Request",
                "encoding-type",
                members["EncodingType"],
            )
        database = self._store.database
        check_bucket(database.reader(), call.bucket)

        def read() -> Page:
            return list_page(
                database.reader(),
                call.bucket,
                prefix=members.get("Prefix", ""),
                delimiter=members.get("Delimiter", ""),
                after=after,
                limit=min(limit, MAX_KEYS),
            )

        return await self._store.contents.run(read)

    def _common(self, call: Call, page: Page) -> dict[str, Any]:
        members = call.input
        return {
            "IsTruncated": page.is_truncated,
            "Name": call.bucket,
            "Prefix": members.get("Prefix", ""),
            "Delimiter": members.get("Delimiter") or None,
            "MaxKeys": min(members.get("MaxKeys", MAX_KEYS), MAX_KEYS),
            "EncodingType": members.get("EncodingType"),
            "CommonPrefixes": [{"Prefix": prefix} for prefix in page.prefixes],
        }

    def _entry(self, item: StoredObject, *, with_owner: bool) -> dict[str, Any]:
        algorithms = checksum_algorithms(item.attributes)
        return {
            "Key": item.key,
            "LastModified": item.modified_at,
            "ETag": f'"{item.etag}"',
            "ChecksumAlgorithm": algorithms or None,
            "ChecksumType": item.attributes.get("ChecksumType") if algorithms else None,
            "Size": item.size,
            "StorageClass": item.attributes.get("StorageClass", "STANDARD"),
            "Owner": self._store.owner if with_owner else None,
        }


_ENCODED = (
    "Prefix",
    "Delimiter",
    "Marker",
    "NextMarker",
    "StartAfter",
    "KeyMarker",
    "NextKeyMarker",
)


def _encode(call: Call, result: dict[str, Any]) -> dict[str, Any]:
    """Return a list with its keys percent-encoded where the request asks for it."""
    if not call.input.get("EncodingType"):
        return result
    for name in _ENCODED:
        if result.get(name):
            result[name] = quote(result[name], safe=_SAFE)
    for name, member in (("Contents", "Key"), ("Versions", "Key"), ("CommonPrefixes", "Prefix")):
        for entry in result.get(name, ()):
            entry[member] = quote(entry[member], safe=_SAFE)
    return result
