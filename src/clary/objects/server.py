"""The embedded S3 as an ASGI application: the way of every request, on one screen.

Signatures of request heads are verified by the gateway; bodies are checked here. Behind this module
operations are functions from members of S3's model to members of S3's model.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

from botocore.model import OperationModel

from clary.aws.dispatch import find_operation
from clary.aws.fault import Fault
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols import PROTOCOLS
from clary.aws.service_models import ServiceModels
from clary.aws.validation import find_faults
from clary.clock import Clock, SystemClock
from clary.objects.addressing import to_path_style
from clary.objects.bodies import BodyCheck, declared_length
from clary.objects.bucket_operations import BucketOperations
from clary.objects.conditions import NotModified
from clary.objects.contents import MAX_OBJECT_BYTES, Contents, NewContent, known_files
from clary.objects.database import Database
from clary.objects.exchange import ClientGone, Exchange, Receive, Send
from clary.objects.faults import (
    entity_too_large,
    malformed_xml,
    not_implemented,
)
from clary.objects.files import ContentFiles
from clary.objects.forms import is_form
from clary.objects.multipart_operations import MultipartOperations
from clary.objects.object_operations import ObjectOperations
from clary.objects.post_object import PostObject
from clary.objects.service import Call, Handler, Reply, Store
from clary.objects.subresources import Subresources
from clary.signing.hosts import HostNames
from clary.signing.keys import AccessKey
from clary.signing.refusals import UNKNOWN_KEY_TEXT_S3

Keys = Callable[[], Mapping[str, AccessKey]]
App = Callable[[Mapping[str, Any], Receive, Send], Any]

THREADS = 8
"""For hashing and for the disk."""

_DATE_HEADERS = frozenset(
    {
        "if-modified-since",
        "if-unmodified-since",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-unmodified-since",
    }
)
_SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256"
_PROTOCOL = PROTOCOLS["rest-xml"]

_log = logging.getLogger(__name__)


def build_objects_app(
    data_dir: Path,
    *,
    region: str,
    account: str,
    keys: Keys,
    auth_is_on: bool = False,
    hosts: Iterable[str] = (),
    clock: Clock | None = None,
) -> "ObjectsApp":
    """Open the store and return the application.

    Args:
        data_dir: The server's data directory; everything lies in ``objects`` below it.
        region: Of this server.
        account: Owner of everything, 12 digits.
        keys: Access keys by id, as they are now.
        auth_is_on: Whether signed chunks and forms are verified.
        hosts: Names that this S3 is reached by, beside loopback and Amazon's own.
        clock: Where the time comes from.

    Raises:
        ConfigurationError: The directory cannot be written, or the database is corrupt.
    """
    directory = data_dir / "objects"
    files = ContentFiles(directory)
    database = Database(directory / "metadata.sqlite")
    # A database that was lost may come back from a backup: its files stay for this once.
    if not database.is_new:
        orphans = files.sweep(known_files(database.reader()))
        if orphans:
            _log.info("removed %d files of writes that were cut short", orphans)
    executor = ThreadPoolExecutor(THREADS, "objects")
    store = Store(database, Contents(files, executor), region, account, clock or SystemClock())
    return ObjectsApp(store, executor, keys, auth_is_on=auth_is_on, hosts=HostNames(hosts))


class ObjectsApp:
    """See the module."""

    def __init__(
        self,
        store: Store,
        executor: ThreadPoolExecutor,
        keys: Keys,
        *,
        auth_is_on: bool,
        hosts: HostNames,
    ) -> None:
        self._store = store
        self._executor = executor
        self._keys = keys
        self._auth_is_on = auth_is_on
        self._hosts = hosts
        self._model = ServiceModels().get("s3")
        objects = ObjectOperations(store)
        self.handlers: Mapping[str, Handler] = {
            **BucketOperations(store).handlers,
            **objects.handlers,
            **MultipartOperations(store).handlers,
            **Subresources(store).handlers,
        }
        """By operation: what is built."""

        self._post_object = PostObject(store, objects, keys, auth_is_on=auth_is_on)

    def close(self) -> None:
        """Finish what is waiting and close the store."""
        self._executor.shutdown()
        self._store.database.close()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one connection event of the ASGI server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(Exchange(scope, receive, send))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self.close()
                return

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._serve(exchange)
        except ClientGone:
            return
        except NotModified as unchanged:
            await exchange.respond(HttpResponse(304, {**_identity(exchange), **unchanged.headers}))
        except Fault as fault:
            await exchange.respond(self._fault(exchange, fault))
        except Exception:
            _log.exception(
                "request %s: %s %s", exchange.request_id, exchange.method, exchange.raw_path
            )
            if exchange.is_started:
                raise  # the server cuts the connection: the client must not take this for the end
            text = "We encountered an internal error. Please try again."
            await exchange.respond(self._fault(exchange, Fault("InternalError", text, 500)))

    async def _serve(self, exchange: Exchange) -> None:
        path = to_path_style(exchange.raw_path, self._hosts.find_bucket(exchange.host))
        if is_form(exchange.method, exchange.headers.get("content-type", "")):
            await exchange.respond(await self._post_object.answer(exchange, path))
            return
        request = replace(exchange.as_request(path), headers=_readable_dates(exchange.headers))
        match = find_operation(self._model, request)
        handler = self.handlers.get(match.operation.name)
        if handler is None:
            raise not_implemented(
                f"The operation {match.operation.name} is not implemented by this server."
            )
        check = partial(self._check, exchange)
        is_streamed = match.operation.has_streaming_input
        body = b"" if is_streamed else await self._read(exchange, check())
        request = replace(request, body=body)
        members = self._parse(match.operation, request, match.uri, is_streamed=is_streamed)
        self._check_owner(members)

        async def receive(default_algorithm: str | None) -> NewContent:
            length = declared_length(exchange.headers)
            if length is not None and length > MAX_OBJECT_BYTES:
                raise entity_too_large(length, MAX_OBJECT_BYTES)
            return await self._store.contents.receive(
                exchange.batches(), check(default_algorithm=default_algorithm)
            )

        url = f"{exchange.scheme}://{exchange.host}"
        call = Call(match.operation.name, members, exchange.headers, body, receive, url)
        reply = await handler(call)
        await self._reply(exchange, match.operation, reply)

    def _check(self, exchange: Exchange, *, default_algorithm: str | None = None) -> BodyCheck:
        key = None
        has_signed_chunks = _SIGNED_CHUNKS in exchange.headers.get("x-amz-content-sha256", "")
        if self._auth_is_on and has_signed_chunks:
            key_id = exchange.headers.get("x-clary-access-key", "")
            key = self._keys().get(key_id)
            if key is None:
                raise Fault("InvalidAccessKeyId", UNKNOWN_KEY_TEXT_S3, 403)
        return BodyCheck(exchange.headers, key, default_algorithm=default_algorithm)

    async def _read(self, exchange: Exchange, check: BodyCheck) -> bytes:
        body = b"".join(check.feed(await exchange.read()))
        check.finish()
        return body

    def _parse(
        self,
        operation: OperationModel,
        request: HttpRequest,
        uri: Mapping[str, str],
        *,
        is_streamed: bool,
    ) -> Mapping[str, Any]:
        try:
            members = _PROTOCOL.parse(operation, request, uri, body_is_streamed=is_streamed)
        except Fault as fault:
            if fault.code == "SerializationException":
                raise Fault("InvalidArgument", fault.message, 400) from fault
            raise
        shape = operation.input_shape
        if shape is None:
            return members
        payload = shape.serialization.get("payload")
        # Places are judged by CreateBucket itself, with a code of its own.
        if payload and not is_streamed and operation.name != "CreateBucket":
            member = shape.members[payload]
            if member.type_name == "structure" and payload in members:
                if find_faults(member, members[payload]):
                    raise malformed_xml()
            elif payload in shape.required_members and payload not in members and request.body:
                raise malformed_xml()
        return members

    def _check_owner(self, members: Mapping[str, Any]) -> None:
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if members.get(name, self._store.account) != self._store.account:
                raise Fault("AccessDenied", "Access Denied", 403)

    async def _reply(self, exchange: Exchange, operation: OperationModel, reply: Reply) -> None:
        try:
            output = operation.output_shape
            known = output.members if output is not None else {}
            result = {name: value for name, value in reply.result.items() if name in known}
            head = _PROTOCOL.serialize(operation, result, exchange.request_id)
            headers = {**head.headers, **_identity(exchange), **reply.headers}
            if reply.status is not None or reply.document is not None:
                body = head.body if reply.document is None else reply.document
                head = HttpResponse(reply.status or head.status, headers, body)
            else:
                head = HttpResponse(head.status, headers, head.body)
            small = reply.content.at_hand if reply.content is not None else head.body
            if small is None and reply.content is not None:
                await exchange.stream(head, reply.content)
            else:
                await exchange.respond(HttpResponse(head.status, head.headers, small or b""))
        finally:
            if reply.content is not None:
                reply.content.close()

    def _fault(self, exchange: Exchange, fault: Fault) -> HttpResponse:
        named = Fault(
            fault.code,
            fault.message,
            fault.status,
            fields={**fault.fields, "Resource": exchange.raw_path, "HostId": exchange.request_id},
        )
        response = _PROTOCOL.serialize_fault(self._model, named, exchange.request_id)
        headers = {**response.headers, **_identity(exchange)}
        if fault.code == "InvalidRange":
            headers["content-range"] = f"bytes */{fault.fields['ActualObjectSize']}"
        return HttpResponse(response.status, headers, response.body)


def _identity(exchange: Exchange) -> dict[str, str]:
    """Return the headers of every reply."""
    return {
        "server": "AmazonS3",
        "x-amz-request-id": exchange.request_id,
        "x-amz-id-2": exchange.request_id,
    }


def _readable_dates(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without conditions whose date is none: S3 ignores them."""
    kept = {name: value for name, value in headers.items() if name != "expires"}
    for name in _DATE_HEADERS & kept.keys():
        try:
            moment = parsedate_to_datetime(kept[name])
        except ValueError:
            moment = None
        # A date in the future is no condition either (RFC 9110, 13.1.3).
        if moment is None or (
            name.endswith("-modified-since")
            and (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) > datetime.now(UTC)
        ):
            del kept[name]
    return kept
