"""POST Object: an upload by a form in a web page."""

from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from clary.aws.fault import Fault
from clary.aws.http import HttpResponse
from clary.aws.protocols.xml_values import element, text_content
from clary.errors import AccessDenied, InvalidRequest
from clary.objects.attributes import attributes_of_write
from clary.objects.bodies import BodyCheck
from clary.objects.contents import NewContent
from clary.objects.exchange import Exchange
from clary.objects.faults import invalid_argument
from clary.objects.forms import Form, PolicyCheck
from clary.objects.object_operations import ObjectOperations
from clary.objects.service import Call, Store
from clary.signing import post_policy
from clary.signing.keys import AccessKey
from clary.signing.post_policy import PostPolicy

_MEMBERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "x-amz-storage-class": "StorageClass",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}
_METADATA = "x-amz-meta-"
_STATUSES = ("200", "201", "204")


class PostObject:
    """See the module.

    Args:
        store: Where to.
        objects: Stores the object.
        keys: Access keys by id, as they are now.
        auth_is_on: Whether the policy has to be there and signed.
    """

    def __init__(
        self,
        store: Store,
        objects: ObjectOperations,
        keys: Callable[[], Mapping[str, AccessKey]],
        *,
        auth_is_on: bool,
    ) -> None:
        self._store = store
        self._objects = objects
        self._keys = keys
        self._auth_is_on = auth_is_on

    async def answer(self, exchange: Exchange, path: str) -> HttpResponse:
        """Take a form that is posted to a bucket.

        Args:
            exchange: The request.
            path: Its path, in path style.

        Raises:
            Fault: The form is not what its policy allows, or not what it should be.
        """
        bucket, _, rest = unquote(path).removeprefix("/").partition("/")
        if not bucket or rest:
            raise Fault(
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
                405,
            )
        form = Form(exchange.batches(), exchange.headers.get("content-type", ""))
        await form.read_fields()
        fields = form.fields
        if not fields.get("key"):
            text = "Bucket POST must contain a field named 'key'.  If it is specified, please "
            raise invalid_argument(f"{text}check the order of the fields.", "key", "")
        policy = self._check_policy(fields, bucket)

        async def receive(default_algorithm: str | None) -> NewContent:
            # Checksums are fields of a form, as its other headers are.
            check = BodyCheck(fields, default_algorithm=default_algorithm)
            return await self._store.contents.receive(form.file(), PolicyCheck(check, policy))

        url = f"{exchange.scheme}://{exchange.host}"
        place = {"Bucket": bucket, "Key": fields["key"]}
        call = Call("PostObject", place, exchange.headers, b"", receive, url)
        attributes = attributes_of_write(_members(fields), fields)
        stored = await self._objects.store(call, attributes, {})
        return _reply(fields, bucket, stored.etag, url)

    def _check_policy(self, fields: Mapping[str, str], bucket: str) -> PostPolicy:
        now = self._store.clock.now()
        try:
            if self._auth_is_on:
                return post_policy.verify(fields, self._keys(), now, bucket=bucket)
            return post_policy.check(fields, None, now, bucket=bucket)
        except AccessDenied as error:
            raise Fault(error.code, error.message, 403) from error
        except InvalidRequest as error:
            raise Fault("InvalidPolicyDocument", error.message, 400) from error


def _members(fields: Mapping[str, str]) -> dict[str, object]:
    """Return the fields as members of PutObject, which they stand for."""
    members: dict[str, object] = {
        member: fields[name] for name, member in _MEMBERS.items() if fields.get(name)
    }
    members["Metadata"] = {
        name.removeprefix(_METADATA): _as_header(value)
        for name, value in fields.items()
        if name.startswith(_METADATA)
    }
    return members


def _as_header(value: str) -> str:
    """Return text as it would have come in a header: byte by byte."""
    return value.encode().decode("latin-1")


def _reply(fields: Mapping[str, str], bucket: str, etag: str, url: str) -> HttpResponse:
    key = fields["key"]
    location = f"{url}/{bucket}/{quote(key)}"
    headers = {"etag": f'"{etag}"', "location": location}
    redirect = fields.get("success_action_redirect") or fields.get("redirect")
    if redirect:
        parts = urlsplit(redirect)
        if parts.scheme in ("http", "https") and redirect.isascii() and redirect.isprintable():
            told = urlencode({"bucket": bucket, "key": key, "etag": f'"{etag}"'})
            query = f"{parts.query}&{told}" if parts.query else told
            return HttpResponse(
                303, {**headers, "location": urlunsplit(parts._replace(query=query))}
            )
    status = fields.get("success_action_status", "204")
    if status != "201":
        return HttpResponse(int(status) if status in _STATUSES else 204, headers)
    members = {"Location": location, "Bucket": bucket, "Key": key, "ETag": f'"{etag}"'}
    content = "".join(element(name, text_content(value)) for name, value in members.items())
    body = '<?xml version="1.0" encoding="UTF-8"?>\n' + element("PostResponse", content)
    return HttpResponse(201, {**headers, "content-type": "application/xml"}, body.encode())
