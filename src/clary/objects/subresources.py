"""Documents of buckets: policy, lifecycle, encryption and all the others that tools manage.

This server keeps them, so that Terraform finds again what it has set, and acts on none of them: no
object expires by a lifecycle, no version is kept by a versioning. What a bucket answers that has
never been told anything is as exact as clients need it: Terraform reads fourteen of them and acts
on the codes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from clary.aws.fault import Fault
from clary.objects import buckets
from clary.objects.attributes import MAX_BUCKET_TAGS, check_tags
from clary.objects.buckets import check_bucket
from clary.objects.database import Transaction
from clary.objects.object_operations import owner_acl
from clary.objects.service import Call, Handler, Reply, Store

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class Document:
    """One kind of document, and what is said when there is none."""

    kind: str
    """Sub-resource in the query."""

    put: str = ""
    """Operation that sets it; empty when nothing does."""

    get: str = ""
    delete: str = ""
    code: str = ""
    """Error code when there is none; empty when a default is answered."""

    message: str = ""
    default: str = ""
    """XML that is answered when there is none."""

    member: str = ""
    """Member of the request that holds it; it must be there."""

    header: str = ""
    """Header that belongs to it, and is told again with it."""

    header_default: str = ""


def _xml(root: str, content: str = "") -> str:
    return f"{_PROLOG}<{root} {_NAMESPACE}>{content}</{root}>"


_ENCRYPTION = _xml(
    "ServerSideEncryptionConfiguration",
    "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    "</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>",
)

DOCUMENTS = (
    Document(
        "policy",
        put="PutBucketPolicy",
        get="GetBucketPolicy",
        delete="DeleteBucketPolicy",
        code="NoSuchBucketPolicy",
        message="The bucket policy does not exist",
        member="Policy",
    ),
    Document(
        "cors",
        put="PutBucketCors",
        get="GetBucketCors",
        delete="DeleteBucketCors",
        code="NoSuchCORSConfiguration",
        message="The CORS configuration does not exist",
        member="CORSConfiguration",
    ),
    Document(
        "website",
        put="PutBucketWebsite",
        get="GetBucketWebsite",
        delete="DeleteBucketWebsite",
        code="NoSuchWebsiteConfiguration",
        message="The specified bucket does not have a website configuration",
        member="WebsiteConfiguration",
    ),
    Document(
        "lifecycle",
        put="PutBucketLifecycleConfiguration",
        get="GetBucketLifecycleConfiguration",
        delete="DeleteBucketLifecycle",
        code="NoSuchLifecycleConfiguration",
        message="The lifecycle configuration does not exist",
        member="LifecycleConfiguration",
        # Terraform waits until it reads this back.
        header="x-amz-transition-default-minimum-object-size",
        header_default="all_storage_classes_128K",
    ),
    Document(
        "replication",
        put="PutBucketReplication",
        get="GetBucketReplication",
        delete="DeleteBucketReplication",
        code="ReplicationConfigurationNotFoundError",
        message="The replication configuration was not found",
        member="ReplicationConfiguration",
    ),
    Document(
        "object-lock",
        get="GetObjectLockConfiguration",
        code="ObjectLockConfigurationNotFoundError",
        message="Object Lock configuration does not exist for this bucket",
    ),
    Document(
        "tagging",
        put="PutBucketTagging",
        get="GetBucketTagging",
        delete="DeleteBucketTagging",
        code="NoSuchTagSet",
        message="The TagSet does not exist",
        member="Tagging",
    ),
    Document(
        "publicAccessBlock",
        put="PutPublicAccessBlock",
        get="GetPublicAccessBlock",
        delete="DeletePublicAccessBlock",
        code="NoSuchPublicAccessBlockConfiguration",
        message="The public access block configuration was not found",
        member="PublicAccessBlockConfiguration",
    ),
    Document(
        "ownershipControls",
        put="PutBucketOwnershipControls",
        get="GetBucketOwnershipControls",
        delete="DeleteBucketOwnershipControls",
        code="OwnershipControlsNotFoundError",
        message="The bucket ownership controls were not found",
        member="OwnershipControls",
    ),
    Document(
        "encryption",
        put="PutBucketEncryption",
        get="GetBucketEncryption",
        delete="DeleteBucketEncryption",
        default=_ENCRYPTION,
        member="ServerSideEncryptionConfiguration",
    ),
    Document(
        "versioning",
        put="PutBucketVersioning",
        get="GetBucketVersioning",
        default=_xml("VersioningConfiguration"),
        member="VersioningConfiguration",
    ),
    Document(
        "accelerate",
        put="PutBucketAccelerateConfiguration",
        get="GetBucketAccelerateConfiguration",
        default=_xml("AccelerateConfiguration"),
        member="AccelerateConfiguration",
    ),
    Document(
        "requestPayment",
        put="PutBucketRequestPayment",
        get="GetBucketRequestPayment",
        default=_xml("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
        member="RequestPaymentConfiguration",
    ),
    Document(
        "logging",
        put="PutBucketLogging",
        get="GetBucketLogging",
        default=_xml("BucketLoggingStatus"),
        member="BucketLoggingStatus",
    ),
    Document(
        "notification",
        put="PutBucketNotificationConfiguration",
        get="GetBucketNotificationConfiguration",
        default=_xml("NotificationConfiguration"),
        member="NotificationConfiguration",
    ),
)
"""The table of all kinds."""

_EARLIER_NAMES = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
"""Operations that S3 keeps for old clients: the same request, the same documents."""


def initial_documents(ownership: str) -> dict[str, bytes]:
    """Return what a new bucket has, as all have since April 2023: no ACLs and nothing public."""
    flags = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    block = "".join(f"<{flag}>true</{flag}>" for flag in flags)
    rule = f"<Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule>"
    return {
        "ownershipControls": _xml("OwnershipControls", rule).encode(),
        "publicAccessBlock": _xml("PublicAccessBlockConfiguration", block).encode(),
    }


class Subresources:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        handlers: dict[str, Handler] = {
            "GetBucketAcl": self.get_bucket_acl,
            "PutBucketAcl": self.put_bucket_acl,
            "GetBucketPolicyStatus": self.get_bucket_policy_status,
        }
        for document in DOCUMENTS:
            handlers[document.get] = self._getter(document)
            if document.put:
                handlers[document.put] = self._putter(document)
            if document.delete:
                handlers[document.delete] = self._deleter(document)
        for earlier, name in _EARLIER_NAMES.items():
            handlers[earlier] = handlers[name]
        self.handlers: Mapping[str, Handler] = handlers

    def _getter(self, document: Document) -> Handler:
        async def get(call: Call) -> Reply:
            reader = self._store.database.reader()
            stored = buckets.find_document(reader, call.bucket, document.kind)
            if stored is None:
                if document.code:
                    fields = {"BucketName": call.bucket}
                    raise Fault(document.code, document.message, 404, fields=fields)
                stored = document.default.encode()
            kind = "application/json" if document.kind == "policy" else "application/xml"
            headers = {"content-type": kind}
            if document.header:
                value = buckets.find_document(reader, call.bucket, document.header)
                headers[document.header] = value.decode() if value else document.header_default
            return Reply(headers=headers, document=stored)

        return get

    def _putter(self, document: Document) -> Handler:
        async def put(call: Call) -> Reply:
            _check(document, call)
            parts = {document.kind: call.body}
            headers = {}
            if document.header:
                value = call.headers.get(document.header, document.header_default)
                headers[document.header] = value
                parts[document.header] = value.encode()

            def write(transaction: Transaction) -> None:
                for kind, content in parts.items():
                    buckets.put_document(transaction, call.bucket, kind, content)

            await self._store.database.write(write)
            # S3 answers these two so, whatever its model says.
            status = 204 if document.kind in ("policy", "tagging") else None
            return Reply(status=status, headers=headers)

        return put

    def _deleter(self, document: Document) -> Handler:
        async def delete(call: Call) -> Reply:
            await self._store.database.write(
                lambda transaction: buckets.delete_document(transaction, call.bucket, document.kind)
            )
            return Reply()

        return delete

    async def get_bucket_acl(self, call: Call) -> Reply:
        check_bucket(self._store.database.reader(), call.bucket)
        return Reply(owner_acl(self._store.owner))

    async def put_bucket_acl(self, call: Call) -> Reply:
        check_bucket(self._store.database.reader(), call.bucket)
        return Reply()

    async def get_bucket_policy_status(self, call: Call) -> Reply:
        reader = self._store.database.reader()
        if buckets.find_document(reader, call.bucket, "policy") is None:
            fields = {"BucketName": call.bucket}
            text = "The bucket policy does not exist"
            raise Fault("NoSuchBucketPolicy", text, 404, fields=fields)
        return Reply({"PolicyStatus": {"IsPublic": False}})


def _check(document: Document, call: Call) -> None:
    """Refuse a document that S3 would not take.

    Raises:
        Fault: ``MissingRequestBodyError``, ``MalformedPolicy`` or ``InvalidTag``.
    """
    if not call.body:
        raise Fault("MissingRequestBodyError", "Request Body is empty", 400)
    if document.kind == "policy":
        try:
            policy = json.loads(call.body)
        except (ValueError, RecursionError) as error:
            text = "Policies must be valid JSON and the first byte must be '{'"
            raise Fault("MalformedPolicy", text, 400) from error
        if not isinstance(policy, dict) or "Statement" not in policy:
            raise Fault("MalformedPolicy", "Missing required field Statement", 400)
    elif document.kind == "tagging":
        tags = [[tag["Key"], tag["Value"]] for tag in call.input["Tagging"]["TagSet"]]
        check_tags(tags, MAX_BUCKET_TAGS)
