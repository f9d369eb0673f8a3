"""What every S3 operation works with: its call, its reply, and the stores behind it."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clary.clock import Clock
from clary.objects.contents import Contents, NewContent, OpenContent
from clary.objects.database import Database
from clary.objects.files import ContentFiles


@dataclass(frozen=True, slots=True)
class Store:
    """Where everything is kept, and who this server says it is."""

    database: Database
    contents: Contents
    region: str
    account: str
    clock: Clock

    @property
    def files(self) -> ContentFiles:
        return self.contents.files

    @property
    def owner(self) -> dict[str, str]:
        """The owner of everything: S3's canonical user id is 64 hex digits."""
        digest = hashlib.sha256(f"canonical user of {self.account}".encode()).hexdigest()
        return {"DisplayName": self.account, "ID": digest}

    def now(self) -> datetime:
        """Return the moment, in whole seconds, as S3 keeps it."""
        return self.clock.now().astimezone(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation that is asked for."""

    operation: str
    input: Mapping[str, Any]
    """Members of the request, as the service's model names them."""

    headers: Mapping[str, str]
    """By lower-case name."""

    body: bytes
    """Of a request that carries a document; empty where bytes of an object are streamed."""

    receive: Callable[[str | None], Awaitable[NewContent]]
    """Stores the streamed bytes; takes the checksum to compute when the request names none."""

    url: str
    """Where the request went, without path."""

    @property
    def bucket(self) -> str:
        return str(self.input["Bucket"])

    @property
    def key(self) -> str:
        return str(self.input["Key"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes back."""

    result: Mapping[str, Any] = field(default_factory=dict)
    """Members of the reply, as the service's model names them."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, and those that stand in for the model's."""

    status: int | None = None
    """None for the one that the model gives the operation."""

    document: bytes | None = None
    """A body that goes out as it was put."""

    content: OpenContent | None = None
    """A body that is streamed; closed by who sends it."""


Handler = Callable[[Call], Awaitable[Reply]]
