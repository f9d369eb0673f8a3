"""The client side of every command: boto3 for AWS's operations, HTTP for our own few.

It follows the environment as any AWS client does: ``AWS_ENDPOINT_URL``, credentials, region. What
the environment leaves open means the server on this machine. botocore's exceptions end here and
become ``Refused`` (the server said no) or ``CommandFailed`` (there is no server).
"""

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ReadTimeoutError
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from clary.cli.failure import CommandFailed

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:25279"
DEFAULT_REGION = "us-east-1"


class Refused(CommandFailed):
    """The server answered with a fault.

    Attributes:
        code: AWS's name for it, such as ``ValidationException``; else the HTTP status.
        reply: The whole reply, as botocore parsed it.
    """

    def __init__(self, code: str, message: str, reply: Mapping[str, Any] | None = None) -> None:
        super().__init__(message if code.isdigit() else f"{code}: {message}")
        self.code = code
        self.reply = reply or {}
        self.text = message

    @property
    def not_found(self) -> bool:
        """Whether it says that the thing is not there. AWS has no common code for that."""
        return "Could not find" in self.text or self.code in ("404", "NoSuchKey", "NoSuchBucket")


class Api:
    """One server, as the environment names it.

    Args:
        environ: Environment variables, usually ``os.environ``.

    Raises:
        CommandFailed: The environment names no URL, or a profile that is not there.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.url = (environ.get("AWS_ENDPOINT_URL") or DEFAULT_URL).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailed(f"AWS_ENDPOINT_URL is no http:// or https:// URL: {self.url!r}", 2)
        self._environ = environ
        self._session = self._translated(_session)
        self.region = self._session.region_name or DEFAULT_REGION
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return a boto3 client of this server."""
        if service not in self._clients:
            make: Any = self._session.client  # the stubs know only literal names of services
            own_url = f"AWS_ENDPOINT_URL_{service}".upper().replace("-", "_")
            arguments: dict[str, Any] = {}
            if self._session.get_credentials() is None:
                arguments = {"aws_access_key_id": "clary", "aws_secret_access_key": "clary"}
            self._clients[service] = make(
                service,
                endpoint_url=self._environ.get(own_url) or self.url,
                region_name=self.region,
                config=Config(connect_timeout=5, read_timeout=90, retries=_RETRIES),
                **arguments,
            )
        return self._clients[service]

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call one operation, named as boto3 names it.

        Raises:
            Refused: The server answered with a fault.
            CommandFailed: No server answers, or a parameter is no good.
        """
        return self._translated(lambda: getattr(self.client(service), operation)(**parameters))

    def pages(self, service: str, operation: str, member: str, **parameters: Any) -> list[Any]:
        """Call a list operation to its end and return the items under ``member``."""

        def fetch() -> list[Any]:
            paginator = self.client(service).get_paginator(operation)
            return [item for page in paginator.paginate(**parameters) for item in page[member]]

        return self._translated(fetch)

    def upload(
        self, file: Path, bucket: str, key: str, progress: Callable[[int], None] | None = None
    ) -> None:
        """Put a file into a bucket; ``progress`` is told of each piece's bytes, on any thread."""
        self._translated(
            lambda: self.client("s3").upload_file(str(file), bucket, key, Callback=progress)
        )

    def get_json(self, path: str, **query: Any) -> dict[str, Any]:
        """GET one of our own resources under ``/_clary/``."""
        with self._get(path, query) as reply:
            body = reply.read()
        try:
            value = json.loads(body)
        except ValueError:
            raise CommandFailed(
                f"{self.url}{path} answered something else than Clary would. "
                "Does AWS_ENDPOINT_URL name a Clary server?"
            ) from None
        return value if isinstance(value, dict) else {"value": value}

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """GET a text that may go on for long, as it comes."""
        with self._get(path, query, timeout_s=None) as reply:
            try:
                while piece := reply.read1(65536):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise CommandFailed(f"{self.url} closed the connection: {error}") from error

    def health(self) -> dict[str, Any]:
        """Return the gateway's own page on how the server is."""
        return self.get_json("/_clary/health")

    def server_date(self) -> str | None:
        """Return the ``Date`` header of an answer, whether it is good or a fault."""
        try:
            reply: Mapping[str, Any] = self.call("sts", "get_caller_identity")
        except Refused as error:
            reply = error.reply
        date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        return None if date is None else str(date)

    def _get(
        self, path: str, query: Mapping[str, Any], timeout_s: float | None = 30.0
    ) -> http.client.HTTPResponse:
        given = {name: value for name, value in query.items() if value is not None}
        target = quote(path, safe="/~") + (f"?{urlencode(given)}" if given else "")
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("GET", target, headers=self._signed(target))
            reply = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        # The reply owns the socket from here on, and `with` closes it.
        if reply.status >= 400:
            with reply:
                raise _fault(reply.status, reply.read())
        return reply

    def _signed(self, target: str) -> dict[str, str]:
        credentials = self._session.get_credentials()
        request = AWSRequest("GET", self.url + target, headers={"Accept": "*/*"})
        if credentials is not None:
            SigV4Auth(credentials, "sagemaker", self.region).add_auth(request)
        return dict(request.headers.items())

    def _translated(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except ClientError as error:
            fault = error.response.get("Error", {})
            code, message = str(fault.get("Code", "")), str(fault.get("Message") or error)
            if code.isdigit():
                # The answer to a HEAD has no body, so botocore has nothing but the status.
                message = f"the server answered {code} {message}"
            raise Refused(code, message, error.response) from error
        except ReadTimeoutError as error:
            raise CommandFailed(f"{self.url} gave no answer in time: {error}") from error
        except (HTTPClientError, BotocoreConnectionError) as error:
            raise self._unreachable(error) from error
        except (BotoCoreError, Boto3Error) as error:
            raise CommandFailed(str(error)) from error

    def _unreachable(self, error: Exception) -> CommandFailed:
        return CommandFailed(
            f"no server answers at {self.url} ({_reason(error)}). Start one with `clary up`, "
            "or set AWS_ENDPOINT_URL."
        )


_RETRIES: Any = {"total_max_attempts": 2, "mode": "standard"}


def _session() -> boto3.Session:
    core = botocore.session.Session()
    # Without credentials in the environment or the user's files, the last resort of the chain is
    # the metadata service of an EC2 instance: seconds of waiting, and never what is meant.
    core.get_component("credential_provider").remove("iam-role")
    return boto3.Session(botocore_session=core)


def _reason(error: BaseException) -> str:
    """Return the system's own word for it ("Connection refused"), from the bottom of the chain."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _fault(status: int, body: bytes) -> Refused:
    """Read a fault of one of our own resources: AWS's JSON, or any text."""
    try:
        fault = json.loads(body)
    except ValueError:
        fault = None
    if not isinstance(fault, dict):
        return Refused(str(status), body.decode(errors="replace").strip()[:500])
    code = str(fault.get("__type") or status).rpartition("#")[2]
    text = fault.get("message") or fault.get("Message") or f"HTTP status {status}"
    return Refused(code, str(text))
