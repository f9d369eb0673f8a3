"""Access keys, and the file that keeps them.

``clary keys`` writes the file, control reads it and publishes its content to the gateways. The
secrets have to be readable to check signatures, as both sides of SigV4 need them: the file's mode
is what protects them.
"""

import fcntl
import json
import os
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clary.errors import ConfigurationError, NotFound

_FORMAT_VERSION = 1
_ID_PREFIX = "AKIA"
_ID_LETTERS = string.ascii_uppercase + "234567"
_SECRET_LETTERS = string.ascii_letters + string.digits + "+/"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair of key id and secret, and who signs with it."""

    id: str
    """Public half, 20 characters, as in ``AWS_ACCESS_KEY_ID``."""

    secret: str = field(repr=False)
    """Private half, 40 characters, as in ``AWS_SECRET_ACCESS_KEY``."""

    principal: str
    """Who acts with this key; the session name of the ARN that STS reports."""

    created_at: datetime
    """When the key was made."""


def generate_key(principal: str, created_at: datetime) -> AccessKey:
    """Return a new key of the lengths and letters that AWS uses."""
    return AccessKey(
        id=_ID_PREFIX + "".join(secrets.choice(_ID_LETTERS) for _ in range(16)),
        secret="".join(secrets.choice(_SECRET_LETTERS) for _ in range(40)),
        principal=principal,
        created_at=created_at,
    )


class KeyFile:
    """The access keys of a data directory.

    Readers always see a whole file, for it is replaced by a rename; writers exclude each other
    with a lock on a file beside it, so that two commands at once lose no key.

    Args:
        path: The file. It need not exist: no file means no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, AccessKey]:
        """Return all keys by id.

        Raises:
            ConfigurationError: The file cannot be read, or holds something else than keys.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"key file {self._path} cannot be read: {error}") from error
        try:
            return {key.id: key for key in map(parse_key, _entries(json.loads(text)))}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConfigurationError(
                f"key file {self._path} is corrupt ({error}); restore it, or delete it and make "
                "new keys with `clary keys create`"
            ) from error

    def create(self, principal: str = "root") -> AccessKey:
        """Make a key, save it and return it.

        Raises:
            ConfigurationError: The file is corrupt or cannot be written.
        """
        with self._locked():
            keys = self.load()
            key = generate_key(principal, datetime.now(UTC).replace(microsecond=0))
            self._save({**keys, key.id: key})
        return key

    def delete(self, key_id: str) -> None:
        """Remove a key.

        Raises:
            NotFound: There is no such key.
            ConfigurationError: The file is corrupt or cannot be written.
        """
        with self._locked():
            keys = self.load()
            if key_id not in keys:
                raise NotFound(f"There is no access key {key_id!r}.")
            del keys[key_id]
            self._save(keys)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"key file {self._path} cannot be locked: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _save(self, keys: dict[str, AccessKey]) -> None:
        content = {"version": _FORMAT_VERSION, "keys": [dump_key(key) for key in keys.values()]}
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.new")
        try:
            # Created with its final mode: there is no moment in which others could open it.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(descriptor)
            draft.replace(self._path)
            _fsync_directory(self._path.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ConfigurationError(f"key file {self._path} cannot be written: {error}") from error


def _entries(content: Any) -> list[Any]:
    if not isinstance(content, dict) or content.get("version") != _FORMAT_VERSION:
        raise ValueError(f"no key file of version {_FORMAT_VERSION}")
    entries = content["keys"]
    if not isinstance(entries, list):
        raise TypeError("keys are no list")
    return entries


def parse_key(entry: Any) -> AccessKey:
    texts = [entry[name] for name in ("id", "secret", "principal", "created_at")]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("a key's members must be text")
    key_id, secret, principal, created_at = texts
    moment = datetime.fromisoformat(created_at)
    return AccessKey(
        key_id, secret, principal, moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    )


def dump_key(key: AccessKey) -> dict[str, str]:
    return {
        "id": key.id,
        "secret": key.secret,
        "principal": key.principal,
        "created_at": key.created_at.isoformat(),
    }


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
